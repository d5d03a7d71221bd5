"""Session-parallel schedules against the hand-computed ones and the reference's generator; feeds against themselves."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import plain_gru4rec as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.problems.schedule import Block
from recexp.problems.session_feed import CHUNK, AliasTable, SessionFeed
from recexp.problems.session_parallel import slot_runs
from recexp.problems.session_steps import FeedOptions, SessionBatch
from recexp.problems.training_part import TrainingPart

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "gru4rec.json").read_text())["cases"]
}
lists_of_sessions = st.lists(st.lists(st.integers(1, 30), min_size=0, max_size=7), min_size=1, max_size=25).filter(
    lambda all_of_them: any(len(own) > 1 for own in all_of_them)
)


def bounds(sessions: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    items = np.array([item for own in sessions for item in own], dtype=np.int32)
    end = np.cumsum([len(own) for own in sessions])
    return items, np.concatenate(([0], end[:-1])), end


def options(**given: Any) -> FeedOptions:
    usual = {"window": 1, "samples": 0, "sample_alpha": 0.5, "end": "official", "order": "time"}
    return FeedOptions(**{**usual, **given})


def feed(sessions: list[list[int]], slots: int, block: int = 10_000, seed: int = 1, **given: Any) -> SessionFeed:
    items, begin, end = bounds(sessions)
    return SessionFeed(
        items, begin, end, batch_size=slots, options=options(**given), support=np.bincount(items, minlength=31),
        seed=seed, plan={"updates_per_block": block},
    )  # fmt: skip


def steps(source: SessionFeed, epoch: int = 0) -> list[tuple[list[int], list[int], list[bool], list[int] | None]]:
    found = []
    for number in range(source.plan.blocks):
        for update in source.block(epoch, source.plan.updates_of(0, number)).updates:
            for batch in update.batches:
                found += [
                    (
                        step.item.tolist(), step.column[step.own].tolist(), step.reset.tolist(),
                        None if step.alive is None else step.alive.tolist(),
                    )
                    for step in batch.steps
                ]  # fmt: skip
    return found


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("session_parallel")])
def test_golden_schedules(name: str) -> None:
    case = GOLDEN[name]
    sessions = [session["items"] for session in case["input"]["sessions_in_order"]]
    given = {"end": "legacy"} if "legacy" in name else {"samples": 1} if name.endswith("eval") else {}
    found = steps(feed(sessions, case["input"]["batch_size"], **given))
    expected = case["expected"]
    assert len(found) == expected["n_steps"]
    assert sum(len(step[0]) for step in found) == expected["n_predictions"]
    for step, told in zip(found, expected["steps"], strict=True):
        assert step[0] == told["in"]
        assert step[1] == told["out"]
        assert step[2] == told["reset_before"]


@given(lists_of_sessions, st.integers(1, 9), st.sampled_from(["official", "official_train_without_samples", "legacy"]))
@settings(max_examples=150, deadline=None)
def test_schedules_equal_the_reference(sessions: list[list[int]], slots: int, end: str) -> None:
    given = {"official": {"samples": 1}, "legacy": {"end": "legacy"}}.get(end, {})
    usable = [own for own in sessions if len(own) > 1]
    expected = list(plain.schedule(usable, slots, end))
    _, begin, stop = bounds(sessions)
    runs = slot_runs(begin, stop, slots)
    at_least = 1 if given.get("samples") else 2
    count = runs.steps(end=given.get("end", "official"), at_least=at_least)
    if end == "legacy" and runs.slots < 2:
        return  # the reference trains one slot without any negative
    assert count == len(expected)
    if not count:
        with pytest.raises(ValueError, match="no negatives in its batch"):
            feed(sessions, slots, **given)
        return
    for step, told in zip(steps(feed(sessions, slots, **given)), expected, strict=True):
        assert step[0] == told.inputs
        assert step[1] == told.targets
        assert step[2] == told.resets
        assert (step[3] or list(range(runs.slots))) == told.slots


def random_sessions(count: int = 200) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(1, 31, draw.integers(2, 9)).tolist() for _ in range(count)]


def flat(block: Block[SessionBatch]) -> list[torch.Tensor]:
    tensors = []
    for update in block.updates:
        for step in (step for batch in update.batches for step in batch.steps):
            tensors += [step.item, step.column, step.reset, *step.dropped]
    return tensors


def test_no_number_depends_on_how_updates_are_grouped() -> None:
    given = {"samples": 5, "dropout": ((0.4, 3), (0.2, 2))}
    whole = feed(random_sessions(), 8, block=10_000, **given)
    for size in (1, 7, CHUNK, CHUNK + 1):
        other = feed(random_sessions(), 8, block=size, **given)
        pieces = [flat(other.block(3, other.plan.updates_of(3, number))) for number in range(other.plan.blocks)]
        expected = flat(whole.block(3, whole.plan.updates_of(3, 0)))
        assert all(torch.equal(a, b) for a, b in zip(itertools.chain(*pieces), expected, strict=True))


def test_epochs_and_seeds_draw_other_numbers_on_the_same_schedule() -> None:
    given = {"samples": 5, "dropout": ((0.4, 3),)}
    one, other = feed(random_sessions(), 8, **given), feed(random_sessions(), 8, seed=2, **given)
    updates = one.plan.updates_of(0, 0)
    first, second, seeded = (b.updates[4].batches[0].steps[0] for b in (
        one.block(0, updates), one.block(1, updates), other.block(0, updates)
    ))  # fmt: skip
    for step in (second, seeded):
        assert torch.equal(step.item, first.item)
        assert torch.equal(step.column[:8], first.column[:8])
        assert not torch.equal(step.column[8:], first.column[8:])
        assert not torch.equal(step.dropped[0], first.dropped[0])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_slots_and_see_all_columns(world: int) -> None:
    given = {"samples": 4, "dropout": ((0.4, 3),)}
    whole = feed(random_sessions(40), 7, **given)
    shares = []
    for rank in range(world):
        share = feed(random_sessions(40), 7, **given)
        share.place(torch.device("cpu"), rank, world)
        shares.append(share.block(0, share.plan.updates_of(0, 0)))
    for number, update in enumerate(whole.block(0, whole.plan.updates_of(0, 0)).updates):
        (step,) = update.batches[0].steps
        slots = list(range(7)) if step.alive is None else step.alive.tolist()
        for rank, share in enumerate(shares):
            assert share.updates[number].rows == update.rows
            (own,) = share.updates[number].batches[0].steps
            mine = [n for n, slot in enumerate(slots) if slot % world == rank]
            assert torch.equal(own.item, step.item[mine])
            assert torch.equal(own.reset, step.reset[mine])
            assert torch.equal(own.column, step.column)
            assert own.own.tolist() == mine
            assert torch.equal(own.dropped[0], step.dropped[0][mine])
            if own.alive is not None:
                assert (own.alive * world + rank).tolist() == [slots[n] for n in mine]


def test_without_reset_the_state_is_zeroed_only_when_an_epoch_begins() -> None:
    found = steps(feed(random_sessions(), 8, reset=False, samples=1))
    assert all(found[0][2])
    assert not any(flag for step in found[1:] for flag in step[2])


def test_windows_hold_the_same_steps() -> None:
    one, windowed = feed(random_sessions(), 8, samples=3), feed(random_sessions(), 8, samples=3, window=5)
    assert steps(one) == steps(windowed)
    assert windowed.plan.updates == -(-one.plan.updates // 5)


def test_samples_follow_their_weights() -> None:
    weights = np.array([0, 1, 0, 50, 9, 40.0])
    table = AliasTable(weights)
    drawn = np.bincount(table.draw(np.random.default_rng(1), (200_000,)), minlength=6) / 200_000
    np.testing.assert_allclose(drawn, weights / weights.sum(), atol=4e-3)
    assert drawn[0] == drawn[2] == 0


def test_the_dropout_factors_keep_the_mean() -> None:
    (step,) = feed(random_sessions(), 8, dropout=((0.4, 5000),)).block(0, range(1)).updates[0].batches[0].steps
    (mask,) = step.dropped
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert float(mask.mean()) == pytest.approx(1, abs=0.02)


def test_the_order_of_sessions() -> None:
    """By the time of the first event, or by the source's own ids, which need not be in the order of the users."""
    begin, end = np.array([0, 0, 2, 2, 4]), np.array([0, 2, 2, 4, 6])
    part, time = TrainingPart(begin, end), np.array([5, 6, 1, 9, 1, 2])
    assert part.sessions(time, None, "time").tolist() == [3, 4, 1]
    assert part.sessions(time, None, "id").tolist() == [1, 3, 4]
    assert part.sessions(time, np.array([70, 1, 60, 50]), "id").tolist() == [4, 3, 1]


def test_sessions_of_one_event_are_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="no session for training has two events"):
        feed([[1], [2], []], 2)
