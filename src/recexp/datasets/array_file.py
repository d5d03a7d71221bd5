"""A .npy file that is written in pieces, with the checksum of its content."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recexp.storage.atomic import explain_full_disk


class ArrayFile:
    """One array of a known length; ``append`` until it is full, then ``close``; a context, for the file.

    Raises:
        OSError: the disk refuses; a full one is named with the bytes that are needed and free.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, length: int) -> None:
        self._path, self._dtype, self._length, self._written = path, np.dtype(dtype), length, 0
        self._sum = hashlib.sha256()
        self._stream = path.open("wb")
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_2_0(self._stream, header)

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the file go, finished or not."""
        with suppress(OSError):
            self._stream.close()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add values of this array's type."""
        content = np.ascontiguousarray(values, dtype=self._dtype)
        if not content.size:
            return
        block = content.view(np.uint8).data
        self._sum.update(block)
        try:
            self._stream.write(block)
        except OSError as error:
            explained = explain_full_disk(error, self._path, self._length * self._dtype.itemsize)
            raise explained from (None if explained is error else error)
        self._written += content.size

    def close(self) -> dict[str, Any]:
        """Bytes of the file, type, shape and sha256 of the content, as a cache's ``meta.json`` states them."""
        try:
            self._stream.close()
        except OSError as error:
            explained = explain_full_disk(error, self._path, self._length * self._dtype.itemsize)
            raise explained from (None if explained is error else error)
        assert self._written == self._length, f"{self._path}: {self._written} of {self._length} values"
        return {
            "bytes": self._path.stat().st_size,
            "dtype": self._dtype.str,
            "shape": [self._length],
            "sha256": self._sum.hexdigest(),
        }
