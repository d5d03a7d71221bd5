"""Criteo's display advertising logs: ``recording(dataset, places, sources=..., content=..., synthetic=...)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recexp.datasets.places import Places
from recexp.datasets.table import ImpressionRecording


def read(dataset: Mapping[str, Any], places: Places) -> ImpressionRecording:
    """The reader of ``dataset=criteo``."""
    raise NotImplementedError


def recording(
    dataset: Mapping[str, Any],
    places: Places,
    *,
    sources: Sequence[Path],
    content: str | None = None,
    synthetic: bool = False,
) -> ImpressionRecording:
    """What the options of ``dataset`` make of files in the format of ``train.txt``.

    Args:
        dataset: The composed node: ``recipe`` and what overrides it, ``malformed`` and ``malformed_limit``.
        places: Only the progress is used.
        sources: Plain files or gzip, in the order of time; several are days.
        content: Stands for their content; None: their size, time of change and samples of them.
        synthetic: Generated, not recorded.
    """
    raise NotImplementedError
