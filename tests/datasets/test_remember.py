"""Checksums that are remembered only as long as the file is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recexp.datasets.remember import remembered_sha256
from recexp.errors import DataError


def test_computed_once_until_the_file_changes(tmp_path: Path) -> None:
    source, calls = tmp_path / "a", []
    source.write_text("one")
    os.utime(source, (1000, 1000))

    def compute() -> str:
        calls.append(1)
        return f"sum{len(calls)}"

    def ask(part: str = "") -> str:
        return remembered_sha256(source, part, tmp_path / "cache", compute)

    assert (ask(), ask(), len(calls)) == ("sum1", "sum1", 1)
    assert ask("part") == "sum2"
    os.utime(source, (2000, 2000))
    assert (ask(), ask()) == ("sum3", "sum3")
    source.write_text("longer")
    os.utime(source, (2000, 2000))
    assert ask() == "sum4"
    for note in (tmp_path / "cache" / "sources").iterdir():
        note.write_text("{")
    assert ask() == "sum5"


def test_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("one")
    assert remembered_sha256(source, "", tmp_path / "cache", lambda: "1") == "1"
    assert remembered_sha256(source, "", tmp_path / "cache", lambda: "2") == "2"


def test_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    source, blocked = tmp_path / "a", tmp_path / "blocked"
    source.write_text("one")
    os.utime(source, (1000, 1000))
    blocked.write_text("a file where a folder should be")
    assert remembered_sha256(source, "", blocked, lambda: "1") == "1"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        remembered_sha256(tmp_path / "no", "", tmp_path, lambda: "1")
