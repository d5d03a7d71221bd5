"""The split of sessions against loops over lists, the golden case of RSC15, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recexp.datasets.events import TEST, TRAIN, VALIDATION, Events
from recexp.errors import DataError
from recexp.problems.session_split import SessionSet, SessionSplit, session_split, training_counts

GOLDEN = Path(__file__).parents[1] / "golden" / "gru4rec.json"
ITEMS = 6

#: Sessions as lists of (time, item), few times and items so that ties and unknown items abound.
session = st.lists(st.tuples(st.integers(0, 12), st.integers(1, ITEMS)), max_size=4).map(
    lambda events: sorted(events, key=lambda event: event[0])
)
sessions = st.lists(session, min_size=1, max_size=14)
Sessions = list[list[tuple[int, int]]]


@pytest.fixture(scope="session")
def events_of(make_events):
    def make(data: Sessions, part: list[int] | None = None) -> Events:
        events = make_events([[item for _, item in own] for own in data], num_items=ITEMS)
        time = np.array([time for own in data for time, _ in own], dtype=np.int64)
        return replace(events, time=time, part=None if part is None else np.array([0, *part], dtype=np.uint8))

    return make


def held_out(rest: list[int], data: Sessions, share: float) -> list[int]:
    """The latest of these users by the rule in words."""
    ends = sorted((data[u - 1][-1][0] for u in rest), reverse=True)
    first = ends[max(1, round(share * len(rest))) - 1]
    return [u for u in rest if data[u - 1][-1][0] >= first]


def by_hand(data: Sessions, part: list[int] | None, validate: bool, share: float) -> dict | None:
    """The split by loops; None where something is empty."""
    rest = [u for u in range(1, len(data) + 1) if len(data[u - 1]) >= 2]
    if not rest:
        return None
    chosen: dict[int, list[int]] = {VALIDATION: []}
    for number in (TEST, VALIDATION) if validate else (TEST,):
        if part is not None:
            chosen[number] = [u for u in rest if part[u - 1] == number]
        elif rest:
            chosen[number] = held_out(rest, data, share)
        if not chosen[number]:
            return None
        rest = [u for u in rest if u not in chosen[number]]
    if not rest:
        return None
    rest.sort(key=lambda u: (data[u - 1][0][0], u))
    known = {item for u in rest for _, item in data[u - 1]}
    result: dict = {"train": rest, "known": known, "left_out": {"single_event_sessions": sum(map(one, data))}}
    for name, number in (("test", TEST), ("validation", VALIDATION)):
        if number == VALIDATION and not validate:
            continue
        users = sorted(chosen[number], key=lambda u: (data[u - 1][0][0], u))
        kept = {u: [item for _, item in data[u - 1] if item in known] for u in users}
        result["left_out"][f"{name}_unknown_events"] = sum(len(data[u - 1]) - len(kept[u]) for u in users)
        result["left_out"][f"{name}_short_sessions"] = sum(len(own) < 2 for own in kept.values())
        result[name] = [(u, own) for u, own in kept.items() if len(own) >= 2]
        if not result[name]:
            return None
    return result


def one(own: list) -> bool:
    return len(own) == 1


def listed(found: SessionSet) -> list[tuple[int, list[int]]]:
    pieces = np.split(found.items, found.offsets[1:-1])
    assert found.offsets[0] == 0
    assert found.targets == sum(len(piece) - 1 for piece in pieces)
    return [(int(u), piece.tolist()) for u, piece in zip(found.users, pieces, strict=True)]


def compare(split: SessionSplit, expected: dict) -> None:
    assert split.train.tolist() == expected["train"]
    assert set(np.flatnonzero(split.known).tolist()) == expected["known"]
    assert listed(split.test) == expected["test"]
    assert (split.validation is None) == ("validation" not in expected)
    if split.validation is not None:
        assert listed(split.validation) == expected["validation"]
    assert split.left_out == expected["left_out"]


@given(data=sessions, share=st.floats(0.05, 0.6), validate=st.booleans())
def test_the_latest_sessions_against_loops(events_of, data: Sessions, share: float, validate: bool) -> None:
    if not any(data):
        return
    expected = by_hand(data, None, validate, share)
    if expected is None:
        with pytest.raises(ValueError, match=r"no session|no test session|no validation session"):
            session_split(events_of(data), validate=validate, test_share=share, leakage="refuse")
        return
    split = session_split(events_of(data), validate=validate, test_share=share, leakage="refuse")
    compare(split, expected)
    last = {u: data[u - 1][-1][0] for u in range(1, len(data) + 1) if data[u - 1]}
    evaluated = [*split.test.users, *([] if split.validation is None else split.validation.users)]
    assert max(last[u] for u in split.train) < min(last[u] for u in evaluated)


@given(data=sessions, draw=st.data(), validate=st.booleans())
def test_stated_parts_against_loops(events_of, data: Sessions, draw: st.DataObject, validate: bool) -> None:
    if not any(data):
        return
    part = draw.draw(st.lists(st.integers(0, 2), min_size=len(data), max_size=len(data)))
    expected = by_hand(data, part, validate, 0.5)
    if expected is None:
        with pytest.raises(ValueError, match=r"no session|session of two events|no (test|validation) session"):
            session_split(events_of(data, part), validate=validate, test_share=0.1, leakage="allow")
        return
    compare(session_split(events_of(data, part), validate=validate, test_share=0.1, leakage="allow"), expected)
    evaluated = (TEST, VALIDATION) if validate else (TEST,)
    ends = {n: [own[-1][0] for own, p in zip(data, part, strict=True) if p == n and len(own) >= 2] for n in range(3)}
    train = ends[TRAIN] if validate else ends[TRAIN] + ends[VALIDATION]
    if all(max(train) < min(ends[number]) for number in evaluated):
        session_split(events_of(data, part), validate=validate, test_share=0.1, leakage="refuse")
    else:
        with pytest.raises(DataError, match="seen the future"):
            session_split(events_of(data, part), validate=validate, test_share=0.1, leakage="refuse")


def test_golden_rsc15() -> None:
    """The recipe's filters by pandas; the split, the removal of unknown items and of short sessions are ours."""
    case = {c["name"]: c for c in json.loads(GOLDEN.read_text())["cases"]}["rsc15_filter_and_split"]
    frame = pd.DataFrame(case["input"]["events_session_item_time"], columns=["session", "item", "time"])
    frame = frame[frame.groupby("session").item.transform("size") > 1]
    frame = frame[frame.groupby("item").item.transform("size") >= case["input"]["min_item_support"]]
    frame = frame[frame.groupby("session").item.transform("size") > 1]
    assert frame.time.max() == case["expected"]["t_max"]
    # An item of the last day alone, so that something unknown is left behind the filters.
    extra = pd.DataFrame([["s6", "new", 151], ["s7", "new", 150], ["s7", "a", 151]], columns=frame.columns)
    frame = pd.concat([frame, extra]).sort_values(["session", "time"], kind="stable")
    session, labels = pd.factorize(frame.session)
    item, items = pd.factorize(frame["item"], sort=True)
    last = frame.groupby("session").time.max()[labels].to_numpy()
    part = np.where(last >= case["expected"]["t_max"] - case["input"]["day"], TEST, TRAIN)
    lengths = np.bincount(session)
    events = Events(
        user=(session + 1).astype(np.int32), item=(item + 1).astype(np.int32), time=frame.time.to_numpy(),
        rating=np.ones(len(frame), np.float32), offsets=np.concatenate(([0, 0], np.cumsum(lengths))),
        num_users=len(labels), num_items=len(items), meta=None, part=np.array([0, *part], np.uint8),
    )  # fmt: skip
    split = session_split(events, validate=False, test_share=0.1, leakage="refuse")

    def named(users: list[tuple[int, list[int]]]) -> list[tuple[str, list[str]]]:
        return [(labels[u - 1], [items[i - 1] for i in own]) for u, own in users]

    for name in ("train", "test"):
        expected = pd.DataFrame(case["expected"][name], columns=["session", "item", "time"])
        lists = [(str(s), own.tolist()) for s, own in expected.groupby("session")["item"]]
        if name == "test":
            assert named(listed(split.test)) == lists
        else:
            assert [labels[u - 1] for u in split.train] == [s for s, _ in lists]
    assert split.left_out == {"single_event_sessions": 0, "test_unknown_events": 2, "test_short_sessions": 1}
    assert split.text == "the dataset's own test sessions"


def test_counts_are_those_of_the_training_sessions(events_of) -> None:
    data = [[(1, 1), (2, 2)], [(1, 2), (3, 2), (3, 3)], [(8, 4), (9, 1)]]
    events = events_of(data)
    assert training_counts(events, np.array([1, 2])).tolist() == [0, 1, 3, 1, 0, 0, 0]
    assert training_counts(events, np.array([1, 2, 3])).tolist() == [0, 2, 3, 1, 1, 0, 0]


ORDERED: Sessions = [[(10 * n, 1), (10 * n + 1, 2), (10 * n + 15, 1 + n % 3)] for n in range(20)]


def test_sessions_that_begin_before_the_training_ends_are_legal(events_of) -> None:
    events = events_of(ORDERED, [TRAIN] * 15 + [TEST] * 5)
    split = session_split(events, validate=False, test_share=0.1, leakage="refuse")
    assert len(split.test) == 5
    assert ORDERED[15][0][0] < ORDERED[14][-1][0]


def test_a_shuffled_split_is_refused_and_allowed_on_request(events_of) -> None:
    part = [TEST if n % 4 == 1 else TRAIN for n in range(20)]
    events = events_of(ORDERED, part)
    with pytest.raises(DataError) as refused:
        session_split(events, validate=False, test_share=0.1, leakage="refuse")
    message = str(refused.value)
    assert "5 of 5 test sessions end before" in message
    assert "seen the future" in message
    assert "problem.leakage=allow" in message
    split = session_split(events, validate=False, test_share=0.1, leakage="allow")
    assert split.text == "the dataset's own test sessions, some end before the training does"


def test_a_shuffled_validation_is_refused(events_of) -> None:
    part = [TRAIN] * 5 + [VALIDATION] * 3 + [TRAIN] * 7 + [TEST] * 5
    events = events_of(ORDERED, part)
    session_split(events, validate=False, test_share=0.1, leakage="refuse")
    with pytest.raises(DataError, match="3 of 3 validation sessions"):
        session_split(events, validate=True, test_share=0.1, leakage="refuse")


def test_a_test_session_that_ends_with_the_training_is_too_early(events_of) -> None:
    data = [[(1, 1), (5, 1)], [(2, 1), (5, 1)]]
    with pytest.raises(DataError, match="1 of 1 test sessions"):
        session_split(events_of(data, [TRAIN, TEST]), validate=False, test_share=0.1, leakage="refuse")


def test_the_text_tells_the_share_and_what_was_trained_on(events_of) -> None:
    events = events_of(ORDERED)
    texts = [session_split(events, validate=v, test_share=0.1, leakage="refuse").text for v in (False, True)]
    assert texts[0] == "the latest 10 % of the sessions by their last event"
    assert texts[1] == texts[0] + ", trained without the validation sessions"


@pytest.mark.parametrize(
    ("data", "part", "validate", "words"),
    [
        ([[(1, 1)], [(2, 1)]], None, False, "no session has two events"),
        ([[(1, 1), (2, 1)]], None, False, "no session is left to train on"),
        ([[(1, 1), (2, 1)]], [TRAIN], False, "states no test session"),
        ([[(1, 1), (2, 1)]], [TEST], False, "states no training session"),
        ([[(1, 1), (2, 1)], [(1, 1), (3, 1)]], [TRAIN, TEST], True, "states no validation session"),
        ([[(1, 1), (2, 1)], [(1, 2), (3, 1)]], [TRAIN, TEST], False, "no test session has two events of items"),
    ],
)
def test_what_leaves_nothing_is_told(events_of, data: Sessions, part: list, validate: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        session_split(events_of(data, part), validate=validate, test_share=0.1, leakage="refuse")


@pytest.mark.parametrize(("option", "word"), [({"leakage": "ignore"}, "refuse, allow"), ({"test_share": 1.0}, "1.0")])
def test_illegal_arguments(events_of, option: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        session_split(events_of(ORDERED), **{"validate": False, "test_share": 0.1, "leakage": "refuse", **option})
