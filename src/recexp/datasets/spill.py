"""Columns on disk in numbered parts, for data that is larger than memory: appended to, then read part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.storage.atomic import explain_full_disk, remove


class Spill:
    """One folder of files, one for each column and part; nothing is kept open or in memory.

    Args:
        folder: Created; its parent must exist. Whoever owns it removes it.
        columns: Name and type of each column.
    """

    def __init__(self, folder: Path, columns: Mapping[str, npt.DTypeLike]) -> None:
        self._folder = folder
        self._columns = {name: np.dtype(kind) for name, kind in columns.items()}
        folder.mkdir()

    def append(self, part: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add to the end of a part. Of one part only one thread may do so at a time.

        Raises:
            OSError: the disk refuses; a full one is named with the bytes that are free.
        """
        for name, kind in self._columns.items():
            content = np.ascontiguousarray(values[name], dtype=kind)
            path = self._path(name, part)
            try:
                with path.open("ab", buffering=0) as stream:
                    left = content.view(np.uint8).data if content.size else memoryview(b"")
                    while len(left):
                        left = left[stream.write(left) :]
            except OSError as error:
                explained = explain_full_disk(error, path, content.nbytes)
                raise explained from (None if explained is error else error)

    def take(self, part: int) -> dict[str, npt.NDArray[Any]]:
        """The columns of a part, each whole; its files are removed."""
        columns = self.read(part)
        for name in self._columns:
            remove(self._path(name, part))
        return columns

    def read(self, part: int, *names: str) -> dict[str, npt.NDArray[Any]]:
        """The columns ``names`` of a part (none named: all); a part that was never written is empty."""
        return {name: self._read(name, part) for name in names or self._columns}

    def _read(self, name: str, part: int) -> npt.NDArray[Any]:
        path = self._path(name, part)
        return np.fromfile(path, self._columns[name]) if path.exists() else np.empty(0, self._columns[name])

    def _path(self, name: str, part: int) -> Path:
        return self._folder / f"{name}-{part}"
