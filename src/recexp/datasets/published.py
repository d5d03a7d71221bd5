"""A dataset that somebody publishes as an archive: where its copies may lie, their checksums, and how it is read."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.datasets.fetch import Release, fetch
from recexp.datasets.lines import Layout
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.places import Places
from recexp.datasets.remember import remembered_sha256
from recexp.datasets.table import Recording, Table
from recexp.errors import DataError
from recexp.storage.archive import describe_content, read_member

_ENDINGS = (".zip", ".tar.xz", ".tar.gz")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """What is known about a published dataset.

    Attributes:
        release: The archive and the addresses that offer it; its name is that of the folder in it, too.
        rating_file: Name of the file of rows in the archive.
        rating_sha256: Its checksum, whatever it is packed in.
        rating_bytes: Its size, for people who compare.
        layout: How a row is laid out.
        header: Names of the columns where the first line states them.
    """

    release: Release
    rating_file: str
    rating_sha256: str
    rating_bytes: int
    layout: Layout
    header: tuple[str, ...] | None = None


def read(published: Published, dataset: Mapping[str, Any], places: Places) -> Recording:
    """Find the copy to use: ``dataset.path``, then the folder of datasets, then what was or can be fetched.

    A copy of the user's that is broken or altered is an error, not passed over in silence.

    Raises:
        DataError: such a copy, or a ``dataset.path`` where nothing lies.
    """
    options = {"min_rating": dataset.get("min_rating")}
    copy = find_copy(published, dataset.get("path"), places.data)
    if copy is None:
        return Recording(published.rating_sha256, options, lambda: _load_fetched(published, dataset, places), True)
    held: list[bytes] = []

    def content() -> bytes:
        if not held:
            held.append(rows_of(published, copy))
        return held[0]

    sha256 = remembered_sha256(copy, published.rating_file, places.cache, lambda: _sha256(content()))
    verified = sha256 == published.rating_sha256
    if not verified:
        refuse_altered(published, copy, sha256, verify=dataset.get("verify", True))

    def load() -> tuple[Table, str]:
        rows = content()
        held.clear()
        if _sha256(rows) != sha256:
            raise DataError(f"{copy} changed while it was being read. Start again.")
        return parse(published, rows, f"{copy}", dataset, places), str(copy)

    return Recording(sha256, options, load, verified)


def find_copy(published: Published, path: object, data: Path | None) -> Path | None:
    """The user's own copy: an archive, or the file of rows itself; None where there is none.

    Raises:
        DataError: ``path`` is given and holds none.
    """
    if path is not None:
        given = Path(str(path)).expanduser()
        if given.is_file():
            return given
        copy = _look_in(published, given)
        if copy is None:
            there = f"the folder holds none of {_looked_for(published)}" if given.is_dir() else "there is no such file"
            raise DataError(f"dataset.path={given}: {there}. Name an archive, a folder or the file of rows.")
        return copy
    if data is None:
        return None
    if not data.is_dir():
        _log.warning("the folder of datasets %s (paths.data or RECEXP_DATA) does not exist", data)
        return None
    return _look_in(published, data)


def _names(published: Published) -> list[str]:
    title = published.release.title
    return [*(title + ending for ending in _ENDINGS), f"{title}/{published.rating_file}", published.rating_file]


def _looked_for(published: Published) -> str:
    return ", ".join(_names(published))


def _look_in(published: Published, folder: Path) -> Path | None:
    return next((folder / name for name in _names(published) if (folder / name).is_file()), None)


def _load_fetched(published: Published, dataset: Mapping[str, Any], places: Places) -> tuple[Table, str]:
    if places.data is None:
        local = "your own copy: none was named (dataset.path, paths.data or RECEXP_DATA)"
    else:
        local = f"your own copy: {places.data} holds none of {_looked_for(published)}"
    archive, origin = fetch(published.release, places, local)
    rows = read_member(archive, published.rating_file)
    if _sha256(rows) != published.rating_sha256:
        raise DataError(f"{archive}: {published.rating_file} in it is not the published one. Delete the archive.")
    return parse(published, rows, f"{archive}", dataset, places), origin


def rows_of(published: Published, copy: Path) -> bytes:
    """The bytes of the file of rows in the user's copy, an archive or that file.

    Raises:
        DataError: it is something else, or cannot be read.
    """
    try:
        if copy.name == published.rating_file:
            kind = describe_content(copy)
        else:
            kind = "archive" if copy.name.endswith(_ENDINGS) else describe_content(copy)
        if kind in {"archive", "zip", "tar", "tar.gz", "tar.xz"}:
            return read_member(copy, published.rating_file)
        if kind == "unknown":
            return copy.read_bytes()
    except OSError as error:
        raise DataError(f"{copy} cannot be read: {error.strerror or error}.") from error
    told = "is empty (0 bytes)" if kind == "empty" else f"is {kind}, not {published.rating_file}"
    raise DataError(f"{copy} {told}. Replace it, or remove it so that the dataset is fetched.")


def refuse_altered(published: Published, copy: Path, sha256: str, *, verify: bool) -> None:
    """Say that a copy is not the published one.

    Raises:
        DataError: ``verify``; else it is a warning.
    """
    told = (
        f"{copy}: {published.rating_file} has sha256 {sha256}, but the published one "
        f"({published.rating_bytes:,} bytes) has {published.rating_sha256}"
    )
    if verify:
        raise DataError(
            f"{told}. The copy is incomplete or altered: fetch it again, or use it as it is with dataset.verify=false."
        )
    _log.warning("%s; used all the same, as dataset.verify=false says", told)


def parse(published: Published, rows: bytes, source: str, dataset: Mapping[str, Any], places: Places) -> Table:
    """The rows of the file as a table."""
    from recexp.datasets.text_table import read_text  # Arrow takes time to import, and a second start needs none

    stream = io.BytesIO(rows)
    inside = source if source.endswith(published.rating_file) else f"{source}, {published.rating_file}"
    first_line = 1
    if published.header is not None:
        line = stream.readline(1 << 16).decode(errors="replace").removeprefix("\ufeff")
        names = next(csv.reader([line.strip()], delimiter=published.layout.separator), [])
        if tuple(names) != published.header:
            expected = published.layout.separator.join(published.header)
            raise DataError(f"{inside}: the first line is {line.strip()[:120]!r}; expected {expected!r}.")
        first_line = 2
    malformed = Malformed(inside, Policy.of(dataset))
    return read_text(stream, published.layout, malformed, places.progress, len(rows), first_line)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
