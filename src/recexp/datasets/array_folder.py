"""Arrays as .npy files in a folder: opened copy-on-write, with sums that say whether they are what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import mmap
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from recexp.datasets.parallel import in_order
from recexp.storage.atomic import write_json

ROWS = 1 << 16
"""The sum of an array is the sha256 of the sha256 of each so many rows, so that several can be taken at a time."""

_SEEN = "checked.json"
#: MAP_NORESERVE, which Python's mmap names from 3.13 on, by machine.
_NO_RESERVE = {"x86_64": 0x4000, "aarch64": 0x4000}


_log = logging.getLogger(__name__)
_Opened = TypeVar("_Opened")


def opened(folder: Path, read: Callable[[], _Opened]) -> _Opened | None:
    """What ``read`` makes of a published folder; None where there is none, or where it is not whole: said as a warning.

    Raises:
        OSError: it may not be read, or memory is short: building it again would not help.
    """
    try:
        return read()
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


def row_sum(array: npt.NDArray[Any], workers: int | None = None) -> str:
    """The sum of an array that is in memory or mapped."""
    return sum_of(in_order(lambda first: _digest(array[first : first + ROWS]), range(0, len(array), ROWS), workers))


def file_sum(folder: Path, name: str, array: npt.NDArray[Any]) -> str:
    """The sum of the file of an array that is open."""
    return sum_of(in_order(lambda at: _digest(read_rows(folder, name, array, at)), range(0, len(array), ROWS)))


def read_rows(folder: Path, name: str, array: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """``ROWS`` rows from ``first`` on, from the file: what mapped arrays read counts as this process's memory."""
    rows = array[first : first + ROWS]
    start = (folder / f"{name}.npy").stat().st_size - array.nbytes + first * array.strides[0]
    return np.fromfile(folder / f"{name}.npy", array.dtype, rows.size, offset=start).reshape(rows.shape)


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


def open_array(folder: Path, name: str, stated: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The array ``name`` of a folder, mapped copy-on-write: writing into it changes no file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: its size, type or shape is not what ``stated`` says.
    """
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


def check_once(folder: Path, names: Sequence[str], check: Callable[[], None]) -> None:
    """Call ``check`` unless it passed before for files of these sizes and times of change."""
    files = [(name, (folder / name).stat()) for name in ("meta.json", *(f"{name}.npy" for name in names))]
    stamp = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]
    with suppress(OSError, ValueError):
        if json.loads((folder / _SEEN).read_text(encoding="utf-8")) == stamp:
            return
    check()
    with suppress(OSError):
        write_json(folder / _SEEN, stamp)
