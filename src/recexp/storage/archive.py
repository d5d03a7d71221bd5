"""Zip and tar archives from strangers: one member into memory, or everything into a new folder, safely."""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from recexp.errors import DataError
from recexp.storage.atomic import explain_full_disk, publish_directory, remove, temporary_path

_BLOCK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to before it is refused as a bomb."""

    total_bytes: int = 64 << 30
    member_bytes: int = 32 << 30
    members: int = 200_000


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # "file", "folder" or what is refused: "link", "device"
    open: Callable[[], IO[bytes] | None]


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        if info.flag_bits & 1:
            raise zipfile.BadZipFile(f"{info.filename} is encrypted")
        yield _Member(info.filename, info.file_size, _zip_kind(info), partial(opened.open, info))


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for entry in opened:
        yield _Member(entry.name, entry.size, _tar_kind(entry), partial(opened.extractfile, entry))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "device"
    return "folder" if info.is_dir() else "file"


def _tar_kind(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return "link"
    if entry.isdir():
        return "folder"
    return "file" if entry.isreg() else "device"


def describe_content(path: Path) -> str:
    """What a file really is, from its first bytes.

    One of zip, 7z, tar.gz, tar.xz, tar, "a web page", "empty" and "unknown".
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "empty"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "tar.xz"
    if head[257:262] == b"ustar":
        return "tar"
    return "a web page" if looks_like_web_page(head) else "unknown"


def looks_like_web_page(head: bytes) -> bool:
    """Whether the first bytes are those of HTML, as login and error pages are."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<script")) or b"<html" in start


@contextmanager
def _open(path: Path) -> Iterator[Iterator[_Member]]:
    """Open by content, not by name, and put every way in which it can be broken into one clear error."""
    try:
        kind = describe_content(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if kind == "empty":
        raise DataError(f"{path} is empty (0 bytes). Delete it and fetch it again.")
    if kind == "a web page":
        raise DataError(
            f"{path} is a web page, not an archive: the server answered with a login or error page. "
            f"Delete it and fetch the archive itself."
        )
    if kind == "7z":
        raise DataError(f"{path} is a 7z archive. Unpack it with a 7z program and name what is in it.")
    if kind == "unknown":
        raise DataError(f"{path} is neither a zip nor a tar archive (tar, tar.gz and tar.xz are read).")
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as opened:
                yield _zip_members(opened)
        else:
            with tarfile.open(path, "r:*") as tar:
                yield _tar_members(tar)
    except _DAMAGE as error:
        raise DataError(
            f"{path} is a {kind} archive that is truncated or damaged ({path.stat().st_size:,} bytes): {error}. "
            f"Delete it and fetch it again."
        ) from error


def read_member(path: Path, name: str, max_bytes: int = 4 << 30) -> bytes:
    """The content of one file of an archive, nothing being written to disk.

    Args:
        path: zip, tar, tar.gz or tar.xz; recognised by content.
        name: Full name in the archive, or its end (``u.data`` finds ``ml-100k/u.data``).
        max_bytes: A larger member is refused.

    Raises:
        DataError: not an archive, truncated, damaged, no such member, or too large.
    """
    seen = []
    with _open(path) as members:
        for member in members:
            if member.kind == "file" and f"/{member.name}".endswith(f"/{name}"):
                return _content(member, path, max_bytes)
            seen.append(member.name)
    listed = ", ".join(repr(entry)[1:-1] for entry in seen[:10]) or "nothing"
    raise DataError(f"{path} holds no {name}. It holds {listed}{' ...' if len(seen) > 10 else ''}.")


def list_files(path: Path) -> list[tuple[str, int]]:
    """Name and size of every plain file of an archive.

    Raises:
        DataError: not an archive, truncated or damaged.
    """
    with _open(path) as members:
        return [(member.name, member.size) for member in members if member.kind == "file"]


def find_file(path: Path, name: str) -> tuple[str, int] | None:
    """Full name and size of the first file whose name is ``name`` or ends with it; the archive is read no further.

    Raises:
        DataError: not an archive, truncated or damaged.
    """
    with _open(path) as members:
        for member in members:
            if member.kind == "file" and f"/{member.name}".endswith(f"/{name}"):
                return member.name, member.size
    return None


@contextmanager
def open_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """One file of an archive as a stream, without unpacking anything to disk or holding it in memory.

    Args:
        path: zip, tar, tar.gz or tar.xz; recognised by content.
        name: Full name in the archive.

    Raises:
        DataError: as :func:`read_member`, also while the stream is read.
    """
    with _open(path) as members:
        for member in members:
            stream = member.open() if member.kind == "file" and member.name == name else None
            if stream is not None:
                with stream:
                    yield stream
                return
    raise DataError(f"{path} holds no {name}.")


@contextmanager
def open_files(path: Path) -> Iterator[Iterator[tuple[str, Callable[[], bytes]]]]:
    """Every plain file of an archive in turn: its name, and what reads its content before the next one is taken.

    Args:
        path: zip, tar, tar.gz or tar.xz; recognised by content.

    Raises:
        DataError: as :func:`read_member`, also while the files are read.
    """
    with _open(path) as members:
        yield ((each.name, partial(_content, each, path, 1 << 30)) for each in members if each.kind == "file")


def _content(member: _Member, path: Path, max_bytes: int) -> bytes:
    shown = f"{member.name!r} in {path}"
    if member.size > max_bytes:
        raise DataError(f"{shown} has {member.size:,} bytes; at most {max_bytes:,} are read.")
    stream = member.open()
    content = b"" if stream is None else stream.read(max_bytes + 1)
    if len(content) != member.size:
        raise DataError(f"{shown} does not have the size that the archive states: it is damaged.")
    return content


def extract(path: Path, target: Path, limits: Limits | None = None) -> None:
    """Unpack an archive into the new folder ``target``, which appears only when everything is there.

    Files and folders only. Refused, with nothing left behind: names that leave the target, links, devices, names that
    differ by case alone, and more bytes or members than ``limits`` allow (counted while unpacking, not as declared).

    Raises:
        DataError: the archive is broken or hostile.
        OSError: the disk refuses; FileExistsError where ``target`` exists.
    """
    limits = limits or Limits()
    temp = temporary_path(target)
    temp.mkdir(parents=True)
    try:
        with _open(path) as members:
            _unpack(members, path, temp, limits)
        publish_directory(temp, target)
    except BaseException:
        remove(temp)
        raise


def _unpack(members: Iterator[_Member], path: Path, temp: Path, limits: Limits) -> None:
    spelling: dict[str, str] = {}
    total = 0
    for count, member in enumerate(members, start=1):
        if count > limits.members:
            raise DataError(f"{path} has more than {limits.members:,} members: refused.")
        relative = _safe_name(member, path)
        _check_spelling(relative, spelling, path)
        if member.kind == "folder":
            _make_folder(temp / relative, path)
            continue
        allowed = min(limits.member_bytes, limits.total_bytes - total)
        source = member.open()
        if source is not None:
            with source:
                total += _copy(source, temp / relative, allowed, path)


def _safe_name(member: _Member, path: Path) -> PurePosixPath:
    shown = repr(member.name[:120])
    if member.kind not in {"file", "folder"}:
        raise DataError(f"{path} holds the {member.kind} {shown}; only files and folders are unpacked: refused.")
    name = PurePosixPath(member.name)
    odd = "\\" in member.name or "\0" in member.name or ":" in member.name.split("/")[0]
    if name.is_absolute() or ".." in name.parts or odd:
        raise DataError(f"{path} holds {shown}, which would be written outside its folder: refused.")
    if not name.parts and member.kind == "file":
        raise DataError(f"{path} holds a file without a name: refused.")
    return name


def _check_spelling(name: PurePosixPath, spelling: dict[str, str], path: Path) -> None:
    """Two names that differ by case alone are one file on some systems: one would silently replace the other."""
    for end in range(1, len(name.parts) + 1):
        part = "/".join(name.parts[:end])
        known = spelling.setdefault(part.casefold(), part)
        if known != part:
            raise DataError(f"{path} holds both {known!r} and {part!r}, one file on some systems: refused.")


def _make_folder(folder: Path, path: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{path} uses the name of a file as a folder ({folder.name!r}): refused.") from None


def _copy(source: IO[bytes], target: Path, allowed: int, path: Path) -> int:
    written = 0
    try:
        _make_folder(target.parent, path)
        with target.open("xb") as sink:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > allowed:
                    raise DataError(
                        f"{path} unpacks to more than is allowed ({target.name} passed the limit): refused."
                    )
                sink.write(block)
    except FileExistsError:
        raise DataError(f"{path} holds {target.name!r} twice: refused.") from None
    except OSError as error:
        explained = explain_full_disk(error, target, written)
        raise explained from (None if explained is error else error)
    return written
