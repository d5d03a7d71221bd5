"""Loops compiled on this machine, once, where it has a C++ compiler: element-wise work in one pass over the memory.

Without a compiler everything works the same with torch's and numpy's operators, only slower. What is compiled is kept
in the cache under a name that stands for the source, the compiler and the processor.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from recexp.models import kernels
from recexp.models.native_check import check

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("native.cpp", "native_graph.cpp", "native_outfits.cpp", "native_math.h", "native_lanes.h")
)
#: Sums may be taken in any order, so that they can be vectorised; numbers that are not finite stay what they are.
FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
    "-std=c++17", "-shared", "-fPIC",
)  # fmt: skip
_INT, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "gru_forward": (None, [_INT, _INT, *[_POINTER] * 8]),
    "gru_backward": (None, [_INT, _INT, *[_POINTER] * 10]),
    "softmax_gradient": (ctypes.c_double, [_INT, _INT, _POINTER, _FLOAT, *[_POINTER] * 3]),
    "adagrad_momentum": (None, [_INT, *[_FLOAT] * 3, *[_POINTER] * 4]),
    "adagrad_momentum_rows": (None, [_INT, _INT, *[_FLOAT] * 3, *[_POINTER] * 5]),
    "sum_rows": (_INT, [_INT, _INT, _POINTER, _POINTER, _INT, *[_POINTER] * 3]),
    "sgd_rows": (None, [_INT, _INT, _FLOAT, *[_POINTER] * 3]),
    "adagrad_rows": (None, [_INT, _INT, *[_FLOAT] * 2, *[_POINTER] * 4]),
    "rowwise_adagrad_rows": (None, [_INT, _INT, *[_FLOAT] * 2, *[_POINTER] * 4]),
    "lazy_adam_rows": (None, [_INT, _INT, *[_FLOAT] * 4, *[_POINTER] * 5]),
    "rmsprop_rows": (None, [_INT, _INT, _FLOAT, ctypes.c_double, _FLOAT, _INT, _INT, *[_POINTER] * 5]),
    "dots_forward": (None, [*[_INT] * 5, *[_POINTER] * 4]),
    "dots_backward": (None, [*[_INT] * 4, *[_POINTER] * 6]),
    "fm_forward": (None, [*[_INT] * 4, *[_POINTER] * 6]),
    "fm_backward": (None, [*[_INT] * 4, *[_POINTER] * 7]),
    "graph_room": (_INT, [_POINTER]),
    "graph_forward": (None, [_POINTER]),
    "graph_backward": (None, [_POINTER]),
    "project_runs": (None, [*[_INT] * 3, *[_POINTER] * 5]),
    "project_runs_backward": (None, [*[_INT] * 3, *[_POINTER] * 4]),
    "sum_words": (None, [*[_INT] * 4, *[_POINTER] * 6]),
    "pair_gradient": (ctypes.c_double, [_INT, _INT, *[_FLOAT] * 2, _POINTER, _FLOAT, *[_POINTER] * 3]),
    "consistency_gradient": (ctypes.c_double, [*[_INT] * 3, *[_FLOAT] * 3, *[_POINTER] * 7]),
}
_COMPILE_S, _ASK_S = 60, 10
_SUM_BYTES = 32
_log = logging.getLogger(__name__)


def library() -> ctypes.CDLL | None:
    """The compiled loops; None where ``trainer.kernels=plain``, no folder was named, or they cannot be compiled."""
    folder = kernels.compiled_folder()
    return None if folder is None else _library(folder)


@cache
def _library(folder: Path) -> ctypes.CDLL | None:
    reasons = []
    for compiler in _compilers():
        try:
            loaded = ctypes.CDLL(str(_compiled(folder, compiler)))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
            check(loaded)
        except (OSError, AttributeError, subprocess.SubprocessError, ValueError) as error:
            told = error.stderr.strip()[-300:] if isinstance(error, subprocess.CalledProcessError) else str(error)
            reasons.append(f"{' '.join(compiler)}: {told}")
        else:
            return loaded
    if reasons:
        _log.warning("the C++ loops cannot be compiled or used (%s): slower operators are used", "; ".join(reasons))
    else:
        _log.info("there is no C++ compiler (CXX, c++, g++, clang++): the slower operators of numpy and torch are used")
    return None


def _compilers() -> list[list[str]]:
    """The commands to try, CXX (which may have words of its own) first."""
    named = [shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]]
    found = [command for command in named if command and shutil.which(command[0])]
    return [command for n, command in enumerate(found) if command not in found[:n]]


def _compiled(folder: Path, compiler: list[str]) -> Path:
    """The library, compiled unless a whole one of this user's is there."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=_ASK_S)
    texts = [source.read_text(encoding="utf-8") for source in SOURCES]
    parts = [*texts, " ".join(compiler), " ".join(FLAGS), version.stdout, _processor()]
    path = folder / f"native-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}.so"
    if _is_sound(path):
        return path
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_private(folder):
        # Others could put their own code where ours is loaded from: compile for this process alone.
        folder = Path(tempfile.mkdtemp(prefix="recexp-native-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = folder / path.name
    with tempfile.TemporaryDirectory(dir=folder, prefix=".compile-") as scratch:
        made = Path(scratch) / path.name
        command = [*compiler, *FLAGS, *(str(s) for s in SOURCES if s.suffix == ".cpp"), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_COMPILE_S)
        with made.open("ab") as stream:
            # The loader does not look behind the sections of the file: room for a sum of what is before.
            stream.write(hashlib.sha256(made.read_bytes()).digest())
            stream.flush()
            os.fsync(stream.fileno())
        made.chmod(0o700)
        # Several processes may be first: each puts a whole file there.
        made.replace(path)
    _log.info("compiled the C++ loops with %s", " ".join(compiler))
    return path


def _is_sound(path: Path) -> bool:
    """Whether a library is there, whole, and this user's: a damaged one would end the process when it is loaded."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    whole = hashlib.sha256(content[:-_SUM_BYTES]).digest() == content[-_SUM_BYTES:]
    return whole and _is_private(path) and _is_private(path.parent)


def _is_private(path: Path) -> bool:
    """Whether nobody but this user can write there."""
    state = path.stat()
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _processor() -> str:
    """What decides about the instructions: a cache may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU"))}))
