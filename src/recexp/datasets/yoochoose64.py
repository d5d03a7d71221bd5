"""YooChoose 1/64: RSC15 with the most recent 64th of its training pairs, as SR-GNN and NARM use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.datasets.click_files import Lookup
from recexp.datasets.places import Places
from recexp.datasets.session_data import RAW_NAMES, ClickSet
from recexp.datasets.session_data import read as read_sessions
from recexp.datasets.table import LargeRecording

_FOLDER = "yoochoose1_64"

YOOCHOOSE64 = ClickSet(
    word="yoochoose64",
    lookup=Lookup(
        raw=RAW_NAMES,
        pairs=tuple(
            (f"{folder}{_FOLDER}/train_sessions.txt", f"{folder}{_FOLDER}/test_sessions.txt")
            for folder in ("", "yoochoose/", "yoochoose/derived/")
        ),
        archives=(("yoochoose.tar.xz", _FOLDER),),
    ),
    share=64,
)


def read(dataset: Mapping[str, Any], places: Places) -> LargeRecording:
    """The reader of ``dataset=yoochoose64``."""
    return read_sessions(YOOCHOOSE64, dataset, places)
