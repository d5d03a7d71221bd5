"""The recipe of sessions against a plain one in pandas, the golden case, and the promises of the arrays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.events import TEST, TRAIN, VALIDATION
from recexp.datasets.session_arrays import Boundaries, Sample
from recexp.datasets.session_build import SessionBuild
from recexp.datasets.session_recipe import Recipe
from recexp.datasets.session_spill import Clicks, Source, spill
from recexp.errors import DataError

Rows = list[tuple[int, int, int]]
GOLDEN = Path(__file__).parents[1] / "golden" / "gru4rec.json"


def build(
    files: list[tuple[int | None, Rows]], recipe: Recipe, parts: int = 1, piece: int = 7
) -> tuple[list[tuple], dict[str, np.ndarray], dict[str, int]]:
    """Sessions (label, part, items, times) in the order of the arrays, the arrays, and what was left out."""

    def source(part: int | None, rows: Rows) -> Source:
        def pieces() -> Iterator[Clicks]:
            for start in range(0, len(rows), piece):
                own = np.array(rows[start : start + piece], np.int64).reshape(-1, 3)
                yield Clicks(own[:, 0].copy(), own[:, 1].copy(), own[:, 2].copy())

        return Source(part, parts, pieces)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spilled = spill([source(*file) for file in files], folder / "clicks", "clicks", part_bytes=1)
        made = SessionBuild(spilled, recipe, folder)
        ordered = made.run()
        stated, num_items = ordered.write(folder)
        arrays = {name: np.load(folder / f"{name}.npy") for name in stated}
    assert len(arrays["item_labels"]) == num_items
    sessions = []
    for user, label in enumerate(arrays["user_labels"].tolist(), start=1):
        own = slice(arrays["offsets"][user], arrays["offsets"][user + 1])
        assert set(arrays["user"][own].tolist()) == {user}
        items = arrays["item_labels"][arrays["item"][own] - 1].tolist()
        sessions.append((label, int(arrays["part"][user]), items, arrays["time"][own].tolist()))
    return sessions, arrays, dict(made.left_out)


def plainly(rows: Rows, recipe: Recipe) -> list[tuple] | None:
    """The same in a few lines of pandas; None where nothing is left to train on or to test with."""
    frame = pd.DataFrame(rows, columns=["s", "i", "t"]).sort_values(["s", "t"], kind="stable")

    def long_enough(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame.groupby("s").i.transform("size") >= recipe.min_session_length]

    frame = long_enough(frame)
    frame = long_enough(frame[frame.groupby("i").s.transform("size") >= recipe.min_item_support])
    last = frame.groupby("s").t.max()
    is_test = frame.s.isin(last.index[last >= frame.t.max() - recipe.holdout])
    train, test = frame[~is_test], frame[is_test]
    if recipe.share > 1:
        pairs = []
        for s in sorted(set(train.s), key=lambda s: (last[s], s)):
            length = int((train.s == s).sum())
            pairs += [(s, target) for target in range(length - 1, 0, -1)]
        kept = pairs[len(pairs) - len(pairs) // recipe.share :]
        events = {s: max(target for other, target in kept if other == s) + 1 for s, _ in kept}
        place = train.groupby("s").cumcount()
        train = train[place < train.s.map(events).fillna(0)]
    test = long_enough(test[test.i.isin(train.i)])
    if not len(train) or not len(test):
        return None
    ends = train.groupby("s").t.max()
    late = set(ends.index[ends >= train.t.max() - recipe.holdout])
    sessions = []
    for own, part in ((train, None), (test, TEST)):
        for s, each in own.groupby("s"):
            word = (VALIDATION if s in late else TRAIN) if part is None else part
            sessions.append((s, word, each.i.tolist(), each.t.tolist()))
    return sorted(sessions, key=lambda session: (session[3][0], session[0]))


def test_golden_case() -> None:
    (case,) = (c for c in json.loads(GOLDEN.read_text())["cases"] if c["name"] == "rsc15_filter_and_split")
    rows, expected = case["input"]["events_session_item_time"], case["expected"]
    names = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    numbered = [(names[0].index(s), names[1].index(i), t) for s, i, t in rows]
    recipe = Recipe(min_item_support=case["input"]["min_item_support"], holdout=case["input"]["day"])
    for parts in (1, 3):
        sessions, _, left_out = build([(None, numbered)], recipe, parts)
        found: dict[str, list] = {"train": [], "test": []}
        for label, part, items, times in sessions:
            found["test" if part == TEST else "train"] += [
                [names[0][label], names[1][item], time] for item, time in zip(items, times, strict=True)
            ]
        assert found["train"] == expected["train"]
        assert sorted(found["test"]) == sorted(expected["test"])
        assert left_out["short_sessions"] == 1
        assert left_out["rare_items"] == 2  # c and z


EVENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.integers(0, 60)), min_size=1, max_size=60)
RECIPES = st.builds(
    Recipe,
    min_item_support=st.integers(1, 4),
    min_session_length=st.just(2),
    min_test_length=st.just(2),
    holdout=st.integers(0, 30),
    share=st.sampled_from([1, 1, 2, 3]),
)


@settings(deadline=None, max_examples=100)
@given(EVENTS, RECIPES, st.integers(1, 4), st.booleans())
def test_as_in_pandas(rows: Rows, recipe: Recipe, parts: int, grouped: bool) -> None:
    if grouped:  # as logs are: nothing is sorted
        rows = sorted(rows, key=lambda row: (-row[0], row[2]))
    expected = plainly(rows, recipe)
    if expected is None:
        with pytest.raises(DataError, match=r"is left|is wanted"):
            build([(None, rows)], recipe, parts)
        return
    sessions, arrays, left_out = build([(None, rows)], recipe, parts)
    assert sessions == expected
    trained = {item for _, part, items, _ in sessions if part != TEST for item in items}
    assert arrays["item_labels"].tolist() == sorted(trained)
    gone = sum(count for reason, count in left_out.items() if reason.endswith("_events"))
    assert len(arrays["item"]) + gone == len(rows)
    numbers = {name: len({s for s, *_ in each}) for name, each in (("all", rows), ("kept", sessions))}
    reasons = ("short_sessions", "sessions_short_without_rare_items", "older_train_sessions", "short_test_sessions")
    assert numbers["kept"] + sum(left_out.get(reason, 0) for reason in reasons) == numbers["all"]


@settings(deadline=None, max_examples=40)
@given(EVENTS, EVENTS, st.integers(0, 30), st.integers(1, 3))
def test_prepared_files_keep_all_of_training(train: Rows, test: Rows, holdout: int, parts: int) -> None:
    recipe = Recipe(min_item_support=0, min_session_length=1, holdout=holdout)
    known = {item for _, item, _ in train}
    kept = pd.DataFrame([row for row in test if row[1] in known], columns=["s", "i", "t"])
    kept = kept[kept.groupby("s").i.transform("size") >= 2].sort_values(["s", "t"], kind="stable")
    files = [(TRAIN, train), (TEST, test)]
    if not len(kept):
        with pytest.raises(DataError, match="no test session is left"):
            build(files, recipe, parts)
        return
    sessions, _, left_out = build(files, recipe, parts)
    tested = sorted((label, items, times) for label, part, items, times in sessions if part == TEST)
    assert tested == [(s, own.i.tolist(), own.t.tolist()) for s, own in kept.groupby("s")]
    frame = pd.DataFrame(train, columns=["s", "i", "t"]).sort_values(["s", "t"], kind="stable")
    ends = frame.groupby("s").t.max()
    late = set(ends.index[ends >= frame.t.max() - holdout])
    trained = sorted((label, part, items, times) for label, part, items, times in sessions if part != TEST)
    assert trained == [
        (s, VALIDATION if s in late else TRAIN, own.i.tolist(), own.t.tolist()) for s, own in frame.groupby("s")
    ]
    assert left_out["test_unseen_items_events"] == sum(item not in known for _, item, _ in test)
    assert left_out["test_unseen_items"] == len({item for _, item, _ in test} - known)


def test_ties_of_time_keep_the_order_of_the_file_and_of_labels() -> None:
    rows = [(9, 1, 5), (9, 2, 5), (3, 2, 5), (3, 1, 5), (3, 1, 5), (9, 1, 5), (4, 1, 90), (4, 2, 90)]
    sessions, arrays, _ = build([(None, rows)], Recipe(min_item_support=1, holdout=10), parts=3, piece=2)
    assert sessions == [
        (3, VALIDATION, [2, 1, 1], [5, 5, 5]),
        (9, VALIDATION, [1, 2, 1], [5, 5, 5]),
        (4, TEST, [1, 2], [90, 90]),
    ]
    assert arrays["offsets"].tolist() == [0, 0, 3, 6, 8]
    assert arrays["part"].tolist() == [0, VALIDATION, VALIDATION, TEST]
    kinds = {name: array.dtype.str for name, array in arrays.items()}
    assert kinds == {
        "user": "<i4", "item": "<i4", "time": "<i8", "rating": "<f4", "offsets": "<i8", "user_labels": "<i8",
        "item_labels": "<i8", "part": "|u1",
    }  # fmt: skip


def test_many_sessions_of_one_moment_spread_over_parts() -> None:
    rows = [(s, item, 0) for s in range(400) for item in (1, 2)] + [(1000, 1, 50), (1000, 2, 50)]
    sessions, _, _ = build([(None, rows)], Recipe(min_item_support=1, holdout=10), parts=8, piece=100)
    assert [label for label, *_ in sessions] == [*range(400), 1000]


def test_the_first_session_of_a_share_is_cut_to_its_first_events() -> None:
    """Sessions of 5, 3 and 2 events are 7 pairs; of the last 3 the longest session gives none, and then one."""
    rows = [(1, i, t) for t, i in enumerate([1, 2, 3, 1, 2])] + [(2, i, 20 + t) for t, i in enumerate([3, 2, 1])]
    rows += [(3, 1, 40), (3, 2, 41), (9, 1, 200), (9, 2, 201)]
    halves, _, left_out = build([(None, rows)], Recipe(min_item_support=1, holdout=10, share=2))
    assert [(label, items) for label, part, items, _ in halves if part != TEST] == [(2, [3, 2, 1]), (3, [1, 2])]
    assert (left_out["older_train_sessions"], left_out["older_train_sessions_events"]) == (1, 5)
    thirds, _, left_out = build([(None, rows)], Recipe(min_item_support=1, holdout=10, share=3))
    assert [(label, items) for label, part, items, _ in thirds if part != TEST] == [(2, [3, 2]), (3, [1, 2])]
    assert (left_out["older_train_sessions"], left_out["older_train_sessions_events"]) == (1, 6)


def test_sessions_that_end_at_one_moment_are_cut_in_the_order_of_labels() -> None:
    rows = [(s, item, 5 + item) for s in (4, 2, 3, 1) for item in (0, 1)] + [(9, 0, 90), (9, 1, 91)]
    sessions, _, _ = build([(None, rows)], Recipe(min_item_support=1, holdout=10, share=2), parts=2)
    assert [label for label, *_ in sessions] == [3, 4, 9]


def test_parts_of_successive_sessions_are_about_equally_large() -> None:
    rng = np.random.default_rng(1)
    label = rng.permutation(4000).astype(np.int64)
    for first in (np.zeros(4000, np.int64), rng.integers(0, 3, 4000), rng.integers(0, 10**6, 4000)):
        samples = [Sample.of(first[own], label[own]) for own in np.array_split(np.arange(4000), 3)]
        boundaries = Boundaries.of(samples, 8)
        goal = boundaries.part(first, label)
        sizes = np.bincount(goal, minlength=8)
        assert sizes.min() > 300
        assert sizes.max() < 700
        order = np.lexsort((label, first))
        assert (np.diff(goal[order].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("rows", "recipe", "told"),
    [
        ([(1, 1, 0)], Recipe(), "no session is left. dataset.min_session_length=2 and dataset.min_item_support=5"),
        ([(1, 1, 0), (1, 1, 1)], Recipe(1), "no training session is left. Sessions that end within the last day"),
        ([(1, 1, 0), (1, 1, 1), (2, 5, 90), (2, 5, 91)], Recipe(1, holdout=5), "no test session is left"),
        ([(1, 1, 0), (1, 1, 1), (2, 1, 90), (2, 1, 91)], Recipe(1, holdout=5, share=64), "there are 1 training pairs"),
    ],
)
def test_nothing_left_is_explained(rows: Rows, recipe: Recipe, told: str) -> None:
    with pytest.raises(DataError, match=f"^clicks: {told}"):
        build([(None, rows)], recipe)


def test_sessions_without_times_hold_out_the_last_ones() -> None:
    def numbered(first: int, count: int) -> Rows:
        return [(s, item, 2 * s + item) for s in range(first, first + count) for item in (0, 1)]

    recipe = Recipe(min_item_support=0, min_session_length=1, holdout=None)
    for count, tested, late in ((10, 3, 3), (10, 8, 5)):
        sessions, _, _ = build([(TRAIN, numbered(1, count)), (TEST, numbered(count + 1, tested))], recipe, parts=2)
        words = [part for _, part, _, _ in sessions]
        assert words == [TRAIN] * (count - late) + [VALIDATION] * late + [TEST] * tested
