"""Outfits as their files have them, before items are numbered; and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.outfits import Category


@dataclass(frozen=True)
class Item:
    """An item of an outfit; ``category`` is the source's id of its kind."""

    label: str
    category: str


@dataclass(frozen=True)
class RawOutfit:
    """An outfit as it is written down."""

    label: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class ItemNames:
    """What sellers call items: ``of`` by label; ``counted``: those of the raw training file, whose words count."""

    of: Mapping[str, str]
    counted: tuple[str, ...]


@dataclass(frozen=True)
class RawOutfits:
    """All outfits of a source.

    Attributes:
        parts: Training, validation and test, in the order of the files.
        categories: In the order of their numbers.
        rows_read: Outfits in the files.
        names: Of the items, where the files have them.
        malformed: Outfits left out, by kind.
        left_out: What the recipe left out, by reason.
    """

    parts: tuple[list[RawOutfit], list[RawOutfit], list[RawOutfit]]
    categories: tuple[Category, ...]
    rows_read: int
    names: ItemNames | None = None
    malformed: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


class Faulty(Exception):
    """An outfit that cannot be used: a word for what is wrong, and the reason in full."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Acceptance:
    """Which outfits of several files are used: whole ones, each set once; the policy says what becomes of others."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._where = policy, dict[str, str]()
        self.counts: dict[str, int] = {}
        self.rows = 0

    def accepted(self, source: str, outfits: Iterable[RawOutfit | Faulty]) -> list[RawOutfit]:
        """Those of one file that can be used, in order.

        Raises:
            DataError: some cannot, and the policy does not allow so many.
        """
        malformed, used, number = Malformed(source, self._policy, "outfit"), [], 0
        for number, outfit in enumerate(outfits, start=1):
            fault = outfit if isinstance(outfit, Faulty) else self._repeated(outfit)
            if fault is not None:
                malformed.add(fault.kind, number, str(fault))
            elif isinstance(outfit, RawOutfit):
                # A long folder would push the file's name out of the message.
                self._where[outfit.label] = f"outfit {number} of {PurePath(source).name}"
                used.append(outfit)
        for kind, count in malformed.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        self.rows += number
        malformed.check(number)
        return used

    def _repeated(self, outfit: RawOutfit) -> Faulty | None:
        first = self._where.get(outfit.label)
        return None if first is None else Faulty("repeated", f"{outfit.label} is also {first}")


def label_of(outfit: Mapping[str, Any]) -> str:
    """The id of an outfit: a text, or a whole number.

    Raises:
        Faulty: there is none.
    """
    if not isinstance(outfit, Mapping):
        raise Faulty("shape", f"an outfit is an object with names, not {str(outfit)[:60]}")
    label = outfit.get("set_id")
    if not _is_id(label):
        raise Faulty("set_id", f"set_id is {label!r} and must be a text or a whole number")
    return str(label)


def whole_number(value: object, what: str, label: str) -> int:
    """A whole number, also one written as text.

    Raises:
        Faulty: it is none.
    """
    if _is_id(value) and str(value).removeprefix("-").isdecimal():
        return int(str(value))
    raise Faulty(what, f"{label}: {what} is {value!r} and must be a whole number")


def _is_id(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, (str, int)) and str(value).strip() != ""


def check_items(label: str, items: Iterable[Item], *, one_of_a_category: bool) -> None:
    """Refuse an outfit that holds an item twice, or two of a category.

    Raises:
        Faulty: it does.
    """
    seen: dict[str, Item] = {}
    for item in items:
        for kind, key in (("item_twice", item.label), ("category_twice", f"category {item.category}")):
            if key in seen and (one_of_a_category or kind == "item_twice"):
                told = "the item" if kind == "item_twice" else "two items of the"
                others = "" if kind == "item_twice" else f" ({seen[key].label} and {item.label})"
                raise Faulty(kind, f"{label} has {told} {key}{others}{' twice' if kind == 'item_twice' else ''}")
            seen[key] = item
