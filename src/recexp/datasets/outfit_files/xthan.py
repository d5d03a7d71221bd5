"""The raw outfits of Polyvore as they were first published, with names of items; and the filter that makes a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from recexp.datasets.malformed import Policy
from recexp.datasets.outfit_files.ngnn import category_names, outfit_list
from recexp.datasets.outfit_files.place import Found, Place
from recexp.datasets.outfit_files.raw import (
    Acceptance,
    Faulty,
    Item,
    ItemNames,
    RawOutfit,
    RawOutfits,
    check_items,
    label_of,
    whole_number,
)
from recexp.datasets.outfits import Category
from recexp.errors import DataError

PARTS = ("train_no_dup.json", "valid_no_dup.json", "test_no_dup.json")
NAMES = "category_id.txt"


def files(place: Place) -> dict[str, Found] | None:
    """The files by name, or None where there are no outfits of this kind; names of categories may be missing.

    Raises:
        DataError: only some of them are there.
    """
    train = place.find([PARTS[0]])
    if train is None:
        return None
    found = {PARTS[0]: train}
    for name in PARTS[1:]:
        other = place.find([name], beside=train)
        if other is None:
            raise DataError(f"{place} holds {train.name} and no {name} beside it: both are published together. Add it.")
        found[name] = other
    names = place.find([NAMES], beside=train) or place.find([NAMES])
    return found if names is None else found | {NAMES: names}


def read(found: Mapping[str, Found], policy: Policy, *, min_category_count: int) -> RawOutfits:
    """The outfits with the items of frequent categories only, of each category the first.

    That an outfit keeps one item of a category is seen in NGNN's filtered files; that it is the first is our reading.

    Args:
        found: What ``files`` found.
        policy: For malformed outfits.
        min_category_count: Categories with fewer items in the raw training file are left out.

    Raises:
        DataError: a file is not JSON or of another shape, outfits are malformed, or no category is that frequent.
    """
    raw, item_names, acceptance = _read(found, policy)
    counts = Counter(item.category for outfit in raw[0] for item in outfit.items)
    kept = sorted((id for id, count in counts.items() if count >= min_category_count), key=int)
    if not kept:
        raise DataError(
            f"{found[PARTS[0]]}: no category has {min_category_count:,} items. Lower dataset.min_category_count."
        )
    names, left_out = category_names(found.get(NAMES)), Counter[str]()
    train, validation, test = ([_filtered(outfit, {*kept}, left_out) for outfit in part] for part in raw)
    return RawOutfits(
        (train, validation, test),
        tuple(Category(id, names.get(id, "")) for id in kept),
        acceptance.rows,
        item_names,
        acceptance.counts,
        dict(left_out),
    )


def names_of(found: Mapping[str, Found], policy: Policy) -> ItemNames:
    """Names of all items.

    Raises:
        DataError: as :func:`read`.
    """
    return _read(found, policy)[1]


def _read(found: Mapping[str, Found], policy: Policy) -> tuple[list[list[RawOutfit]], ItemNames, Acceptance]:
    acceptance, names, counted = Acceptance(policy), dict[str, str](), tuple[str, ...]()
    raw = []
    for name in PARTS:
        own: dict[str, str] = {}
        raw.append(acceptance.accepted(str(found[name]), _outfits(outfit_list(found[name]), own)))
        counted = counted or tuple(own.get(item.label, "") for outfit in raw[0] for item in outfit.items)
        names |= own
    return raw, ItemNames(names, counted), acceptance


def _filtered(outfit: RawOutfit, categories: set[str], left_out: Counter[str]) -> RawOutfit:
    kept: dict[str, Item] = {}
    for item in outfit.items:
        if item.category not in categories:
            left_out["items_of_rare_categories"] += 1
        elif item.category in kept:
            left_out["items_of_a_category_that_the_outfit_has"] += 1
        else:
            kept[item.category] = item
    return RawOutfit(outfit.label, tuple(kept.values()))


def _outfits(content: list[Any], names: dict[str, str]) -> Iterator[RawOutfit | Faulty]:
    for outfit in content:
        try:
            label = label_of(outfit)
            items = outfit.get("items")
            if not isinstance(items, list) or len(items) < 2:
                count = len(items) if isinstance(items, list) else "no"
                raise Faulty("too_few_items", f"{label} has {count} item{'s' if count != 1 else ''}; an outfit has two")
            read = tuple(_item(item, label) for item in items)
            check_items(label, read, one_of_a_category=False)
            names |= {item.label: told["name"] for item, told in zip(read, items, strict=True) if "name" in told}
            yield RawOutfit(label, read)
        except Faulty as fault:
            yield fault


def _item(item: Any, label: str) -> Item:
    if not isinstance(item, dict):
        raise Faulty("shape", f"{label}: an item is an object with names, not {str(item)[:60]}")
    if not isinstance(item.get("name", ""), str):
        raise Faulty("name", f"{label}: the name of an item is {item['name']!r} and must be a text")
    return Item(
        f"{label}_{whole_number(item.get('index'), 'index', label)}",
        str(whole_number(item.get("categoryid"), "categoryid", label)),
    )
