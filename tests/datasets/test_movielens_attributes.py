"""MovieLens-1M's columns against pandas on the real files, where they may lie, and what is said about bad ones."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recexp.datasets import ml1m, movielens_attributes
from recexp.datasets.attributes import Attributes
from recexp.datasets.places import Places
from recexp.datasets.prepare import prepare
from recexp.datasets.rated_impressions import from_events
from recexp.errors import DataError
from recexp.storage.archive import read_member

USERS = b"1::F::1::10::48067\n2::M::56::16::98107-2117\n4::M::18::0::X1\n"
FILMS = "2::Am\xe9lie: (a) (1995)::Drama|Action\r\n3::Without a year::Comedy\n5::Empty (1937)::\n".encode("latin-1")
PROBLEM = {
    "threshold": 4.0, "fields": None, "split": "random", "split_seed": 2018, "validation_share": 0.1, "test_share": 0.1,
}  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Attributes]:
    """The columns of a small published archive, whose official address does not answer."""
    release = dataclasses.replace(ml1m.ML1M.release, url="http://127.0.0.1:9/ml-1m.zip", package=None)
    monkeypatch.setattr(ml1m, "ML1M", dataclasses.replace(ml1m.ML1M, release=release))
    monkeypatch.setattr(movielens_attributes, "USERS_SHA256", hashlib.sha256(USERS).hexdigest())
    monkeypatch.setattr(movielens_attributes, "FILMS_SHA256", hashlib.sha256(FILMS).hexdigest())

    def run(data: Path | None, **options: object) -> Attributes:
        return movielens_attributes.load(options, Places(data, tmp_path / "cache"))

    return run


def pack(folder: Path, users: bytes = USERS, films: bytes = FILMS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "ml-1m.zip", "w") as opened:
        opened.writestr("ml-1m/ratings.dat", b"")
        opened.writestr("ml-1m/users.dat", users)
        opened.writestr("ml-1m/movies.dat", films)
    return folder / "ml-1m.zip"


def test_values_gaps_and_what_is_not_stated(load: Callable[..., Attributes], tmp_path: Path) -> None:
    pack(tmp_path / "data")
    attributes = load(tmp_path / "data")
    columns = {each.field.name: each for each in (*attributes.users, *attributes.items)}
    assert {name: (each.field.size, each.field.slots) for name, each in columns.items()} == {
        "gender": (3, 1), "age": (4, 1), "occupation": (4, 1), "zip": (3, 1), "genres": (4, 2), "year": (3, 1),
    }  # fmt: skip
    assert columns["gender"].ids[:, 0].tolist() == [0, 1, 2, 0, 2]
    assert columns["age"].ids[:, 0].tolist() == [0, 1, 3, 0, 2]
    assert columns["occupation"].ids[:, 0].tolist() == [0, 2, 3, 0, 1]
    assert columns["zip"].ids[:, 0].tolist() == [0, 1, 2, 0, 0]
    assert columns["genres"].ids.tolist() == [[0, -1], [0, -1], [3, 1], [2, -1], [0, -1], [0, -1]]
    assert columns["year"].ids[:, 0].tolist() == [0, 0, 2, 0, 0, 1]
    assert columns["year"].of(np.array([5, 6, 99], dtype=np.int32)).tolist() == [[1], [0], [0]]
    assert attributes.verified is True


def test_files_may_lie_beside_the_ratings_and_are_kept(load: Callable[..., Attributes], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").touch()
    (folder / "ratings.dat").write_bytes(b"1::1::1::1\n")
    (folder / "users.dat").write_bytes(USERS)
    with pytest.raises(DataError, match=r"movies\.dat does not exist, and ratings\.dat is used"):
        load(tmp_path / "data")
    (folder / "movies.dat").write_bytes(FILMS)
    first = load(tmp_path / "data")
    again = load(None)  # nothing is left but the cache
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(first.items, again.items, strict=True))


def test_without_any_source_every_reason_is_told(load: Callable[..., Attributes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)your own copy: none was named.*cannot be reached"):
        load(None)


def test_a_damaged_file_of_the_cache_is_not_used(load: Callable[..., Attributes], tmp_path: Path) -> None:
    pack(tmp_path / "data")
    load(tmp_path / "data")
    for kept in (tmp_path / "cache" / "companions").iterdir():
        kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match="cannot be reached"):
        load(None)


def test_altered_files_are_refused_or_used_on_request(load: Callable[..., Attributes], tmp_path: Path) -> None:
    pack(tmp_path / "data", users=USERS.replace(b"F", b"M"))
    with pytest.raises(DataError, match=r"users\.dat has sha256 .*dataset\.verify=false"):
        load(tmp_path / "data")
    attributes = load(tmp_path / "data", verify=False)
    assert attributes.verified is False
    assert attributes.users[0].field.size == 2


@pytest.mark.parametrize(
    ("users", "films", "told"),
    [
        (b"1::F::1::10\n", FILMS, "users.dat, line 1 is not as published"),
        (USERS + b"6041::F::1::10::48067\n", FILMS, r"line 4 .*1\.\.6040"),
        (USERS, b"1::A (1990)::B\n0::A (1990)::B\n", r"movies.dat, line 2 .*1\.\.3952"),
    ],
)
def test_malformed_lines(
    load: Callable[..., Attributes], tmp_path: Path, users: bytes, films: bytes, told: str
) -> None:
    pack(tmp_path / "data", users, films)
    with pytest.raises(DataError, match=told):
        load(tmp_path / "data", verify=False)


def table(archive: Path, name: str, columns: list[str]) -> pd.DataFrame:
    content = io.BytesIO(read_member(archive, name))
    return pd.read_csv(content, sep="::", engine="python", header=None, names=columns, encoding="latin-1", dtype=str)


def numbered(column: pd.Series, order: Callable = str) -> pd.Series:
    """1, 2, ... in the order of the values; 0 where there is none."""
    values = sorted(column.dropna().unique(), key=order)
    return column.map({value: number for number, value in enumerate(values, start=1)}).fillna(0).astype(int)


@pytest.fixture(scope="module")
def joined(real_data: Path) -> pd.DataFrame:
    """All ratings with the columns of their users and films, by (user, time, line)."""
    archive = real_data / "ml-1m.zip"
    if not archive.exists():
        pytest.skip("RECEXP_DATA holds no ml-1m.zip")
    users = table(archive, "users.dat", ["user", "gender", "age", "occupation", "zip"])
    users["gender"] = numbered(users["gender"])
    users["age"] = numbered(users["age"], int)
    users["occupation"] = users["occupation"].astype(int) + 1
    users["zip"] = numbered(users["zip"].str[:3])
    films = table(archive, "movies.dat", ["item", "title", "genres"])
    films["year"] = numbered(films["title"].str.slice(-5, -1))
    names = sorted(set(films["genres"].str.cat(sep="|").split("|")))
    split = films["genres"].str.split("|")
    for slot in range(6):
        films[f"genre{slot}"] = [names.index(own[slot]) + 1 if slot < len(own) else -1 for own in split]
    content = io.BytesIO(read_member(archive, "ratings.dat").replace(b"::", b","))
    ratings = pd.read_csv(content, header=None, names=["user", "item", "rating", "time"])
    ratings = ratings.sort_values(["user", "time"], kind="stable")
    for frame, key in ((users, "user"), (films, "item")):
        frame[key] = frame[key].astype(int)
        ratings = ratings.join(frame.set_index(key), on=key)
    return ratings.reset_index(drop=True)


@pytest.mark.parametrize("split", ["random", "time"])
def test_ml1m_is_what_pandas_makes_of_it(
    joined: pd.DataFrame, real_data: Path, tmp_path_factory: pytest.TempPathFactory, split: str
) -> None:
    cache = tmp_path_factory.getbasetemp() / "ml1m-cache"
    node = {
        "_target_": "recexp.datasets.ml1m.read", "name": "ml1m",
        "attributes": "recexp.datasets.movielens_attributes.load",
    }  # fmt: skip
    events = prepare(node, data=real_data, cache=cache)
    impressions = from_events(events, node, {**PROBLEM, "split": split}, Places(real_data, cache))
    assert [(field.name, field.size, field.slots) for field in impressions.fields] == [
        ("user", 6041, 1), ("item", 3953, 1), ("gender", 3, 1), ("age", 8, 1), ("occupation", 22, 1),
        ("zip", joined["zip"].max() + 1, 1), ("genres", 19, 6), ("year", 82, 1),
    ]  # fmt: skip
    if split == "time":
        order = joined.sort_values("time", kind="stable").index.to_numpy()
    else:
        order = np.random.default_rng(2018).permutation(1_000_209)
    parts = np.sort(order[:800_167]), np.sort(order[800_167:900_188]), np.sort(order[900_188:])
    rows = joined.loc[np.concatenate(parts)]
    names = ["user", "item", "gender", "age", "occupation", "zip", *(f"genre{slot}" for slot in range(6)), "year"]
    assert np.array_equal(impressions.ids, rows[names].to_numpy())
    assert np.array_equal(impressions.label, rows["rating"] >= 4)
    assert impressions.bounds == (0, 800_167, 900_188, 1_000_209)
    assert impressions.label.mean() == pytest.approx(575_281 / 1_000_209)
    assert impressions.meta.verified is True
    train, held_out = rows[:800_167], rows[800_167:]
    for name in ("user", "item"):
        unseen = set(held_out[name]) - set(train[name])
        assert impressions.meta.notes[f"unseen_in_training_{name}s"] == len(unseen)
