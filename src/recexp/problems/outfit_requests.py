"""Outfits that a user sends: what each says, checked against the data that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recexp.config.suggest import closest, did_you_mean
from recexp.datasets.outfits import Outfits
from recexp.errors import DataError

_SHOWN = 20
_LARGEST = float(np.finfo(np.float16).max)
_OUTFIT_KEYS = ("id", "items", "complete")
_ITEM_KEYS = ("item", "category", "image", "words")


@dataclass(frozen=True)
class GivenItem:
    """An item: one of the dataset (``number``), or one of the user's own with its features."""

    category: int
    number: int | None = None
    image: Sequence[float] | None = None
    words: Sequence[int] | None = None


@dataclass(frozen=True)
class Request:
    """One outfit to score, and the categories of which an item is wanted beside it."""

    id: str
    items: tuple[GivenItem, ...]
    complete: tuple[int, ...] = ()


@dataclass
class _Problems:
    texts: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        self.texts.append(f"{where}: {what}")


class Requests:
    """Reads what a user sends; what is wrong with any of it is said at once."""

    def __init__(self, data: Outfits, *, missing: str) -> None:
        """Look the data up.

        Args:
            data: What the model was trained on.
            missing: An item without a vector that the model reads: ``error``, or ``zero`` (zeros, no words).
        """
        self.data, self.missing = data, missing
        self._items = {str(label): number for number, label in enumerate(data.item_labels.tolist())}
        self._categories = {category.id: number for number, category in enumerate(data.categories)}
        self._names = {c.name.casefold(): n for n, c in enumerate(data.categories) if c.name}

    def read(self, sent: Sequence[Any]) -> list[Request]:
        """All of them.

        Args:
            sent: As parsed from JSON: objects with ``items`` and perhaps ``id`` and ``complete``.

        Raises:
            DataError: what is wrong with each, the first 20.
        """
        problems, found = _Problems(), []
        for number, one in enumerate(sent, start=1):
            request = self._request(one, number, problems)
            if request is not None:
                found.append(request)
        if problems.texts:
            more = f"\n... and {len(problems.texts) - _SHOWN} more" if len(problems.texts) > _SHOWN else ""
            raise DataError("\n".join(problems.texts[:_SHOWN]) + more)
        return found

    def _request(self, sent: Any, number: int, problems: _Problems) -> Request | None:
        where = f"outfit {number}"
        if not isinstance(sent, Mapping):
            problems.add(where, f"is {_shown(sent)}; expected an object with items")
            return None
        name = str(number if sent.get("id") is None else sent["id"])
        where = f"outfit {name}"
        _unknown(sent, _OUTFIT_KEYS, where, problems)
        given = sent.get("items")
        if not isinstance(given, list):
            problems.add(where, f"items is {_shown(given)}; expected a list")
            return None
        items = [self._item(item, f"{where}, item {at}", problems) for at, item in enumerate(given, start=1)]
        known = tuple(item for item in items if item is not None)
        self._whole(given, known, where, problems)
        return Request(name, known, self._wanted(sent.get("complete"), known, where, problems))

    def _whole(self, given: list[Any], known: Sequence[GivenItem], where: str, problems: _Problems) -> None:
        if len(given) < 2:
            problems.add(where, f"has {len(given)} item{'s' * (len(given) != 1)}: an outfit has two or more")
        seen: set[int] = set()
        for item in known:
            if item.category in seen:
                told = self._said(item.category)
                problems.add(where, f"has two items of category {told}: a graph has one node of a category")
            seen.add(item.category)

    def _wanted(self, sent: Any, items: Sequence[GivenItem], where: str, problems: _Problems) -> tuple[int, ...]:
        if sent is None or sent is False:
            return ()
        taken = {item.category for item in items}
        if sent is True:
            return tuple(number for number in range(len(self.data.categories)) if number not in taken)
        wanted = sent if isinstance(sent, list) else [sent]
        found = [self._category(one, f"{where}, complete", problems) for one in wanted]
        known = [number for number in found if number is not None]
        for number in known:
            if number in taken:
                problems.add(where, f"is to be completed by {self._said(number)}, of which it has an item")
        return tuple(dict.fromkeys(known))

    def _item(self, sent: Any, where: str, problems: _Problems) -> GivenItem | None:
        if not isinstance(sent, Mapping):
            problems.add(where, f"is {_shown(sent)}; expected an object with item, or with category and features")
            return None
        _unknown(sent, _ITEM_KEYS, where, problems)
        if "item" in sent:
            number = self._items.get(str(sent["item"]))
            if number is None:
                problems.add(where, f"item {_shown(sent['item'])} is not in the dataset {self.data.meta.name}")
                return None
            others = [key for key in ("category", "image", "words") if key in sent]
            if others:
                problems.add(where, f"is an item of the dataset: {', '.join(others)} is known and cannot be given")
            return GivenItem(int(self.data.category_of(np.array([number]))[0]), number)
        category = self._category(sent.get("category"), where, problems)
        image, words = self._image(sent, where, problems), self._words(sent, where, problems)
        return None if category is None else GivenItem(category, None, image, words)

    def _category(self, sent: Any, where: str, problems: _Problems) -> int | None:
        text = str(sent)
        number = self._categories.get(text, self._names.get(text.casefold()))
        if number is None:
            legal = [category.name or category.id for category in self.data.categories]
            hint = did_you_mean(closest(text, legal))
            told = f"unknown category {_shown(sent)}." if sent is not None else "no category is given."
            problems.add(where, f"{told}{hint} Legal: an id or a name of {len(legal)}, as {', '.join(legal[:3])}")
        return number

    def _said(self, category: int) -> str:
        one = self.data.categories[category]
        return f"{one.id} ({one.name})" if one.name else one.id

    def _image(self, sent: Mapping[str, Any], where: str, problems: _Problems) -> Sequence[float] | None:
        width = self.data.modalities.get("image")
        given = sent.get("image")
        if width is None:
            return None
        if given is None:
            if self.missing == "error":
                problems.add(where, f"has no image, a vector of {width} numbers. task.missing=zero takes zeros")
            return [0.0] * width
        if not isinstance(given, list) or len(given) != width:
            size = f"{len(given)} numbers" if isinstance(given, list) else _shown(given)
            problems.add(where, f"image has {size}; the model takes a vector of {width} numbers")
            return None
        if not all(_is_number(value) for value in given):
            wrong = next(value for value in given if not _is_number(value))
            problems.add(where, f"image holds {_shown(wrong)}; expected numbers of at most {_LARGEST:g}")
            return None
        return given

    def _words(self, sent: Mapping[str, Any], where: str, problems: _Problems) -> Sequence[int] | None:
        count = self.data.modalities.get("text")
        given = sent.get("words")
        if count is None:
            return None
        if given is None:
            if self.missing == "error":
                problems.add(where, f"has no words, a list of numbers below {count}. task.missing=zero takes none")
            return []
        if not isinstance(given, list):
            problems.add(where, f"words is {_shown(given)}; expected a list of numbers below {count}")
            return None
        wrong = [word for word in given if type(word) is not int or not 0 <= word < count]
        if wrong:
            problems.add(where, f"words holds {_shown(wrong[0])}; expected whole numbers from 0 to {count - 1}")
            return None
        return sorted(set(given))


def _is_number(value: Any) -> bool:
    """Finite, and within what a prepared picture's half precision can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _unknown(sent: Mapping[str, Any], legal: Sequence[str], where: str, problems: _Problems) -> None:
    for key in sent:
        if key not in legal:
            hint = did_you_mean(closest(str(key), legal))
            problems.add(where, f"unknown key {_shown(key)}.{hint} Legal: {', '.join(legal)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
