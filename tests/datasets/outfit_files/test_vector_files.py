"""Vectors in JSON: parsed at once they are what the json module reads, and the file at fault is named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from outfit_files import pack, write_vectors

from recexp.datasets.outfit_files import vector_files
from recexp.datasets.outfit_files.vector_files import VectorFiles, parse_vectors
from recexp.datasets.outfit_files.vectors import Conversion
from recexp.errors import DataError

NUMBERS = [0.0, -0.0, 1.0, 0, 1, -7, 1e-320, 1.7976931348623157e308, 0.1, 2**53 + 1, 123456789.123456789, 5e-5]
#: Written with the signs of zeros and ones alone.
DIGITS = [0.1, 1.1, 0.01, 10.0, 0.011, 1, 0.0]


def texts(rng: random.Random, numbers: list, width: int, files: int) -> list[bytes]:
    rows = [[rng.choice(numbers) for _ in range(width)] for _ in range(files)]
    style = rng.choice([{}, {"separators": (",", ":")}, {"indent": 1}])
    return [json.dumps(row, **style).encode() + rng.choice([b"", b"\n"]) for row in rows]


@pytest.mark.parametrize("seed", range(60))
def test_numbers_are_those_that_json_reads(seed: int) -> None:
    rng = random.Random(seed)
    numbers = rng.choice(
        [NUMBERS, DIGITS, [0.1, 1.1], [0, 1], [0.0, 1.0], [0, 1.0], [rng.gauss(0, 1) for _ in range(50)]]
    )
    contents = texts(rng, numbers, rng.randrange(1, 12), rng.randrange(1, 6))
    wanted = np.array([json.loads(content) for content in contents], np.float64)
    names = [f"file{at}" for at in range(len(contents))]
    for width in (None, wanted.shape[1]):
        assert np.array_equal(parse_vectors(contents, names, width), wanted)


@pytest.mark.parametrize("numbers", [[0, 1], [0.5, -2.25]])
def test_the_quick_ways_are_taken(numbers: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "_one", lambda *_: pytest.fail("file by file"))
    contents = [json.dumps([numbers[at % 2] for at in range(9)]).encode()] * 3
    if numbers == [0, 1]:
        monkeypatch.setattr(vector_files, "_numbers", lambda *_: pytest.fail("as numbers"))
    assert parse_vectors(contents, ["a", "b", "c"], 9).shape == (3, 9)


@pytest.mark.parametrize("others", [[b"[1, 2]", b"[3, 4]"], [b"[1, 2, 3]", b"[3, 4]"], [b"[0, 1]", b"[1, 1]"]])
def test_another_width_is_named(others: list[bytes]) -> None:
    wrong = "b" if len(json.loads(others[0])) == 3 else "a"
    with pytest.raises(DataError, match=f"{wrong} has 2 numbers; others have 3"):
        parse_vectors(others, ["a", "b"], 3)


def test_a_whole_chunk_of_another_width(tmp_path: Path) -> None:
    labels = [f"{outfit:03d}_1" for outfit in range(130)]
    folder = write_vectors(tmp_path / "v", {label: [0.5] * (3 if n < 64 else 4) for n, label in enumerate(labels)})
    with pytest.raises(DataError, match=r"v/064_1\.json has 4 numbers; others have 3"):
        Conversion(tmp_path).image(VectorFiles(folder), {label: n for n, label in enumerate(labels)}, 130, tmp_path)


def test_files_that_no_item_has_are_not_read(tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "v", {"1_1": [1.0, 2.0], "1_2": [3.0, 4.0], "9_9": [5.0]})
    (folder / "8_8.json").write_text("broken")
    array, _ = Conversion(tmp_path).image(VectorFiles(folder), {"1_2": 0, "1_1": 2}, 3, tmp_path)
    assert array.tolist() == [[3, 4], [0, 0], [1, 2]]


def test_an_item_with_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_vectors(tmp_path / "v" / name, {"1_1": [1.0]})
    archive = pack(tmp_path / "v", tmp_path / "v.zip")
    with pytest.raises(DataError, match=r"holds v/a/1_1\.json and v/b/1_1\.json"):
        VectorFiles(archive).labels()
    assert VectorFiles(archive, "b").labels() == {"1_1": "v/b/1_1.json"}


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with pytest.raises(DataError, match=r"holds no file \{set_id\}_\{index\}\.json"):
        VectorFiles(tmp_path / "v").labels()
    write_vectors(tmp_path / "v", {"1_1": [1.0]})
    with pytest.raises(DataError, match="a file of none of the items"):
        Conversion(tmp_path).image(VectorFiles(tmp_path / "v"), {"2_2": 0}, 1, tmp_path)


def test_a_change_of_any_file_is_another_identity(tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "v", {"1_1": [1.0], "1_2": [2.0]})
    first = VectorFiles(folder).identity()
    assert VectorFiles(folder).identity() == first
    write_vectors(folder, {"1_2": [2.25]})
    assert VectorFiles(folder).identity() != first
