"""HR, NDCG, MRR and AUC of one relevant item among candidates, with an explicit rule for ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

TIE_RULES = ("fair", "pessimistic")
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class RankingSpec:
    """Which numbers are computed from the ranks, and how.

    Attributes:
        k: Cut-offs of HR and NDCG.
        ties: ``fair`` is the expectation over a random order of equal scores; ``pessimistic`` puts the
            relevant item behind all its equals.
        log_base: Base of NDCG's discount: 2, or e as in the TensorFlow reference of AttRec.
        mrr_at: Cut-off of the reciprocal rank, None for none.
        auc: Also report the area under the ROC curve, averaged over users.
    """

    k: tuple[int, ...] = (10, 50)
    ties: str = "fair"
    log_base: float = 2.0
    mrr_at: int | None = None
    auc: bool = False

    def __post_init__(self) -> None:
        if self.ties not in TIE_RULES:
            raise ValueError(f"ties={self.ties!r} is not known: choose one of {', '.join(TIE_RULES)}")
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k={self.k!r}: at least one cut-off, each 1 or more")

    def metric_names(self) -> list[str]:
        """The keys of :meth:`RankingMetrics.compute`, in its order."""
        names = [f"{name}_at_{k}" for k in self.k for name in ("hr", "ndcg")]
        names.append("mrr" if self.mrr_at is None else f"mrr_at_{self.mrr_at}")
        return [*names, "auc"] if self.auc else names


def _mean_over_ties(prefix: Floats, greater: Counts, equal: Counts) -> Floats:
    """Mean gain of the ranks ``greater .. greater + equal``, from prefix sums of the gain by rank."""
    last = np.minimum(greater + equal + 1, len(prefix) - 1)
    first = np.minimum(greater, len(prefix) - 1)
    mean: Floats = (prefix[last] - prefix[first]) / (equal + 1)
    return mean


def _prefix(gain: Floats) -> Floats:
    return np.concatenate(([0.0], np.cumsum(gain)))


def hit_rate(greater: Counts, equal: Counts, k: int) -> Floats:
    """Hit rate at k for each user; fractional where ties straddle the cut-off. Shapes: [users]."""
    return _mean_over_ties(_prefix(np.ones(k)), greater, equal)


def ndcg(greater: Counts, equal: Counts, k: int, log_base: float = 2.0) -> Floats:
    """Discounted gain at k of a single relevant item, 1 / log(rank + 1), for each user. Shapes: [users].

    With base e (the TensorFlow reference of AttRec) the value exceeds 1 at rank 1: it is 1/ln 2 = 1.4427.
    """
    return _mean_over_ties(_prefix(math.log(log_base) / np.log(np.arange(2, k + 2))), greater, equal)


def reciprocal_rank(greater: Counts, equal: Counts, k: int | None = None) -> Floats:
    """Reciprocal rank for each user, 0 behind rank k where a k is given. Shapes: [users]."""
    longest = k if k is not None else int((greater + equal).max(initial=0)) + 1
    return _mean_over_ties(_prefix(1.0 / np.arange(1, longest + 1)), greater, equal)


def auc(greater: Counts, equal: Counts, candidates: Counts) -> Floats:
    """Share of the other candidates that score lower, equals counted half, for each user. Shapes: [users]."""
    others = np.maximum(candidates - 1, 1)
    return (candidates - 1 - greater - equal / 2) / others


class RankingMetrics(Metric):
    """All numbers of a :class:`RankingSpec` over the users seen, whatever the process that saw them.

    The state is the exact integer counts of each user, so that neither the order, nor the number of
    processes, nor the size of the evaluation batches can change a digit.
    """

    full_state_update = False
    higher_is_better = True
    user: list[Tensor]
    greater: list[Tensor]
    equal: list[Tensor]
    candidates: list[Tensor]

    def __init__(self, spec: RankingSpec) -> None:
        super().__init__()
        self.spec = spec
        for name in ("user", "greater", "equal", "candidates"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, user: Tensor, greater: Tensor, equal: Tensor, candidates: Tensor) -> None:
        """Add users.

        Args:
            user: Ids, int [B]; they fix the order of summation.
            greater: Candidates that score higher than the relevant item, int [B].
            equal: Other candidates that score the same, int [B].
            candidates: Candidates, the relevant item included, int [B].
        """
        self.user.append(user)
        self.greater.append(greater)
        self.equal.append(equal)
        self.candidates.append(candidates)

    def per_user(self) -> dict[str, Counts]:
        """The counts of every user, sorted by user id; ``equal`` moved into ``greater`` where ties count against."""
        user, greater, equal, candidates = (
            _counts(state) for state in (self.user, self.greater, self.equal, self.candidates)
        )
        order = np.argsort(user, kind="stable")
        if self.spec.ties == "pessimistic":
            greater, equal = greater + equal, np.zeros_like(equal)
        counts = {"user": user, "greater": greater, "equal": equal, "candidates": candidates}
        return {name: values[order] for name, values in counts.items()}

    def compute(self) -> dict[str, float]:
        """Means over users: ``hr_at_K``, ``ndcg_at_K``, ``mrr`` (or ``mrr_at_K``), ``auc``."""
        counts = self.per_user()
        greater, equal = counts["greater"], counts["equal"]
        if not len(greater):
            return {}
        values: dict[str, Floats] = {}
        for k in self.spec.k:
            values[f"hr_at_{k}"] = hit_rate(greater, equal, k)
            values[f"ndcg_at_{k}"] = ndcg(greater, equal, k, self.spec.log_base)
        cut = self.spec.mrr_at
        values["mrr" if cut is None else f"mrr_at_{cut}"] = reciprocal_rank(greater, equal, cut)
        if self.spec.auc:
            values["auc"] = auc(greater, equal, counts["candidates"])
        return {name: float(np.mean(value)) for name, value in values.items()}


def _counts(state: Sequence[Tensor] | Tensor) -> Counts:
    """One host array from a state that is a list of tensors, or one tensor once processes were joined."""
    if isinstance(state, Tensor):
        joined = state
    elif state:
        joined = torch.cat([piece.reshape(-1) for piece in state])
    else:
        joined = torch.zeros(0, dtype=torch.int64)
    return joined.cpu().numpy().astype(np.int64)
