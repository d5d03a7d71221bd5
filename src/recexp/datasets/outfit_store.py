"""Prepared outfits on disk: published in one step, checked whenever they are opened."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets import cache
from recexp.datasets.array_folder import check_once, describe, file_sum, open_array, opened, row_sum
from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import UNUSED, Category, Outfits, PublishedQuestions
from recexp.datasets.table import WrittenOutfits
from recexp.errors import DataError
from recexp.storage.atomic import explain_full_disk, write_json
from recexp.storage.checksum import sha256_json

IMAGE = "image"
_ALWAYS = {"category_offsets": "<i8", "members": "<i4", "offsets": "<i8", "item_labels": "U", "outfit_labels": "U"}
_FEATURES = {IMAGE: "<f2", "words": "<i4", "word_offsets": "<i8"}
_QUESTIONS = {"context": "<i4", "position": "<i4", "answers": "<i4", "outfit": "<i4", "label": "|u1"}
_PREFIX = "question_"


def write(folder: Path, outfits: Outfits, *, image_sum: str | None = None) -> WrittenOutfits:
    """Write outfits that are in memory; for the ``write`` of an :class:`recexp.datasets.table.OutfitRecording`.

    Args:
        folder: Exists; the ``.npy`` files go there.
        outfits: ``meta`` tells origin, counts and notes; its fingerprint is not read.
        image_sum: ``image.npy`` is in the folder already and this is its ``row_sum``; ``outfits.image`` is it, mapped.

    Raises:
        ValueError: the arrays contradict each other.
        OSError: the disk refuses.
    """
    _check(outfits)
    stated = {}
    for name, array in _arrays(outfits):
        path = folder / f"{name}.npy"
        content = np.ascontiguousarray(array)
        is_there = name == IMAGE and image_sum is not None
        if not is_there:
            try:
                np.save(path, content, allow_pickle=False)
            except OSError as error:
                raise explain_full_disk(error, path, content.nbytes) from error
        stated[name] = describe(content, path.stat().st_size, image_sum if is_there and image_sum else row_sum(content))
    meta = outfits.meta
    return WrittenOutfits(
        stated, outfits.bounds, outfits.categories, outfits.num_words, meta.rows_read, meta.malformed, meta.left_out,
        meta.notes, meta.origin, meta.verified,
    )  # fmt: skip


def _arrays(outfits: Outfits) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in (*_ALWAYS, *_FEATURES):
        if getattr(outfits, name) is not None:
            yield name, getattr(outfits, name)
    if outfits.published is not None:
        for name in _QUESTIONS:
            yield _PREFIX + name, getattr(outfits.published, name)


def fingerprint_of(written: WrittenOutfits) -> str:
    """sha256 of all that the arrays are and mean."""
    return sha256_json({
        "recipe": cache.RECIPE,
        "outfits": {name: [each["dtype"], each["shape"], each["sha256"]] for name, each in written.stated.items()},
        "categories": [[category.id, category.name] for category in written.categories],
        "bounds": list(written.bounds),
        "num_words": written.num_words,
    })  # fmt: skip


def write_meta(folder: Path, written: WrittenOutfits, meta: DataMeta) -> None:
    """The last file of a folder: what the arrays are and must be."""
    content = {
        "meta": dataclasses.asdict(meta),
        "categories": [dataclasses.asdict(category) for category in written.categories],
        "bounds": list(written.bounds),
        "num_words": written.num_words,
        "arrays": {name: dict(each) for name, each in written.stated.items()},
    }
    write_json(folder / "meta.json", content)


def publish(folder: Path, outfits: Outfits) -> Outfits:
    """Write outfits that are in memory beside ``folder``, let them appear there, and open them.

    Call it under the lock. The fingerprint of ``outfits.meta`` is replaced by that of the arrays.

    Raises:
        ValueError: the arrays contradict each other.
        OSError: the disk refuses; nothing is left behind.
    """
    with cache.building(folder) as temp:
        written = write(temp, outfits)
        write_meta(temp, written, dataclasses.replace(outfits.meta, fingerprint=fingerprint_of(written)))
    found = load(folder)
    if found is None:
        raise DataError(f"{folder} was written and cannot be read again: check the disk, or set paths.cache.")
    return found


def load(folder: Path) -> Outfits | None:
    """Open a published folder; None where there is none or where it is not whole.

    Arrays are mapped copy-on-write: writing into them changes no file. Sizes and types are always compared; the sums
    of all arrays and whether they fit each other when the files are new or changed since.
    """
    return opened(folder, lambda: _read(folder))


def _read(folder: Path) -> Outfits:
    content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    outfits = _opened(folder, content)
    names = [*content["arrays"]]
    check_once(folder, names, lambda: _check_content(folder, outfits, content["arrays"]))
    return outfits


def _opened(folder: Path, content: Mapping[str, Any]) -> Outfits:
    stated = content["arrays"]
    arrays: dict[str, Any] = {name: open_array(folder, name, stated[name]) for name in stated}
    published = None
    if f"{_PREFIX}label" in arrays:
        published = PublishedQuestions(**{name: arrays[_PREFIX + name] for name in _QUESTIONS})
    return Outfits(
        **{name: arrays[name] for name in _ALWAYS},
        image=arrays.get(IMAGE),
        words=arrays.get("words"),
        word_offsets=arrays.get("word_offsets"),
        bounds=tuple(content["bounds"]),
        categories=tuple(Category(**category) for category in content["categories"]),
        num_words=content["num_words"],
        meta=DataMeta(**content["meta"]),
        published=published,
    )


def _check_content(folder: Path, outfits: Outfits, stated: Mapping[str, Any]) -> None:
    for name, array in _arrays(outfits):
        if file_sum(folder, name, array) != stated[name]["sha256"]:
            raise ValueError(f"{name} does not have the content that was written")
    _check(outfits)


def _check(outfits: Outfits) -> None:
    """Whether the arrays fit each other.

    Raises:
        ValueError: they do not; the message says which.
    """
    types = {**_ALWAYS, **_FEATURES, **{_PREFIX + name: kind for name, kind in _QUESTIONS.items()}}
    for name, array in _arrays(outfits):
        if array.dtype.str != types[name] and not (types[name] == "U" and array.dtype.kind == "U"):
            raise ValueError(f"{name} is {array.dtype.str} and must be {types[name]}")
    _check_offsets("category_offsets", outfits.category_offsets, len(outfits.categories), outfits.num_items)
    _check_offsets("offsets", outfits.offsets, len(outfits.outfit_labels), len(outfits.members))
    if len(outfits.item_labels) != outfits.num_items:
        raise ValueError(f"{len(outfits.item_labels)} labels of {outfits.num_items} items")
    bounds = outfits.bounds
    if len(bounds) != 4 or bounds[0] != 0 or bounds[-1] != len(outfits) or list(bounds) != sorted(bounds):
        raise ValueError(f"the parts {bounds} are not those of {len(outfits)} outfits")
    _check_range("members", outfits.members, 0, outfits.num_items)
    _check_categories(outfits)
    _check_features(outfits)
    if outfits.published is not None:
        _check_questions(outfits.published, outfits.num_items)


def _check_offsets(name: str, offsets: npt.NDArray[np.int64], pieces: int, total: int) -> None:
    if len(offsets) != pieces + 1 or offsets[0] != 0 or offsets[-1] != total or np.any(np.diff(offsets) < 0):
        raise ValueError(f"{name} does not ascend from 0 to {total} in {pieces} steps")


def _check_range(name: str, values: npt.NDArray[Any], low: int, high: int) -> None:
    if values.size and (int(values.min()) < low or int(values.max()) >= high):
        raise ValueError(f"{name} has ids {values.min()}..{values.max()}, legal are {low}..{high - 1}")


def _check_categories(outfits: Outfits) -> None:
    outfit = np.repeat(np.arange(len(outfits)), np.diff(outfits.offsets))
    pairs = outfit * len(outfits.categories) + outfits.category_of(outfits.members)
    first = np.sort(pairs)
    twice = np.flatnonzero(first[1:] == first[:-1])
    if twice.size:
        at, category = divmod(int(first[twice[0]]), len(outfits.categories))
        raise ValueError(
            f"the outfit {outfits.outfit_labels[at]} has two items of the category {outfits.categories[category].id}"
        )


def _check_features(outfits: Outfits) -> None:
    image, words, word_offsets = outfits.image, outfits.words, outfits.word_offsets
    if image is not None and (image.ndim != 2 or len(image) != outfits.num_items):
        raise ValueError(f"image has the shape {image.shape}: {outfits.num_items} items have one row each")
    if words is None or word_offsets is None:
        if words is not word_offsets or outfits.num_words:
            raise ValueError("words, word_offsets and num_words come together")
        return
    _check_offsets("word_offsets", word_offsets, outfits.num_items, len(words))
    _check_range("words", words, 0, outfits.num_words)
    starts = np.zeros(len(words) + 1, bool)
    starts[word_offsets] = True
    if np.any((np.diff(words) <= 0) & ~starts[1:-1]):
        raise ValueError("the words of an item do not ascend")


def _check_questions(published: PublishedQuestions, items: int) -> None:
    for name in ("context", "answers", "outfit"):
        array = getattr(published, name)
        if array.ndim != 2:
            raise ValueError(f"the questions' {name} has the shape {array.shape}")
        _check_range(f"the questions' {name}", array, UNUSED, items)
    sizes = {len(published.context), len(published.position), len(published.answers)}
    if len(sizes) != 1 or len(published.outfit) != len(published.label):
        raise ValueError("the questions' arrays have different lengths")
    _check_range("the questions' position", published.position, 0, published.context.shape[1] + 1)
    _check_range("the questions' label", published.label, 0, 2)
