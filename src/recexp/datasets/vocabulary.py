"""Labels of users or items, numbered in the order in which they are met."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array

_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,18}")
_INT64 = np.iinfo(np.int64)


class Vocabulary:
    """Positions of labels (texts or whole numbers) across the parts of a source."""

    def __init__(self) -> None:
        self._known: dict[str | int, int] = {}

    def encode(self, values: Any) -> npt.NDArray[np.int64]:
        """Positions int64[N] of the values of an Arrow array without nulls; new ones are added."""
        encoded = values.dictionary_encode()
        chunks = encoded.chunks if hasattr(encoded, "chunks") else [encoded]
        parts = []
        for chunk in chunks:
            known = [self._known.setdefault(value, len(self._known)) for value in chunk.dictionary.to_pylist()]
            parts.append(np.array(known, dtype=np.int64)[chunk.indices.to_numpy(zero_copy_only=False)])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def labels(self) -> Array:
        """All labels by position: int64 where every one is a whole number written plainly, else text."""
        values = list(self._known)
        if all(isinstance(value, int) or _CANONICAL.fullmatch(value) for value in values):
            numbers = [int(value) for value in values]
            if not numbers or (min(numbers) >= _INT64.min and max(numbers) <= _INT64.max):
                return np.array(numbers, dtype=np.int64)
        return np.array([str(value) for value in values], dtype=np.str_)
