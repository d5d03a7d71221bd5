"""Where a click log lies: a file, an archive or a folder of the user's, under the names that it usually has."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from recexp.datasets.click_logs.text_source import TextSource
from recexp.errors import ConfigError, DataError
from recexp.storage.archive import describe_content, find_file, list_files

_ARCHIVES = {"zip", "tar", "tar.gz", "tar.xz"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Names:
    """What a click log is called.

    Attributes:
        file: Of the file of lines, as it is published and within archives.
        plain: Patterns of files of lines, plain or gzip; of these the first that matches counts.
        archives: Patterns of archives with that file.
        days: Pattern of files that belong together, one a day, numbered.
        folders: Subfolders of the user's folder of datasets that are looked into, too.
    """

    file: str
    plain: tuple[str, ...]
    archives: tuple[str, ...] = ()
    days: str | None = None
    folders: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([*self.plain, *self.archives, *([self.days] if self.days else [])])


def given(dataset: Mapping[str, Any], names: Names) -> list[TextSource] | None:
    """What ``dataset.path`` and ``dataset.member`` name; None where they name nothing.

    Raises:
        ConfigError: a member of nothing.
        DataError: there is no such thing, or there are several.
    """
    path, member = dataset.get("path"), dataset.get("member")
    if path is None:
        if member is not None:
            raise ConfigError([f"dataset.member={member} is a file within dataset.path: set that, too."])
        return None
    place = Path(str(path)).expanduser()
    if place.is_dir():
        return _in_folder(place, None if member is None else str(member), names)
    if not place.is_file():
        raise DataError(f"dataset.path={place}: there is no such file or folder.")
    return [_in_file(place, None if member is None else str(member), names)]


def lying_in(data: Path, names: Names) -> list[TextSource] | None:
    """The log in the user's folder of datasets, or None.

    Raises:
        DataError: it is there, and broken or ambiguous.
    """
    if not data.is_dir():
        _log.warning("the folder of datasets %s (paths.data or RECEXP_DATA) does not exist", data)
        return None
    for folder in (data, *(data / name for name in names.folders)):
        if folder.is_dir() and (_plain(folder, names) or _days(folder, names)):
            return _in_folder(folder, None, names)
    for folder in (data, *(data / name for name in names.folders)):
        held = [path for pattern in names.archives for path in sorted(folder.glob(pattern)) if path.is_file()]
        for path in dict.fromkeys(held):
            if describe_content(path) in _ARCHIVES and find_file(path, names.file) is not None:
                return [_in_file(path, None, names)]
    return None


def _in_folder(folder: Path, member: str | None, names: Names) -> list[TextSource]:
    if member is not None:
        path = folder / member
        if path.is_dir():
            return _in_folder(path, None, names)
        if not path.is_file():
            raise DataError(f"dataset.path={folder} dataset.member={member}: there is no such file or folder.")
        return [_in_file(path, None, names)]
    plain, days = _plain(folder, names), _days(folder, names)
    if plain and days:
        listed = "\n".join(f"  - {path}" for path in [*plain[:1], *days])
        raise DataError(
            f"{folder} holds more than one log:\n{listed}\nName one with dataset.path=FILE or a folder of its own."
        )
    if days:
        return [TextSource(path) for path in days]
    if plain:
        return [TextSource(plain[0])]
    found = [path for pattern in names.archives for path in sorted(folder.glob(pattern)) if path.is_file()]
    if found:
        return [_in_file(found[0], None, names)]
    held = ", ".join(repr(path.name)[1:-1] for path in sorted(folder.iterdir())[:10]) or "nothing"
    raise DataError(f"{folder} holds none of {names}; it holds {held}. Name the file itself: dataset.path=FILE.")


def _plain(folder: Path, names: Names) -> list[Path]:
    return [path for pattern in names.plain for path in sorted(folder.glob(pattern)) if path.is_file()]


def _days(folder: Path, names: Names) -> list[Path]:
    """Files of days in the order of their numbers.

    Raises:
        DataError: a day is there twice, or one is missing in between.
    """
    if names.days is None:
        return []
    held = [path for path in folder.iterdir() if path.is_file() and fnmatch(path.name.removesuffix(".gz"), names.days)]
    numbered = sorted(
        (int(re.findall(r"[0-9]+", path.name)[-1]), path) for path in held if re.search("[0-9]", path.name)
    )
    numbers = [number for number, _ in numbered]
    if numbered and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        listed = ", ".join(path.name for _, path in numbered)
        raise DataError(f"{folder} holds {listed}: each day has to be there once, and none may be missing in between.")
    return [path for _, path in numbered]


def _in_file(path: Path, member: str | None, names: Names) -> TextSource:
    kind = describe_content(path)
    if kind == "tar.gz" and not _holds_tar(path):
        kind = "gzip"
    if kind not in _ARCHIVES:
        if member is not None:
            raise DataError(
                f"dataset.path={path} dataset.member={member}: a member is for archives and folders, and this is a "
                f"file of lines. Leave it out."
            )
        return TextSource(path)
    found = find_file(path, member or names.file)
    if found is None:
        held = ", ".join(repr(name)[1:-1] for name, _ in list_files(path)[:10]) or "nothing"
        raise DataError(f"{path} holds no {member or names.file}; it holds {held}. Name one with dataset.member=FILE.")
    if found[0].endswith(".gz"):
        raise DataError(f"{path}, {found[0]} is packed twice. Unpack the outer archive and name what is in it.")
    return TextSource(path, *found)


def _holds_tar(path: Path) -> bool:
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as stream:
        return stream.read(512)[257:262] == b"ustar"
    return False
