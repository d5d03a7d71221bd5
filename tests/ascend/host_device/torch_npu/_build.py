"""Compiles the C++ half once and keeps it: one shared library per state of the sources, torch, Python and compiler.

``torch.utils.cpp_extension.load`` is not used: its lock is a file that stays behind when a build is killed, and every
later build waits for it for ever.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from filelock import FileLock
from torch.utils import cpp_extension

SOURCES = Path(__file__).resolve().parents[1] / "cpp"
REPOSITORY = Path(__file__).resolve().parents[4]
COMPILER = "g++"
# -w: torch's own headers warn. -O1: half the build time of -O2, and the work is done by torch's kernels.
FLAGS = ["-O1", "-w", "-std=c++20", "-fPIC", "-DAT_PER_OPERATOR_HEADERS"]
# Most of the time goes into reading torch's headers, so the sources are compiled in two lots, side by side. The lists
# of autocast take as long as everything else.
FIRST_LOT = ["recurrent", "bindings", "autocast"]


def library() -> Path:
    """The shared library, compiled if need be.

    Raises:
        ImportError: There is no compiler, or it failed.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise ImportError(f"torch_npu made of host memory must be compiled, and there is no {COMPILER} on the PATH")
    folder = Path(os.environ.get("RECEXP_TEST_CACHE") or REPOSITORY / ".ascend" / "host_device").absolute()
    target = folder / f"npu_host-{_key(compiler)}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "build.lock"):
            if not target.exists():
                _build(compiler, target)
    return target


def _key(compiler: str) -> str:
    """What the library depends on, as a short hash."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    parts = [version, torch.__version__, platform.python_version(), platform.machine(), *FLAGS]
    parts += [f"{path.name}\n{path.read_text()}" for path in sorted(SOURCES.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(compiler: str, target: Path) -> None:
    """Compile and link in a folder of its own, then publish in one step: a killed build leaves no half a library."""
    flags = [*FLAGS, f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    flags += [f"-I{path}" for path in cpp_extension.include_paths()]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        jobs, objects = [], []
        second_lot = sorted(path.stem for path in SOURCES.glob("*.cpp") if path.stem not in FIRST_LOT)
        for number, lot in enumerate([FIRST_LOT, second_lot]):
            unit = Path(scratch) / f"lot{number}.cpp"
            unit.write_text("".join(f'#include "{SOURCES / name}.cpp"\n' for name in lot))
            objects.append(str(unit.with_suffix(".o")))
            jobs.append([compiler, "-c", *flags, str(unit), "-o", objects[-1]])
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(_run, jobs))
        linked = Path(scratch) / target.name
        libraries = [f"-L{path}" for path in cpp_extension.library_paths()] + ["-lc10", "-ltorch_cpu", "-ltorch"]
        _run([compiler, "-shared", *objects, "-o", str(linked), *libraries])
        linked.replace(target)


def _run(command: list[str]) -> None:
    """Run the compiler; its complaints become the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImportError(f"torch_npu made of host memory does not compile: {' '.join(command)}\n{done.stderr}")
