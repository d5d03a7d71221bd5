"""The last pass over a click log: the final arrays, grouped by part, chunk by chunk."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.array_folder import ROWS, describe, sum_of
from recexp.datasets.click_logs import dense
from recexp.datasets.click_logs.chunk import Chunk
from recexp.datasets.click_logs.fields import NumberedField, Parts, placed
from recexp.datasets.click_logs.recipe import Recipe
from recexp.datasets.click_logs.split import TEST, TRAIN, VAL
from recexp.datasets.impression_store import MEMBERS
from recexp.datasets.parallel import in_order
from recexp.storage.atomic import explain_full_disk, remove, sync_directory, write_json
from recexp.storage.download import Progress

_MARK, _MARK_EVERY = "written.json", 16
_AT_ONCE = 1 << 13


class RowFile:
    """A .npy file whose rows are written at their places, by several threads and by several processes in turn."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        """Open what is there, or make it.

        Raises:
            OSError: the disk refuses.
        """
        self.path, self._shape, self._dtype = path, shape, np.dtype(dtype)
        self._row = int(np.prod(shape[1:])) * self._dtype.itemsize
        with path.open("ab") as stream:
            if not stream.tell():
                header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(stream, header)
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_2_0(stream)
            self._start = stream.tell()
        self._size = self._start + shape[0] * self._row
        os.truncate(path, self._size)
        self._descriptor = os.open(path, os.O_RDWR)

    def write(self, first: int, rows: npt.NDArray[Any]) -> None:
        """Put rows at ``first`` and after.

        Raises:
            OSError: the disk refuses; a full one is named with the bytes that are needed and free.
        """
        content = np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data
        place = self._start + first * self._row
        try:
            while content:
                written = os.pwrite(self._descriptor, content, place)
                content, place = content[written:], place + written
        except OSError as error:
            explained = explain_full_disk(error, self.path, self._size)
            raise explained from (None if explained is error else error)

    def flush(self) -> None:
        """Bring what was written to the disk: a mark must not outlive what it speaks of."""
        os.fsync(self._descriptor)

    def close(self, workers: int | None = None) -> dict[str, Any]:
        """What is stated of the whole array, when every row was written."""

        def digest(first: int) -> bytes:
            count = min(ROWS, self._shape[0] - first) * self._row
            return hashlib.sha256(os.pread(self._descriptor, count, self._start + first * self._row)).digest()

        self.flush()
        total = sum_of(in_order(digest, range(0, self._shape[0], ROWS), workers))
        os.close(self._descriptor)
        return describe(np.empty((0, *self._shape[1:]), self._dtype), self._size, total) | {"shape": [*self._shape]}


@dataclass(frozen=True)
class Assembly:
    """What the arrays are made of.

    Attributes:
        chunks: All rows.
        parts: Of every row.
        fields: In the order of the ids' columns.
        recipe: Says what becomes of the numbers.
        has_dense: Numbers are an array of their own.
        largest: int64[D]: largest numbers of the fitted rows, where the recipe needs them.
    """

    chunks: Sequence[Chunk]
    parts: Parts
    fields: Sequence[NumberedField]
    recipe: Recipe
    has_dense: bool
    largest: npt.NDArray[np.int64]

    def write(
        self, folder: Path, counts: npt.NDArray[np.int64], *, workers: int | None, progress: Progress | None
    ) -> dict[str, dict[str, Any]]:
        """Write the arrays into ``folder``, going on where a killed build stopped, and state what they are.

        Args:
            folder: Keeps the arrays and the mark of how far they are.
            counts: int64[chunks, 3]: rows of each chunk in each part.
            workers: Threads.
            progress: Told of rows.

        Raises:
            OSError: the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        rows = int(counts.sum())
        width = self.chunks[0].numbers if self.has_dense else 0
        begin = _written(folder)
        if not begin:
            _forget(folder)
        files = {
            "label": RowFile(folder / "label.npy", np.uint8, (rows,)),
            "dense": RowFile(folder / "dense.npy", np.float32, (rows, width)),
            "ids": RowFile(folder / "ids.npy", np.int32, (rows, len(self.fields))),
        }
        starts = np.concatenate([[0], np.cumsum(counts.sum(axis=0))[:-1]]) + np.cumsum(counts, axis=0) - counts
        tables = [np.fromfile(field.id_of, np.int32) for field in self.fields]

        def work(task: tuple[int, tuple[int, Chunk]]) -> int:
            place, (first, chunk) = task
            for name, held in self._arrays(first, chunk, tables).items():
                for part, own in enumerate(held):
                    files[name].write(int(starts[place, part]), own)
            return chunk.rows

        done = sum(chunk.rows for chunk in self.chunks[:begin])
        total = sum(chunk.rows for chunk in self.chunks)
        tasks = itertools.islice(enumerate(placed(self.chunks)), begin, None)
        for place, count in enumerate(in_order(work, tasks, workers), start=begin + 1):
            done += count
            if place % _MARK_EVERY == 0:
                for each in files.values():
                    each.flush()
                write_json(folder / _MARK, place)
            if progress is not None:
                progress("write rows", done, total)
        return {name: each.close(workers) for name, each in files.items()}

    def _arrays(
        self, first: int, chunk: Chunk, tables: Sequence[npt.NDArray[np.int32]]
    ) -> dict[str, list[npt.NDArray[Any]]]:
        """By name and part."""
        part = self.parts.read(first, chunk.rows)
        chosen = [np.flatnonzero(part == each) for each in (TRAIN, VAL, TEST)]
        label, numbers = chunk.label(), self._dense(chunk)
        ids = np.empty((chunk.rows, len(self.fields)), np.int32)
        codes = [field.read(first, chunk.rows) for field in self.fields]
        for begin in range(0, chunk.rows, _AT_ONCE):
            rows = slice(begin, begin + _AT_ONCE)
            for column, (table, own) in enumerate(zip(tables, codes, strict=True)):
                ids[rows, column] = table.take(own[rows])
        return {
            "label": [_of_part(label, rows) for rows in chosen],
            "dense": [_of_part(numbers, rows) for rows in chosen],
            "ids": [_of_part(ids, rows) for rows in chosen],
        }

    def _dense(self, chunk: Chunk) -> npt.NDArray[np.float32]:
        if not self.has_dense:
            return np.empty((chunk.rows, 0), np.float32)
        numbers = chunk.all_numbers()
        return (dense.log1p(numbers) if self.recipe.dense == "log1p" else dense.by_largest(numbers, self.largest)).T


def _of_part(array: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Rows of an array; all of them are not copied."""
    return array if len(rows) == len(array) else array.take(rows, axis=0)


def _forget(folder: Path) -> None:
    """Remove what is there, the mark first: it may speak of arrays that were moved, and is no word on new ones."""
    remove(folder / _MARK)
    sync_directory(folder)
    for name in MEMBERS:
        remove(folder / f"{name}.npy")


def _written(folder: Path) -> int:
    """Chunks that were written; none where an array is not there any more: it was moved to be published."""
    if all((folder / f"{name}.npy").is_file() for name in MEMBERS):
        with suppress(OSError, ValueError, TypeError):
            return int(json.loads((folder / _MARK).read_text("utf-8")))
    return 0
