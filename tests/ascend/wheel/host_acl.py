"""The real torch_npu on host memory: AscendCL from acl.c, and kernels.cpp in the place of torch_npu's kernels.

Nothing of it is evidence about hardware: it shows that the product and torch_npu's own Python and C++ fit together.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import child
from .cache import digest, published
from .link_only import UNSUPPORTED
from .linked import tool, torch_libraries, wanted

HERE = Path(__file__).parent
#: Its AscendCL does at once what it is told, and the queue of torch_npu would only add a thread; chips of the 910B
#: series, whose name it gives, know infinities.
VARIABLES = {"TASK_QUEUE_ENABLE": "0", "INF_NAN_MODE_ENABLE": "1"}


@dataclass(frozen=True)
class HostAcl:
    """What is built: a folder with CANN's library names, and the library with the kernels."""

    site: Path
    libraries: Path
    kernels: Path

    def variables(self, *more: Path, **settings: str) -> dict[str, str]:
        """Of a child whose ``import torch_npu`` finds two NPUs made of host memory; ``more`` on its module path."""
        return child.environment(
            path=[HERE / "sitecustomize", self.site, *more],
            libraries=self.libraries,
            **{**VARIABLES, "RECEXP_HOST_KERNELS": str(self.kernels), **settings},
        )


def build(site: Path) -> HostAcl:
    """Build both, or find them built.

    Raises:
        Missing: No C or C++ compiler.
    """
    asked = wanted(site)
    acl = published(
        f"host-acl-{digest(HERE / 'acl.c', HERE / 'host_acl.py', *asked.symbols, *asked.libraries)}",
        lambda target: _build_acl(target, site, asked.libraries, asked.symbols),
    )
    kernels = published(f"host-kernels-{digest(HERE / 'kernels.cpp', _torch_version())}", _build_kernels)
    return HostAcl(site, acl, kernels / "libhost_kernels.so")


def _build_acl(target: Path, site: Path, libraries: list[str], symbols: list[str]) -> None:
    compiler, code = tool("gcc"), target / "acl.o"
    headers = f"-I{site / 'torch_npu' / 'include'}"
    _run(compiler, "-O2", "-fPIC", "-pthread", "-Werror=incompatible-pointer-types", headers, "-c",
         str(HERE / "acl.c"), "-o", str(code))  # fmt: skip
    written = {line.split()[-1] for line in _run(tool("nm"), "-g", "--defined-only", str(code)).splitlines()}
    rest, empty = target / "rest.c", target / "empty.c"
    rest.write_text("".join(f"long {name}() {{ return {UNSUPPORTED}; }}\n" for name in symbols if name not in written))
    empty.write_text("")
    shared = [compiler, "-shared", "-fPIC", "-pthread", "-w"]
    _run(*shared, "-Wl,-soname,libascendcl.so", "-o", str(target / "libascendcl.so"), str(code), str(rest))
    # torch_npu asks a library by its name for a function: the others find it in the one that they depend on.
    depends = ["-Wl,--no-as-needed", f"-L{target}", "-lascendcl", "-Wl,-rpath,$ORIGIN"]
    for name in set(libraries) - {"libascendcl.so"}:
        _run(*shared, f"-Wl,-soname,{name}", "-o", str(target / name), str(empty), *depends)


def _build_kernels(target: Path) -> None:
    torch = torch_libraries()
    headers = torch.parent / "include"
    _run(
        tool("g++"), "-std=c++20", "-O1", "-w", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=1", f"-I{headers}",
        f"-I{headers / 'torch' / 'csrc' / 'api' / 'include'}", str(HERE / "kernels.cpp"), f"-L{torch}",
        "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}", "-o", str(target / "libhost_kernels.so"),
    )  # fmt: skip


def _torch_version() -> str:
    return (torch_libraries().parent / "version.py").read_text("utf-8")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"
    return done.stdout
