"""What all problems share beside the step: a network, an evaluation for each split, and a carried state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, distributed, nn

from recexp.problems.module import GradientsByHand, Network, ProblemModule, StepSettings
from recexp.problems.session_steps import SessionNetwork


class Accumulates(Protocol):
    """An evaluation of one split."""

    def compute(self) -> dict[str, float]:
        """Metrics over all processes."""
        ...

    def reset(self) -> None:
        """Forget."""
        ...


class EvaluatedModule(ProblemModule):
    """Trains a network and evaluates it on two splits."""

    def __init__(self, network: Network, settings: StepSettings, evaluations: Mapping[str, nn.Module]) -> None:
        """Join the parts.

        Args:
            network: Its ``loss`` takes the batches of its feed.
            settings: For the step.
            evaluations: By the split's prefix, ``val`` and ``test``; each is an :class:`Accumulates`.
        """
        super().__init__(settings)
        self.network = network
        self.evaluations = nn.ModuleDict(dict(evaluations))

    @property
    def reduction(self) -> str:
        """``mean`` or ``sum``, as the network says."""
        return self.network.reduction

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The network's."""
        return self.network.parameter_groups()

    def row_losses(self, batch: Any) -> Tensor:
        """The network's."""
        losses: Tensor = cast(Any, self.network).loss(batch)
        return losses

    def gradients_by_hand(self) -> GradientsByHand | None:
        """The network's, where it has one."""
        offer: Callable[[], GradientsByHand | None] | None = getattr(self.network, "gradients_by_hand", None)
        return offer() if offer else None

    @abstractmethod
    def evaluate(self, batch: Any, evaluation: nn.Module) -> None:
        """Add a batch to an evaluation."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch of the validation split."""
        self.evaluate(batch, self.evaluations["val"])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch of the test split."""
        self.evaluate(batch, self.evaluations["test"])

    def on_validation_epoch_end(self) -> None:
        """Log ``val/`` metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/`` metrics."""
        self._log_metrics("test")

    def _log_metrics(self, split: str) -> None:
        evaluation = cast(Accumulates, self.evaluations[split])
        values = {f"{split}/{name}": value for name, value in evaluation.compute().items()}
        evaluation.reset()
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})
        self.results.update(values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the network carries from step to step, of all processes."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.network, SessionNetwork):
            checkpoint["carried"] = [self._of_all_processes(state) for state in self.network.carried()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        if isinstance(self.network, SessionNetwork):
            own = slice(self.trainer.global_rank, None, self.trainer.world_size)
            self.network.carry([state[own].to(self.device) for state in checkpoint["carried"]])

    def _of_all_processes(self, state: Tensor) -> Tensor:
        """Rows of all slots, slot s from process s % world, on the host."""
        world = self.trainer.world_size
        if world == 1:
            return state.cpu()
        # The first processes may have one slot more.
        most = torch.tensor(len(state), device=state.device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        total = torch.tensor(len(state), device=state.device)
        distributed.all_reduce(total)
        padded = torch.cat((state, state.new_zeros(int(most) - len(state), state.shape[1])))
        pieces = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(pieces, padded.contiguous())
        return torch.stack(pieces, 1).flatten(0, 1)[: int(total)].cpu()
