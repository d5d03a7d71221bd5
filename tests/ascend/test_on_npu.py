"""The plug-in and whole trainings on a device ``npu`` that is made of host memory. No evidence about hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_npu import run_checks

CHECKS = sorted((Path(__file__).parent / "on_npu").glob("check_*.py"))
WITH_SLOW_ONES = [file for file in CHECKS if "mark.slow" in file.read_text()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", CHECKS, ids=lambda path: path.stem)
def test_on_the_device_made_of_host_memory(file: Path) -> None:
    run_checks(file, marks="not slow")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", WITH_SLOW_ONES, ids=lambda path: path.stem)
def test_the_slow_checks_on_the_device_made_of_host_memory(file: Path) -> None:
    run_checks(file, marks="slow")
