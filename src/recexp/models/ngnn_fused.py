"""NGNN's gradients written out by hand, for a processor: a few compiled loops instead of a graph of small operators.

An update at a batch of 16 has some ten million multiplications; what costs is to read the matrices of the categories
that occur and to write their gradients, 98 kB each. Nothing depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from recexp.models import kernels, native
from recexp.models.compiled_graph import CompiledGraph, whole
from recexp.models.outfit_losses import PAIR_LOSSES
from recexp.models.tables import RowGradient

if TYPE_CHECKING:
    import ctypes

    from recexp.models.ngnn import NGNN
    from recexp.models.outfit_graph import OutfitGraph
    from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes


def applies(network: NGNN) -> bool:
    """Whether there are loops for the network where it is: float32 on a processor, in one process."""
    plain = all(
        kernels.hand_written(p) and p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters()
    )
    alone = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    return plain and alone and not torch.is_autocast_enabled("cpu") and native.library() is not None


def compiled_scores(network: NGNN, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> dict[str, Tensor] | None:
    """Score of each outfit by each modality, without a gradient, float32 [B, K]; None where there are no loops.

    Args:
        network: Its parameters.
        projected: Of each item, before the tanh, by modality, [U, h].
        outfits: Nodes and members.
    """
    if not applies(network) or any(p.dtype != torch.float32 for p in projected.values()):
        return None
    occurs = torch.arange(network.num_categories)
    graphs = _compiled_graphs(network)
    return {name: graph.forward(projected[name], outfits, occurs, keep=False) for name, graph in graphs.items()}


def _compiled_graphs(network: NGNN) -> dict[str, CompiledGraph]:
    library = native.library()
    assert library is not None
    shared = {"steps": network.steps, "edges": network.edges, "cooccurrence": network.cooccurrence}
    return {
        name: CompiledGraph(library, cast("OutfitGraph", graph), **shared)  # type: ignore[arg-type]
        for name, graph in network.graphs.items()
    }


class Projections:
    """Items times the matrices of their categories, and the gradients of these."""

    def __init__(self, library: ctypes.CDLL, graphs: Mapping[str, OutfitGraph]) -> None:
        self._library, self._graphs = library, graphs
        self._gradients: dict[str, Tensor] = {}
        self._rows: dict[str, Tensor] = {}

    def forward(self, items: ItemBatch, occurs: Tensor, bounds: Tensor) -> dict[str, Tensor]:
        """Before the tanh, by modality, float32 [U, h].

        Args:
            items: What is known of them.
            occurs: ``items.categories``, int64 [R].
            bounds: ``items.bounds``, int64 [R + 1].
        """
        found = {}
        for name, graph in self._graphs.items():
            found[name] = projected = torch.empty(len(items), graph.hidden)
            if name == "text":
                assert items.words is not None
                assert items.owner is not None
                self._rows[name] = rows = torch.empty(len(items.words), dtype=torch.int64)
                given = (*(whole(ids, torch.int64) for ids in (items.words, items.owner, items.category)), graph.w_in)
                places = [tensor.data_ptr() for tensor in (*given, rows, projected)]
                self._library.sum_words(len(rows), len(items), graph.width, graph.hidden, *places)
            else:
                self._rows[name] = occurs
                given = (occurs, bounds, _entered(items, name), graph.w_in)
                places = [tensor.data_ptr() for tensor in (*given, projected)]
                self._library.project_runs(len(occurs), graph.width, graph.hidden, *places)
        return found

    def backward(self, items: ItemBatch, bounds: Tensor, d_projected: Mapping[str, Tensor]) -> None:
        """Leave the gradients of the matrices at them, after :meth:`forward`; arguments as there."""
        for name, graph in self._graphs.items():
            rows, given = self._rows[name], d_projected[name]
            if name == "text":
                assert items.owner is not None
                values = given.index_select(0, items.owner)
            else:
                if name not in self._gradients or len(self._gradients[name]) < len(rows):
                    # Fresh pages cost as much as what is written there.
                    self._gradients[name] = torch.empty(len(rows), graph.w_in.shape[1])
                values, entered = self._gradients[name][: len(rows)], _entered(items, name)
                places = [tensor.data_ptr() for tensor in (bounds, entered, given, values)]
                self._library.project_runs_backward(len(rows), graph.width, graph.hidden, *places)
            RowGradient(rows, values, distinct=name != "text").leave_at(graph.w_in)


def _entered(items: ItemBatch, name: str) -> Tensor:
    """What is multiplied with the matrix of a category, float32 [U, d]."""
    if name == "category":
        return torch.ones(len(items), 1)
    assert items.image is not None
    return whole(items.image, torch.float32)


class NGNNGradients:
    """Computes the gradients of pairs and leaves them at the parameters, in ``grad`` and ``row_gradient``."""

    def __init__(self, network: NGNN) -> None:
        library = native.library()
        assert library is not None
        self.network, self._library = network, library
        graphs = {name: cast("OutfitGraph", graph) for name, graph in network.graphs.items()}
        self._parameters = {(name, own): p for name, graph in graphs.items() for own, p in graph.named_parameters()}
        self._projections = Projections(library, graphs)
        self._graphs = _compiled_graphs(network)

    def __str__(self) -> str:
        return "gradients by hand, compiled loops"

    def prepare(self, batches: Sequence[OutfitBatch]) -> None:
        """Nothing: a batch comes as the loops need it."""

    def __call__(self, batch: OutfitBatch, scale: float) -> Tensor:
        """Gradients of a batch.

        Returns:
            Sum of what ``network.loss`` answers, times ``scale``, [].
        """
        items = batch.items
        occurs = torch.tensor(items.categories, dtype=torch.int64)
        bounds = torch.tensor(items.bounds, dtype=torch.int64)
        projected = self._projections.forward(items, occurs, bounds)
        scores = {
            name: graph.forward(projected[name], batch.outfits, occurs, keep=True)
            for name, graph in self._graphs.items()
        }
        loss, d_scores = self._pairs(scores, scale)
        d_projected = {name: torch.zeros_like(own) for name, own in projected.items()}
        loss += self._consistency(projected, batch.outfits, scale, d_projected)
        for name, graph in self._graphs.items():
            found = graph.backward(d_scores[name], d_projected[name])
            for which, gradient in found.items():
                parameter = self._parameters[name, which]
                if not parameter.requires_grad:
                    continue
                if which in ("w_out", "w_msg"):
                    RowGradient(occurs, gradient).leave_at(parameter)
                else:
                    parameter.grad = gradient
        self._projections.backward(items, bounds, d_projected)
        return torch.tensor(loss)

    def _pairs(self, scores: Mapping[str, Tensor], scale: float) -> tuple[float, dict[str, Tensor]]:
        """Loss of the pairs, times ``scale``, and the gradients of the scores."""
        network, names = self.network, list(scores)
        both = {"image", "text"} <= set(names)
        shares = (network.beta, 1 - network.beta) if both else (1.0, 0.0)
        d_scores = {name: torch.empty_like(own) for name, own in scores.items()}
        first, second = names[0], names[1] if both else None
        loss = self._library.pair_gradient(
            len(scores[first]), PAIR_LOSSES.index(network.pair_loss), scale,
            shares[0], scores[first].data_ptr(), shares[1], scores[second].data_ptr() if second else None,
            d_scores[first].data_ptr(), d_scores[second].data_ptr() if second else None,
        )  # fmt: skip
        return loss, d_scores

    def _consistency(
        self, projected: Mapping[str, Tensor], outfits: OutfitNodes, scale: float, d_projected: Mapping[str, Tensor]
    ) -> float:
        """The term of consistency, times ``scale``; adds its gradients."""
        network, slip = self.network, self.network.consistency == "reference_bug"
        needed = {"image"} if slip else {"image", "text"}
        if network.consistency == "none" or not needed <= set(projected):
            return 0.0
        hidden, member = projected["image"].shape[1], whole(outfits.member, torch.bool)
        node, category = whole(outfits.node, torch.int64), whole(outfits.category, torch.int64)
        size = network.num_categories * hidden if slip or network.consistency_mean == "all" else 0
        others = [None, None] if slip else [part["text"].data_ptr() for part in (projected, d_projected)]
        term: float = self._library.consistency_gradient(
            *node.shape, hidden, network.consistency_weight, size, scale, node.data_ptr(),
            category.data_ptr() if slip else None, member.data_ptr(), projected["image"].data_ptr(), others[0],
            d_projected["image"].data_ptr(), others[1],
        )  # fmt: skip
        return term
