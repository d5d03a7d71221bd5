"""Processes in which ``npu`` is a device made of host memory; this process itself stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parents[1] / "ascend" / "host_device"


def environment(**knobs: str) -> dict[str, str]:
    """This process's environment with the stand-in for torch-npu on the path.

    Args:
        knobs: NPU_HOST_DEVICES and the like.
    """
    if shutil.which("g++") is None:
        pytest.skip("the device made of host memory needs g++")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NPU_HOST", "ASCEND", "HCCL", "RANK_TABLE"))}
    path = os.pathsep.join(filter(None, [str(STAND_IN), kept.get("PYTHONPATH", "")]))
    _compile(path)
    return {**kept, "PYTHONPATH": path, **knobs}


@lru_cache
def _compile(path: str) -> None:
    """The first import on a machine compiles for a minute, which is no part of what a test looks at."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NPU_HOST")}
    code = "import torch_npu"
    subprocess.run([sys.executable, "-c", code], env={**clean, "PYTHONPATH": path}, check=True, timeout=280)


def run_checks(*files: Path, marks: str = "", timeout_s: float = 880, **knobs: str) -> None:
    """Run ``check_*.py`` files by a pytest of their own; fails with what it says.

    Args:
        files: What to run.
        marks: Which of their checks: pytest's ``-m``.
        timeout_s: For all of them.
        knobs: As in :func:`environment`.
    """
    words = ["-p", "no:cacheprovider", "-q", "-m", marks, "-o", "python_files=check_*.py", "--no-header"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *map(str, files)], env=environment(**knobs), capture_output=True,
        text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(done.stdout[-12000:] + done.stderr[-4000:], pytrace=False)
