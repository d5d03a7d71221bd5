"""Ranks each user's target by the scores of the whole catalogue, under several protocols at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from recexp.metrics.ranking import RankingMetrics
from recexp.problems.protocols import Protocol


@dataclass(frozen=True)
class EvalBatch:
    """Users to evaluate.

    Attributes:
        user: Ids, int64 [B].
        history: The last items before the target, 0 on the left, int64 [B, L].
        target: int64 [B].
        sampled: Items that the user never met, for the sampled protocols, int64 [B, S].
        seen: (row, item) pairs of the events before the target, int64 [2, P].
        trained: The same of the training events, int64 [2, P'].
    """

    user: Tensor
    history: Tensor
    target: Tensor
    sampled: Tensor
    seen: Tensor
    trained: Tensor


class Evaluation(nn.Module):
    """Accumulates the metrics of all protocols over a pass through the evaluated users."""

    rated: Tensor

    def __init__(self, protocols: Sequence[Protocol], rated: Tensor) -> None:
        """Start empty.

        Args:
            protocols: What to compute.
            rated: Which ids occur in the data, bool [num_items + 1].
        """
        super().__init__()
        self.protocols = tuple(protocols)
        self.metrics = nn.ModuleDict({protocol.name: RankingMetrics(protocol.spec) for protocol in protocols})
        self.register_buffer("rated", rated, persistent=False)

    def update(self, scores: Tensor, batch: EvalBatch) -> None:
        """Add users.

        Args:
            scores: Of every id, higher is better, float [B, num_items + 1]; column 0 is ignored.
            batch: The users that the rows belong to.
        """
        scores = scores.float()
        for protocol in self.protocols:
            counts = _sampled(scores, batch, protocol) if protocol.sampled else self._full(scores, batch, protocol)
            self._metric(protocol).update(batch.user, *counts)

    def _full(self, scores: Tensor, batch: EvalBatch, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
        legal = self.rated.clone() if protocol.catalogue == "rated" else torch.ones_like(self.rated)
        legal[0] = False
        candidate = legal.repeat(len(scores), 1)
        removed = batch.seen if protocol.removed == "history" else batch.trained
        candidate[removed[0], removed[1]] = False
        candidate.scatter_(1, batch.target[:, None], True)
        target = scores.gather(1, batch.target[:, None])
        greater = ((scores > target) & candidate).sum(1)
        equal = ((scores == target) & candidate).sum(1) - 1
        return greater, equal, candidate.sum(1)

    def compute(self) -> dict[str, float]:
        """All metrics by their full names, over all processes."""
        return {
            protocol.metric_name(name): value
            for protocol in self.protocols
            for name, value in self._metric(protocol).compute().items()
        }

    def reset(self) -> None:
        """Forget the users seen."""
        for protocol in self.protocols:
            self._metric(protocol).reset()

    def _metric(self, protocol: Protocol) -> RankingMetrics:
        return cast(RankingMetrics, self.metrics[protocol.name])


def _sampled(scores: Tensor, batch: EvalBatch, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
    """Counts among the first ``protocol.sampled`` sampled items."""
    target = scores.gather(1, batch.target[:, None])
    others = scores.gather(1, batch.sampled[:, : protocol.sampled])
    greater, equal = (others > target).sum(1), (others == target).sum(1)
    return greater, equal, torch.full_like(greater, others.shape[1] + 1)
