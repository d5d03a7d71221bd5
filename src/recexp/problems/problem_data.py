"""Lightning's data module of a problem: a feed of training blocks, and loaders of what is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningDataModule

from recexp.problems.schedule import Block, BlockLoader, Plan


class Feed(Protocol):
    """Where the training blocks come from."""

    plan: Plan

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Build for a device, as one of several processes."""
        ...

    def block(self, epoch: int, updates: range) -> Block[Any]:
        """The updates of these numbers."""
        ...


class Asked:
    """Steps of a prediction, each made when its turn comes; a list would be taken for several loaders."""

    def __init__(self, steps: Callable[[], Iterable[Any]]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Any]:
        return iter(self._steps())


class ProblemData(LightningDataModule):
    """Training blocks, whose position is saved and restored; what is evaluated is the subclass's."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed
        self.device = torch.device("cpu")
        self.rank, self.world = 0, 1
        #: What ``predict_step`` is given, built on the device.
        self.asked = Asked(list)
        self._train_loader: BlockLoader[Any] | None = None

    @property
    def plan(self) -> Plan:
        """How an epoch is cut up."""
        return self.feed.plan

    def setup(self, stage: str) -> None:
        """Move the arrays to the trainer's device, once."""
        if self.trainer is not None:
            self.place(self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size)

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Hold what is needed on a device, for one of several processes."""
        self.device, self.rank, self.world = device, rank, world
        self.feed.place(device, rank, world)

    def train_dataloader(self) -> BlockLoader[Any]:
        """Blocks of updates."""
        if self._train_loader is None:
            self._train_loader = BlockLoader(self.plan, self.feed.block)
        return self._train_loader

    def predict_dataloader(self) -> Asked:
        """What somebody asked."""
        return self.asked

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing to move: batches are built on the device."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the next block is. Lightning restores a loader's own state only in the middle of an epoch."""
        return self.train_dataloader().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there."""
        self.train_dataloader().load_state_dict(state_dict)
