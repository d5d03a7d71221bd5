"""Prepared impressions on disk: published in one step, checked whenever they are opened."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recexp.datasets import cache
from recexp.datasets.array_folder import ROWS, check_once, describe, file_sum, open_array, opened, read_rows, row_sum
from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions
from recexp.datasets.parallel import in_order
from recexp.datasets.table import WrittenImpressions
from recexp.errors import DataError
from recexp.storage.atomic import write_json
from recexp.storage.checksum import sha256_json

MEMBERS = ("label", "dense", "ids")


def fingerprint_of(
    stated: Mapping[str, Mapping[str, Any]], fields: Iterable[Field], dense_names: Iterable[str], bounds: Iterable[int]
) -> str:
    """sha256 of all that the arrays are and mean."""
    arrays = {name: [each["dtype"], each["shape"], each["sha256"]] for name, each in stated.items()}
    told = [[field.name, field.size, field.slots] for field in fields]
    return sha256_json({
        "recipe": cache.RECIPE, "impressions": arrays, "fields": told, "dense": list(dense_names),
        "bounds": list(bounds),
    })  # fmt: skip


def write_meta(folder: Path, written: WrittenImpressions, meta: DataMeta) -> None:
    """The last file of a folder: what the arrays are and must be."""
    content = {
        "meta": dataclasses.asdict(meta),
        "fields": [dataclasses.asdict(field) for field in written.fields],
        "dense_names": list(written.dense_names),
        "bounds": list(written.bounds),
        "split": written.split,
        "arrays": {name: dict(each) for name, each in written.stated.items()},
    }
    write_json(folder / "meta.json", content)


def publish(folder: Path, impressions: Impressions) -> Impressions:
    """Write impressions that are in memory beside ``folder``, let them appear there, and open them.

    Call it under the lock. The fingerprint of ``impressions.meta`` is replaced by that of the arrays.

    Raises:
        OSError: the disk refuses; nothing is left behind.
    """
    with cache.building(folder) as temp:
        stated = {}
        for name in MEMBERS:
            array = np.ascontiguousarray(getattr(impressions, name))
            path = temp / f"{name}.npy"
            np.save(path, array, allow_pickle=False)
            stated[name] = describe(array, path.stat().st_size, row_sum(array))
        meta = impressions.meta
        written = WrittenImpressions(
            stated, impressions.fields, impressions.dense_names, impressions.bounds, impressions.split,
            meta.rows_read, meta.malformed, meta.left_out, meta.origin, meta.verified,
        )  # fmt: skip
        total = fingerprint_of(stated, impressions.fields, impressions.dense_names, impressions.bounds)
        write_meta(temp, written, dataclasses.replace(meta, fingerprint=total))
    found = load(folder)
    if found is None:
        raise DataError(f"{folder} was written and cannot be read again: check the disk, or set paths.cache.")
    return found


def load(folder: Path) -> Impressions | None:
    """Open a published folder; None where there is none or where it is not whole.

    Arrays are mapped copy-on-write: writing into them changes no file. Sizes and types are always compared; the sum of
    the labels and the range of every field's ids when the files are new or changed since.
    """
    return opened(folder, lambda: _read(folder))


def _read(folder: Path) -> Impressions:
    content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    arrays = {name: open_array(folder, name, content["arrays"][name]) for name in MEMBERS}
    impressions = Impressions(
        **arrays,
        fields=tuple(Field(**field) for field in content["fields"]),
        dense_names=tuple(content["dense_names"]),
        bounds=tuple(content["bounds"]),
        split=content["split"],
        meta=DataMeta(**content["meta"]),
    )
    _check_shapes(impressions)
    check_once(folder, MEMBERS, lambda: _check_content(folder, impressions, content["arrays"]["label"]["sha256"]))
    return impressions


def _check_shapes(impressions: Impressions) -> None:
    rows, slots = len(impressions), sum(field.slots for field in impressions.fields)
    wanted = {"label": (rows,), "dense": (rows, len(impressions.dense_names)), "ids": (rows, slots)}
    types = {"label": np.uint8, "dense": np.float32, "ids": np.int32}
    for name in MEMBERS:
        array = getattr(impressions, name)
        if array.shape != wanted[name] or array.dtype != types[name]:
            raise ValueError(f"{name} is {array.dtype} {array.shape} and must be {wanted[name]}")
    bounds = impressions.bounds
    if len(bounds) != 4 or bounds[0] != 0 or bounds[-1] != rows or list(bounds) != sorted(bounds):
        raise ValueError(f"the parts {bounds} are not those of {rows} rows")


def _check_content(folder: Path, impressions: Impressions, label_sum: str) -> None:
    starts = range(0, len(impressions), ROWS)
    if file_sum(folder, "label", impressions.label) != label_sum:
        raise ValueError("the labels are not those that were written")
    sizes = np.concatenate([[field.size] * field.slots for field in impressions.fields])
    least = np.concatenate([[-int(field.slots > 1)] * field.slots for field in impressions.fields])
    names = [field.name for field in impressions.fields for _ in range(field.slots)]

    def span(first: int) -> tuple[Any, Any]:
        rows = read_rows(folder, "ids", impressions.ids, first)
        return rows.min(axis=0), rows.max(axis=0)

    for low, high in in_order(span, starts):
        wrong = np.flatnonzero((low < least) | (high >= sizes))
        if wrong.size:
            at = int(wrong[0])
            raise ValueError(f"{names[at]} has ids {low[at]}..{high[at]}, legal are {least[at]}..{sizes[at] - 1}")
