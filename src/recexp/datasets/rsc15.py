"""RSC15: the clicks of YooChoose's shop, prepared as GRU4Rec's authors do, or their prepared files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.datasets.click_files import Lookup
from recexp.datasets.places import Places
from recexp.datasets.session_data import RAW_NAMES, ClickSet
from recexp.datasets.session_data import read as read_sessions
from recexp.datasets.table import LargeRecording

RSC15 = ClickSet(
    word="rsc15",
    lookup=Lookup(
        raw=RAW_NAMES,
        pairs=tuple((f"{folder}rsc15_train_full.txt", f"{folder}rsc15_test.txt") for folder in ("", "rsc15/")),
    ),
)


def read(dataset: Mapping[str, Any], places: Places) -> LargeRecording:
    """The reader of ``dataset=rsc15``."""
    return read_sessions(RSC15, dataset, places)
