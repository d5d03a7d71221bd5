"""The next-item problem: given a user and the last items, rank the catalogue for what comes next.

A dataset offers :class:`~recexp.datasets.events.Events`; a model takes :class:`NextItemBatch` and answers with
the loss of each row, and with the scores of the catalogue for an :class:`~recexp.problems.evaluation.EvalBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from recexp.problems.evaluation import EvalBatch, Evaluation
from recexp.problems.module import Network, ProblemModule, StepSettings


@dataclass(frozen=True)
class NextItemBatch:
    """Rows to train on.

    Attributes:
        user: Ids, int64 [B].
        history: The last items before the first target, 0 on the left, int64 [B, L].
        target: The next items, 0 where there is none, int64 [B, T].
        negative: Items drawn for each target, int64 [B, T, N].
    """

    user: Tensor
    history: Tensor
    target: Tensor
    negative: Tensor

    def __getitem__(self, rows: slice) -> NextItemBatch:
        return NextItemBatch(self.user[rows], self.history[rows], self.target[rows], self.negative[rows])


class NextItemNetwork(Network, Protocol):
    """What a model has to offer for this problem."""

    max_len: int
    targets: int

    def loss(self, batch: NextItemBatch) -> Tensor:
        """Loss of each row, [B], in float32."""
        ...

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        """Scores of every id, higher is better, [B, num_items + 1]."""
        ...


class NextItemModule(ProblemModule):
    """Trains and evaluates a :class:`NextItemNetwork`."""

    def __init__(
        self, network: NextItemNetwork, settings: StepSettings, validation: Evaluation, test: Evaluation
    ) -> None:
        super().__init__(settings)
        self.network = network
        self.evaluations = torch.nn.ModuleDict({"val": validation, "test": test})

    @property
    def reduction(self) -> str:
        """``mean`` or ``sum``, as the network says."""
        return self.network.reduction

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The network's."""
        return self.network.parameter_groups()

    def row_losses(self, batch: NextItemBatch) -> Tensor:
        """The network's."""
        return self.network.loss(batch)

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Rank the validation targets of some users."""
        self._evaluate(batch, "val")

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Rank the test targets of some users."""
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log ``val/`` metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/`` metrics."""
        self._log_metrics("test")

    def _evaluate(self, batch: EvalBatch, split: str) -> None:
        scores = self.network.catalogue_scores(batch.user, batch.history)
        evaluation = self.evaluations[split]
        assert isinstance(evaluation, Evaluation)
        evaluation.update(scores, batch)

    def _log_metrics(self, split: str) -> None:
        evaluation = self.evaluations[split]
        assert isinstance(evaluation, Evaluation)
        values = {f"{split}/{name}": value for name, value in evaluation.compute().items()}
        evaluation.reset()
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})
        self.results.update(values)
