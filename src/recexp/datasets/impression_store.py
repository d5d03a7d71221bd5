"""Prepared impressions on disk: published in one step, checked whenever they are opened."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import mmap
import platform
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets import cache
from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions
from recexp.datasets.parallel import in_order
from recexp.datasets.table import WrittenImpressions
from recexp.errors import DataError
from recexp.storage.atomic import write_json
from recexp.storage.checksum import sha256_json

MEMBERS = ("label", "dense", "ids")
ROWS = 1 << 16
"""The sum of an array is the sha256 of the sha256 of each so many rows, so that several can be taken at a time."""

_SEEN = "checked.json"
#: MAP_NORESERVE, which Python's mmap names from 3.13 on, by machine.
_NO_RESERVE = {"x86_64": 0x4000, "aarch64": 0x4000}
_log = logging.getLogger(__name__)


def row_sum(array: npt.NDArray[Any], workers: int | None = None) -> str:
    """The sum of an array that is in memory or mapped."""
    return sum_of(in_order(lambda first: _digest(array[first : first + ROWS]), range(0, len(array), ROWS), workers))


def _digest(rows: npt.NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data).digest()


def sum_of(digests: Iterable[bytes]) -> str:
    """The sum of an array from those of its blocks."""
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(digest)
    return whole.hexdigest()


def describe(array: npt.NDArray[Any], size: int, total: str) -> dict[str, Any]:
    """What ``meta.json`` states of an array in a file of ``size`` bytes with the sum ``total``."""
    return {"bytes": size, "dtype": array.dtype.str, "shape": list(array.shape), "sha256": total}


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
    opened = load(folder)
    if opened is None:
        raise DataError(f"{folder} was written and cannot be read again: check the disk, or set paths.cache.")
    return opened


def load(folder: Path) -> Impressions | None:
    """Open a published folder; None where there is none or where it is not whole.

    Arrays are mapped copy-on-write: writing into them changes no file. Sizes and types are always compared; the sum of
    the labels and the range of every field's ids when the files are new or changed since.
    """
    try:
        content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays = {name: _open(folder, name, content["arrays"][name]) for name in MEMBERS}
        impressions = Impressions(
            **arrays,
            fields=tuple(Field(**field) for field in content["fields"]),
            dense_names=tuple(content["dense_names"]),
            bounds=tuple(content["bounds"]),
            split=content["split"],
            meta=DataMeta(**content["meta"]),
        )
        _check_shapes(impressions)
        stamp = _stamp(folder)
        if _seen(folder) != stamp:
            _check_content(folder, impressions, content["arrays"]["label"]["sha256"])
            with suppress(OSError):
                write_json(folder / _SEEN, stamp)
        return impressions
    except FileNotFoundError:
        if folder.exists():
            _log.warning("%s is not complete and is built again", folder)
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise
        _log.warning("%s is damaged (%s) and is built again", folder, error)
    return None


def _open(folder: Path, name: str, stated: dict[str, Any]) -> Any:
    path = folder / f"{name}.npy"
    if path.stat().st_size != stated["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {stated['bytes']}")
    array = np.load(path, allow_pickle=False) if 0 in stated["shape"] else _mapped(path)
    if array.dtype.str != stated["dtype"] or list(array.shape) != stated["shape"]:
        raise ValueError(f"{path.name} is {array.dtype.str} {list(array.shape)}, not as written")
    return array


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Copy-on-write. Linux would set memory aside for copies of all rows, and refuse an array larger than it has."""
    if sys.platform != "linux" or platform.machine() not in _NO_RESERVE:
        return np.load(path, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]
    probe: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if np.isfortran(probe):
        raise ValueError(f"{path.name} is not row by row, as written")
    flags = mmap.MAP_PRIVATE | _NO_RESERVE[platform.machine()]
    with path.open("rb") as stream:
        held = mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(held, probe.dtype, probe.size, probe.offset).reshape(probe.shape)


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
    """Read from the files: what is read from mapped arrays would count as this process's memory."""

    def block(name: str, first: int) -> npt.NDArray[Any]:
        array = getattr(impressions, name)
        rows = array[first : first + ROWS]
        start = (folder / f"{name}.npy").stat().st_size - array.nbytes + first * array.strides[0]
        return np.fromfile(folder / f"{name}.npy", array.dtype, rows.size, offset=start).reshape(rows.shape)

    starts = range(0, len(impressions), ROWS)
    if sum_of(in_order(lambda first: _digest(block("label", first)), starts)) != label_sum:
        raise ValueError("the labels are not those that were written")
    sizes = np.concatenate([[field.size] * field.slots for field in impressions.fields])
    least = np.concatenate([[-int(field.slots > 1)] * field.slots for field in impressions.fields])
    names = [field.name for field in impressions.fields for _ in range(field.slots)]

    def span(first: int) -> tuple[Any, Any]:
        rows = block("ids", first)
        return rows.min(axis=0), rows.max(axis=0)

    for low, high in in_order(span, starts):
        wrong = np.flatnonzero((low < least) | (high >= sizes))
        if wrong.size:
            at = int(wrong[0])
            raise ValueError(f"{names[at]} has ids {low[at]}..{high[at]}, legal are {least[at]}..{sizes[at] - 1}")


def _stamp(folder: Path) -> list[list[Any]]:
    found = [(name, (folder / name).stat()) for name in ("meta.json", *(f"{name}.npy" for name in MEMBERS))]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]


def _seen(folder: Path) -> object:
    with suppress(OSError, ValueError):
        return json.loads((folder / _SEEN).read_text(encoding="utf-8"))
    return None
