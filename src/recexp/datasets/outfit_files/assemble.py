"""Outfits of a source become arrays: items get numbers, category by category."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array
from recexp.datasets.outfit_files.raw import RawOutfit, RawOutfits
from recexp.errors import DataError


@dataclass(frozen=True)
class Numbered:
    """The arrays of :class:`recexp.datasets.outfits.Outfits`; ``items``: the number of each item, by its label."""

    category_offsets: npt.NDArray[np.int64]
    members: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    bounds: tuple[int, int, int, int]
    item_labels: Array
    outfit_labels: Array
    items: dict[str, int]


def without(raw: RawOutfits, dropped: Collection[str], min_items: int) -> RawOutfits:
    """Leave out items by label, then outfits that are too small.

    Args:
        raw: All outfits.
        dropped: Labels of items.
        min_items: Outfits with fewer are left out.
    """
    left_out, parts = dict(raw.left_out), []
    for part in raw.parts:
        smaller = [
            RawOutfit(outfit.label, tuple(item for item in outfit.items if item.label not in dropped))
            for outfit in part
        ]
        parts.append([outfit for outfit in smaller if len(outfit.items) >= min_items])
        counts = {
            "items_without_a_vector": sum(len(outfit.items) for outfit in part) - sum(len(o.items) for o in smaller),
            f"outfits_of_fewer_than_{min_items}_items": len(part) - len(parts[-1]),
        }
        for reason, count in counts.items():
            if count:
                left_out[reason] = left_out.get(reason, 0) + count
    train, validation, test = parts
    return replace(raw, parts=(train, validation, test), left_out=left_out)


def number(raw: RawOutfits, source: str) -> Numbered:
    """Number items category by category; within one in the order of the outfits: training, validation, test.

    Raises:
        DataError: no outfit of training or none of test is left.
    """
    for name, part in (("training", raw.parts[0]), ("test", raw.parts[2])):
        if not part:
            raise DataError(
                f"{source}: no outfit is left for {name}. What was left out: {raw.left_out or raw.malformed or 'none'}."
            )
    outfits = [outfit for part in raw.parts for outfit in part]
    numbers = {category.id: number for number, category in enumerate(raw.categories)}
    items = [item for outfit in outfits for item in outfit.items]
    category = np.array([numbers[item.category] for item in items], np.int64)
    order = np.argsort(category, kind="stable")
    members = np.empty(len(items), np.int32)
    members[order] = np.arange(len(items), dtype=np.int32)
    counts = np.bincount(category, minlength=len(numbers))
    ends = np.cumsum([len(part) for part in raw.parts]).tolist()
    return Numbered(
        category_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        members=members,
        offsets=np.concatenate([[0], np.cumsum([len(outfit.items) for outfit in outfits])]).astype(np.int64),
        bounds=(0, ends[0], ends[1], ends[2]),
        item_labels=np.array([items[at].label for at in order]),
        outfit_labels=np.array([outfit.label for outfit in outfits]),
        items={item.label: int(member) for item, member in zip(items, members, strict=True)},
    )
