"""Avazu's log against plain pandas."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recexp.datasets.avazu import LAYOUT, PRESET
from recexp.datasets.click_logs.split import TEST, TRAIN, VAL, Split
from recexp.datasets.impressions import Impressions
from recexp.datasets.prepare import prepare
from recexp.errors import DataError


def run(cache: Path, path: Path | None, data: Path | None = None, **options: Any) -> Impressions:
    node = {"_target_": "recexp.datasets.avazu.read", "name": "avazu", "path": path and str(path), **options}
    found = prepare(node, data=data, cache=cache)
    assert isinstance(found, Impressions)
    return found


@pytest.fixture
def train_gz(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    rows = 400
    columns: dict[str, Any] = {}
    for name, kind in zip(LAYOUT.names, LAYOUT.kinds, strict=True):
        if kind == "ignored":
            columns[name] = [str(10**19 + int(n)) for n in rng.integers(0, 2**60, rows)]
        elif kind == "label":
            columns[name] = rng.integers(0, 2, rows)
        elif kind == "hex":
            columns[name] = [f"{int(n) * 99_999_989 % 2**32:08x}" for n in rng.integers(0, 60, rows)]
        else:
            columns[name] = rng.integers(-1, 40, rows)
    columns["hour"] = [f"1410{rng.integers(21, 31)}{rng.integers(0, 24):02d}" for _ in range(rows)]
    folder = tmp_path / "data" / "avazu"
    folder.mkdir(parents=True)
    path = folder / "train.gz"
    path.write_bytes(gzip.compress(pd.DataFrame(columns).to_csv(index=False, lineterminator="\n").encode()))
    return path


def test_against_pandas(train_gz: Path, tmp_path: Path) -> None:
    found = run(tmp_path / "cache", train_gz)
    frame = pd.read_csv(train_gz, dtype=str)
    when = pd.to_datetime(frame.pop("hour"), format="%y%m%d%H")
    frame["hour"], frame["weekday"] = when.dt.hour, when.dt.weekday
    frame["is_weekend"] = frame["weekday"] >= 5
    part = Split(PRESET, [len(frame)]).part_of(0, np.zeros(len(frame), np.uint8))
    rows = np.concatenate([np.flatnonzero(part == each) for each in (TRAIN, VAL, TEST)])
    assert found.bounds == (0, 320, 360, 400)
    assert np.array_equal(found.label, frame["click"].astype(int).to_numpy()[rows])
    assert found.dense.shape == (400, 0)
    names = [name for name in frame.columns if name not in {"id", "click"}]
    assert [field.name for field in found.fields] == names
    for place, name in enumerate(names):
        counts = frame[name][part == TRAIN].value_counts()
        first = {value: at for at, value in reversed(list(enumerate(frame[name])))}
        kept = sorted((v for v in counts.index if counts[v] >= 2), key=lambda v: (-counts[v], first[v]))
        known = {value: at for at, value in enumerate(kept, start=1)}
        assert found.ids[:, place].tolist() == [known.get(value, 0) for value in frame[name].to_numpy()[rows]]
        assert found.fields[place].size == len(kept) + 1


def test_found_by_name_and_packed_otherwise(train_gz: Path, tmp_path: Path) -> None:
    expected = run(tmp_path / "cache", train_gz).meta.fingerprint
    assert run(tmp_path / "cache", None, train_gz.parents[1]).meta.fingerprint == expected
    plain = tmp_path / "mine.csv"
    plain.write_bytes(gzip.decompress(train_gz.read_bytes()).replace(b"\n", b"\r\n"))
    assert run(tmp_path / "cache", plain).meta.fingerprint == expected


def test_another_header_and_nothing_at_all(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="must name the columns id,click,hour"):
        run(tmp_path / "cache", other)
    with pytest.raises(DataError, match="cannot be fetched without an account"):
        run(tmp_path / "cache", None)
