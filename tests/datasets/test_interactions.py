"""A user's own files: kinds, columns, separators, and what is said when they do not fit."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recexp.datasets.events import Events
from recexp.errors import ConfigError, DataError

Prepare = Callable[..., Events]
ROWS = "user,item,rating,time\nb,y,3.5,10\na,z,4,5\nb,z,1,10\na,x,2,7\n"


def write(path: Path, text: str) -> Path:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "separator", "setting"),
    [
        ("a.csv", ",", "auto"), ("A.CSV", ",", "auto"), ("a.tsv", "\t", "auto"), ("a.csv.gz", ",", "auto"),
        ("a.tsv.gz", "\t", "auto"), ("a.dat", "::", "::"), ("a.txt", ";", "semicolon"), ("a.txt", "\t", "tab"),
        ("a.txt", "|", "|"), ("a.csv", " ", " "),
    ],
)  # fmt: skip
def test_every_kind_gives_the_same_events(
    interactions: Prepare, rows_csv: Path, tmp_path: Path, name: str, separator: str, setting: str
) -> None:
    expected = interactions(rows_csv)
    (tmp_path / "other").mkdir()
    path = write(tmp_path / "other" / name, ROWS.replace(",", separator))
    events = interactions(path, separator=setting)
    assert events.meta.fingerprint == expected.meta.fingerprint


def test_parquet_gives_the_same_events(interactions: Prepare, rows_csv: Path, tmp_path: Path) -> None:
    table = pa.table({
        "user": pa.array(["b", "a", "b", "a"]).dictionary_encode(), "item": ["y", "z", "z", "x"],
        "rating": [3.5, 4.0, 1.0, 2.0], "time": [10, 5, 10, 7],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert interactions(tmp_path / "a.parquet").meta.fingerprint == interactions(rows_csv).meta.fingerprint


def test_windows_export(interactions: Prepare, rows_csv: Path, tmp_path: Path) -> None:
    text = "\ufeff" + ROWS.replace("user", '"user"').replace("b,", '"b",').replace("\n", "\r\n")
    events = interactions(write(tmp_path / "w.csv", text))
    assert events.meta.fingerprint == interactions(rows_csv).meta.fingerprint


def test_without_rating_and_time(interactions: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "item,extra,user\n5,,10\n7,q,9\n5,,9\n5,,9\n")
    events = interactions(path, columns={"rating": None, "time": None})
    assert events.user_labels.tolist() == [9, 10]
    assert events.item.tolist() == [2, 1, 1, 1]
    assert events.rating.tolist() == [1.0] * 4
    assert events.time.tolist() == [2, 3, 4, 1]


def test_missing_columns_are_named_all_at_once(interactions: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user_id,item,item,timestamp\n1,2,3,4\n")
    with pytest.raises(DataError) as caught:
        interactions(path)
    text = str(caught.value)
    assert "no column 'user': set dataset.columns.user=NAME. Did you mean user_id?" in text
    assert "there are 2 columns named 'item'" in text
    assert "dataset.columns.rating=NAME (or null: it has none)" in text
    assert "Did you mean timestamp?" in text
    assert "Its columns are user_id, item, item, timestamp." in text


@pytest.mark.parametrize(
    ("name", "content", "options", "told"),
    [
        ("a.csv", b"", {}, "is empty"),
        ("a.csv", b"<!DOCTYPE html><html>", {}, "is a web page inside"),
        ("a.csv", b"PK\x03\x04aaaa", {}, "is zip inside"),
        ("a.csv", b"PAR1aaaa", {}, "is a Parquet file, whatever its name says"),
        ("a.parquet", b"user,item\n", {}, "is no Parquet file"),
        ("a.parquet", b"PAR1aaaaaaaaaaaaaaaaaa", {}, "cannot be read as Parquet"),
        ("a.parquet.gz", b"x", {}, "cannot be told from the name"),
        ("a.dat", b"user,item\n", {}, "cannot be told from the name"),
        ("a.csv", b"\xff\xfeu\0s\0", {}, "not UTF-8"),
        ("a.csv", b"\n1,2\n", {}, "does not name the columns"),
        ("a.csv", b"user,item,rating,time\n", {}, "there is no event. 0 rows were read"),
        ("a.csv", b"user,item,rating,time\n1,2,3,4\n", {"min_rating": 5}, "no event with a rating of at least 5"),
        ("a.csv.gz", gzip.compress(ROWS.encode() * 99, mtime=0)[:-20], {}, "gzip file that is truncated or damaged"),
        ("a.csv", b'user,"item\n', {}, "first line"),
    ],
)
def test_files_that_do_not_fit(
    interactions: Prepare, tmp_path: Path, name: str, content: bytes, options: dict, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        interactions(path, **options)
    assert list((tmp_path / "cache").glob("datasets/interactions-*/*")) == []


def test_places_that_hold_no_file(interactions: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv does not exist"):
        interactions(tmp_path / "no.csv")
    with pytest.raises(DataError, match="is a folder; name the file"):
        interactions(tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.path=FILE"):
        interactions("")


@pytest.mark.parametrize("separator", ["a", "1", '"', ",,", "", "\n", "é", "."])
def test_separators_that_cannot_be_one(interactions: Prepare, rows_csv: Path, separator: str) -> None:
    with pytest.raises(ConfigError, match="legal are auto, tab"):
        interactions(rows_csv, separator=separator)


def test_file_that_changes_while_it_is_read(
    interactions: Prepare, rows_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recexp.datasets import text_table

    read_text = text_table.read_text

    def meddle(*arguments):
        table = read_text(*arguments[:5], first_line=2)
        rows_csv.write_bytes(rows_csv.read_bytes() + b"c,c,1,1\n")
        return table

    monkeypatch.setattr(text_table, "read_text", lambda *a, **k: meddle(*a))
    with pytest.raises(DataError, match="changed while it was being read"):
        interactions(rows_csv)


@pytest.mark.usefixtures("binding_permissions")
def test_file_without_permission(interactions: Prepare, rows_csv: Path) -> None:
    rows_csv.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        interactions(rows_csv)
