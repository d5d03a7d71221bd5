"""Loops compiled on this machine, once, where it has a C++ compiler: element-wise work in one pass over the memory.

Without a compiler everything works the same with torch's and numpy's operators, only slower. What is compiled is kept
in the cache under a name that stands for the source, the compiler and the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from recexp.models import kernels

SOURCE = Path(__file__).with_name("native.cpp")
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
    "add_rows": (None, [_INT, _INT, *[_POINTER] * 3]),
}
_COMPILE_S = 120
_log = logging.getLogger(__name__)


def library() -> ctypes.CDLL | None:
    """The compiled loops; None where ``trainer.kernels=plain``, no folder was named, or they cannot be compiled."""
    folder = kernels.compiled_folder()
    return None if folder is None else _library(folder)


@cache
def _library(folder: Path) -> ctypes.CDLL | None:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
    if compiler is None:
        _log.info(
            "there is no C++ compiler (CXX, c++, g++, clang++): the slower operators of numpy and torch are used"
        )
        return None
    try:
        loaded = ctypes.CDLL(str(_compiled(folder, compiler)))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        _check(loaded)
    except (OSError, AttributeError, subprocess.SubprocessError, ValueError) as error:
        told = error.stderr.strip()[-300:] if isinstance(error, subprocess.CalledProcessError) else str(error)
        _log.warning("%s cannot be compiled or used (%s): slower operators are used", SOURCE.name, told)
        return None
    return loaded


def _compiled(folder: Path, compiler: str) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=_COMPILE_S)
    identity = "\n".join([SOURCE.read_text(encoding="utf-8"), " ".join(FLAGS), version.stdout, _processor()])
    path = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".compile-") as scratch:
        made = Path(scratch) / path.name
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_COMPILE_S)
        # Several processes may be first: each puts a whole file there.
        made.replace(path)
    _log.info("compiled %s with %s", SOURCE.name, compiler)
    return path


def _processor() -> str:
    """What decides about the instructions: a cache may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU"))}))


def _check(loaded: ctypes.CDLL) -> None:
    """Compare one loop with numpy: a compiler that takes too many liberties is not used.

    Raises:
        ValueError: They differ.
    """
    scores = np.random.default_rng(0).normal(size=(3, 37)).astype(np.float32) * 20
    scores[:, 5] = -np.inf
    own, transposed, sums = np.array([1, 2, 36]), np.empty((37, 3), np.float32), np.empty(37, np.float32)
    share = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    loss = -np.log(share[range(3), own]).sum()
    share[range(3), own] -= 1
    arrays = (scores.ctypes.data, transposed.ctypes.data, sums.ctypes.data)
    found = loaded.softmax_gradient(3, 37, own.ctypes.data, 0.5, *arrays)
    if not (np.allclose(found, loss, rtol=1e-5) and np.allclose(transposed.T, share / 2, atol=1e-6)):
        raise ValueError("it does not compute what it should")
