"""Vectors of items from one file each to arrays: once, in chunks; what is done stays done after a kill."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.array_folder import row_sum
from recexp.datasets.outfit_files.vector_files import VectorFiles, Vectors, parse_vectors
from recexp.datasets.outfit_store import IMAGE
from recexp.datasets.parallel import in_order
from recexp.errors import DataError
from recexp.storage.atomic import atomic_file, explain_full_disk
from recexp.storage.download import Progress

CHUNK_FILES = 512
_AT_ONCE = 64
_Arrays = dict[str, npt.NDArray[Any]]
_Encode = Callable[[Vectors, Sequence[str]], _Arrays]


@dataclass(frozen=True)
class Conversion:
    """How files become arrays.

    Attributes:
        workspace: Keeps chunks that are done.
        workers: Threads, on which no result depends; None: as many as are worth it.
        progress: Told how far it is.
    """

    workspace: Path
    workers: int | None = None
    progress: Progress | None = None

    def image(
        self, files: VectorFiles, items: Mapping[str, int], count: int, folder: Path
    ) -> tuple[npt.NDArray[np.float16], str]:
        """Write ``image.npy`` into ``folder``: float16[count, D], zeros for items without a file.

        Args:
            files: A list of D numbers each.
            items: The number of each item that has a file, by its label.
            count: Items in all.
            folder: Exists.

        Returns:
            The array, mapped, and its ``row_sum``.

        Raises:
            DataError: a file is no such list, or has a number beyond float16's range; the message names it.
            OSError: the disk refuses.
        """
        width, chunks = self._chunks(files, items, "image", _half)
        path = folder / f"{IMAGE}.npy"
        try:
            array = np.lib.format.open_memmap(path, "w+", np.dtype("<f2"), (count, width))
            for chunk in chunks:
                array[chunk["item"]] = chunk["values"]
            array.flush()
        except OSError as error:
            raise explain_full_disk(error, path, 2 * count * width) from error
        return array, row_sum(array, self.workers)

    def text(
        self, files: VectorFiles, items: Mapping[str, int], count: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], int]:
        """The words of each item, their offsets, and how many words there are; arguments as in ``image``.

        Raises:
            DataError: a file is not a list of zeros and ones, or of another width; the message names it.
            OSError: the disk refuses.
        """
        width, chunks = self._chunks(files, items, "text", _words)
        own: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)] * count
        for chunk in chunks:
            ends = np.cumsum(chunk["counts"]).tolist()
            for item, (first, last) in zip(chunk["item"].tolist(), pairwise([0, *ends]), strict=True):
                own[item] = chunk["words"][first:last]
        return *in_rows(own), width

    def _chunks(
        self,
        files: VectorFiles,
        items: Mapping[str, int],
        kind: str,
        encode: _Encode,
    ) -> tuple[int, Iterator[_Arrays]]:
        names = {name: items[label] for label, name in files.labels().items() if label in items}
        if not names:
            raise DataError(f"{files} holds a file of none of the items. Name the {kind} vectors of these outfits.")
        order = [*names]
        chunks = [order[first : first + CHUNK_FILES] for first in range(0, len(order), CHUNK_FILES)]
        paths = [self.workspace / f"{kind}-{CHUNK_FILES}-{number:05d}.npz" for number in range(len(chunks))]
        done = [_load(path) is not None for path in paths]
        width = _width(files, order[0])

        def convert(task: tuple[int, list[bytes] | None]) -> int:
            number, contents = task
            own = chunks[number]
            if not done[number]:
                arrays = _encoded(files, own, contents, width, encode)
                item = np.array([names[name] for name in own], np.int32)
                _save(paths[number], {"item": item, **arrays})
            return len(own)

        converted = 0
        for count in in_order(convert, enumerate(files.contents(chunks, done)), self.workers):
            converted += count
            if self.progress is not None:
                self.progress(f"read {kind} vectors", converted, len(names))
        return width, map(_loaded, paths)


def in_rows(own: Sequence[npt.NDArray[np.int32]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The words of all items one after the other, and their offsets."""
    offsets = np.zeros(len(own) + 1, np.int64)
    np.cumsum([len(words) for words in own], out=offsets[1:])
    return np.concatenate([np.zeros(0, np.int32), *own]), offsets


def _encoded(
    files: VectorFiles, names: Sequence[str], contents: list[bytes] | None, width: int, encode: _Encode
) -> _Arrays:
    """A few files at a time: numbers stay in the processor's cache."""
    pieces = []
    for first in range(0, len(names), _AT_ONCE):
        own = names[first : first + _AT_ONCE]
        texts = [files.read(name) for name in own] if contents is None else contents[first : first + _AT_ONCE]
        shown = [files.shown(name) for name in own]
        pieces.append(encode(parse_vectors(texts, shown, width), shown))
    return {kind: np.concatenate([piece[kind] for piece in pieces]) for kind in pieces[0]}


def _width(files: VectorFiles, name: str) -> int:
    """How many numbers the first file has; all others must have as many."""
    (content,) = next(files.contents([[name]], [False])) or [files.read(name)]
    return int(parse_vectors([content], [files.shown(name)], None).shape[1])


def _half(vectors: Vectors, names: Sequence[str]) -> _Arrays:
    with np.errstate(over="ignore"):
        values = vectors.astype("<f2")
    wrong = np.argwhere(np.isinf(values))
    if wrong.size:
        row, column = wrong[0]
        raise DataError(
            f"{names[row]}: number {column + 1} is {vectors[row, column]:g}; pictures' vectors are kept as "
            f"float16, whose largest number is 65,504. Scale all vectors down."
        )
    return {"values": values}


def _words(vectors: Vectors, names: Sequence[str]) -> _Arrays:
    wrong = np.argwhere((vectors != 0) & (vectors != 1))
    if wrong.size:
        row, column = wrong[0]
        raise DataError(
            f"{names[row]}: number {column + 1} is {vectors[row, column]:g}; a vector of words has 1 for each word "
            f"of the item and else 0. Name such vectors with dataset.text_path."
        )
    row, column = np.nonzero(vectors)
    return {"words": column.astype(np.int32), "counts": np.bincount(row, minlength=len(vectors)).astype(np.int64)}


def _save(path: Path, arrays: _Arrays) -> None:
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _loaded(path: Path) -> _Arrays:
    found = _load(path)
    if found is None:
        raise DataError(f"{path} was written and cannot be read again: check the disk, or set paths.cache.")
    return found


def _load(path: Path) -> _Arrays | None:
    """A chunk that is done; None where it is not there or damaged."""
    with suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(path) as opened:
        return {name: opened[name] for name in opened.files}
    return None
