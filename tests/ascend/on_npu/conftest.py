"""Checks on the device made of host memory, each file in a process of its own (see tests/ascend/test_on_npu.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp import cli


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


SMALL = (
    "model=attrec", "dataset=ml1m_synthetic", "trainer.max_epochs=2", "model.dim=16", "dataset.batch_size=128",
    "trainer.updates_per_block=4", "trainer.progress=off", "tracking=off", "log_level=warning",
)  # fmt: skip


@pytest.fixture
def train(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run a small training by its words in this process; returns the run's directory."""

    def run(*words: str, code: int = 0) -> Path:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        assert cli.main([*SMALL, *words, f"paths.root={root}", f"paths.cache={folder / 'cache'}"]) == code
        return next((path.parent for path in root.glob("runs/*/*/run.json")), root)

    return run
