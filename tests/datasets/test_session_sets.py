"""The words of the session datasets, from the file to the arrays: formats, options, faults and messages."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import py7zr
import pytest

from recexp.config.compose import compose
from recexp.datasets import rsc15_synthetic, session_data
from recexp.datasets.events import TEST, TRAIN, VALIDATION, Events
from recexp.datasets.prepare import prepare
from recexp.datasets.rsc15_synthetic import Plan
from recexp.errors import ConfigError, DataError
from recexp.storage.atomic import remove

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_396_310_400_000

Run = Callable[..., Events]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(word, data=None, **options)`` prepares with a cache in the test's own folder."""

    def prepared(word: str, data: Path | None = None, **options: Any) -> Events:
        node = {**compose([f"dataset={word}", "device=cpu"])["dataset"], **options}
        return prepare(node, data=data, cache=tmp_path / "cache")

    return prepared


def clicks(sessions: dict[int, list[tuple[int, int]]]) -> bytes:
    """Raw lines of sessions that are given as (milliseconds since the start, item)."""
    lines = []
    for session, events in sessions.items():
        for time, item in events:
            moment = datetime.fromtimestamp((START + time) / 1000, UTC)
            lines.append(f"{session},{moment:%Y-%m-%dT%H:%M:%S}.{time % 1000:03d}Z,{item},S\n")
    return "".join(lines).encode()


SESSIONS = {
    7: [(HOUR, 10), (2 * HOUR, 20)],
    3: [(5, 20), (10, 10), (10, 20)],
    5: [(2 * DAY, 10), (2 * DAY + 1, 20), (2 * DAY + 1, 10)],
    9: [(4 * DAY - 1, 20), (4 * DAY, 10)],
    8: [(HOUR, 10)],
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "yoochoose-clicks.dat"
    path.write_bytes(clicks(SESSIONS))
    return path


def sessions_of(events: Events) -> list[tuple[int | str, int, list, list]]:
    assert events.part is not None
    found = []
    for user in range(1, events.num_users + 1):
        own = slice(events.offsets[user], events.offsets[user + 1])
        items = [events.item_label(int(item)) for item in events.item[own]]
        found.append((events.user_label(user), int(events.part[user]), items, events.time[own].tolist()))
    return found


def test_raw_clicks(run: Run, raw: Path, tmp_path: Path) -> None:
    events = run("rsc15", path=str(raw))
    assert sessions_of(events) == [
        (3, TRAIN, [20, 10, 20], [START + 5, START + 10, START + 10]),
        (7, TRAIN, [10, 20], [START + HOUR, START + 2 * HOUR]),
        (5, VALIDATION, [10, 20, 10], [START + 2 * DAY, START + 2 * DAY + 1, START + 2 * DAY + 1]),
        (9, TEST, [20, 10], [START + 4 * DAY - 1, START + 4 * DAY]),
    ]
    assert (events.num_users, events.num_items, events.meta.rows_read) == (4, 2, 11)
    assert events.meta.left_out == {"short_sessions": 1, "short_sessions_events": 1}
    assert events.meta.licence.startswith("YooChoose: CC BY-NC-ND 4.0")
    assert events.meta.verified is None
    assert events.part is not None
    assert events.part.dtype == np.uint8
    assert events.rating.tolist() == [1.0] * len(events)
    (folder,) = (path for path in (tmp_path / "cache" / "datasets").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{name}.npy" for name in ("user", "item", "time", "rating", "offsets", "user_labels", "item_labels", "part")]
        + ["meta.json"]
    )


def test_the_same_clicks_packed_are_the_same_data(run: Run, raw: Path, tmp_path: Path) -> None:
    plain = run("rsc15", path=str(raw))
    packed = tmp_path / "in" / "yoochoose-data.7z"
    packed.parent.mkdir()
    with py7zr.SevenZipFile(packed, "w") as archive:
        archive.write(raw, "yoochoose-clicks.dat")
    found = run("rsc15", data=packed.parent)
    assert found.meta.fingerprint == plain.meta.fingerprint
    assert found.meta.origin == f"{packed}, yoochoose-clicks.dat"


def test_options_shape_the_data_and_its_key(run: Run, raw: Path) -> None:
    usual = run("rsc15", path=str(raw))
    assert run("rsc15", path=str(raw), min_item_support=5).meta == usual.meta
    longer = run("rsc15", path=str(raw), min_session_length=3, test_days=0.5, min_item_support=2)
    assert [label for label, *_ in sessions_of(longer)] == [3, 5]
    assert longer.meta.left_out["short_sessions"] == 3
    wide = run("rsc15", path=str(raw), test_days=2.5)
    assert [part for _, part, *_ in sessions_of(wide)] == [VALIDATION, VALIDATION, TEST, TEST]


def table(name: str, rows: list[tuple[int, int, str]], path: Path) -> str:
    path.write_text(name + "".join(f"{s}\t{i}\t{t}\n" for s, i, t in rows))
    return str(path)


TRAINING = [(1, 10, "100.5"), (1, 20, "101.25"), (2, 20, "200000"), (2, 10, "200001.001"), (4, 10, "150")]
TESTING = [(3, 10, "400000"), (3, 99, "400001"), (3, 20, "400002"), (5, 99, "400003"), (5, 10, "400004")]


def test_prepared_tables(run: Run, tmp_path: Path) -> None:
    header = "SessionId\tItemId\tTime\n"
    train = table(header, TRAINING, tmp_path / "rsc15_train_full.txt")
    test = table(header, TESTING, tmp_path / "rsc15_test.txt")
    events = run("rsc15", train=train, test=test)
    assert sessions_of(events) == [
        (1, TRAIN, [10, 20], [100_500, 101_250]),
        (4, TRAIN, [10], [150_000]),
        (2, VALIDATION, [20, 10], [200_000_000, 200_001_001]),
        (3, TEST, [10, 20], [400_000_000, 400_002_000]),
    ]
    assert events.meta.left_out == {
        "short_test_sessions": 1, "short_test_sessions_events": 1, "test_unseen_items": 1,
        "test_unseen_items_events": 2,
    }  # fmt: skip
    for again in (run("rsc15", data=tmp_path), run("rsc15", path=str(tmp_path))):
        assert again.meta == events.meta


def test_columns_of_prepared_tables(run: Run, tmp_path: Path) -> None:
    train = table("sid\tts,x\tTime\n", [], tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("ts,sid,more,pid\n" + "".join(f"{t},{s},x,{i}\n" for s, i, t in TRAINING))
    (tmp_path / "b.csv").write_text("pid;ts;sid\n" + "".join(f"{i};{t};{s}\n" for s, i, t in TESTING))
    names = {"session": "sid", "item": "pid", "time": "ts"}
    events = run("rsc15", train=train, test=str(tmp_path / "b.csv"), columns=names)
    assert [label for label, *_ in sessions_of(events)] == [1, 4, 2, 3]
    with pytest.raises(DataError, match=r"no column 'SessionId': set dataset.columns.session=NAME.\n(.*\n)+  It is ts"):
        run("rsc15", train=train, test=train)


def test_sessions_line_by_line(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "yoochoose1_64"
    folder.mkdir(parents=True)
    (folder / "train_sessions.txt").write_text("1 2 3\n2 3\n3 3 1\n1 2\n2 1 2\n")
    (folder / "test_sessions.txt").write_text("3 9 1\n9 1\r\n2 2\n")
    events = run("yoochoose64", data=tmp_path / "data")
    assert sessions_of(events) == [
        (1, TRAIN, [1, 2, 3], [1, 2, 3]),
        (2, TRAIN, [2, 3], [4, 5]),
        (3, TRAIN, [3, 3, 1], [6, 7, 8]),
        (4, VALIDATION, [1, 2], [9, 10]),
        (5, VALIDATION, [2, 1, 2], [11, 12, 13]),
        (6, TEST, [3, 1], [14, 16]),
        (8, TEST, [2, 2], [19, 20]),
    ]
    assert events.meta.left_out["test_unseen_items_events"] == 2
    (folder / "train_sessions.txt").write_text("1 2 3\n2 x\n\n3 99999999999999999999\n2 3\n3 1\n")
    with pytest.raises(
        DataError, match=r"3 rows are malformed .*\n  line 2 \(not_a_number\): '2 x'\n  line 3 \(missing"
    ):
        run("yoochoose64", data=tmp_path / "data")
    skipped = run("yoochoose64", data=tmp_path / "data", malformed="skip")
    assert skipped.meta.malformed == {"not_a_number": 1, "missing_value": 1, "out_of_range": 1}
    assert skipped.meta.rows_read == 9


def test_a_table_and_sessions_do_not_go_together(run: Run, tmp_path: Path) -> None:
    train = table("SessionId\tItemId\tTime\n", TRAINING, tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("1 2\n")
    with pytest.raises(DataError, match="Name two of one kind"):
        run("rsc15", train=train, test=str(tmp_path / "b.txt"))


def test_the_most_recent_64th_of_raw_clicks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "clicks.dat"
    rsc15_synthetic.write(path, Plan(sessions=3000, items=50, days=6, seed=3))
    whole, recent = run("rsc15", path=str(path)), run("yoochoose64", path=str(path))
    assert whole.part is not None
    assert recent.part is not None
    length = np.diff(whole.offsets[1:])
    pairs = int((length - 1)[whole.part[1:] != TEST].sum())
    own = np.diff(recent.offsets[1:])
    assert int((own - 1)[recent.part[1:] != TEST].sum()) == pairs // 64
    ends = {label: times[-1] for label, part, _, times in sessions_of(whole) if part != TEST}
    latest = sorted(ends, key=lambda label: (ends[label], label))[-int((recent.part[1:] != TEST).sum()) :]
    assert {label for label, part, *_ in sessions_of(recent) if part != TEST} == set(latest)
    assert recent.meta.left_out["older_train_sessions"] == len(ends) - len(latest)


def test_a_fault_in_the_middle_of_many_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "clicks.dat"
    rsc15_synthetic.write(path, Plan(sessions=60_000, items=500, seed=2))
    good = run("rsc15", path=str(path))
    lines = path.read_bytes().split(b"\n")
    middle = len(lines) // 2
    path.write_bytes(b"\n".join([*lines[:middle], b"1,2014-04-07T25:51:09.277Z,2,0", *lines[middle:]]))
    found = (
        rf"1 row is malformed \(bad_time 1\). {len(lines):,} rows were read.\n  line {middle + 1} \(bad_time\): '1,2014"
    )
    with pytest.raises(DataError, match=found):
        run("rsc15", path=str(path))
    skipped = run("rsc15", path=str(path), malformed="skip")
    assert skipped.meta.fingerprint == good.meta.fingerprint
    assert skipped.meta.malformed == {"bad_time": 1}


@pytest.mark.slow
def test_a_fault_in_the_middle_of_millions_of_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "clicks.dat"
    rsc15_synthetic.write(path, Plan(sessions=1_000_000, items=20_000, days=60))
    content = path.read_bytes()
    place = content.index(b"\n", len(content) // 2) + 1
    path.write_bytes(content[:place] + b"12,2014-04-07T10:51:09.277Z,,0\n" + content[place:])
    line = content.count(b"\n", 0, place) + 1
    with pytest.raises(DataError, match=rf"line {line} \(missing_value\)"):
        run("rsc15", path=str(path))
    assert run("rsc15", path=str(path), malformed="skip").meta.malformed == {"missing_value": 1}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, *rest: object, **named: object) -> None:
        raise DataError(f"{url}: cannot be reached (no network).")

    monkeypatch.setattr("recexp.datasets.fetch.download", refuse)


@pytest.mark.usefixtures("no_network")
def test_without_network_the_message_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for data, reason in (
        (None, "your own copy: none was named"),
        (tmp_path / "data", "holds none of yoochoose-clicks.dat, .*rsc15_train_full.txt with rsc15_test.txt"),
    ):
        with pytest.raises(DataError) as told:
            run("rsc15", data=data)
        message = str(told.value)
        assert message.startswith("rsc15 could not be had from any source:\n  - your own copy: ")
        assert re.search(reason, message)
        for part in (
            "official address: https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z: cannot be reached",
            "dataset.path=FILE", "dataset.train=FILE dataset.test=FILE", "dataset=rsc15_synthetic",
        ):  # fmt: skip
            assert part in message


@pytest.fixture
def served(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The official address gives an archive of the small clicks, which are taken for the published ones."""
    count = {"fetched": 0}

    def fake(url: str, target: Path, *rest: object, **named: object) -> None:
        count["fetched"] += 1
        with py7zr.SevenZipFile(target, "w") as archive:
            archive.write(raw, "yoochoose-clicks.dat")

    monkeypatch.setattr("recexp.datasets.fetch.download", fake)
    monkeypatch.setattr(session_data, "CLICKS_BYTES", raw.stat().st_size)
    monkeypatch.setattr(session_data, "CLICKS_LINES", 11)
    return count


def test_the_published_archive(run: Run, served: dict[str, int], tmp_path: Path) -> None:
    events = run("rsc15")
    assert events.meta.origin == "https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z"
    assert run("rsc15").meta == events.meta
    assert served["fetched"] == 1
    remove(tmp_path / "cache" / "downloads")
    assert run("rsc15").meta == events.meta
    assert served["fetched"] == 1


@pytest.mark.parametrize(("wrong", "told"), [("CLICKS_BYTES", "expected yoochoose-clicks.dat with 99 bytes"),
                                             ("CLICKS_LINES", "11 lines; the published file has 99")])  # fmt: skip
def test_another_archive_is_refused(
    run: Run, served: dict[str, int], monkeypatch: pytest.MonkeyPatch, wrong: str, told: str
) -> None:
    monkeypatch.setattr(session_data, wrong, 99)
    with pytest.raises(DataError, match=told):
        run("rsc15")


def test_a_full_disk_leaves_nothing(run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    for place in ("recexp.datasets.spill.Spill.append", "recexp.datasets.array_file.ArrayFile.append"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(DataError, match="Make room, or choose a cache on another disk"):
                run("rsc15", path=str(raw))
        left = [path for path in (tmp_path / "cache" / "datasets").iterdir() if path.suffix != ".lock"]
        assert left == []
    assert len(run("rsc15", path=str(raw))) == 10


def test_ratings_are_refused(run: Run, raw: Path) -> None:
    for word in ("rsc15", "rsc15_synthetic"):
        with pytest.raises(ConfigError, match="clicks have no rating"):
            run(word, min_rating=2.0)


def test_generated_clicks(run: Run, tmp_path: Path) -> None:
    events = run("rsc15_synthetic")
    assert events.meta.synthetic
    assert events.meta.fingerprint == run("rsc15_synthetic").meta.fingerprint
    assert events.meta.fingerprint != run("rsc15_synthetic", seed=2).meta.fingerprint
    assert 2000 < events.num_users < 4000
    assert events.num_items == 300
    assert events.part is not None
    shares = np.bincount(events.part[1:]) / events.num_users
    assert (shares[1:] > 0.03).all()
    assert (shares[1:] < 0.15).all()
    path = tmp_path / "clicks.dat"
    rsc15_synthetic.write(path, Plan())
    read = run("rsc15", path=str(path))
    assert read.meta.fingerprint == events.meta.fingerprint
    assert read.meta.rows_read == events.meta.rows_read == path.read_bytes().count(b"\n")
    with pytest.raises(ConfigError, match=r"dataset.path has no meaning"):
        run("rsc15_synthetic", path=str(path))


def test_generated_clicks_hold_what_was_planted() -> None:
    session, time, item = rsc15_synthetic.generate(Plan())
    same = session[1:] == session[:-1]
    assert (np.diff(time)[same] > 0).all()
    assert 0.15 < (np.bincount(np.bincount(session)[1:])[1] / 4000) < 0.35  # sessions of one click
    counts = np.sort(np.bincount(item)[rsc15_synthetic._FIRST_ITEM :])[::-1]
    assert counts[:30].sum() > 2 * counts[-60:].sum()
    followers: dict[tuple[int, ...], list[int]] = {}
    for row in np.flatnonzero(same[1:] & same[:-1]):
        before, at, after = item[row : row + 3].tolist()
        followers.setdefault((at,), []).append(after)
        followers.setdefault((before, at), []).append(after)

    def commonest(clicks: int) -> float:
        """How often the most frequent follower of so many clicks comes."""
        known = [each for key, each in followers.items() if len(key) == clicks and len(each) >= 5]
        return sum(max(map(each.count, each)) for each in known) / sum(map(len, known))

    assert commonest(1) < 0.5
    assert commonest(2) > 0.6


def test_the_cache_keeps_what_was_left_out(run: Run, raw: Path, tmp_path: Path) -> None:
    events = run("rsc15", path=str(raw))
    (meta,) = (tmp_path / "cache" / "datasets").glob("rsc15-*/meta.json")
    assert json.loads(meta.read_text())["meta"]["left_out"] == events.meta.left_out
    assert run("rsc15", path=str(raw)).meta == events.meta
