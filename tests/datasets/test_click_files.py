"""Which files are meant: plain ones, folders, archives of every kind, and what is ambiguous, absent or broken."""

from __future__ import annotations

import builtins
import errno
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import py7zr
import pytest

from recexp.datasets.click_files import Found, Lookup, given
from recexp.errors import ConfigError, DataError
from recexp.storage import seven_zip
from recexp.storage.archive import describe_content, extract, open_member, read_member

RAW = b"1,2014-04-07T10:51:09.277Z,2,0\n" * 3
TABLE = b"SessionId\tItemId\tTime\n1\t2\t3.5\n"


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".7z":
        with py7zr.SevenZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(content, name)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:xz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def content_of(found: Found, temp: Path) -> list[bytes]:
    contents = []
    for member in found.members:
        with member.open(temp) as stream:
            contents.append(stream.read())
    assert list(temp.glob("unpacked")) == []
    return contents


ENDINGS = pytest.mark.parametrize("ending", [".7z", ".zip", ".tar.xz"])


@ENDINGS
def test_the_clicks_are_found_in_an_archive(tmp_path: Path, ending: str) -> None:
    files = {"yoochoose-buys.dat": b"x", "a/yoochoose-clicks.dat": RAW, "readme.txt": b"y"}
    path = pack(tmp_path / f"any{ending}", files)
    found = given({"path": str(path)})
    assert found is not None
    assert found.is_raw
    assert found.members[0].size == len(RAW)
    assert content_of(found, tmp_path) == [RAW]
    assert str(found) == f"raw clicks: {path}, a/yoochoose-clicks.dat"


@ENDINGS
def test_a_member_chooses_among_several(tmp_path: Path, ending: str) -> None:
    files = {
        "y/small/c_train_full.txt": TABLE, "y/small/c_train_tr.txt": b"-", "y/small/c_train_test.txt": b"-",
        "y/small/c_test.txt": TABLE + b"1\t2\t4\n", "y/raw/yoochoose-clicks.csv": RAW,
        "y/derived/1_64/train_sessions.txt": b"1 2\n", "y/derived/1_64/test_sessions.txt": b"2 1\n",
    }  # fmt: skip
    path = str(pack(tmp_path / f"all{ending}", files))
    for member, expected in (
        ("small", [TABLE, TABLE + b"1\t2\t4\n"]),
        ("y/small/", [TABLE, TABLE + b"1\t2\t4\n"]),
        ("raw", [RAW]),
        ("raw/yoochoose-clicks.csv", [RAW]),
        ("1_64", [b"1 2\n", b"2 1\n"]),
    ):
        found = given({"path": path, "member": member})
        assert found is not None
        assert content_of(found, tmp_path) == expected
    with pytest.raises(DataError) as told:
        given({"path": path})
    assert str(told.value).count("\n  - ") == 3
    assert "more than one dataset" in str(told.value)
    assert "dataset.member=FOLDER" in str(told.value)
    with pytest.raises(DataError, match=r"holds no dataset of sessions: looked for .* it holds nothing"):
        given({"path": path, "member": "none"})


def test_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    clicks = tmp_path / "in" / "my-clicks-2020.dat"
    clicks.write_bytes(RAW)
    other = tmp_path / "odd.log"
    other.write_bytes(RAW)
    for dataset in (
        {"path": tmp_path / "in"}, {"path": tmp_path, "member": "in"}, {"path": clicks}, {"path": other},
        {"path": tmp_path, "member": "odd.log"},
    ):  # fmt: skip
        found = given(dataset)
        assert found is not None
        assert content_of(found, tmp_path) == [RAW]
    (tmp_path / "in" / "b_train_full.txt").write_bytes(TABLE)
    (tmp_path / "in" / "b_test.txt").write_bytes(TABLE)
    with pytest.raises(DataError, match="more than one dataset"):
        given({"path": tmp_path / "in"})
    pair = {"train": tmp_path / "in" / "b_train_full.txt", "test": tmp_path / "in" / "b_test.txt"}
    found = given(pair)
    assert found is not None
    assert not found.is_raw
    clicks.unlink()
    assert given({"path": tmp_path / "in"}) == found
    (tmp_path / "in" / "c_test.txt").write_bytes(TABLE)
    with pytest.raises(DataError, match=r"b_test.txt\n.*c_test.txt\n"):
        given({"path": tmp_path / "in"})


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"train": "a"}, "set dataset.test=FILE"),
        ({"test": "a"}, "set dataset.train=FILE"),
        ({"train": "a", "test": "b", "path": "c"}, "leave out dataset.path"),
        ({"member": "a"}, "within dataset.path"),
    ],
)
def test_settings_that_contradict_each_other(dataset: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        given(dataset)


def test_what_is_not_there_or_no_rows(tmp_path: Path) -> None:
    rows, empty, page = tmp_path / "r.dat", tmp_path / "e.dat", tmp_path / "p.dat"
    rows.write_bytes(RAW)
    empty.touch()
    page.write_bytes(b"<!DOCTYPE html><html>login</html>")
    for dataset, told in (
        ({"path": tmp_path / "x"}, "there is no such file or folder"),
        ({"path": tmp_path, "member": "x"}, "there is no such file or folder"),
        ({"path": tmp_path}, "holds no dataset of sessions"),
        ({"path": empty}, r"is empty \(0 bytes\)"),
        ({"path": page}, "is a web page inside, not rows"),
        ({"path": rows, "member": "x"}, "this is a file of rows"),
        ({"train": rows, "test": tmp_path / "x"}, "dataset.test=.*there is no such file"),
    ):
        with pytest.raises(DataError, match=told):
            given(dataset)


LOOKUP = Lookup(
    raw=("clicks.dat", "in/clicks.dat", "clicks.zip"),
    pairs=(("t_train.txt", "t_test.txt"),),
    archives=(("a.tar.xz", "part"),),
)


def test_the_folder_of_datasets(tmp_path: Path) -> None:
    assert LOOKUP.find(tmp_path / "none") is None
    assert LOOKUP.find(tmp_path) is None
    (tmp_path / "t_train.txt").write_bytes(TABLE)
    assert LOOKUP.find(tmp_path) is None
    (tmp_path / "t_test.txt").write_bytes(TABLE)
    found = LOOKUP.find(tmp_path)
    assert found is not None
    assert [member.path.name for member in found.members] == ["t_train.txt", "t_test.txt"]
    (tmp_path / "t_test.txt").unlink()
    pack(tmp_path / "a.tar.xz", {"part/train_sessions.txt": b"1", "part/test_sessions.txt": b"1", "x/clicks.dat": RAW})
    found = LOOKUP.find(tmp_path)
    assert found is not None
    assert [member.name for member in found.members] == ["part/train_sessions.txt", "part/test_sessions.txt"]
    pack(tmp_path / "clicks.zip", {"clicks.dat": RAW})
    with pytest.raises(DataError, match=r"more than one form:\n  - raw clicks: .*zip.*\n  - training and test: .*part"):
        LOOKUP.find(tmp_path)
    (tmp_path / "a.tar.xz").unlink()
    (tmp_path / "clicks.dat").write_bytes(RAW)  # the unpacked file stands for its archive
    found = LOOKUP.find(tmp_path)
    assert found is not None
    assert found.members[0].path == tmp_path / "clicks.dat"
    assert str(LOOKUP) == "clicks.dat, in/clicks.dat, clicks.zip, t_train.txt with t_test.txt, part in a.tar.xz"


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "r.dat"
    path.write_bytes(RAW)
    found = given({"path": path})
    assert found is not None
    opened = found.members[0].open(tmp_path)
    assert opened.__enter__().read() == RAW
    path.write_bytes(RAW + RAW)
    with pytest.raises(DataError, match="changed while it was being read"):
        opened.__exit__(None, None, None)


def test_without_py7zr_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "y.7z", {"yoochoose-clicks.dat": RAW})
    real = builtins.__import__

    def without(name: str, *rest, **named) -> object:
        if name == "py7zr":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"py7zr.*pip install 'recexp\[7z\]'.*dataset.path=FILE"):
        given({"path": path})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:40],
        lambda content: content[:300] + bytes([content[300] ^ 255]) + content[301:],
        lambda content: content[:-20] + b"x" * 20,
    ],
)
def test_a_damaged_7z_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rows = b"".join(b"%d,2014-04-07T10:51:09.277Z,%d,0\n" % (n, n * n % 977) for n in range(3000))
    path = pack(tmp_path / "y.7z", {"yoochoose-clicks.dat": rows})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="truncated or damaged"):
        content_of(given({"path": path}), tmp_path)


def test_an_encrypted_7z_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "y.7z"
    with py7zr.SevenZipFile(path, "w", password="x") as archive:
        archive.writestr(RAW, "yoochoose-clicks.dat")
    with pytest.raises(DataError, match=r"encrypted|damaged"):
        content_of(given({"path": path}), tmp_path)


def rename_in_7z(path: Path, old: str, new: str) -> None:
    """Put a name into an archive that py7zr itself would refuse to write."""
    content = bytearray(path.read_bytes())
    offset, size = struct.unpack("<QQ", content[12:28])
    header = bytes(content[32 + offset :]).replace(old.encode("utf-16-le"), new.encode("utf-16-le"))
    assert new.encode("utf-16-le") in header
    assert len(header) == size
    content[32 + offset :] = header
    content[28:32] = struct.pack("<I", zlib.crc32(header))
    content[8:12] = struct.pack("<I", zlib.crc32(content[12:32]))
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["../../in/a-clicks.dat", "/12/4567/a-clicks.dat"])
def test_no_name_in_a_7z_leaves_the_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in" / "h.7z"
    path.parent.mkdir()
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(RAW, "12/456789/a-clicks.dat"[-len(name) :])
    rename_in_7z(path, "12/456789/a-clicks.dat"[-len(name) :], name)
    assert [found for found, _ in seven_zip.list_files(path)] == [name]
    with suppress(DataError):
        seven_zip.extract_file(path, name, len(RAW), tmp_path / "in" / "out")
    assert {each.name for each in tmp_path.rglob("*")} <= {"in", "h.7z", "out"}


def test_a_7z_gives_the_bytes_that_it_states(tmp_path: Path) -> None:
    path = pack(tmp_path / "y.7z", {"clicks.dat": RAW})
    with pytest.raises(DataError, match="damaged"):
        seven_zip.extract_file(path, "clicks.dat", len(RAW) - 1, tmp_path / "out")
    with pytest.raises(DataError, match="does not have the 5 bytes"):
        seven_zip.extract_file(path, "other.dat", 5, tmp_path / "out")


def test_a_full_disk_is_noticed_before_and_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "y.7z", {"clicks.dat": RAW})
    with pytest.raises(OSError, match=r"no space left for .*at least 1,125,899,906,842,624 bytes are needed"):
        seven_zip.extract_file(path, "clicks.dat", 1 << 50, tmp_path / "out")
    sink = seven_zip._sink

    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(seven_zip, "_sink", lambda stream, *rest: sink(Full(), *rest))
    with pytest.raises(OSError, match="no space left for"):
        seven_zip.extract_file(path, "clicks.dat", len(RAW), tmp_path / "out")


def test_7z_where_other_archives_are_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "y.7z", {"clicks.dat": RAW})
    assert describe_content(path) == "7z"
    for read in (lambda: read_member(path, "clicks.dat"), lambda: extract(path, tmp_path / "new")):
        with pytest.raises(DataError, match=r"is a 7z archive. Unpack it"):
            read()
    packed = pack(tmp_path / "y.zip", {"clicks.dat": RAW})
    with pytest.raises(DataError, match=r"holds no other.dat"), open_member(packed, "other.dat"):
        pass
