"""Where clicks lie: files, folders and archives, and which of the files in them are meant."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any

from recexp.datasets.remember import stamp_of
from recexp.errors import ConfigError, DataError
from recexp.storage import seven_zip
from recexp.storage.archive import describe_content, list_files, open_member
from recexp.storage.atomic import remove
from recexp.storage.download import Progress

RAW = ("*clicks*.dat", "*clicks*.csv")
PAIRS = (("*train_full*.txt", "*test*.txt"), ("train_sessions*.txt", "test_sessions*.txt"))
ARCHIVES = (".7z", ".zip", ".tar.xz", ".tar.gz")
_PACKED = {"zip", "7z", "tar", "tar.gz", "tar.xz"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A file: ``path`` itself, or the file ``name`` in the archive ``path``. ``size`` is that of the file itself."""

    path: Path
    size: int
    name: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.name is None else f"{self.path}, {self.name}"

    @contextmanager
    def open(self, temp: Path, progress: Progress | None = None) -> Iterator[IO[bytes]]:
        """The bytes as a stream; only a 7z archive needs room for the file in the folder ``temp``.

        Raises:
            DataError: the file cannot be read, is damaged, or changed meanwhile.
        """
        before = stamp_of(self.path)
        if self.name is None:
            with self.path.open("rb") as stream:
                yield stream
        elif describe_content(self.path) != "7z":
            with open_member(self.path, self.name) as stream:
                yield stream
        else:
            unpacked = temp / "unpacked"
            told = None if progress is None else _teller(progress, PurePosixPath(self.name).name, self.size)
            seven_zip.extract_file(self.path, self.name, self.size, unpacked, told)
            with unpacked.open("rb") as stream:
                yield stream
            remove(unpacked)
        if stamp_of(self.path) != before:
            raise DataError(f"{self.path} changed while it was being read. Start again.")


def _teller(progress: Progress, name: str, size: int) -> Callable[[int], None]:
    return lambda done: progress(f"unpack {name}", done, size)


@dataclass(frozen=True)
class Found:
    """The files of a dataset: one of raw clicks, or prepared ones for training and test."""

    members: tuple[Member, ...]

    @property
    def is_raw(self) -> bool:
        """Whether the recipe has still to be applied."""
        return len(self.members) == 1

    def __str__(self) -> str:
        what = "raw clicks" if self.is_raw else "training and test"
        return f"{what}: {' + '.join(str(member) for member in self.members)}"


def given(dataset: Mapping[str, Any]) -> Found | None:
    """What the configuration names; None where it names nothing.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: there is no such thing, or there are several.
    """
    path, train, test, member = (dataset.get(name) for name in ("path", "train", "test", "member"))
    if (train is None) != (test is None):
        lacking = "dataset.test" if test is None else "dataset.train"
        raise ConfigError([f"dataset.train and dataset.test are two files of one dataset: set {lacking}=FILE, too."])
    if train is not None:
        if path is not None or member is not None:
            raise ConfigError([
                "dataset.train and dataset.test name the files themselves: leave out dataset.path and dataset.member."
            ])  # fmt: skip
        return Found((_plain(train, "train"), _plain(test, "test")))
    if path is None:
        if member is not None:
            raise ConfigError([f"dataset.member={member} is a folder or file within dataset.path: set that, too."])
        return None
    return _within(Path(str(path)).expanduser(), None if member is None else str(member))


def _plain(path: object, what: str) -> Member:
    given = Path(str(path)).expanduser()
    if not given.is_file():
        raise DataError(f"dataset.{what}={given}: there is no such file.")
    return Member(given, _checked(given).stat().st_size)


def _checked(path: Path) -> Path:
    """A plain file of rows.

    Raises:
        DataError: it is something else.
    """
    kind = describe_content(path)
    if kind != "unknown":
        told = "is empty (0 bytes)" if kind == "empty" else f"is {kind} inside, not rows"
        raise DataError(f"{path} {told}. Name another file, or fetch it again.")
    return path


def _within(path: Path, member: str | None) -> Found:
    shown = f"dataset.path={path}" + ("" if member is None else f" dataset.member={member}")
    if path.is_dir():
        folder = path if member is None else path / member
        if folder.is_file():
            return Found((Member(_checked(folder), folder.stat().st_size),))
        entries = [Member(each, each.stat().st_size) for each in _files(folder, shown)]
    elif not path.is_file():
        raise DataError(f"{shown}: there is no such file or folder.")
    elif (kind := describe_content(path)) in _PACKED:
        entries = in_archive(path, kind)
        if member is not None:
            entries = [each for each in entries if _is_below(str(each.name), member)]
    elif member is not None:
        raise DataError(f"{shown}: dataset.member is for archives and folders, and this is a file of rows.")
    else:
        return Found((Member(_checked(path), path.stat().st_size),))
    return _one(candidates(entries), shown, entries)


def _files(folder: Path, shown: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{shown}: there is no such file or folder.")
    return sorted(each for each in folder.iterdir() if each.is_file())


def in_archive(path: Path, kind: str) -> list[Member]:
    """The files of an archive.

    Raises:
        DataError: it is damaged.
    """
    listed = seven_zip.list_files(path) if kind == "7z" else list_files(path)
    return [Member(path, size, name) for name, size in listed]


def _is_below(name: str, member: str) -> bool:
    """Whether ``member`` is the file, or a folder of its path; its beginning may be left out."""
    return f"/{name}/".find(f"/{member.strip('/')}/") >= 0


def candidates(entries: Iterable[Member]) -> list[Found]:
    """What could be a dataset among files: raw clicks by name, and pairs of training and test in one folder."""
    folders: dict[str, list[Member]] = {}
    for each in entries:
        inner = PurePosixPath(each.name or each.path.as_posix())
        folders.setdefault(str(inner.parent), []).append(each)
    found = []
    for own in folders.values():
        found += [Found((each,)) for each in _matching(own, RAW)]
        for train, test in PAIRS:
            tests = [each for each in _matching(own, (test,)) if not fnmatch(_name(each), "*train*")]
            found += [Found(pair) for pair in itertools.product(_matching(own, (train,)), tests)]
    return list(dict.fromkeys(found))


def _matching(members: Sequence[Member], patterns: tuple[str, ...]) -> list[Member]:
    return [each for each in members if any(fnmatch(_name(each), pattern) for pattern in patterns)]


def _name(member: Member) -> str:
    return PurePosixPath(member.name or member.path.name).name


def _one(found: list[Found], shown: str, entries: Sequence[Member]) -> Found:
    if len(found) == 1:
        return found[0]
    if not found and len(entries) == 1:
        return Found((entries[0],))
    if found:
        listed = "\n".join(f"  - {each}" for each in found)
        raise DataError(
            f"{shown} holds more than one dataset:\n{listed}\nName one: dataset.member=FOLDER or FILE within it, or "
            f"dataset.train=FILE dataset.test=FILE."
        )
    held = ", ".join(repr(_name(each))[1:-1] for each in entries[:10]) or "nothing"
    wanted = ", ".join([*RAW, *(f"{train} with {test}" for train, test in PAIRS)])
    raise DataError(
        f"{shown} holds no dataset of sessions: looked for {wanted}; it holds {held}"
        f"{' ...' if len(entries) > 10 else ''}. Name the file itself, or dataset.train=FILE dataset.test=FILE."
    )


@dataclass(frozen=True)
class Lookup:
    """Names under which a dataset lies in the user's folder of datasets.

    Attributes:
        raw: Files of raw clicks, the plain one first, then archives of it: of these the first that is there counts.
        pairs: Files for training and test.
        archives: (archive, folder in it) of prepared files.
    """

    raw: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    archives: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        names = [*self.raw, *(f"{train} with {test}" for train, test in self.pairs)]
        return ", ".join([*names, *(f"{folder} in {archive}" for archive, folder in self.archives)])

    def find(self, data: Path) -> Found | None:
        """The dataset in the folder ``data``, or None.

        Raises:
            DataError: it is there in more than one form, or broken.
        """
        if not data.is_dir():
            _log.warning("the folder of datasets %s (paths.data or RECEXP_DATA) does not exist", data)
            return None
        raw = next((data / name for name in self.raw if (data / name).is_file()), None)
        found = [] if raw is None else [_within(raw, None)]
        for train, test in self.pairs:
            if (data / train).is_file() and (data / test).is_file():
                found.append(Found((_plain(data / train, "train"), _plain(data / test, "test"))))
        for archive, folder in self.archives:
            path = data / archive
            if path.is_file():
                entries = in_archive(path, describe_content(path))
                found += candidates([each for each in entries if _is_below(str(each.name), folder)])
        if len(found) > 1:
            listed = "\n".join(f"  - {each}" for each in found)
            raise DataError(
                f"{data} holds the dataset in more than one form:\n{listed}\nName one with dataset.path=FILE (and "
                f"dataset.member=FOLDER within it), or with dataset.train=FILE dataset.test=FILE."
            )
        return found[0] if found else None
