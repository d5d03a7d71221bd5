"""What a reader hands on: the rows of a source as columns, and a recipe to get them only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array
from recexp.datasets.impressions import Field
from recexp.datasets.outfits import Category


@dataclass(frozen=True)
class Table:
    """Accepted rows in the order of the file.

    ``user`` and ``item`` int64[N]: ids as they are in the file where the labels are None, else positions in
    ``user_labels`` / ``item_labels`` (whole numbers or text, in any order). ``rating`` float64[N], ``time`` int64[N].
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float64]
    time: npt.NDArray[np.int64]
    rows_read: int
    user_labels: Array | None = None
    item_labels: Array | None = None
    malformed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A source that was found and identified, but not yet parsed.

    Attributes:
        content: sha256 that stands for the source's content (of the rating file, or of a generator's options).
        options: What shapes the arrays besides the content; goes into the cache's key.
        load: Fetches and parses; returns the rows and where they came from, for people.
        verified: Whether the content is the published one; None where none is published.
        synthetic: Generated, not recorded.
    """

    content: str
    options: Mapping[str, Any]
    load: Callable[[], tuple[Table, str]]
    verified: bool | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class Written:
    """Arrays that a source too large for memory wrote itself.

    Attributes:
        stated: Bytes, type, shape and sha256 of each array by name, as ``ArrayFile.close`` gives them.
        num_users: Largest id of a user.
        num_items: Largest id of an item.
        rows_read: Rows of the source.
        malformed: Malformed rows that were left out, by kind.
        left_out: What the recipe left out, by reason.
        origin: Where the rows came from, for people.
        verified: As in :class:`Recording`; a source that is fetched knows it only now.
    """

    stated: Mapping[str, Mapping[str, Any]]
    num_users: int
    num_items: int
    rows_read: int
    malformed: dict[str, int]
    left_out: dict[str, int]
    origin: str
    verified: bool | None = None


@dataclass(frozen=True)
class LargeRecording:
    """A source that was found and identified, and that writes its arrays in bounded memory.

    Attributes:
        content: As in :class:`Recording`.
        options: As in :class:`Recording`.
        write: Given an empty folder, writes the ``.npy`` files of the arrays there, and nothing else stays in it.
        synthetic: Generated, not recorded.
    """

    content: str
    options: Mapping[str, Any]
    write: Callable[[Path], Written]
    synthetic: bool = False


@dataclass(frozen=True)
class WrittenImpressions:
    """Arrays of impressions that a source wrote itself: ``label.npy``, ``dense.npy`` and ``ids.npy``.

    Attributes:
        stated: Bytes, type, shape and sum of each array by name, as ``array_folder.ROWS`` explains the sum.
        fields: As in :class:`recexp.datasets.impressions.Impressions`, likewise the next three.
        dense_names: See there.
        bounds: See there.
        split: See there.
        rows_read: Rows of the source.
        malformed: Malformed rows that were left out, by kind.
        left_out: What the recipe left out, by reason.
        origin: Where the rows came from, for people.
        verified: As in :class:`Recording`.
    """

    stated: Mapping[str, Mapping[str, Any]]
    fields: tuple[Field, ...]
    dense_names: tuple[str, ...]
    bounds: tuple[int, int, int, int]
    split: str
    rows_read: int
    malformed: dict[str, int]
    left_out: dict[str, int]
    origin: str
    verified: bool | None = None


@dataclass(frozen=True)
class ImpressionRecording:
    """A source of impressions that was found, and that writes its arrays in bounded memory.

    Attributes:
        content: As in :class:`Recording`; may stand for the file instead (size, time of change, samples of it), where
            a sum would cost minutes.
        options: As in :class:`Recording`.
        write: Given an empty folder, writes the ``.npy`` files of the arrays there, and nothing else stays in it; the
            second folder keeps what a killed build need not do again, and goes when the result is published.
        synthetic: Generated, not recorded.
    """

    content: str
    options: Mapping[str, Any]
    write: Callable[[Path, Path], WrittenImpressions]
    synthetic: bool = False


@dataclass(frozen=True)
class WrittenOutfits:
    """Arrays of outfits that a source wrote itself; ``outfit_store.write`` makes them of outfits in memory.

    Attributes:
        stated: Bytes, type, shape and sum of each array by name, as ``array_folder.ROWS`` explains the sum.
        bounds: As in :class:`recexp.datasets.outfits.Outfits`, likewise the next two.
        categories: See there.
        num_words: See there.
        rows_read: Outfits of the source.
        malformed: Malformed outfits that were left out, by kind.
        left_out: What the recipe left out, by reason.
        notes: What is there and worth knowing.
        origin: Where the outfits came from, for people.
        verified: As in :class:`Recording`.
    """

    stated: Mapping[str, Mapping[str, Any]]
    bounds: tuple[int, int, int, int]
    categories: tuple[Category, ...]
    num_words: int
    rows_read: int
    malformed: dict[str, int]
    left_out: dict[str, int]
    notes: dict[str, int]
    origin: str
    verified: bool | None = None


@dataclass(frozen=True)
class OutfitRecording:
    """A source of outfits that was found, and that writes its arrays in bounded memory.

    Attributes:
        content: As in :class:`ImpressionRecording`.
        options: As in :class:`Recording`.
        write: As in :class:`ImpressionRecording`.
        synthetic: Generated, not recorded.
    """

    content: str
    options: Mapping[str, Any]
    write: Callable[[Path, Path], WrittenOutfits]
    synthetic: bool = False
