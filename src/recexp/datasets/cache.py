"""Prepared arrays on disk: built once, published in one step, checked whenever they are opened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from recexp.datasets.arrays import MEMBERS
from recexp.datasets.events import Array, DataMeta, Events
from recexp.storage.atomic import explain_full_disk, publish_directory, remove, temporary_path, write_json
from recexp.storage.checksum import sha256_json

RECIPE = 1
"""Goes up whenever the same source would give other arrays; older entries of the cache are then left alone."""

_CHECKED_WHOLE = 64 << 20
_log = logging.getLogger(__name__)


def fingerprint(arrays: dict[str, Array]) -> str:
    """sha256 of the arrays' content, types and shapes, and of the recipe."""
    return _fingerprint({name: _describe(array) for name, array in arrays.items()})


def fingerprint_of(stated: Mapping[str, Mapping[str, Any]]) -> str:
    """The same from what :class:`recexp.datasets.array_file.ArrayFile` states of each array."""
    return _fingerprint({name: [each["dtype"], each["shape"], each["sha256"]] for name, each in stated.items()})


def _fingerprint(described: dict[str, list[Any]]) -> str:
    return sha256_json({"recipe": RECIPE, "arrays": described})


def load(folder: Path) -> Events | None:
    """Open a published folder; None where there is none or where it is not whole.

    Arrays are mapped copy-on-write: writing into them changes no file. Below 64 MiB their content is compared with the
    fingerprint, above that only sizes and types.
    """
    try:
        content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        members = content["arrays"]
        arrays = {name: _open(folder, name, members[name]) for name in MEMBERS if name in members}
        meta = DataMeta(**content["meta"])
        small = sum(array.nbytes for array in arrays.values()) <= _CHECKED_WHOLE
        if small and fingerprint(arrays) != meta.fingerprint:
            raise ValueError("the arrays do not have the content that was written")
        return Events(**arrays, num_users=content["num_users"], num_items=content["num_items"], meta=meta)
    except FileNotFoundError:
        if folder.exists():
            _log.warning("%s is not complete and is built again", folder)
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s is damaged (%s) and is built again", folder, error)
    return None


def _open(folder: Path, name: str, stated: dict[str, Any]) -> Any:
    path = folder / f"{name}.npy"
    if path.stat().st_size != stated["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {stated['bytes']}")
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.dtype.str != stated["dtype"] or list(array.shape) != stated["shape"]:
        raise ValueError(f"{path.name} is {array.dtype.str} {list(array.shape)}, not as written")
    return array


def publish(folder: Path, arrays: dict[str, Array], num_users: int, num_items: int, meta: DataMeta) -> None:
    """Write everything beside ``folder`` and let it appear there; call it under the lock. A damaged one is replaced.

    Raises:
        OSError: the disk refuses; nothing is left behind.
    """
    with building(folder) as temp:
        stated = {}
        for name, array in arrays.items():
            path = temp / f"{name}.npy"
            try:
                with path.open("wb") as stream:
                    _write(stream, array)
            except OSError as error:
                raise explain_full_disk(error, folder, sum(each.nbytes for each in arrays.values())) from error
            stated[name] = {"bytes": path.stat().st_size, "dtype": array.dtype.str, "shape": list(array.shape)}
        write_meta(temp, stated, num_users, num_items, meta)


def write_meta(temp: Path, stated: Mapping[str, Any], num_users: int, num_items: int, meta: DataMeta) -> None:
    """The last file of a folder: what the arrays are and must be."""
    content = {"meta": dataclasses.asdict(meta), "num_users": num_users, "num_items": num_items, "arrays": dict(stated)}
    write_json(temp / "meta.json", content)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place when the block ends, and is removed when the block fails.

    Call it under the lock. What a killed process leaves, ``sweep_orphans`` recognises.
    """
    temp = temporary_path(folder)
    try:
        temp.mkdir()
        yield temp
        if folder.exists():
            discarded = temporary_path(folder)
            folder.rename(discarded)
            remove(discarded)
        publish_directory(temp, folder)
    except BaseException:
        remove(temp)
        raise


def _write(stream: IO[bytes], array: Array) -> None:
    """The .npy format. numpy's own writer loses the reason when the disk is full."""
    np.lib.format.write_array_header_2_0(stream, np.lib.format.header_data_from_array_1_0(array))
    stream.write(_bytes(array))


def _describe(array: Array) -> list[Any]:
    return [array.dtype.str, list(array.shape), hashlib.sha256(_bytes(array)).hexdigest()]


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
