"""Published datasets: the order of the sources, every form of a copy, checksums, and what is said about bad copies."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.datasets import ml1m, published
from recexp.datasets.events import Events
from recexp.datasets.prepare import prepare
from recexp.errors import DataError

ROWS = b"".join(b"%d::%d::%d::%d\n" % (u, i, (u + i) % 5 + 1, 978300000 + i) for u in (2, 1) for i in range(1, 6))
OTHER = ROWS.replace(b"::978300001", b"::978300009")
SMALL = dataclasses.replace(
    ml1m.ML1M,
    release=dataclasses.replace(ml1m.ML1M.release, url="http://127.0.0.1:9/ml-1m.zip", package=None),
    rating_sha256=hashlib.sha256(ROWS).hexdigest(),
    rating_bytes=len(ROWS),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Events]:
    """``dataset=ml1m`` of ten rows, whose official address does not answer."""
    monkeypatch.setattr(ml1m, "ML1M", SMALL)

    def run(data: Path | None = None, **options) -> Events:
        node = {"_target_": "recexp.datasets.ml1m.read", "name": "ml1m", "licence": "mine", **options}
        return prepare(node, data=data, cache=tmp_path / "cache")

    return run


def pack(path: Path, rows: bytes = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("ml-1m/README", "x")
            opened.writestr("ml-1m/ratings.dat", rows)
    elif ".tar." in path.name:
        with tarfile.open(path, f"w:{path.suffix[1:]}") as opened:
            info = tarfile.TarInfo("ml-1m/ratings.dat")
            info.size = len(rows)
            opened.addfile(info, io.BytesIO(rows))
    else:
        path.write_bytes(rows)
    return path


FORMS = ["ml-1m.zip", "ml-1m.tar.xz", "ml-1m.tar.gz", "ml-1m/ratings.dat", "ratings.dat"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_the_folder_of_datasets(small: Callable[..., Events], tmp_path: Path, form: str) -> None:
    copy = pack(tmp_path / "data" / form)
    events = small(tmp_path / "data")
    assert events.user.tolist() == [1] * 5 + [2] * 5
    assert (events.num_users, events.num_items) == (2, 5)
    assert events.meta.origin == str(copy)
    assert events.meta.verified is True
    assert events.meta.licence == "mine"


@pytest.mark.parametrize("form", [*FORMS, "mine.bin.zip", "whatever.dat"])
def test_path_goes_before_the_folder(small: Callable[..., Events], tmp_path: Path, form: str) -> None:
    pack(tmp_path / "data" / "ml-1m.zip", OTHER)
    copy = pack(tmp_path / "own" / form)
    assert small(tmp_path / "data", path=str(copy)).meta.origin == str(copy)


def test_path_may_be_the_folder(small: Callable[..., Events], tmp_path: Path) -> None:
    copy = pack(tmp_path / "own" / "ml-1m" / "ratings.dat")
    assert small(path=str(tmp_path / "own")).meta.origin == str(copy)
    assert small(path=str(tmp_path / "own" / "ml-1m")).meta.origin == str(copy)
    with pytest.raises(DataError, match=r"the folder holds none of ml-1m.zip, .*ratings.dat"):
        small(path=str(tmp_path / "cache"))
    with pytest.raises(DataError, match="there is no such file"):
        small(path=str(tmp_path / "no.zip"))


def test_altered_copy_is_refused_with_both_sums_or_used_on_request(
    small: Callable[..., Events], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(tmp_path / "data" / "ml-1m.zip", OTHER)
    with pytest.raises(DataError) as caught:
        small(tmp_path / "data")
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert SMALL.rating_sha256 in str(caught.value)
    assert "dataset.verify=false" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        events = small(tmp_path / "data", verify=False)
    assert events.meta.verified is False
    assert "used all the same" in caplog.text
    with pytest.raises(DataError, match="incomplete or altered"):
        small(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("ml-1m.zip", b"<html><body>login", "is a web page, not an archive"),
        ("ml-1m.zip", b"", "is empty"),
        ("ml-1m.zip", b"1::2::3::4", "neither a zip nor a tar"),
        ("ratings.dat", b"<!doctype html><html>", "is a web page, not ratings.dat"),
        ("ratings.dat", b"", "is empty"),
    ],
)
def test_copies_that_are_something_else(
    small: Callable[..., Events], tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        small(tmp_path / "data")


def test_truncated_archive(small: Callable[..., Events], tmp_path: Path) -> None:
    copy = pack(tmp_path / "data" / "ml-1m.zip")
    copy.write_bytes(copy.read_bytes()[:-40])
    with pytest.raises(DataError, match="truncated or damaged"):
        small(tmp_path / "data")
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_no_source_lists_every_reason_and_the_way_on(small: Callable[..., Events], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError) as caught:
        small(tmp_path / "data")
    text = str(caught.value)
    assert f"{tmp_path / 'data'} holds none of ml-1m.zip" in text
    assert "the official address: http://127.0.0.1:9/ml-1m.zip: cannot be reached" in text
    for way in ("dataset.path=FILE", "paths.data=FOLDER", "RECEXP_DATA", "dataset=ml1m_synthetic"):
        assert way in text
    with pytest.raises(DataError, match="none was named"):
        small()


def test_missing_folder_of_datasets_is_warned_about(
    small: Callable[..., Events], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match="holds none of"):
        small(tmp_path / "nowhere")
    assert "nowhere (paths.data or RECEXP_DATA) does not exist" in caplog.text


def test_prepared_data_needs_its_source_no_more(small: Callable[..., Events], tmp_path: Path) -> None:
    copy = pack(tmp_path / "data" / "ml-1m.zip")
    first = small(tmp_path / "data")
    copy.unlink()
    assert small().meta == first.meta


def test_header_is_compared() -> None:
    from recexp.datasets.ml_latest_small import ML_LATEST_SMALL
    from recexp.datasets.places import Places

    places = Places(None, Path())
    table = published.parse(ML_LATEST_SMALL, b"userId,movieId,rating,timestamp\r\n7,8,0.5,9\r\n", "x", {}, places)
    assert table.user_labels.tolist() == [7]
    with pytest.raises(DataError, match="expected 'userId,movieId,rating,timestamp'"):
        published.parse(ML_LATEST_SMALL, b"user,movieId,rating,timestamp\n", "x", {}, places)
    with pytest.raises(DataError, match=r"line 3 \(out_of_range\)"):
        published.parse(ML_LATEST_SMALL, b"userId,movieId,rating,timestamp\n1,2,3,4\n1,2,5.5,4\n", "x", {}, places)
