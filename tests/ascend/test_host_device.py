"""The stand-in for torch-npu passes its own checks.

It makes the device known to the whole process, for good. So it is never imported here: the checks run in a process of
their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def child_environment() -> dict[str, str]:
    path = os.pathsep.join([str(HERE / "host_device"), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NPU_HOST_", "PYTEST_"))}
    return {**kept, "PYTHONPATH": path}


@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile the device npu with")
def test_checks_of_the_host_device() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", ""]
    # The names differ from those of tests, so that the parent does not collect the checks.
    command += ["-o", "python_files=check_*.py", "-o", "python_functions=check_*", str(HERE / "checks")]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_compiler_the_import_says_so(tmp_path: Path) -> None:
    env = {**child_environment(), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import torch_npu"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "there is no g++ on the PATH" in done.stderr
