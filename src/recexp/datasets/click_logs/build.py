"""A click log becomes impressions: chunks of columns, numbered fields, arrays; what is done stays done after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs.assemble import Assembly
from recexp.datasets.click_logs.fields import (
    Column,
    NumberedField,
    Parts,
    largest_numbers,
    number_fields,
    placed,
)
from recexp.datasets.click_logs.layout import Layout
from recexp.datasets.click_logs.lines_pass import ParsedSource, Parsing, parse_sources
from recexp.datasets.click_logs.recipe import Recipe
from recexp.datasets.click_logs.split import LEFT_OVER, SUBSAMPLED, Split
from recexp.datasets.click_logs.text_source import TextSource
from recexp.datasets.impressions import PARTS, Field
from recexp.datasets.malformed import Policy
from recexp.datasets.table import WrittenImpressions
from recexp.errors import DataError
from recexp.storage.atomic import atomic_file, remove, write_json
from recexp.storage.download import Progress

BUILD = 1
"""Goes up whenever the same text and recipe would give other arrays."""

CHUNK_BYTES = 24 << 20
"""Parsing so much takes more memory than vocabularies of some million ids: the peak does not grow with the rows."""


@dataclass(frozen=True)
class LogFormat:
    """What the columns of a line are for.

    Attributes:
        layout: Of a line.
        fields: Categorical fields, in order.
        numbers: Numbers are dense, unless the recipe makes them categories; False: ``fields`` says what they are.
    """

    layout: Layout
    fields: tuple[Column, ...]
    numbers: bool = False

    def columns(self, recipe: Recipe) -> tuple[Column, ...]:
        """All fields under a recipe; numbers that become categories come first."""
        if not (self.numbers and recipe.dense_is_categorical):
            return self.fields
        named = enumerate(self.layout.named("number"))
        return (*(Column(name, place, "category") for place, name in named), *self.fields)

    def dense_names(self, recipe: Recipe) -> tuple[str, ...]:
        """Names of the numbers that stay numbers."""
        return self.layout.named("number") if self.numbers and not recipe.dense_is_categorical else ()


@dataclass(frozen=True)
class Build:
    """One build.

    Attributes:
        sources: In the order of time.
        format: Of their lines.
        recipe: What is made of them.
        policy: For malformed rows.
        progress: Told how far it is.
        chunk_bytes: Of text; no result depends on it.
        workers: Threads, on which no result depends; None: as many as are worth it.
    """

    sources: Sequence[TextSource]
    format: LogFormat
    recipe: Recipe
    policy: Policy
    progress: Progress | None = None
    chunk_bytes: int = CHUNK_BYTES
    workers: int | None = None

    def write(self, folder: Path, workspace: Path) -> WrittenImpressions:
        """Write the arrays into ``folder``; ``workspace`` keeps what is done until then.

        Raises:
            DataError: a source cannot be read, has malformed rows that the policy does not allow, or leaves a part of
                the split without rows.
            OSError: the disk refuses.
        """
        _forget_others(self.sources, workspace)
        parsing = Parsing(
            self.format.layout, self.policy, workspace / f"chunks-{self.chunk_bytes}", self.chunk_bytes, self.workers,
            self.progress,
        )  # fmt: skip
        parsed = parse_sources(self.sources, parsing)
        chunks = [chunk for source in parsed for chunk in source.chunks]
        split = Split(self.recipe, [source.rows for source in parsed])
        parts, counts = self._parts(parsed, split, workspace)
        columns = self.format.columns(self.recipe)
        fields = number_fields(
            columns, chunks, parts, self.recipe, workspace / "fields", workers=self.workers, progress=self.progress
        )
        has_dense = bool(self.format.dense_names(self.recipe))
        largest = np.zeros(0, np.int64)
        if has_dense and self.recipe.dense == "max":
            largest = largest_numbers(chunks, parts, self.recipe)
        assembly = Assembly(chunks, parts, fields, self.recipe, has_dense, largest)
        arrays = workspace / f"arrays-{self.chunk_bytes}"
        stated = assembly.write(arrays, counts[:, : len(PARTS)], workers=self.workers, progress=self.progress)
        for name in stated:
            (arrays / f"{name}.npy").rename(folder / f"{name}.npy")
        return self._told(parsed, split, counts, columns, fields, stated)

    def _parts(
        self, parsed: Sequence[ParsedSource], split: Split, workspace: Path
    ) -> tuple[Parts, npt.NDArray[np.int64]]:
        """The part of every row, and int64[chunks, 5]: how many rows of a chunk each part has."""
        path = workspace / "parts"
        counts = []
        with atomic_file(path) as sink:
            for first, chunk in placed([chunk for source in parsed for chunk in source.chunks]):
                part = split.part_of(first, chunk.label())
                sink.write(part.data)
                counts.append(np.bincount(part, minlength=LEFT_OVER + 1))
        found = np.array(counts, np.int64)
        totals = found.sum(axis=0)
        asked = [self.recipe.validation_share, self.recipe.test_share] if self.recipe.split != "days" else [1.0, 1.0]
        for part_name, share, rows in zip(PARTS, [1.0, *asked], totals, strict=False):
            if share > 0 and not rows:
                listed = ", ".join(f"{name} {int(count):,}" for name, count in zip(PARTS, totals, strict=False))
                raise DataError(
                    f"{self._origin()}: {int(found.sum()):,} rows leave the part {part_name} without any ({listed}), "
                    f"cut into {split}. Choose another dataset.split or other shares, or read a larger file."
                )
        return Parts(path), found

    def _told(
        self,
        parsed: Sequence[ParsedSource],
        split: Split,
        counts: npt.NDArray[np.int64],
        columns: Sequence[Column],
        fields: Sequence[NumberedField],
        stated: dict[str, dict[str, object]],
    ) -> WrittenImpressions:
        totals = counts.sum(axis=0)
        malformed: dict[str, int] = {}
        for source in parsed:
            for kind, count in source.malformed.items():
                malformed[kind] = malformed.get(kind, 0) + count
        train, val, test = (int(count) for count in totals[: len(PARTS)])
        left_out = {
            "subsampled_rows": int(totals[SUBSAMPLED]),
            "rows_of_a_block_that_is_not_full": int(totals[LEFT_OVER]),
            "rare_values": sum(field.rare for field in fields),
        }
        return WrittenImpressions(
            stated=stated,
            fields=tuple(Field(column.name, field.size) for column, field in zip(columns, fields, strict=True)),
            dense_names=self.format.dense_names(self.recipe),
            bounds=(0, train, train + val, train + val + test),
            split=str(split),
            rows_read=sum(source.lines for source in parsed),
            malformed=malformed,
            left_out={reason: count for reason, count in left_out.items() if count},
            origin=self._origin(),
        )

    def _origin(self) -> str:
        return " + ".join(str(source) for source in self.sources)


def _forget_others(sources: Sequence[TextSource], workspace: Path) -> None:
    """Empty a workspace unless it is of these very files: an archive may have been fetched anew meanwhile."""
    known, mark = [source.identity() for source in sources], workspace / "sources.json"
    with suppress(OSError, ValueError):
        if json.loads(mark.read_text("utf-8")) == known:
            return
    for path in workspace.iterdir():
        remove(path)
    write_json(mark, known)
