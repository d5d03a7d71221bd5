"""Rankings of sessions' events against loops over events and items, and what no result may depend on."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recexp.metrics.next_event import NEVER, TIE_RULES
from recexp.problems import session_evaluation
from recexp.problems.session_evaluation import SessionEvaluation, popularity_floor, score_rows
from recexp.problems.session_split import SessionSet
from recexp.problems.session_tiles import COLUMNS, EvaluatedSessions, SessionLoader

GOLDEN = Path(__file__).parents[1] / "golden" / "gru4rec.json"
CASES = {case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"]}
CPU = torch.device("cpu")
ITEMS, STATES = 9, 5


def session_set(sessions: list[list[int]]) -> SessionSet:
    offsets = np.concatenate(([0], np.cumsum([len(own) for own in sessions]))).astype(np.int64)
    items = np.array([item for own in sessions for item in own], dtype=np.int64)
    return SessionSet(np.arange(1, len(sessions) + 1), items, offsets)


def known_of(*unknown: int, items: int = ITEMS) -> Tensor:
    known = torch.ones(items + 1, dtype=torch.bool)
    known[list(unknown)] = False
    return known


def evaluated(
    network: object, sessions: SessionSet, known: Tensor, *, ties: str = "conservative", size: int = 512, world: int = 1
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics, and the counts of every event."""
    evaluation = SessionEvaluation([1, 3, 20], ties, known)
    for rank in range(world):
        for batch in SessionLoader(sessions, eval_batch_size=size, device=CPU, rank=rank, world=world):
            evaluation.update(network, batch)
    return evaluation.compute(), evaluation.metric.per_event()


class Automaton:
    """A state of few values and whole-number scores: every network below it is exact, and has many ties."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    @staticmethod
    def next_state(state, item):
        return (3 * state + item) % STATES

    def encode(self, items: Tensor) -> Tensor:
        state, states = torch.zeros(items.shape[1], dtype=torch.int64), []
        for step in items:
            state = self.next_state(state, step)
            states.append(state)
        return torch.stack(states).float().unsqueeze(-1)

    def score(self, query: Tensor) -> Tensor:
        return self.table[query[:, 0].long()]


def by_hand(table: list[list[float]], sessions: list[list[int]], known: list[bool], ties: str, k: int):
    """Recall and MRR by loops over sessions, events and items."""
    hits, gains, events = 0, 0.0, 0
    for own in sessions:
        state = 0
        for item, target in itertools.pairwise(own):
            state = Automaton.next_state(state, item)
            scores, events = table[state], events + 1
            if not math.isfinite(scores[target]):
                continue
            others = [scores[i] for i in range(1, ITEMS + 1) if known[i] and i != target]
            greater = sum(math.isnan(score) or score > scores[target] for score in others)
            equal = sum(score == scores[target] for score in others)
            rank = 1 + greater + {"standard": 0, "conservative": equal, "median": equal / 2}[ties]
            if rank <= k:
                hits, gains = hits + 1, gains + 1 / rank
    return hits / events, gains / events


values = st.sampled_from([-1.0, 0.0, 1.0, 2.0, math.nan, math.inf, -math.inf])


@settings(deadline=None, max_examples=60)
@given(
    table=st.lists(st.lists(values, min_size=ITEMS + 1, max_size=ITEMS + 1), min_size=STATES, max_size=STATES),
    sessions=st.lists(st.lists(st.integers(1, ITEMS - 2), min_size=2, max_size=7), min_size=1, max_size=6),
    ties=st.sampled_from(TIE_RULES),
    unknown=st.booleans(),
)
def test_against_loops_over_events_and_items(table: list, sessions: list, ties: str, unknown: bool) -> None:
    known = known_of(0, ITEMS - 1, ITEMS) if unknown else known_of(0)
    found, _ = evaluated(Automaton(torch.tensor(table)), session_set(sessions), known, ties=ties)
    for k in (1, 3, 20):
        recall, mrr = by_hand(table, sessions, known.tolist(), ties, k)
        assert found[f"recall_at_{k}"] == pytest.approx(recall)
        assert found[f"mrr_at_{k}"] == pytest.approx(mrr)


@pytest.mark.parametrize("ties", TIE_RULES)
def test_golden_rank_with_ties(ties: str) -> None:
    case = CASES["rank_with_ties"]
    table = torch.tensor([[9.0, *case["input"]["scores"]]]).repeat(STATES, 1)
    target = case["input"]["target_index"] + 1
    _, counts = evaluated(Automaton(table), session_set([[1, target]]), known_of(0, items=table.shape[1] - 1))
    rank = 1 + counts["greater"] + {"standard": 0, "conservative": 1, "median": 0.5}[ties] * counts["equal"]
    assert rank.tolist() == [case["expected"][ties]]


def test_golden_constant_model() -> None:
    sessions, known = session_set([[1, 2, 3], [4, 4]]), known_of(0, items=100)
    constant = Automaton(torch.zeros(STATES, 101))
    assert set(evaluated(constant, sessions, known, ties="conservative")[0].values()) == {0.0}
    assert set(evaluated(constant, sessions, known, ties="standard")[0].values()) == {1.0}


class TinyGRU(nn.Module):
    """float32 arithmetic whose roundings could depend on what is computed together."""

    def __init__(self, items: int, width: int = 17) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, width)
        self.cell = nn.GRUCell(width, width)
        self.shapes: set[tuple[int, ...]] = set()

    def encode(self, items: Tensor) -> Tensor:
        self.shapes.add(("encode", *items.shape[1:]))
        state, states = torch.zeros(items.shape[1], self.cell.hidden_size), []
        for step in self.item(items):
            state = self.cell(step, state)
            states.append(state)
        return torch.stack(states)

    def score(self, query: Tensor) -> Tensor:
        self.shapes.add(("score", *query.shape))
        return query @ self.item.weight.T


@pytest.fixture(scope="module")
def many() -> SessionSet:
    draw = np.random.default_rng(1)
    return session_set([draw.integers(1, 301, 2 + draw.geometric(0.3)).tolist() for _ in range(2 * COLUMNS + 70)])


@pytest.fixture(scope="module")
def gru() -> TinyGRU:
    torch.manual_seed(0)
    return TinyGRU(300)


def test_neither_batches_nor_processes_change_a_digit(gru: TinyGRU, many: SessionSet) -> None:
    known = known_of(0, items=300)
    metrics, counts = evaluated(gru, many, known)
    assert counts["event"].tolist() == sorted(set(range(len(many.items))) - set(many.offsets[:-1].tolist()))
    for size, world in [(1, 1), (7, 1), (64, 1), (1000, 1), (512, 2), (1, 3), (64, 7)]:
        again, others = evaluated(gru, many, known, size=size, world=world)
        assert again == metrics
        assert all(np.array_equal(counts[name], others[name]) for name in counts)
    # What makes it so on every machine: each product has one shape only.
    assert gru.shapes == {("encode", COLUMNS), ("score", score_rows(301), 17)}


def test_a_tile_is_what_the_sessions_are(many: SessionSet) -> None:
    found: dict[int, list[int]] = {}
    for batch in SessionLoader(many, eval_batch_size=1, device=CPU):
        (tile,) = batch.tiles
        assert tile.items.shape[1] == COLUMNS
        assert (tile.items[-1] > 0).any()
        assert ((tile.items > 0).sum(0).diff() <= 0).all()
        for row, event, target in zip(tile.row.tolist(), tile.event.tolist(), tile.target.tolist(), strict=True):
            step, column = divmod(row, COLUMNS)
            start = event - step - 1
            own = tile.items[: step + 2, column].tolist()
            assert own == many.items[start : event + 1].tolist()
            assert own[-1] == target
            found.setdefault(start, []).append(event)
    ends = dict(zip(many.offsets[:-1].tolist(), many.offsets[1:].tolist(), strict=True))
    assert found == {start: list(range(start + 1, end)) for start, end in ends.items()}


def test_processes_have_equally_many_batches(many: SessionSet) -> None:
    for world in (2, 5):
        loaders = [SessionLoader(many, eval_batch_size=1, device=CPU, rank=rank, world=world) for rank in range(world)]
        lengths = [[len(batch.tiles) for batch in loader] for loader in loaders]
        assert {len(own) for own in lengths} == {len(loaders[0])}
        assert sum(map(sum, lengths)) == 3


def test_the_limit_takes_the_first_sessions(gru: TinyGRU, many: SessionSet) -> None:
    loader = SessionLoader(many, eval_batch_size=64, device=CPU, limit=10)
    events = np.concatenate([tile.event.numpy() for batch in loader for tile in batch.tiles])
    assert len(events) == many.offsets[10] - 10
    assert events.max() == many.offsets[10] - 1


class Window:
    """Scores from the last items alone, in whole numbers."""

    max_len = 3

    def __init__(self) -> None:
        self.table = torch.randint(0, 5, (ITEMS + 1, 4), generator=torch.Generator().manual_seed(0)).float()
        self.weight = torch.randint(-2, 3, (self.max_len, 4), generator=torch.Generator().manual_seed(1)).float()
        self.users: set[int] = set()

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        self.users |= set(user.tolist())
        assert history.shape == (len(user), self.max_len)
        return (self.table[history] * self.weight).sum(1) @ self.table.T


class LastItems:
    """The same function of the last items, as a state."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def encode(self, items: Tensor) -> Tensor:
        state, states = torch.zeros(items.shape[1], self.window.max_len), []
        for step in items:
            state = torch.cat((state[:, 1:], step[:, None].float()), 1)
            states.append(state)
        return torch.stack(states)

    def score(self, query: Tensor) -> Tensor:
        return self.window.catalogue_scores(torch.zeros(len(query), dtype=torch.int64), query.long())


def test_a_window_is_the_state_of_its_last_items() -> None:
    draw = np.random.default_rng(3)
    sessions = session_set([draw.integers(1, ITEMS + 1, draw.integers(2, 9)).tolist() for _ in range(150)])
    window = Window()
    assert not isinstance(window, session_evaluation.SequentialNetwork)
    by_window, counts = evaluated(window, sessions, known_of(0))
    by_state, others = evaluated(LastItems(window), sessions, known_of(0))
    assert window.users == {0}
    assert by_window == by_state
    assert all(np.array_equal(counts[name], others[name]) for name in counts)
    assert 0 < by_window["recall_at_1"] < 1


def test_what_is_no_number_never_helps() -> None:
    """A target without a finite score is no hit at any cut-off; other items without one rank before it."""
    sessions = session_set([[1, 2]])
    for bad in (math.nan, math.inf, -math.inf):
        table = torch.zeros(STATES, 4)
        table[:, 2] = bad
        for ties in TIE_RULES:
            metrics, counts = evaluated(Automaton(table), sessions, known_of(0, items=3), ties=ties)
            assert counts["greater"].tolist() == [NEVER]
            assert set(metrics.values()) == {0.0}
    table = torch.zeros(STATES, 4)
    table[:, 2], table[:, 3] = 1.0, math.nan
    _, counts = evaluated(Automaton(table), sessions, known_of(0, items=3))
    assert (counts["greater"].tolist(), counts["equal"].tolist()) == ([1], [0])


def test_unknown_items_are_no_candidates_and_no_hits() -> None:
    table = torch.tensor([[9.0, 5, 1, 7, 1, 1]]).repeat(STATES, 1)
    sessions = session_set([[1, 2], [1, 3]])
    _, counts = evaluated(Automaton(table), sessions, known_of(0, 3, 5, items=5))
    assert counts["greater"].tolist() == [1, NEVER]
    assert counts["equal"].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_of_other_types(dtype: torch.dtype) -> None:
    table = torch.randint(0, 4, (STATES, ITEMS + 1), generator=torch.Generator().manual_seed(0)).float()
    sessions = session_set([[1, 2, 3, 4, 5], [6, 7, 8]])
    usual = evaluated(Automaton(table), sessions, known_of(0))
    assert evaluated(Automaton(table.to(dtype)), sessions, known_of(0))[0] == usual[0]


def test_the_way_without_marks_counts_the_same(gru: TinyGRU, many: SessionSet, monkeypatch) -> None:
    usual = evaluated(gru, many, known_of(0, 7, items=300))[1]
    monkeypatch.setattr(session_evaluation, "EXACT_COLUMNS", 0)
    other = evaluated(gru, many, known_of(0, 7, items=300))[1]
    assert all(np.array_equal(usual[name], other[name]) for name in usual)


def test_tiles_of_scores_stay_small() -> None:
    assert score_rows(10) == COLUMNS
    assert score_rows(37_484) == 128
    assert score_rows(100_000) == 32
    assert score_rows(10_000_000) == 16


def test_the_popularity_floor() -> None:
    counts = np.array([0, 5, 3, 3, 2**40, 2**40 + 1, 0], dtype=np.int64)
    sessions = [[1, 5, 4, 2], [2, 1]]
    found = popularity_floor(session_set(sessions), counts, k=[1, 4], ties="conservative", device=CPU)
    ranks = {5: 1, 4: 2, 1: 3, 2: 5, 3: 5}
    targets = [ranks[item] for own in sessions for item in own[1:]]
    assert found["recall_at_1"] == pytest.approx(np.mean([rank <= 1 for rank in targets]))
    assert found["recall_at_4"] == pytest.approx(np.mean([rank <= 4 for rank in targets]))
    assert found["mrr_at_4"] == pytest.approx(np.mean([1 / rank if rank <= 4 else 0 for rank in targets]))


def test_a_pass_is_forgotten() -> None:
    evaluation = SessionEvaluation([20, 5, 20], "median", known_of(0))
    nothing = EvaluatedSessions(())
    evaluation.update(Automaton(torch.zeros(STATES, ITEMS + 1)), nothing)
    assert evaluation.metric.event[0].dtype == torch.int64
    assert evaluation.compute() == {}
    for batch in SessionLoader(session_set([[1, 2]]), eval_batch_size=1, device=CPU):
        evaluation.update(Automaton(torch.zeros(STATES, ITEMS + 1)), batch)
    assert list(evaluation.compute()) == evaluation.metric_names()
    evaluation.reset()
    evaluation.update(Automaton(torch.zeros(STATES, ITEMS + 1)), nothing)
    assert evaluation.compute() == {}


def test_networks_that_cannot_rank_are_refused() -> None:
    (batch,) = SessionLoader(session_set([[1, 2]]), eval_batch_size=1, device=CPU)
    with pytest.raises(TypeError, match="Embedding can rank no session"):
        SessionEvaluation([20], "median", known_of(0)).update(nn.Embedding(3, 3), batch)
    with pytest.raises(ValueError, match="scores 4 ids, and the data has 10"):
        SessionEvaluation([20], "median", known_of(0)).update(Automaton(torch.zeros(STATES, 4)), batch)
    with pytest.raises(ValueError, match="eval_batch_size=0"):
        SessionLoader(session_set([[1, 2]]), eval_batch_size=0, device=CPU)
    with pytest.raises(ValueError, match="no session to evaluate"):
        SessionLoader(session_set([[1, 2]]), eval_batch_size=1, device=CPU, limit=0)
