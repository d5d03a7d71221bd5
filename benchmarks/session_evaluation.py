"""Ranking of sessions' events among the whole catalogue: events a second, and what is left of the bare product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import Row, median_seconds
from recexp.problems.session_evaluation import SessionEvaluation, score_rows
from recexp.problems.session_split import SessionSet
from recexp.problems.session_tiles import SessionLoader

#: RSC15's catalogue, and the width of the smallest published GRU4Rec.
ITEMS, WIDTH = 37_483, 100
SESSIONS = 2_560


class PlainGRU(nn.Module):
    """One layer that reads a session, and a score of each item."""

    def __init__(self, *, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.item = nn.Embedding(ITEMS + 1, WIDTH)
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.bias = nn.Parameter(torch.zeros(ITEMS + 1))

    def encode(self, items: Tensor) -> Tensor:
        """States after each event."""
        entered = self.item(items)
        state = entered.new_zeros(items.shape[1], WIDTH)
        states = []
        for step in entered:
            state = self.cell(step, state)
            states.append(state)
        return torch.stack(states)

    def score(self, query: Tensor) -> Tensor:
        """One product with the whole table: by the library that torch takes by default, or by oneDNN."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(query, self.item.weight, self.bias, "none", [], "")
        return torch.addmm(self.bias, query, self.item.weight.T)


class FixedScores:
    """Scores that cost nothing: what is left is the cost of counting."""

    def __init__(self) -> None:
        self.table = torch.randn(256, ITEMS + 1)

    def encode(self, items: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros(*items.shape, 1)

    def score(self, query: Tensor) -> Tensor:
        """Always the same."""
        return self.table[: len(query)]


def sessions() -> SessionSet:
    """Lengths spread as those of RSC15's test sessions: two or more, 4.65 on average, a long tail."""
    draw = np.random.default_rng(0)
    lengths = 2 + draw.geometric(1 / 3.65, SESSIONS) - 1
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return SessionSet(np.arange(1, SESSIONS + 1), draw.integers(1, ITEMS + 1, offsets[-1]), offsets)


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """All measurements."""
    torch.manual_seed(0)
    data = sessions()
    loader = SessionLoader(data, eval_batch_size=512, device=torch.device("cpu"))
    known = torch.ones(ITEMS + 1, dtype=torch.bool)
    some = torch.rand(ITEMS + 1) < 0.9
    default, packed = PlainGRU(packed=False), PlainGRU(packed=True)

    def rate(network: object, ranked: Tensor = known, size: int = score_rows(ITEMS + 1)) -> str:
        evaluation = SessionEvaluation([20], "conservative", ranked)
        evaluation.rows = size

        def whole() -> None:
            for batch in loader:
                evaluation.update(network, batch)
            evaluation.compute()
            evaluation.reset()

        whole()
        return f"{data.targets / median_seconds(whole, rounds):,.0f}/s"

    usual = score_rows(ITEMS + 1)
    yield Row("data", f"{data.targets:,}", f"events of {SESSIONS:,} made-up sessions, {ITEMS:,} items, d {WIDTH}")
    for size in (32, 64, 128, 256):
        yield Row(f"events ranked, product by oneDNN, tiles of {size} rows", rate(packed, size=size), "goal: 20,000/s")
    yield Row("events ranked, product by torch's default library", rate(default), f"tiles of {usual} rows")
    yield Row("events ranked, one item in ten unknown", rate(packed, some), "unknown columns are counted off again")
    yield Row("events counted, no product", rate(FixedScores()))
    for name, network in (("oneDNN", packed), ("torch's default library", default)):
        query = torch.randn(usual, WIDTH)
        with torch.no_grad():
            took = median_seconds(lambda network=network, query=query: network.score(query), 20 * rounds)
        yield Row(f"bare product by {name}", f"{usual / took:,.0f}/s", f"{torch.get_num_threads()} threads")
