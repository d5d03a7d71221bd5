"""The files of NGNN's repository: outfits that its authors filtered, and their numbers of categories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recexp.datasets.malformed import Policy
from recexp.datasets.outfit_files.place import Found, Place
from recexp.datasets.outfit_files.raw import (
    Acceptance,
    Faulty,
    Item,
    RawOutfit,
    RawOutfits,
    check_items,
    label_of,
    whole_number,
)
from recexp.datasets.outfits import Category
from recexp.errors import DataError

TRAIN, TEST = "train_no_dup_new_100.json", "test_no_dup_new_100.json"
NUMBERS = "cid2rcid_100.json"
SUMMARY, NAMES = "category_summarize_100.json", "category_id.txt"
MIN_CATEGORY_COUNT = 100
"""What the authors filtered with; it stands in the files' names."""


def files(place: Place) -> dict[str, Found] | None:
    """The files by name, or None where there are no outfits of this kind; the last two may be missing.

    Raises:
        DataError: only some of them are there.
    """
    train = place.find([TRAIN])
    if train is None:
        return None
    found = {TRAIN: train}
    for name in (TEST, NUMBERS, SUMMARY, NAMES):
        other = place.find([name], beside=train)
        if other is not None:
            found[name] = other
        elif name in (TEST, NUMBERS):
            raise DataError(f"{place} holds {train.name} and no {name} beside it: both come from one folder. Add it.")
    return found


def read(found: Mapping[str, Found], policy: Policy) -> RawOutfits:
    """The outfits; categories have the numbers that the authors gave them, and there is no validation part.

    Raises:
        DataError: a file is not JSON or of another shape, or outfits are malformed.
    """
    categories = _categories(found)
    known, acceptance = {category.id for category in categories}, Acceptance(policy)
    train, test = (
        acceptance.accepted(str(found[name]), _outfits(outfit_list(found[name]), known)) for name in (TRAIN, TEST)
    )
    return RawOutfits((train, [], test), categories, acceptance.rows, malformed=acceptance.counts)


def outfit_list(file: Found) -> list[Any]:
    """A file that is a list of outfits.

    Raises:
        DataError: it is something else.
    """
    content = file.json()
    if not isinstance(content, list) or not content:
        raise DataError(f"{file} must be a list of outfits and holds {str(content)[:60]}. Fetch it again.")
    return content


def _categories(found: Mapping[str, Found]) -> tuple[Category, ...]:
    file = found[NUMBERS]
    numbers = file.json()
    if not isinstance(numbers, dict) or sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        raise DataError(f"{file} must give each category's id one number of 0, 1, 2, ... Fetch it again.")
    names = category_names(found.get(NAMES))
    if SUMMARY in found:
        told = found[SUMMARY].json()
        if not isinstance(told, list) or not all(isinstance(each, dict) and {"id", "name"} <= {*each} for each in told):
            raise DataError(f"{found[SUMMARY]} must be a list of categories with id and name. Fetch it again.")
        names |= {str(each["id"]): str(each["name"]) for each in told}
    return tuple(Category(id, names.get(id, "")) for id in sorted(numbers, key=lambda id: int(numbers[id])))


def category_names(file: Found | None) -> dict[str, str]:
    """Names of categories by id, from a file with both on each line; nothing where there is none.

    Raises:
        DataError: a line has another form.
    """
    names = {}
    for number, line in enumerate(file.read().decode("utf-8", "replace").splitlines() if file else [], start=1):
        id, _, name = line.strip().partition(" ")
        if id and not id.isdecimal():
            raise DataError(f"{file}, line {number}: {line[:60]!r} must be an id and a name. Fetch it again.")
        if id:
            names[id] = name.strip()
    return names


def _outfits(content: list[Any], categories: set[str]) -> Iterator[RawOutfit | Faulty]:
    for outfit in content:
        try:
            yield _outfit(outfit, categories)
        except Faulty as fault:
            yield fault


def _outfit(outfit: Mapping[str, Any], categories: set[str]) -> RawOutfit:
    label = label_of(outfit)
    ids, indices = outfit.get("items_category"), outfit.get("items_index")
    if not isinstance(ids, list) or not isinstance(indices, list):
        raise Faulty("shape", f"{label}: items_category and items_index must be lists")
    if len(ids) != len(indices):
        raise Faulty("lengths", f"{label}: items_category has {len(ids)} entries and items_index has {len(indices)}")
    if len(ids) < 2:
        raise Faulty("too_few_items", f"{label} has {len(ids)} item{'s' if len(ids) != 1 else ''}; an outfit has two")
    items = tuple(
        Item(
            f"{label}_{whole_number(index, 'items_index', label)}",
            str(whole_number(category, "items_category", label)),
        )
        for category, index in zip(ids, indices, strict=True)
    )
    for item in items:
        if item.category not in categories:
            raise Faulty("unknown_category", f"{item.label} has the category {item.category}, which {NUMBERS} lacks")
    check_items(label, items, one_of_a_category=True)
    return RawOutfit(label, items)
