"""From the rows of a source to the arrays of Events: filtered, numbered from 1, sorted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array
from recexp.datasets.table import Table
from recexp.errors import DataError

MEMBERS = ("user", "item", "time", "rating", "offsets", "user_labels", "item_labels", "part")
_INT32 = np.iinfo(np.int32).max


def arrange(table: Table, min_rating: float | None, source: str) -> tuple[dict[str, Array], int, int]:
    """Arrays by name (those of ``MEMBERS`` that exist), and the numbers of users and items.

    Sorting is by (user, time); events of one second keep the order of the file. Kept ids count up to the largest of
    the whole file, also where ``min_rating`` leaves out its events; labels are numbered 1.. in sorted order, those
    that still have an event.

    Raises:
        DataError: no event is left, or there are more ids than int32 holds.
    """
    keep = slice(None) if min_rating is None else table.rating >= min_rating
    user, num_users, user_labels = _number(table.user, keep, table.user_labels)
    item, num_items, item_labels = _number(table.item, keep, table.item_labels)
    if not len(user):
        why = "" if min_rating is None or not len(table.user) else f" with a rating of at least {min_rating:g}"
        raise DataError(f"{source}: there is no event{why}. {table.rows_read:,} rows were read.")
    if max(num_users, num_items) >= _INT32:
        raise DataError(
            f"{source}: {num_users:,} users and {num_items:,} items; at most {_INT32 - 1:,} can be numbered."
        )
    time = table.time[keep]
    order = np.lexsort((time, user))
    arrays: dict[str, Array] = {
        "user": user[order].astype(np.int32),
        "item": item[order].astype(np.int32),
        "time": time[order].astype(np.int64),
        "rating": table.rating[keep][order].astype(np.float32),
        "offsets": np.concatenate(([0], np.cumsum(np.bincount(user, minlength=num_users + 1)))).astype(np.int64),
    }
    if user_labels is not None and item_labels is not None:
        arrays |= {"user_labels": user_labels, "item_labels": item_labels}
    return arrays, num_users, num_items


def _number(
    ids: npt.NDArray[np.int64], keep: slice | npt.NDArray[np.bool_], labels: Array | None
) -> tuple[npt.NDArray[np.int64], int, Array | None]:
    if labels is None:
        return ids[keep], int(ids.max(initial=0)), None
    kept = ids[keep]
    used = np.flatnonzero(np.bincount(kept, minlength=len(labels)))
    order = used[np.argsort(labels[used], kind="stable")]
    number = np.zeros(len(labels), dtype=np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return number[kept], len(order), labels[order]
