"""Files of outfits become arrays; what is read of vectors stays done after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recexp.datasets import outfit_store
from recexp.datasets.events import DataMeta
from recexp.datasets.outfit_files import questions
from recexp.datasets.outfit_files.assemble import Numbered, number, without
from recexp.datasets.outfit_files.place import Found
from recexp.datasets.outfit_files.raw import ItemNames, RawOutfits
from recexp.datasets.outfit_files.vector_files import VectorFiles
from recexp.datasets.outfit_files.vectors import Conversion, in_rows
from recexp.datasets.outfit_files.words import vocabulary, words_of
from recexp.datasets.outfits import Outfits
from recexp.datasets.table import WrittenOutfits
from recexp.errors import DataError
from recexp.storage.download import Progress

BUILD = 1
"""Goes up whenever the same files and options would give other arrays."""

SHOWN = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A source that is there.

    Attributes:
        read: Its outfits.
        origin: Where it is, for people.
        questions: Files of published questions, as ``questions.files`` finds them.
        names: Reads the items' names where the outfits' own files have none.
        verified: Whether it is the published one; None where that cannot be told.
    """

    read: Callable[[], RawOutfits]
    origin: str
    questions: Mapping[str, Found]
    names: Callable[[], ItemNames] | None = None
    verified: bool | None = None


@dataclass
class _Features:
    image: npt.NDArray[np.float16] | None = None
    image_sum: str | None = None
    words: npt.NDArray[np.int32] | None = None
    word_offsets: npt.NDArray[np.int64] | None = None
    num_words: int = 0


@dataclass(frozen=True)
class Build:
    """One build.

    Attributes:
        open: Finds (or fetches) the source.
        image: Vectors of pictures; None: none are used.
        text: Vectors of words; None: none are used.
        by_name: Words are those of the items' names.
        missing: ``error``, ``zero`` or ``drop``, for items without a vector or a name.
        last_word: Only the last word of a name counts.
        min_items: Outfits with fewer are left out.
        progress: Told how far it is.
        workers: Threads, on which no result depends; None: as many as are worth it.
    """

    open: Callable[[], Opened]
    image: VectorFiles | None = None
    text: VectorFiles | None = None
    by_name: bool = False
    missing: str = "error"
    last_word: bool = False
    min_items: int = 3
    progress: Progress | None = None
    workers: int | None = None

    def write(self, folder: Path, workspace: Path) -> WrittenOutfits:
        """Write the arrays into ``folder``; ``workspace`` keeps what is done until then.

        Raises:
            DataError: a file cannot be read, is malformed, or is missing where the policy does not allow it.
            OSError: the disk refuses.
        """
        opened = self.open()
        raw = opened.read()
        names = opened.names() if self.by_name and opened.names is not None else raw.names
        dropped, notes = self._missing(raw, names)
        raw = without(raw, dropped, self.min_items)
        numbered = number(raw, opened.origin)
        published, coverage = questions.read(opened.questions, numbered.items)
        features = self._features(names, numbered, folder, Conversion(workspace, self.workers, self.progress))
        notes |= coverage
        if features.image is None and features.words is None:
            notes["items_known_by_their_category_alone"] = len(numbered.items)
            _log.info("%s: of an item only its category is known, as dataset.features says", opened.origin)
        outfits = Outfits(
            category_offsets=numbered.category_offsets,
            members=numbered.members,
            offsets=numbered.offsets,
            bounds=numbered.bounds,
            categories=raw.categories,
            item_labels=numbered.item_labels,
            outfit_labels=numbered.outfit_labels,
            meta=_meta(opened, raw, notes),
            image=features.image,
            words=features.words,
            word_offsets=features.word_offsets,
            num_words=features.num_words,
            published=published,
        )
        return outfit_store.write(folder, outfits, image_sum=features.image_sum)

    def _missing(self, raw: RawOutfits, names: ItemNames | None) -> tuple[set[str], dict[str, int]]:
        """Labels of items that are dropped, and how many items are without what."""
        known: list[tuple[str, str, Container[str]]] = []
        if self.image is not None:
            known.append(("image_vector", str(self.image), self.image.labels()))
        if self.text is not None:
            known.append(("text_vector", str(self.text), self.text.labels()))
        if self.by_name and names is not None:
            known.append(("name", "the items' names", names.of))
        labels = [item.label for part in raw.parts for outfit in part for item in outfit.items]
        dropped, notes = set[str](), dict[str, int]()
        for kind, source, there in known:
            absent = [label for label in labels if label not in there]
            if not absent:
                continue
            told = f"{source}: {len(absent):,} of {len(labels):,} items have no {kind.replace('_', ' ')}"
            if self.missing == "error":
                shown = ", ".join(absent[:SHOWN]) + (
                    f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
                )
                raise DataError(
                    f"{told}: {shown}. Add their files, or say what becomes of such items: dataset.missing=zero "
                    f"(nothing is known of them) or dataset.missing=drop."
                )
            _log.warning("%s: dataset.missing=%s", told, self.missing)
            if self.missing == "drop":
                dropped |= {*absent}
            else:
                notes[f"items_without_{kind}"] = len(absent)
        return dropped, notes

    def _features(self, names: ItemNames | None, numbered: Numbered, folder: Path, conversion: Conversion) -> _Features:
        found, count = _Features(), len(numbered.items)
        if self.image is not None:
            found.image, found.image_sum = conversion.image(self.image, numbered.items, count, folder)
        if self.text is not None:
            found.words, found.word_offsets, found.num_words = conversion.text(self.text, numbered.items, count)
        elif self.by_name and names is not None:
            known = vocabulary(names.counted)
            if not known:
                raise DataError("no word of the items' names is frequent enough: use dataset.features=category.")
            told = (names.of.get(label, "") for label in numbered.item_labels.tolist())
            own = [np.array(words_of(name, known, last=self.last_word), np.int32) for name in told]
            found.words, found.word_offsets = in_rows(own)
            found.num_words = len(known)
        return found


def _meta(opened: Opened, raw: RawOutfits, notes: dict[str, int]) -> DataMeta:
    return DataMeta(
        name="",
        fingerprint="",
        licence="",
        origin=opened.origin,
        synthetic=False,
        rows_read=raw.rows_read,
        malformed=raw.malformed,
        verified=opened.verified,
        left_out=raw.left_out,
        notes=notes,
    )
