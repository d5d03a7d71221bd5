"""A builder that is killed several times, at moments that real kills rarely meet: the arrays are those of one build."""

from __future__ import annotations

import os
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from recexp.datasets import impression_store
from recexp.datasets.click_logs import assemble
from recexp.datasets.click_logs.build import Build
from recexp.datasets.click_logs.recipe import PRESETS
from recexp.datasets.click_logs.text_source import TextSource
from recexp.datasets.criteo import FORMAT
from recexp.datasets.malformed import Policy

CHUNK = 8_000


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.setattr(assemble, "_MARK_EVERY", 2)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # takes most of the time, and shows only in a power cut
    rng, path = random.Random(3), tmp_path / "train.txt"
    ids = [f"{rng.getrandbits(32):08x}" for _ in range(9)]
    with path.open("w") as sink:
        for _ in range(280):
            fields = [*(str(rng.randrange(99)) for _ in range(13)), *(rng.choice(ids) for _ in range(26))]
            sink.write("\t".join([str(rng.getrandbits(1)), *fields]) + "\n")
    return Build([TextSource(path)], FORMAT, PRESETS["dlrm_kaggle"], Policy(), chunk_bytes=CHUNK, workers=1)


def arrays(build: Build, out: Path, work: Path) -> tuple[list[bytes], Any]:
    out.mkdir()
    work.mkdir(exist_ok=True)
    told = build.write(out, work)
    return [(out / f"{name}.npy").read_bytes() for name in impression_store.MEMBERS], told


def killed(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, after: int) -> None:
    """The call of this number, counted from 0, does not come back."""
    usual, calls = getattr(target, name), iter(range(10**6))

    def call(*args: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise Killed
        return usual(*args, **options)

    monkeypatch.setattr(target, name, call)


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_killed_while_arrays_are_moved_and_once_more(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """The mark of the first build is no word on the arrays of the second."""
    expected = arrays(build, tmp_path / "reference", tmp_path / "other")
    work = tmp_path / "work"
    with monkeypatch.context() as patched:
        killed(patched, Path, "rename", moved)  # the fourth never comes: all three were moved, and nobody learns of it
        with pytest.raises(Killed) if moved < 3 else nullcontext():
            arrays(build, tmp_path / "first", work)
    with monkeypatch.context() as patched:
        killed(patched, assemble.Assembly, "_arrays", 1)
        with pytest.raises(Killed):
            arrays(build, tmp_path / "second", work)
    assert arrays(build, tmp_path / "out", work) == expected


@pytest.mark.parametrize("left", [b"", b"\0" * 8])
def test_a_damaged_numbering_is_done_again(tmp_path: Path, build: Build, left: bytes) -> None:
    """What a power cut leaves of a file beside a mark that speaks of it."""
    expected = arrays(build, tmp_path / "reference", tmp_path / "work")
    (tmp_path / "work" / "fields" / "3.ids").write_bytes(left)
    assert arrays(build, tmp_path / "out", tmp_path / "work") == expected


def test_an_array_without_a_mark_is_begun_anew(tmp_path: Path, build: Build) -> None:
    """Also where its very header is damaged."""
    expected = arrays(build, tmp_path / "reference", tmp_path / "work")
    folder = tmp_path / "work" / f"arrays-{CHUNK}"
    (folder / "written.json").unlink()
    for name in impression_store.MEMBERS:
        (folder / f"{name}.npy").write_bytes(b"\0" * 500)
    assert arrays(build, tmp_path / "out", tmp_path / "work") == expected
