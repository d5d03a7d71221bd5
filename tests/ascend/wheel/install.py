"""Puts the torch-npu wheel into a folder of its own, never into the environment that runs the tests.

Without CANN the package cannot be imported, and where it is merely installed ``import torch`` fails. A child process
that has the folder on its PYTHONPATH sees it beside everything of this environment.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .cache import Missing, published

REQUIREMENT = "torch-npu==2.13.0"
FOLDER = f"torch-npu-2.13.0-cp{sys.version_info.major}{sys.version_info.minor}"
SECONDS = 900


def install() -> Path:
    """The folder with ``torch_npu`` in it.

    Raises:
        Missing: No package index can be reached, or it has no wheel for this interpreter and machine.
    """
    return published(FOLDER, _install)


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile"]
    try:
        done = subprocess.run(
            [*command, "--target", str(target), REQUIREMENT], capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{REQUIREMENT} did not arrive from the package index within {SECONDS} s") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise Missing(f"{REQUIREMENT} cannot be installed here: {reason}")
