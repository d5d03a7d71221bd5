"""The outfit problem: do these items go together? What a batch is and what a model has to offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from recexp.problems.evaluated_module import EvaluatedModule
from recexp.problems.module import Network


@dataclass(frozen=True)
class ItemBatch:
    """Distinct items in ascending order, so that those of one category are one run.

    Shapes: U items, R runs, T words. ``categories`` [R] and ``bounds`` [R + 1] are on the host: items
    ``bounds[r]:bounds[r + 1]`` are of category ``categories[r]``; ``category`` int64[U] says the same on the device.
    ``image`` float32[U, D]. ``words`` int64[T], each of item ``owner`` int64[T] (0..U - 1, ascending). None where the
    data has no such features. ``present`` int64[R]: ``categories`` on the device, so that a step need not move them.
    """

    categories: Sequence[int]
    bounds: Sequence[int]
    category: Tensor
    image: Tensor | None = None
    words: Tensor | None = None
    owner: Tensor | None = None
    present: Tensor | None = None

    def __len__(self) -> int:
        """U."""
        return len(self.category)


@dataclass(frozen=True)
class OutfitNodes:
    """Outfits as sub-graphs over the same nodes: one that is real and one that is not share all nodes but one or two.

    Shapes: B rows, K outfits in each, W nodes. ``node`` int64[B, W]: the item of each node, as a place in what was
    projected; ``category`` int64[B, W]. ``member`` bool[B, K, W]: the nodes that an outfit has, at most one of a
    category. Nodes that no outfit of the row has are 0 in both.
    """

    node: Tensor
    category: Tensor
    member: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.node)


@dataclass(frozen=True)
class OutfitBatch:
    """Pairs to train on: K is 2, outfit 0 is real and outfit 1 is not; the nodes are places in ``items``."""

    items: ItemBatch
    outfits: OutfitNodes

    def __len__(self) -> int:
        """Pairs."""
        return len(self.outfits)


@dataclass(frozen=True)
class OutfitSizes:
    """What the data decides about a model.

    Attributes:
        num_categories: C.
        modalities: Width of the input by its name: ``image``, ``text``, or ``category`` (width 1, always the number 1)
            where nothing else is known.
        cooccurrence: Share of the training outfits with category i that have category j, too; float32[C, C], 0 on the
            diagonal.
    """

    num_categories: int
    modalities: Mapping[str, int]
    cooccurrence: Tensor


@runtime_checkable
class OutfitNetwork(Network, Protocol):
    """What the problem needs of a model; it is made with ``sizes=OutfitSizes(...)`` beside its options."""

    def project(self, items: ItemBatch) -> dict[str, Tensor]:
        """What a model computes of each item alone, by modality, [U, h]; needed once for all outfits with the item."""
        ...

    def modality_scores(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> dict[str, Tensor]:
        """Score of each outfit by each modality alone, float32[B, K]; higher: goes together."""
        ...

    def scores(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> Tensor:
        """Score of each outfit, float32[B, K]."""
        ...

    def loss(self, batch: OutfitBatch) -> Tensor:
        """Loss of each pair, float32[B]."""
        ...


@dataclass(frozen=True)
class ItemStep:
    """Items to project; their places follow those of the step before. The first one of a pass forgets the last pass."""

    items: ItemBatch
    first: bool


@dataclass(frozen=True)
class QuestionStep:
    """Rows ``start, start + stride, ...`` of one set of questions; nodes are places among the projected items."""

    rows: int
    start: int
    stride: int
    outfits: OutfitNodes


class TakesScores(Protocol):
    """The evaluation of a split."""

    def update(self, step: QuestionStep, scores: Tensor) -> None:
        """Add the scores [B, K] of a step."""
        ...


class OutfitModule(EvaluatedModule):
    """Trains a network and lets it answer questions."""

    _projected: dict[str, list[Tensor]]
    _table: dict[str, Tensor] | None = None

    def predict_step(self, batch: ItemStep | QuestionStep, batch_idx: int) -> dict[str, Tensor]:
        """Scores [B, K] by modality, and of all together as ``score``; nothing of items."""
        network = cast(OutfitNetwork, self.network)
        if isinstance(batch, ItemStep):
            self._project(batch)
            return {}
        table = self._projections()
        return {"score": network.scores(table, batch.outfits), **network.modality_scores(table, batch.outfits)}

    def _project(self, batch: ItemStep) -> None:
        if batch.first:
            self._projected = {}
        for modality, values in cast(OutfitNetwork, self.network).project(batch.items).items():
            self._projected.setdefault(modality, []).append(values)
        self._table = None

    def _projections(self) -> dict[str, Tensor]:
        if self._table is None:
            self._table = {modality: torch.cat(values) for modality, values in self._projected.items()}
        return self._table

    def evaluate(self, batch: ItemStep | QuestionStep, evaluation: nn.Module) -> None:
        """Project items, or score outfits of items that were projected."""
        if isinstance(batch, ItemStep):
            self._project(batch)
            return
        scores = cast(OutfitNetwork, self.network).scores(self._projections(), batch.outfits)
        cast(TakesScores, evaluation).update(batch, scores)
