"""Files of vectors, one JSON list for each item: where they lie, what they hold, and how they are read fast."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.outfit_files.place import parse_json
from recexp.datasets.remember import stamp_of
from recexp.errors import DataError
from recexp.storage.archive import list_files, open_files
from recexp.storage.checksum import sha256_json

ENDING = ".json"
_SAMPLES, _SAMPLE = 64, 1 << 16
#: All that stands in vectors of zeros and ones.
_OF_WORDS = b"[]01., \n"
_LINES = bytes.maketrans(b",", b"\n")
Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VectorFiles:
    """A folder or an archive with ``LABEL.json`` of each item; ``inside``: the folder of the archive they are in."""

    path: Path
    inside: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.inside is None else f"{self.path}, {self.inside}"

    def identity(self) -> str:
        """sha256 that stands for the files: names, sizes and times of change of all; of an archive with samples.

        Raises:
            DataError: they cannot be looked at.
        """
        try:
            if self.path.is_dir():
                with os.scandir(self.path) as entries:
                    known = [(each.name, each.stat()) for each in entries if each.name.endswith(ENDING)]
                return sha256_json(sorted([name, stat.st_size, stat.st_mtime_ns] for name, stat in known))
            size, changed = stamp_of(self.path)
            sample = hashlib.sha256()
            with self.path.open("rb") as stream:
                for place in range(_SAMPLES):
                    stream.seek(max(0, size - _SAMPLE) * place // (_SAMPLES - 1))
                    sample.update(stream.read(_SAMPLE))
        except OSError as error:
            raise DataError(f"{self} cannot be read: {error.strerror or error}.") from error
        return sha256_json([self.inside, size, changed, sample.hexdigest()])

    def labels(self) -> dict[str, str]:
        """The name of each item's file, in the order in which they are read best.

        Raises:
            DataError: there are none, or an item has two.
        """
        return self._labels

    @cached_property
    def _labels(self) -> dict[str, str]:
        if self.path.is_dir():
            names: list[str] = sorted(name for name in os.listdir(self.path) if name.endswith(ENDING))  # noqa: PTH208
        else:
            names = [name for name, _ in list_files(self.path) if self._counts(name)]
        found: dict[str, str] = {}
        for name in names:
            label = PurePosixPath(name).name.removesuffix(ENDING)
            if label in found:
                raise DataError(
                    f"{self} holds {found[label]} and {name}: which one is meant? Name a folder or an archive of its "
                    "own for each kind of vector."
                )
            found[label] = name
        if not found:
            raise DataError(
                f"{self} holds no file {{set_id}}_{{index}}{ENDING}. Name the folder or archive of vectors."
            )
        return found

    def _counts(self, name: str) -> bool:
        return name.endswith(ENDING) and (self.inside is None or PurePosixPath(name).parent.name == self.inside)

    def contents(self, chunks: Sequence[Sequence[str]], skip: Sequence[bool]) -> Iterator[list[bytes] | None]:
        """The contents of files by name, chunk by chunk; None where a chunk is not needed.

        A folder gives None as well: its files can be read in any thread, with :meth:`read`.

        Args:
            chunks: Names, in the order of ``labels``.
            skip: Of each chunk, whether it is not needed.

        Raises:
            DataError: a file is missing or damaged.
        """
        if self.path.is_dir():
            yield from (None for _ in chunks)
            return
        with open_files(self.path) as members:
            for names, unneeded in zip(chunks, skip, strict=True):
                held: list[bytes] = []
                if not unneeded:
                    wanted = iter(names)
                    name = next(wanted, None)
                    for member, read in members:
                        if member == name:
                            held.append(read())
                            name = next(wanted, None)
                        if name is None:
                            break
                yield None if unneeded else held

    def shown(self, name: str) -> str:
        """A file of them, for people."""
        return str(self.path / name) if self.path.is_dir() else f"{self.path}, {name}"

    def read(self, name: str) -> bytes:
        """The content of a file of the folder.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with (self.path / name).open("rb", buffering=0) as stream:
                return stream.read()
        except OSError as error:
            raise DataError(f"{self.shown(name)} cannot be read: {error.strerror or error}.") from error


def parse_vectors(contents: Sequence[bytes], names: Sequence[str], width: int | None) -> Vectors:
    """The numbers in JSON lists of one width, float64[files, width].

    All files are parsed in one pass of Arrow, which lets other threads run; whatever that does not take is looked at
    file by file, so that the one at fault is named.

    Args:
        contents: Of the files, one or more.
        names: Of the files, for errors.
        width: Of each; None: that of the first.

    Raises:
        DataError: a file is not a JSON list of so many finite numbers; the message names it.
    """
    may_be_words = not contents[0].translate(None, _OF_WORDS)
    found = _zeros_and_ones(contents) if may_be_words else None
    found = _numbers(contents) if found is None else found
    if found is None or (width is not None and found.shape[1] != width):
        found = _one_by_one(contents, names, width)
    wrong = np.argwhere(~np.isfinite(found))
    if wrong.size:
        row, column = wrong[0]
        raise DataError(f"{names[row]}: number {column + 1} is {found[row, column]}. Correct the file, or remove it.")
    return found


def _zeros_and_ones(contents: Sequence[bytes]) -> Vectors | None:
    """Lists of nothing but 0, 1, 0.0 and 1.0, as words' vectors are; None for any other."""
    texts = [content.strip().replace(b".0", b"").replace(b", ", b",") for content in contents]
    size = len(texts[0])
    if size < 3 or not size % 2 or any(len(text) != size for text in texts):
        return None
    signs = np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), size)
    between, digits = signs[:, 2:-1:2], signs[:, 1::2]
    brackets = np.all(signs[:, 0] == ord("[")) and np.all(signs[:, -1] == ord("]"))
    if not brackets or np.any(between != ord(",")) or np.any((digits != ord("0")) & (digits != ord("1"))):
        return None
    found: Vectors = (digits == ord("1")).astype(np.float64)
    return found


def _numbers(contents: Sequence[bytes]) -> Vectors | None:
    """Lists of numbers, all as long as the first; None where they are anything else."""
    from pyarrow import ArrowInvalid, BufferReader, csv  # takes time to import, and prepared data needs none

    texts = [content.strip() for content in contents]
    width = texts[0].count(b",") + 1
    if not all(text[:1] == b"[" and text[-1:] == b"]" and text.count(b",") + 1 == width for text in texts):
        return None
    lines = b",".join([text[1:-1] for text in texts]).translate(_LINES)
    try:
        column = csv.read_csv(
            BufferReader(lines),
            read_options=csv.ReadOptions(column_names=["x"], use_threads=False, block_size=len(lines) + 2),
            parse_options=csv.ParseOptions(quote_char=False, delimiter="\t", ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types={"x": "float64"}, null_values=[], check_utf8=False),
        )["x"]
    except ArrowInvalid:
        return None
    if column.null_count or len(column) != width * len(texts):
        return None
    numbers: Vectors = column.to_numpy().reshape(len(texts), width)
    return numbers


def _one_by_one(contents: Sequence[bytes], names: Sequence[str], width: int | None) -> Vectors:
    parsed = [_one(content, name) for content, name in zip(contents, names, strict=True)]
    width = len(parsed[0]) if width is None else width
    for vector, name in zip(parsed, names, strict=True):
        if len(vector) != width or not width:
            raise DataError(f"{name} has {len(vector):,} numbers; others have {width:,}. Fetch it again, or remove it.")
    return np.stack(parsed)


def _one(content: bytes, name: str) -> Vectors:
    value: Any = parse_json(content, name)
    if not isinstance(value, list):
        raise DataError(f"{name} must be a list of numbers and holds {json.dumps(value)[:60]}.")
    for place, number in enumerate(value, start=1):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise DataError(f"{name}: entry {place} is {json.dumps(number)[:60]} and must be a number.")
    try:
        return np.array(value, np.float64)
    except OverflowError as error:
        raise DataError(f"{name}: a number is too large: {error}.") from error
