"""Where files of outfits lie: in a folder, in folders below it, or in an archive; and the JSON in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from recexp.datasets.remember import remembered_sha256
from recexp.errors import DataError
from recexp.storage.archive import describe_content, list_files, read_member

ARCHIVES = {"zip", "tar", "tar.gz", "tar.xz"}
_MOST_BYTES = 1 << 30
_MANY = 1000
"""Entries above which a folder below the place is taken for one of vectors, and not looked through."""


@dataclass(frozen=True)
class Found:
    """A file of a place: ``name`` is its path in the folder or archive ``place``."""

    place: Path
    name: str
    is_packed: bool

    def __str__(self) -> str:
        return f"{self.place}, {self.name}" if self.is_packed else str(self.place / self.name)

    def read(self) -> bytes:
        """Its content.

        Raises:
            DataError: it cannot be read, or is larger than any such file.
        """
        if self.is_packed:
            return read_member(self.place, self.name, _MOST_BYTES)
        try:
            return (self.place / self.name).read_bytes()
        except OSError as error:
            raise DataError(f"{self} cannot be read: {error.strerror or error}.") from error

    def sha256(self, cache: Path) -> str:
        """Of the content; kept in ``cache`` until the file changes."""
        path, part = (self.place, self.name) if self.is_packed else (self.place / self.name, "")
        return remembered_sha256(path, part, cache, lambda: hashlib.sha256(self.read()).hexdigest())

    def json(self) -> Any:
        """The value that is written in it.

        Raises:
            DataError: it is not JSON; the message names line and column.
        """
        return parse_json(self.read(), str(self))


def parse_json(content: bytes, source: str) -> Any:
    """The value of a JSON text.

    Raises:
        DataError: it is none; the message names ``source``, line and column.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{source} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}. Fetch it again, or correct "
            f"it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON: {error}. Fetch it again, or correct it.") from error


@dataclass(frozen=True)
class Place:
    """A folder with what is in it and below it, or an archive."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        """Where other files may lie beside: the folder itself, or that of the archive."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def _files(self) -> list[str]:
        """Paths with slashes; the least deep first, then by name."""
        names = _below(self.path) if self.path.is_dir() else [name for name, _ in list_files(self.path)]
        return sorted(names, key=lambda name: (name.count("/"), name))

    def find(self, names: Sequence[str], *, beside: Found | None = None) -> Found | None:
        """The first of ``names`` that is there, wherever in the place; with ``beside`` only in the folder of that."""
        for wanted in names:
            for name in self._files:
                path = PurePosixPath(name)
                if path.name == wanted and (beside is None or path.parent == PurePosixPath(beside.name).parent):
                    return Found(self.path, name, not self.path.is_dir())
        return None

    def shown(self) -> str:
        """Some of what it holds, for people."""
        names = [repr(name)[1:-1] for name in self._files[:10]]
        return (", ".join(names) or "nothing") + (" ..." if len(self._files) > 10 else "")


def _below(root: Path) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if len(files) <= _MANY or folder == str(root):
            found += [(Path(folder) / name).relative_to(root).as_posix() for name in files]
    return found


def place_at(path: Path, option: str) -> Place:
    """A folder or archive that the user named.

    Raises:
        DataError: there is nothing, or it is something else; the message names ``option``.
    """
    if path.is_dir():
        return Place(path)
    if not path.is_file():
        raise DataError(f"{option}={path}: there is no such file or folder. Name a folder or an archive.")
    kind = describe_content(path)
    if kind not in ARCHIVES:
        told = "is empty (0 bytes)" if kind == "empty" else f"is {kind}" if kind != "unknown" else "is no archive"
        raise DataError(f"{option}={path} {told}. Name a folder, or a zip, tar, tar.gz or tar.xz.")
    return Place(path)
