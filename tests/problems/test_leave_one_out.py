"""The split against the hand-computed case and against loops over users."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recexp.problems.leave_one_out import leave_one_out
from recexp.problems.next_item_data import NextItemData


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_against_loops(lengths: list[int]) -> None:
    offsets = np.concatenate(([0, 0], np.cumsum(lengths)))
    split = leave_one_out(offsets)
    train, validation, test, users = [], [], [], []
    for user, length in enumerate(lengths, start=1):
        start = offsets[user]
        last = length - 2 if length >= 3 else length
        train += [start + i for i in range(1, last)]
        if length >= 3:
            users.append(user)
            validation.append(start + length - 2)
            test.append(start + length - 1)
    assert split.train.tolist() == train
    assert split.validation.tolist() == validation
    assert split.test.tolist() == test
    assert split.users.tolist() == users


def test_golden_split_and_windows(golden: dict[str, dict], make_events, windows) -> None:
    case = golden["leave_two_out_split"]
    events = make_events([case["input"]["user_items_by_time"], [4, 6, 1]])
    data = NextItemData(
        events, make_feed=windows(case["input"]["max_len"]), eval_batch_size=8, max_len=case["input"]["max_len"],
        sampled=0, eval_seed=1,
    )  # fmt: skip
    data.place(__import__("torch").device("cpu"))
    own = {"train": data.split.train[events.user[data.split.train] == 1], "val": data.split.validation[:1]}
    own["test"] = data.split.test[:1]
    found = [
        {"history": history, "target": int(events.item[position]), "part": part}
        for part, positions in own.items()
        for position, history in zip(
            positions, data.history(__import__("torch").from_numpy(positions)).tolist(), strict=True
        )
    ]
    assert found == case["expected"]["samples"]
