"""The second pass over a click log, field by field: which id each value has, counted on the rows that are fitted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs import dense
from recexp.datasets.click_logs.chunk import Chunk
from recexp.datasets.click_logs.numbering import Numbering
from recexp.datasets.click_logs.recipe import Recipe
from recexp.datasets.click_logs.split import SUBSAMPLED, TRAIN
from recexp.datasets.parallel import in_order
from recexp.storage.atomic import write_json
from recexp.storage.download import Progress

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """Where a field's values come from.

    Attributes:
        name: Of the field.
        place: Among the chunk's columns of ids, or of numbers.
        kind: ``id``; ``number`` as it is; ``category``: a number as ``Recipe.dense`` makes it one; the others: what
            it says of a number YYMMDDHH (Monday is weekday 0).
    """

    name: str
    place: int
    kind: Literal["id", "number", "category", "hour", "weekday", "is_weekend"] = "id"

    def is_wide(self, recipe: Recipe) -> bool:
        """Whether values are int64, not uint32."""
        return self.kind != "id" or recipe.missing == "category"

    def values(
        self, chunk: Chunk, recipe: Recipe
    ) -> tuple[_Ints | npt.NDArray[np.uint32], npt.NDArray[np.bool_] | None]:
        """int64[N] or uint32[N], and bool[N] where there may be rows without a value of their own."""
        if self.kind == "id":
            ids, absent = chunk.id(self.place)
            if recipe.max_ind_range is not None and recipe.max_ind_range < 2**32:
                ids %= np.uint32(recipe.max_ind_range)
            if recipe.missing != "category":
                return ids, absent if recipe.missing == "rare" else None
            return np.where(absent, -1, ids.astype(np.int64)), None
        numbers = chunk.number(self.place)
        if self.kind == "category":
            return dense.as_categories(numbers, recipe.dense), None
        held = numbers.astype(np.int64)
        return held if self.kind == "number" else _of_hour(held, self.kind), None


def _of_hour(held: _Ints, what: str) -> _Ints:
    """Of YYMMDDHH."""
    if what == "hour":
        return held % 100
    year, month, day = held // 1_000_000 + 2000, held // 10_000 % 100, held // 100 % 100
    months = (np.clip(year, 1970, 2100) - 1970) * 12 + np.clip(month, 1, 12) - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + np.clip(day, 1, 31) - 1
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    return weekday if what == "weekday" else (weekday >= 5).astype(np.int64)


@dataclass(frozen=True)
class NumberedField:
    """A field whose values were numbered.

    Attributes:
        codes: File of int32[N]: the number of each row's value, by first appearance; -1: it has none.
        id_of: File of int32[values + 1]: the id of each number; the last entry, which -1 finds, is that of rare values.
        size: Ids of the field.
        rare: Values without an id of their own.
    """

    codes: Path
    id_of: Path
    size: int
    rare: int

    def read(self, first: int, rows: int) -> npt.NDArray[np.int32]:
        """Numbers of some rows."""
        return np.fromfile(self.codes, np.int32, rows, offset=4 * first)


@dataclass(frozen=True)
class Parts:
    """The part of every row, in a file of uint8[N]."""

    path: Path

    def read(self, first: int, rows: int) -> npt.NDArray[np.uint8]:
        """Of some rows."""
        return np.fromfile(self.path, np.uint8, rows, offset=first)

    def fitted(self, first: int, rows: int, recipe: Recipe) -> npt.NDArray[np.bool_]:
        """Which rows vocabularies and largest numbers are taken from."""
        part = self.read(first, rows)
        return np.asarray(part == TRAIN if recipe.vocabulary == "train" else part != SUBSAMPLED)


def placed(chunks: Sequence[Chunk]) -> Iterator[tuple[int, Chunk]]:
    """Each chunk with the number of its first row."""
    first = 0
    for chunk in chunks:
        yield first, chunk
        first += chunk.rows


def number_fields(
    columns: Sequence[Column],
    chunks: Sequence[Chunk],
    parts: Parts,
    recipe: Recipe,
    folder: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[NumberedField]:
    """Number every field, several at a time; what is there from a build that was killed is taken as it is.

    Raises:
        OSError: the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def work(place: int) -> NumberedField:
        known = _load(folder, place, sum(chunk.rows for chunk in chunks))
        return known or _number(columns[place], place, chunks, parts, recipe, folder)

    found = []
    for field in in_order(work, range(len(columns)), workers):
        found.append(field)
        if progress is not None:
            progress("number fields", len(found), len(columns))
    return found


def _load(folder: Path, place: int, rows: int) -> NumberedField | None:
    codes = folder / f"{place}.codes"
    with suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads((folder / f"{place}.json").read_text("utf-8"))
        id_of = folder / f"{place}.ids"
        if codes.stat().st_size == 4 * rows and id_of.stat().st_size == 4 * (held["values"] + 1):
            return NumberedField(codes, id_of, held["size"], held["rare"])
    return None


def _number(
    column: Column, place: int, chunks: Sequence[Chunk], parts: Parts, recipe: Recipe, folder: Path
) -> NumberedField:
    numbering = Numbering(is_wide=column.is_wide(recipe))
    counts = np.zeros(1 << 10, np.int64)
    with (folder / f"{place}.codes").open("wb") as sink:
        for first, chunk in placed(chunks):
            values, absent = column.values(chunk, recipe)
            if absent is not None and absent.any():
                codes = np.full(chunk.rows, -1, np.int32)
                codes[~absent] = numbering.number(values[~absent])
            else:
                codes = numbering.number(values)
            if len(numbering) > len(counts):
                counts = np.concatenate([counts, np.zeros(max(len(counts), len(numbering)), np.int64)])
            fitted = codes[parts.fitted(first, chunk.rows, recipe)]
            np.add.at(counts, fitted[fitted >= 0], 1)
            sink.write(codes.data)
        _to_disk(sink)
    counts = counts[: len(numbering)]
    id_of, size = ids_of(counts, recipe)
    with (folder / f"{place}.ids").open("wb") as sink:
        sink.write(np.append(id_of, np.int32(0)).data)
        _to_disk(sink)
    rare = int((id_of == 0).sum()) if recipe.has_rare else 0
    write_json(folder / f"{place}.json", {"size": size, "rare": rare, "values": len(id_of)})
    return NumberedField(folder / f"{place}.codes", folder / f"{place}.ids", size, rare)


def _to_disk(sink: IO[bytes]) -> None:
    """The mark must not outlive what it speaks of."""
    sink.flush()
    os.fsync(sink.fileno())


def ids_of(counts: _Ints, recipe: Recipe) -> tuple[npt.NDArray[np.int32], int]:
    """The id of each value, and the number of ids.

    Args:
        counts: Rows of each value in the fitted part, by first appearance.
        recipe: Says what is rare; then id 0 stands for all of that.
    """
    kept = np.flatnonzero(counts >= max(recipe.min_count, 1))
    if recipe.id_order == "frequency":
        kept = kept[np.argsort(-counts[kept], kind="stable")]
    first = int(recipe.has_rare)
    id_of = np.zeros(len(counts), np.int32)
    id_of[kept] = np.arange(first, first + len(kept))
    size = max(first + len(kept), 1)
    return id_of, size


def largest_numbers(chunks: Sequence[Chunk], parts: Parts, recipe: Recipe) -> _Ints:
    """int64[D]: the largest of each column of numbers in the fitted rows, at least 0."""
    largest = np.zeros(chunks[0].numbers if chunks else 0, np.int64)
    for first, chunk in placed(chunks):
        fitted = parts.fitted(first, chunk.rows, recipe)
        np.maximum(largest, dense.largest_of(chunk.all_numbers()[:, fitted]), out=largest)
    return largest
