"""Criteo's logs: real lines under each preset against plain pandas, packings, malformed rows, chunks and workers."""

from __future__ import annotations

import gzip
import io
import math
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recexp.datasets import impression_store
from recexp.datasets.click_logs.build import Build
from recexp.datasets.click_logs.recipe import PRESETS
from recexp.datasets.click_logs.split import LEFT_OVER, TEST, TRAIN, VAL, Split
from recexp.datasets.click_logs.text_source import TextSource
from recexp.datasets.criteo import FORMAT, IDS, NUMBERS
from recexp.datasets.impressions import Impressions
from recexp.datasets.malformed import Policy
from recexp.datasets.prepare import prepare
from recexp.errors import ConfigError, DataError
from recexp.storage.archive import read_member

ARCHIVE = "criteo-dac-10k.tar.xz"
Make = Callable[..., Impressions]


@pytest.fixture(scope="session")
def real_lines(real_data: Path) -> bytes:
    return read_member(real_data / ARCHIVE, "derived/train_first10000.txt")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(path, **options)`` prepares with a cache in the test's own folder."""

    def run(path: Path | None, **options: Any) -> Impressions:
        data = options.pop("data", None)
        node = {"_target_": "recexp.datasets.criteo.read", "name": "criteo", "path": path and str(path), **options}
        found = prepare(node, data=data, cache=tmp_path / "cache")
        assert isinstance(found, Impressions)
        return found

    return run


def lines_of(rows: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        numbers = ["" if rng.random() < 0.2 else str(int(rng.integers(-2, 300))) for _ in NUMBERS]
        ids = ["" if rng.random() < 0.1 else f"{int(rng.integers(0, 40)) * 99991 + 7:08x}" for _ in IDS]
        made.append("\t".join([str(int(rng.random() < 0.3)), *numbers, *ids]))
    return made


@pytest.fixture
def train_txt(tmp_path: Path) -> Path:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines_of(300)) + "\n")
    return path


def by_pandas(text: bytes, preset: str, vocabulary: str) -> dict[str, Any]:
    """The recipe again, as one would write it for a table in memory. Only the parts of random splits are taken over."""
    frame = pd.read_csv(
        io.BytesIO(text), sep="\t", header=None, names=["label", *NUMBERS, *IDS], dtype=str, keep_default_na=False
    )
    recipe = replace(PRESETS[preset], vocabulary=vocabulary)
    if preset == "dlrm_kaggle":
        part = np.zeros(len(frame), int)
        test, val = np.array_split(np.array_split(np.arange(len(frame)), 7)[-1], 2)
        part[test], part[val] = TEST, VAL
    else:
        part = Split(recipe, [len(frame)]).part_of(0, np.zeros(len(frame), np.uint8))
    fitted = frame[part == TRAIN] if vocabulary == "train" else frame
    dense, ids, sizes = {}, {}, {}
    for name in NUMBERS:
        number = pd.to_numeric(frame[name].replace("", None))
        if preset == "dlrm_kaggle":
            dense[name] = np.log(number.fillna(0).clip(lower=0) + 1)
        elif preset == "ms_deepfm":
            dense[name] = number.fillna(0) / max(0, number[fitted.index].max())
        else:
            frame[name] = number.fillna(0).map(lambda x: str(math.floor(math.log(x) ** 2)) if x > 2 else str(int(x)))
    fields = [*IDS] if dense else [*NUMBERS, *IDS]
    for name in fields:
        value = frame[name]
        if preset == "dlrm_kaggle":
            value = value.replace("", "0")
        counts = value[fitted.index].value_counts(sort=False)
        counts = counts[counts > 100] if preset == "ms_deepfm" else counts[counts >= recipe.min_count]
        if preset.startswith("bars"):
            counts = counts.drop("", errors="ignore")
            first = pd.Series(range(len(value)), index=value).groupby(level=0).min()
            order = sorted(counts.index, key=lambda v: (-counts[v], first[v]))
        else:
            order = [v for v in value.unique() if v in counts.index]
        start = 0 if (preset == "dlrm_kaggle" and vocabulary == "all") else 1
        known = {v: place for place, v in enumerate(order, start=start)}
        ids[name] = value.map(known).fillna(0).astype(int)
        sizes[name] = start + len(order)
    rows = np.concatenate([np.flatnonzero(part == each) for each in (TRAIN, VAL, TEST)])
    return {
        "label": frame["label"].astype(int).to_numpy()[rows],
        "dense": {name: column.to_numpy()[rows] for name, column in dense.items()},
        "ids": {name: column.to_numpy()[rows] for name, column in ids.items()},
        "sizes": sizes,
        "bounds": (0, *np.cumsum([(part == each).sum() for each in (TRAIN, VAL, TEST)]).tolist()),
        "left_over": int((part == LEFT_OVER).sum()),
    }


@pytest.mark.parametrize("vocabulary", ["train", "all"])
@pytest.mark.parametrize("preset", [*PRESETS])
def test_real_lines_against_pandas(real_lines: bytes, tmp_path: Path, make: Make, preset: str, vocabulary: str) -> None:
    path = tmp_path / "train.txt"
    text = real_lines if preset != "ms_deepfm" else real_lines + b"".join(real_lines.splitlines(keepends=True)[:617])
    path.write_bytes(text)
    found = make(path, recipe=preset, vocabulary=vocabulary)
    expected = by_pandas(text, preset, vocabulary)
    assert found.bounds == expected["bounds"]
    assert np.array_equal(found.label, expected["label"])
    assert found.dense_names == tuple(expected["dense"])
    for place, name in enumerate(found.dense_names):
        assert found.dense[:, place] == pytest.approx(expected["dense"][name], rel=1e-6), name
    assert [field.name for field in found.fields] == [*expected["ids"]]
    for place, field in enumerate(found.fields):
        assert np.array_equal(found.ids[:, place], expected["ids"][field.name]), field.name
        assert field.size == expected["sizes"][field.name]
    assert found.meta.left_out.get("rows_of_a_block_that_is_not_full", 0) == expected["left_over"]


def test_the_real_archive_and_the_terabyte_format(real_data: Path, make: Make) -> None:
    found = make(real_data / ARCHIVE, member="derived/train_first10000.txt")
    assert len(found) == 10_000
    assert found.label.mean() == pytest.approx(0.2182)
    terabyte = make(real_data / ARCHIVE, member="criteoTab.csv")
    assert len(terabyte) == 1000
    assert len(terabyte.fields) == 26


def arrays(found: Impressions) -> tuple[Any, ...]:
    return found.label.tobytes(), found.dense.tobytes(), found.ids.tobytes(), found.fields, found.bounds


def test_packings_hold_the_same(train_txt: Path, tmp_path: Path, make: Make) -> None:
    text, plain = train_txt.read_bytes(), arrays(make(train_txt))
    zipped = tmp_path / "train.txt.gz"
    zipped.write_bytes(gzip.compress(text))
    folder = tmp_path / "folder"
    folder.mkdir()
    packed = folder / "dac.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        for name, content in (("readme.txt", b"hello"), ("test.txt", b"\t" * 39), ("dac/train.txt", text)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    crlf = tmp_path / "crlf.txt"
    crlf.write_bytes(text.replace(b"\n", b"\r\n"))
    no_end = tmp_path / "no_end.txt"
    no_end.write_bytes(text.removesuffix(b"\n"))
    for path in (zipped, packed, folder, crlf, no_end):
        assert arrays(make(path)) == plain, path
    assert arrays(make(None, data=folder)) == plain
    found = make(None, data=tmp_path)
    assert found.meta.origin == str(train_txt)


def test_files_of_days(tmp_path: Path, make: Make) -> None:
    lines = lines_of(90)
    days = tmp_path / "days"
    days.mkdir()
    cuts = {"day_9": lines[:40], "day_10.gz": lines[40:60], "day_11": lines[60:]}
    for name, own in cuts.items():
        text = ("\n".join(own) + "\n").encode()
        (days / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = make(days)
    assert found.bounds == (0, 60, 75, 90)
    assert found.split.startswith("3 days")
    # of the last day the first half is test, which stands last
    assert found.label[75:].tolist() == [int(line[0]) for line in lines[60:75]]
    (days / "day_10.gz").unlink()
    with pytest.raises(DataError, match="none may be missing"):
        make(days)


BAD = {
    "missing_columns": "0\t1\t2",
    "extra_columns": "\t".join(["0", *["1"] * 13, *["ab"] * 27]),
    "bad_label": "\t".join(["2", *["1"] * 13, *["ab"] * 26]),
    "not_hex": "\t".join(["0", *["1"] * 13, *["ab"] * 25, "xyz"]),
    "nul_byte": "\t".join(["0", *["1"] * 13, *["ab"] * 25, "a\0b"]),
    "carriage_return": "\t".join(["0", *["1"] * 13, *["ab"] * 26]) + "\r",
}


def test_malformed_rows_are_named_counted_and_left_out(train_txt: Path, make: Make) -> None:
    lines = train_txt.read_text().splitlines()
    for place, bad in enumerate(BAD.values()):
        lines.insert(20 * place + 4, bad)
    train_txt.write_text("\n".join([*lines, "1\t5\t6"]), newline="")  # half a line at the end
    with pytest.raises(DataError) as caught:
        make(train_txt)
    told = str(caught.value)
    assert f"{train_txt}: 7 rows are malformed" in told
    assert "307 rows were read" in told
    for kind in [*BAD, "cut_off"]:
        assert f"{kind} 1" in told
    assert "line 5 (missing_columns): '0\\t1\\t2'" in told
    assert "dataset.malformed=skip dataset.malformed_limit=7" in told
    with pytest.raises(DataError, match="malformed_limit=6"):
        make(train_txt, malformed="skip", malformed_limit=6)
    found = make(train_txt, malformed="skip", malformed_limit=7)
    assert found.meta.malformed == {**dict.fromkeys(BAD, 1), "cut_off": 1}
    assert found.meta.rows_read == 307
    clean = train_txt.with_name("clean.txt")
    clean.write_text("\n".join(lines_of(300)) + "\n")
    assert arrays(make(clean)) == arrays(found)
    with pytest.raises(DataError, match="7 rows are malformed"):  # also from the cache
        make(train_txt)


def built(path: Path, folder: Path, build: Build) -> tuple[list[bytes], Any]:
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    told = build.write(out, work)
    return [(out / f"{name}.npy").read_bytes() for name in impression_store.MEMBERS], told


@pytest.mark.parametrize(("preset", "split"), [("dlrm_kaggle", "days"), ("ms_deepfm", "random"), ("bars_x4", "random")])
def test_chunks_and_workers_do_not_change_a_byte(tmp_path: Path, preset: str, split: Any) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines_of(700)) + "\n")
    recipe = replace(PRESETS[preset], negative_subsampling=0.2, split=split)
    whole = Build([TextSource(path)], FORMAT, recipe, Policy(), workers=1)
    expected = built(path, tmp_path / "whole", whole)
    for size, workers in [(5_000, 1), (20_001, 2), (40_001, 3)]:
        found = built(path, tmp_path / str(size), replace(whole, chunk_bytes=size, workers=workers))
        assert found == expected


def test_a_chunk_may_hold_no_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines_of(30)) + "\n")
    whole = Build([TextSource(path)], FORMAT, replace(PRESETS["dlrm_kaggle"], days=3), Policy())
    small = replace(whole, chunk_bytes=77, workers=2)
    assert built(path, tmp_path / "small", small) == built(path, tmp_path / "whole", whole)


@pytest.mark.parametrize("size", [1, 7, 64, 300, 10_000])
def test_pieces_of_a_stream_are_those_of_a_file(tmp_path: Path, size: int) -> None:
    from recexp.datasets.click_logs.text_source import pieces

    for text in (b"a\nbb\n\nccccccccccccc\nd\n" * 9, b"x" * 100 + b"\ny", b"one", b"a\n" * 64):
        plain, zipped = tmp_path / "t.txt", tmp_path / "t.gz"
        plain.write_bytes(text)
        zipped.write_bytes(gzip.compress(text))
        found = [
            [(each.number, each.read()) for each in pieces(TextSource(path), size, lambda _: False)]
            for path in (plain, zipped)
        ]
        assert found[0] == found[1]
        assert b"".join(own for _, own in found[0]) == text
        # whichever chunk a line begins in has it
        starts = [0, *(place + 1 for place, byte in enumerate(text) if byte == 0x0A)]
        for number, own in found[0]:
            assert own.count(b"\n") in {n := sum(number * size <= at < (number + 1) * size for at in starts), n - 1}


def test_a_source_that_changed_is_read_anew(train_txt: Path, tmp_path: Path, make: Make) -> None:
    """A build that refused rows leaves finished chunks; the corrected file must not be mixed with them."""
    text = train_txt.read_bytes()
    train_txt.write_bytes(b"7" + text[1:])
    os.utime(train_txt, (1000, 1000))
    with pytest.raises(DataError, match="bad_label 1"):
        make(train_txt)
    assert len(list(tmp_path.glob("cache/datasets/*.work"))) == 1
    train_txt.write_bytes(text)
    os.utime(train_txt, (1000, 1000))  # the size is the same, too
    assert make(train_txt).label[0] == int(text[:1])
    os.utime(train_txt, (2000, 2000))
    fingerprint = make(train_txt).meta.fingerprint
    train_txt.write_bytes(bytes([text[0] ^ 1]) + text[1:])
    os.utime(train_txt, (3000, 3000))
    assert make(train_txt).meta.fingerprint != fingerprint


def test_ids_keep_all_their_bits(tmp_path: Path, make: Make) -> None:
    """Golden float32_id_corruption: neighbours above 2**24 stay different, and so do those above 2**31."""
    path = tmp_path / "train.txt"
    values = ["01000000", "01000001", "01000003", "ffffffff", "fffffffe", "7fffffff", "80000000"] * 4
    path.write_text("".join("\t".join(["0", *["1"] * 13, value, *["0"] * 25]) + "\n" for value in values))
    found = make(path, vocabulary="all")
    assert found.fields[0].size == 7
    assert found.ids[:7, 0].tolist() == list(range(7))


def test_ids_modulo_a_number(train_txt: Path, make: Make) -> None:
    """The reference takes the remainder of the id itself, before it makes its dictionary."""
    found = make(train_txt, vocabulary="all", max_ind_range=5)
    column = [line.split("\t")[14] for line in train_txt.read_text().splitlines()]
    rest = [int(value or "0", 16) % 5 for value in column]
    known = {value: place for place, value in enumerate(dict.fromkeys(rest))}
    assert found.fields[0].size == len(known) <= 5
    assert found.ids[: found.bounds[1], 0].tolist() == [known[value] for value in rest[: found.bounds[1]]]


def test_what_is_not_there_says_how_to_go_on(tmp_path: Path, make: Make) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        make(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds none of train\.txt"):
        make(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"dataset\.path"):
        make(None, member="train.txt")
    with pytest.raises(ConfigError, match=r"no such recipe.*Did you mean"):
        make(tmp_path / "nothing", recipe="dlrm_kagle")
    (tmp_path / "few.txt").write_text("\n".join(lines_of(3)) + "\n")
    with pytest.raises(DataError, match="leave the part"):
        make(tmp_path / "few.txt")


def test_another_archive_than_the_published_one_is_refused_and_nothing_of_it_stays(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {"served": lines_of(30, seed=1)}

    def fake(url: str, target: Path, *rest: object, **named: object) -> None:
        text = ("\n".join(lines["served"]) + "\n").encode()
        with tarfile.open(target, "w:gz") as archive:
            held = tarfile.TarInfo("dac/train.txt")
            held.size = len(text)
            archive.addfile(held, io.BytesIO(text))

    monkeypatch.setattr("recexp.datasets.fetch.download", fake)
    monkeypatch.setattr("recexp.datasets.criteo.LINES", 40)
    with pytest.raises(DataError, match="30 lines; the published one has 40"):
        make(None, days=2)
    with pytest.raises(DataError, match="30 lines"):  # also the second time
        make(None, days=2)
    lines["served"] = lines_of(40, seed=2)
    (archive,) = tmp_path.glob("cache/downloads/*.tar.gz")
    archive.unlink()
    found = make(None, days=2)
    own = tmp_path / "own.txt"
    own.write_text("\n".join(lines["served"]) + "\n")
    assert arrays(found) == arrays(make(own, days=2))
