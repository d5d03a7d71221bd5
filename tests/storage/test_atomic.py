"""Replacement of files and folders in one step, also when something goes wrong half way."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recexp.storage import atomic

WRITER = """
import sys
from pathlib import Path
from recexp.storage.atomic import atomic_file
print("ready", flush=True)
number = 0
while True:
    number += 1
    with atomic_file(Path(sys.argv[1]), "w") as stream:
        for _ in range(2000):
            stream.write(f"{number:08d}\\n")
"""


def test_content_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as reader, atomic.atomic_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
        stream.write(b"er")
        reading = os.dup(reader.fileno())
    with os.fdopen(reading, "rb") as reader:
        assert reader.read() == b"old"  # the file was replaced, not written over
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


def test_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic.atomic_file(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_names_path_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match=r"no space left for .*/a: at least 5,000 bytes are needed, [\d,]+ bytes are free"),
        atomic.atomic_file(path, expected_bytes=5000) as stream,
    ):
        stream.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_mode_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode must be"), atomic.atomic_file(tmp_path / "a", "ab"):
        pass


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"key": ["é", 1.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"key": ["é", 1.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(path, float("nan"))
    assert json.loads(path.read_text(encoding="utf-8"))["key"][0] == "é"
    assert len(list(tmp_path.iterdir())) == 1


def test_kills_never_leave_a_half_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0.01, 0.06))
            process.kill()
        if path.exists():
            lines = path.read_text().splitlines()
            assert len(lines) == 2000
            assert len(set(lines)) == 1
    atomic.sweep_orphans(tmp_path, 0.0, "a")
    assert [entry.name for entry in tmp_path.iterdir()] in (["a"], [])


def test_directory_is_published_once(tmp_path: Path) -> None:
    final = tmp_path / "final"
    for content in ("first", "second"):
        temp = atomic.temporary_path(final)
        (temp / "sub").mkdir(parents=True)
        (temp / "sub" / "file").write_text(content)
        if content == "first":
            atomic.publish_directory(temp, final)
        else:
            with pytest.raises(FileExistsError):
                atomic.publish_directory(temp, final)
    assert (final / "sub" / "file").read_text() == "first"


def test_sweep_takes_old_temporaries_of_the_name_only(tmp_path: Path) -> None:
    mine, other = atomic.temporary_path(tmp_path / "mine"), atomic.temporary_path(tmp_path / "other")
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "file").write_text("x")
    other.write_text("x")
    (tmp_path / "kept.txt").write_text("x")
    assert atomic.sweep_orphans(tmp_path) == []
    assert atomic.sweep_orphans(tmp_path, 0.0, "mine") == [mine]
    assert {path.name for path in tmp_path.iterdir()} == {other.name, "kept.txt"}
    os.utime(other, (1, 1))
    assert atomic.sweep_orphans(tmp_path) == [other]
