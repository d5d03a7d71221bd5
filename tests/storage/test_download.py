"""Downloads from a server that breaks off, stalls, lies, refuses or sends a web page."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest

from recexp.errors import DataError
from recexp.storage.download import Patience, download

QUICK = Patience(timeout_s=0.3, attempts=3, pause_s=0.01)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_whole(server, tmp_path: Path) -> None:
    seen = []
    target = tmp_path / "new" / "set.zip"
    download(server.url, target, sha(server.content), lambda *step: seen.append(step), QUICK)
    assert target.read_bytes() == server.content
    assert [path.name for path in target.parent.iterdir()] == ["set.zip"]
    assert seen[-1] == ("download set.zip", len(server.content), len(server.content))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize("fault", ["cut", "stall", "500", "503", "429"])
def test_passing_fault_is_tried_again_and_continued(server, tmp_path: Path, fault: str) -> None:
    server.modes = [fault, "whole"]
    download(server.url, tmp_path / "set.zip", sha(server.content), None, QUICK)
    assert (tmp_path / "set.zip").read_bytes() == server.content
    assert len(server.ranges) == 2
    if fault in {"cut", "stall"}:
        assert server.ranges[1] is not None
        assert server.ranges[1] != "bytes=0-"


@pytest.mark.parametrize("mode", ["whole", "no_range", "other_place"])
def test_part_of_an_earlier_process_is_continued_or_replaced(server, tmp_path: Path, mode: str) -> None:
    server.modes = [mode, "whole"]
    (tmp_path / "set.zip.part").write_bytes(server.content[:1000])
    download(server.url, tmp_path / "set.zip", sha(server.content), None, QUICK)
    assert (tmp_path / "set.zip").read_bytes() == server.content
    assert server.ranges[0] == "bytes=1000-"
    assert len(server.ranges) == (2 if mode == "other_place" else 1)
    assert not (tmp_path / "set.zip.part").exists()


def test_complete_part_needs_no_more_bytes(server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(server.content)
    download(server.url, tmp_path / "set.zip", sha(server.content), None, QUICK)
    assert (tmp_path / "set.zip").read_bytes() == server.content


@pytest.mark.parametrize("part", [b"rubbish" * 100, b"x" * 2_000_000], ids=["other", "longer"])
def test_part_that_does_not_fit_is_fetched_afresh(server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "set.zip.part").write_bytes(part)
    download(server.url, tmp_path / "set.zip", sha(server.content), None, QUICK)
    assert (tmp_path / "set.zip").read_bytes() == server.content


def test_wrong_checksum_names_both_and_leaves_nothing(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"sha256 {sha(server.content)}, expected {'0' * 64}"):
        download(server.url, tmp_path / "set.zip", "0" * 64, None, QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["page", "page_called_zip"])
def test_web_page_is_refused_at_once(server, tmp_path: Path, mode: str) -> None:
    server.modes = [mode]
    with pytest.raises(DataError, match="a web page came instead of the file"):
        download(server.url, tmp_path / "set.zip", None, None, QUICK)
    assert not (tmp_path / "set.zip").exists()
    assert len(server.ranges) == 1
    server.modes = ["whole"]
    download(server.url, tmp_path / "set.zip", sha(server.content), None, QUICK)


@pytest.mark.parametrize("code", ["403", "404"])
def test_refusal_is_final(server, tmp_path: Path, code: str) -> None:
    server.modes = [code]
    with pytest.raises(DataError, match=f"refused with {code}"):
        download(server.url, tmp_path / "set.zip", None, None, QUICK)
    assert len(server.ranges) == 1


@pytest.mark.parametrize(("mode", "told"), [("500", "answered 500"), ("stall", "stopped after")])
def test_lasting_fault_ends_with_what_is_kept(server, tmp_path: Path, mode: str, told: str) -> None:
    server.modes = [mode]
    with pytest.raises(DataError, match=rf"{told}.*3 attempts; .* bytes are kept"):
        download(server.url, tmp_path / "set.zip", None, None, QUICK)
    assert not (tmp_path / "set.zip").exists()


def test_unreachable_address_fails_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(DataError, match="cannot be reached"):
            download(f"http://127.0.0.1:{port}/x.zip", tmp_path / "x.zip", None)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://127.0.0.1/x"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="only http and https"):
        download(url, tmp_path / "x", None, None, QUICK)
