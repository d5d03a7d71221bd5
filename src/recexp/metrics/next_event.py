"""Recall and MRR of the next event of a session, under one of the three rules for equal scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

#: Where the target stands among its equals: before them all, behind them all, in their middle.
TIE_RULES = ("standard", "conservative", "median")

#: ``greater`` of an event whose target can be no hit, whatever the cut-off and the size of the catalogue.
NEVER = 2**31 - 1

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class NextEventSpec:
    """Which numbers are computed from the ranks, and how.

    Attributes:
        k: Cut-offs of recall and MRR.
        ties: ``standard`` is 1 + candidates that score more; ``conservative`` adds all equals; ``median`` half of
            them. A model that scores everything alike has recall 1 under ``standard`` and 0 under ``conservative``.
    """

    k: tuple[int, ...] = (20,)
    ties: str = "conservative"

    def __post_init__(self) -> None:
        if self.ties not in TIE_RULES:
            raise ValueError(f"ties={self.ties!r} is not known: choose one of {', '.join(TIE_RULES)}")
        if not self.k or min(self.k) < 1 or max(self.k) >= NEVER:
            raise ValueError(f"k={self.k!r}: at least one cut-off, each 1 or more and below {NEVER}")

    def metric_names(self) -> list[str]:
        """The keys of :meth:`NextEventMetrics.compute`, in its order."""
        return [f"{name}_at_{k}" for k in self.k for name in ("recall", "mrr")]


def ranks(greater: Counts, equal: Counts, ties: str) -> Floats:
    """Rank of each target, from 1; a half under ``median`` where the number of equals is odd. Shapes: [events]."""
    share = {"standard": 0.0, "conservative": 1.0, "median": 0.5}[ties]
    rank: Floats = 1.0 + greater + share * equal
    return rank


class NextEventMetrics(Metric):
    """Recall and MRR over the events seen, whatever the process that saw them.

    The state is the exact integer counts of each event, summed in the order of the events' numbers, so that neither
    the size of the evaluation batches nor the number of processes can change a digit.
    """

    full_state_update = False
    higher_is_better = True
    event: list[Tensor]
    greater: list[Tensor]
    equal: list[Tensor]

    def __init__(self, spec: NextEventSpec) -> None:
        super().__init__()
        self.spec = spec
        for name in ("event", "greater", "equal"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, event: Tensor, greater: Tensor, equal: Tensor) -> None:
        """Add events.

        Args:
            event: Their numbers in the whole set, int64 [B]; they fix the order of summation.
            greater: Candidates that score more than the target, int64 [B]; :data:`NEVER` where it can be no hit.
            equal: Other candidates that score the same, int64 [B].
        """
        self.event.append(event)
        self.greater.append(greater)
        self.equal.append(equal)

    def per_event(self) -> dict[str, Counts]:
        """The counts of every event, sorted by the events' numbers."""
        counts = {name: _host(getattr(self, name)) for name in ("event", "greater", "equal")}
        order = np.argsort(counts["event"], kind="stable")
        return {name: values[order] for name, values in counts.items()}

    def compute(self) -> dict[str, float]:
        """Means over events: ``recall_at_K`` (share of ranks up to K), ``mrr_at_K`` (1 / rank, 0 behind rank K)."""
        counts = self.per_event()
        if not len(counts["event"]):
            return {}
        rank = ranks(counts["greater"], counts["equal"], self.spec.ties)
        values: dict[str, float] = {}
        for k in self.spec.k:
            hit = rank <= k
            values[f"recall_at_{k}"] = float(np.mean(hit))
            values[f"mrr_at_{k}"] = float(np.mean(np.where(hit, 1.0 / rank, 0.0)))
        return values


def _host(state: Sequence[Tensor] | Tensor) -> Counts:
    """One host array from a state that is a list of tensors, or one tensor once processes were joined."""
    pieces = [state] if isinstance(state, Tensor) else list(state)
    joined = torch.cat([piece.reshape(-1) for piece in pieces]) if pieces else torch.zeros(0, dtype=torch.int64)
    return joined.cpu().numpy().astype(np.int64)
