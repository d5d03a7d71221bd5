"""Archives that are broken or hostile: nothing is ever written outside the target, or half."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from recexp.errors import DataError
from recexp.storage.archive import Limits, describe_content, extract, read_member


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def make_tar(path: Path, mode: str, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, mode) as opened:
        for info, content in entries:
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
def test_read_and_extract(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "a.bin"
    if mode == "zip":
        make_zip(archive, {"set/": b"", "set/u.data": b"rows", "set/other.u.data": b"no"})
    else:
        make_tar(archive, mode, [(entry("set", tarfile.DIRTYPE), b""), (entry("set/u.data"), b"rows")])
    assert read_member(archive, "u.data") == b"rows"
    assert read_member(archive, "set/u.data") == b"rows"
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "set" / "u.data").read_bytes() == b"rows"
    with pytest.raises(DataError, match=r"holds no ratings.dat. It holds set"):
        read_member(archive, "ratings.dat")
    with pytest.raises(DataError, match="at most 3 are read"):
        read_member(archive, "u.data", max_bytes=3)


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_truncated(tmp_path: Path, mode: str, share: float) -> None:
    content = bytes(i * i % 251 for i in range(40_000))
    archive = tmp_path / "a"
    if mode == "zip":
        make_zip(archive, {"x": content})
    else:
        make_tar(archive, mode, [(entry("x"), content)])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    for act in (lambda: read_member(archive, "x"), lambda: extract(archive, tmp_path / "out")):
        with pytest.raises(DataError, match=r"truncated or damaged|states: it is damaged"):
            act()
    assert list(tmp_path.iterdir()) == [archive]


def test_flipped_bit(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x": bytes(i * i % 251 for i in range(5000))})
    content = bytearray(archive.read_bytes())
    content[200] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_member(archive, "x")


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b"", "empty", r"is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf\n <!doctype HTML><html>", "a web page", "is a web page"),
        (b"1::2::3::4\n", "unknown", "neither a zip nor a tar"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, kind: str, told: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    assert describe_content(path) == kind
    with pytest.raises(DataError, match=told):
        read_member(path, "x")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_member(tmp_path / "no.zip", "x")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:/evil"])
def test_names_that_leave_the_target(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for archive in (
        make_zip(inside / "a.zip", {"good": b"x", name: b"evil"}),
        make_tar(inside / "a.tar", "w", [(entry("good"), b"x"), (entry(name), b"evil")]),
    ):
        with pytest.raises(DataError, match="outside its folder"):
            extract(archive, inside / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "a.zip", "inside"]


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "device"), (tarfile.FIFOTYPE, "device")],
)
def test_links_and_devices(tmp_path: Path, kind: bytes, word: str) -> None:
    archive = make_tar(tmp_path / "a.tar", "w", [(entry("x", kind, "/etc"), b""), (entry("x/evil"), b"evil")])
    with pytest.raises(DataError, match=f"holds the {word} 'x'"):
        extract(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_link_in_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        info = zipfile.ZipInfo("x")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc")
    with pytest.raises(DataError, match="holds the link"):
        extract(archive, tmp_path / "out")


def test_bombs(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(3 << 20), "more": bytes(3 << 20)})
    assert archive.stat().st_size < 20_000
    for limits in (Limits(member_bytes=2 << 20), Limits(total_bytes=4 << 20)):
        with pytest.raises(DataError, match="more than is allowed"):
            extract(archive, tmp_path / "out", limits)
    many = make_zip(tmp_path / "b.zip", {f"f{n}": b"" for n in range(30)})
    with pytest.raises(DataError, match="more than 20 members"):
        extract(many, tmp_path / "out", Limits(members=20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a/x", "A/y"], "one file on some systems"),
        (["x", "X"], "one file on"),
        (["x", "x/y"], "name of a file as a"),
        (["x", "x/y/z"], "file as a folder"),
    ],
)
def test_names_that_collide(tmp_path: Path, names: list[str], told: str) -> None:
    archive = make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"1"))
    with pytest.raises(DataError, match=told):
        extract(archive, tmp_path / "out")


def test_name_twice(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", "w", [(entry("x"), b"1"), (entry("x"), b"2")])
    with pytest.raises(DataError, match="twice"):
        extract(archive, tmp_path / "out")


def test_existing_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(FileExistsError):
        extract(make_zip(tmp_path / "a.zip", {"x": b"1"}), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
