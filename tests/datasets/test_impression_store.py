"""Prepared impressions: what was written is what is opened, and what is damaged is noticed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from recexp.datasets import array_folder
from recexp.datasets import impression_store as store
from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions


@pytest.fixture
def impressions() -> Impressions:
    rng = np.random.default_rng(0)
    rows = 500
    genre = rng.integers(-1, 4, (rows, 3))
    ids = np.column_stack([rng.integers(0, 7, rows), genre]).astype(np.int32)
    meta = DataMeta("handmade", "", "none", "test", synthetic=True, rows_read=rows)
    return Impressions(
        label=rng.integers(0, 2, rows).astype(np.uint8),
        dense=rng.normal(size=(rows, 2)).astype(np.float32),
        ids=ids,
        fields=(Field("user", 7), Field("genre", 4, 3)),
        dense_names=("age", "time"),
        bounds=(0, 300, 400, rows),
        split="by hand",
        meta=meta,
    )


def test_what_was_written_is_opened(impressions: Impressions, tmp_path: Path) -> None:
    found = store.publish(tmp_path / "x", impressions)
    for name in store.MEMBERS:
        assert np.array_equal(getattr(found, name), getattr(impressions, name))
    assert found.meta == replace(impressions.meta, fingerprint=found.meta.fingerprint)
    for name in ("fields", "dense_names", "bounds", "split"):
        assert getattr(found, name) == getattr(impressions, name)
    found.label[0] ^= 1  # mapped copy-on-write
    again = store.load(tmp_path / "x")
    assert again is not None
    assert again.label[0] == impressions.label[0]


def test_the_fingerprint_is_of_all_that_the_arrays_mean(impressions: Impressions, tmp_path: Path) -> None:
    other = impressions.ids.copy()
    other[-1, 0] = (other[-1, 0] + 1) % 7
    changes = {
        "label": 1 - impressions.label, "ids": other, "dense": impressions.dense + 1, "bounds": (0, 301, 400, 500),
        "fields": (Field("user", 8), Field("genre", 4, 3)), "dense_names": ("age", "hour"),
    }  # fmt: skip
    prints = [store.publish(tmp_path / "0", impressions).meta.fingerprint]
    for name, value in changes.items():
        prints.append(store.publish(tmp_path / name, replace(impressions, **{name: value})).meta.fingerprint)
    assert len(set(prints)) == len(prints)
    assert store.publish(tmp_path / "again", impressions).meta.fingerprint == prints[0]


def test_sums_are_those_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(1000, dtype=np.int32).reshape(500, 2)
    monkeypatch.setattr(array_folder, "ROWS", 64)
    blocks = [hashlib.sha256(array[at : at + 64].tobytes()).digest() for at in range(0, 500, 64)]
    assert array_folder.row_sum(array) == hashlib.sha256(b"".join(blocks)).hexdigest()


def poke(path: Path, column: int, value: int) -> None:
    """Change one value of the last row and keep the file's size."""
    array = np.load(path, mmap_mode="r+")
    if array.ndim == 1:
        array[-1] = value
    else:
        array[-1, column] = value
    array.flush()
    del array
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("name", "column", "value", "told"),
    [
        ("label", 0, 7, "labels"),
        ("ids", 0, 7, r"user has ids 0\.\.7, legal are 0\.\.6"),
        ("ids", 2, -2, "genre has ids -2"),
    ],
)
def test_damaged_content(
    impressions: Impressions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    column: int,
    value: int,
    told: str,
) -> None:
    store.publish(tmp_path / "x", impressions)
    poke(tmp_path / "x" / f"{name}.npy", column, value)
    with caplog.at_level(logging.WARNING):
        assert store.load(tmp_path / "x") is None
    assert re.search(told, caplog.text)


def test_a_missing_id_is_legal_only_with_several_slots(impressions: Impressions, tmp_path: Path) -> None:
    store.publish(tmp_path / "x", impressions)
    poke(tmp_path / "x" / "ids.npy", 0, -1)
    assert store.load(tmp_path / "x") is None


def test_content_is_checked_once_for_unchanged_files(
    impressions: Impressions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(tmp_path / "x", impressions)
    monkeypatch.setattr(store, "_check_content", lambda *_: pytest.fail("checked again"))
    assert store.load(tmp_path / "x") is not None


def test_other_damage(impressions: Impressions, tmp_path: Path) -> None:
    for name, break_it in {
        "short": lambda folder: os.truncate(folder / "ids.npy", 300),
        "no_array": lambda folder: (folder / "dense.npy").unlink(),
        "meta": lambda folder: (folder / "meta.json").write_text("{"),
    }.items():
        store.publish(tmp_path / name, impressions)
        break_it(tmp_path / name)
        assert store.load(tmp_path / name) is None, name
    meta = tmp_path / "bounds" / "meta.json"
    store.publish(tmp_path / "bounds", impressions)
    content = json.loads(meta.read_text())
    meta.write_text(json.dumps({**content, "bounds": [0, 300, 200, 500]}))
    assert store.load(tmp_path / "bounds") is None
    assert store.load(tmp_path / "nothing") is None


def test_an_array_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    """Mapped, it takes none; a file with a hole stands for the logs of weeks."""
    rows = (psutil.virtual_memory().total + psutil.swap_memory().total) // 8
    path = tmp_path / "ids.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_2_0(stream, {"descr": "<i4", "fortran_order": False, "shape": (rows, 3)})
        size = stream.tell() + 12 * rows
        try:
            stream.truncate(size)
        except OSError:
            pytest.skip("the file system takes no file of that size")
    ids = array_folder.open_array(tmp_path, "ids", {"bytes": size, "dtype": "<i4", "shape": [rows, 3]})
    assert ids.shape == (rows, 3)
    ids[0], ids[-1] = (1, 2, 3), 4
    assert ids[0].tolist() == [1, 2, 3]
    assert not np.load(path, mmap_mode="r")[[0, -1]].any()
