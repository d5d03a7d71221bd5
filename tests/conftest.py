"""Fixtures that many tests share: golden cases, small event sets, the folder of real data."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets.events import DataMeta, Events

os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command sets the levels and the stream of its whole process; the next test does not write to its closed one."""
    loggers = [logging.getLogger(name) for name in (None, "recexp", "pytorch_lightning", "lightning.pytorch")]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    loggers[0].handlers[:] = handlers


@pytest.fixture(scope="session")
def golden() -> dict[str, dict]:
    """The hand-computed cases of AttRec, by name."""
    return {case["name"]: case for case in json.loads((GOLDEN / "attrec.json").read_text())["cases"]}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled loops; skips where nothing can be compiled."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("there is no C++ compiler")
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets; skips where there is none."""
    folder = os.environ.get("RECEXP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECEXP_DATA does not name a folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def make_events() -> Callable[[list[list[int]]], Events]:
    """Events from each user's items by time: ``make_events([[5, 3], [8]])`` are users 1 and 2."""

    def make(items: list[list[int]], num_items: int = 0) -> Events:
        lengths = [len(own) for own in items]
        item = np.array([i for own in items for i in own], dtype=np.int32)
        user = np.repeat(np.arange(1, len(items) + 1), lengths).astype(np.int32)
        offsets = np.concatenate(([0, 0], np.cumsum(lengths))).astype(np.int64)
        meta = DataMeta("handmade", "0" * 64, "none", "test", synthetic=True, rows_read=len(item))
        return Events(
            user=user, item=item, time=np.arange(len(item)), rating=np.ones(len(item), dtype=np.float32),
            offsets=offsets, num_users=len(items), num_items=num_items or int(item.max()), meta=meta,
        )  # fmt: skip

    return make
