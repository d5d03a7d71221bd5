"""Another file of a published archive than that of the ratings: from the user's copy, or as it was published."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from recexp.datasets import published
from recexp.datasets.fetch import fetch
from recexp.datasets.places import Places
from recexp.datasets.published import Published
from recexp.errors import DataError
from recexp.storage.archive import describe_content, read_member
from recexp.storage.atomic import atomic_file

_PACKED = {"zip", "tar", "tar.gz", "tar.xz", "7z"}
_log = logging.getLogger(__name__)


def read(
    archive: Published, name: str, sha256: str, size: int, dataset: Mapping[str, Any], places: Places
) -> tuple[bytes, bool]:
    """The file's content, and whether it is the published one.

    It is looked for where the ratings are: ``dataset.path``, the folder of datasets, what can be fetched. A published
    file is kept in the cache, so that prepared ratings need no source for this either.

    Args:
        archive: What it is published in.
        name: Of the file.
        sha256: As it was published.
        size: In bytes, for people who compare.
        dataset: The composed node; ``path`` and ``verify`` are read.
        places: Where to look.

    Raises:
        DataError: nowhere to be had, broken, or altered where ``dataset.verify`` is set.
    """
    file = replace(archive, rating_file=name, rating_sha256=sha256, rating_bytes=size)
    kept = places.cache / "companions" / f"{archive.release.title}-{sha256[:16]}-{name}"
    copy = published.find_copy(archive, dataset.get("path"), places.data)
    if copy is None:
        with suppress(FileNotFoundError):
            content = kept.read_bytes()
            if _sha256(content) == sha256:
                return content, True
        content = _fetched(file, places)
    else:
        content = published.rows_of(file, _holder(copy, name))
    found = _sha256(content)
    if found != sha256:
        published.refuse_altered(file, copy or kept, found, verify=dataset.get("verify", True))
        return content, False
    _keep(content, kept)
    return content, True


def _holder(copy: Path, name: str) -> Path:
    """The archive itself, or the file beside that of the ratings."""
    try:
        if describe_content(copy) in _PACKED:
            return copy
    except OSError as error:
        raise DataError(f"{copy} cannot be read: {error.strerror or error}.") from error
    beside = copy.with_name(name)
    if not beside.is_file():
        raise DataError(
            f"{beside} does not exist, and {copy.name} is used: put {name} of the same archive beside it, name the "
            f"archive (dataset.path), or do without what it states (problem.fields=[user,item])."
        )
    return beside


def _fetched(file: Published, places: Places) -> bytes:
    where = "none was named" if places.data is None else f"{places.data} holds none"
    archive, _ = fetch(file.release, places, f"your own copy: {where}")
    return read_member(archive, file.rating_file)


def _keep(content: bytes, kept: Path) -> None:
    if kept.exists() and kept.stat().st_size == len(content):
        return
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(kept, expected_bytes=len(content)) as stream:
            stream.write(content)
    except OSError as error:
        _log.debug("%s cannot be kept: %s", kept, error)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
