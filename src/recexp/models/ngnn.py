"""NGNN (Cui et al. 2019, arXiv 1902.08009): a graph network whose nodes are the categories of an outfit.

Defaults follow CRIPAC-DIG/NGNN (main_multi_modal.py); what its code does against its paper are options. Shape letters:
C categories, B rows, K outfits in each, U items, h width of a state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from recexp.errors import ConfigError
from recexp.models.blocks import block
from recexp.models.category_projections import category_vectors, image_products, word_sums
from recexp.models.ngnn_fused import NGNNGradients, applies, compiled_scores
from recexp.models.outfit_graph import Neighbours, OutfitGraph
from recexp.models.outfit_losses import modality_distance, pair_losses, swap_distance

if TYPE_CHECKING:
    from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes, OutfitSizes

#: The width by which the reference scales the initial matrices of pictures and, too, of words.
_REFERENCE_WIDTH = 2048


class NGNN(nn.Module):
    """The network and its loss."""

    cooccurrence: Tensor | None

    def __init__(
        self,
        *,
        sizes: OutfitSizes,
        hidden_image: int = 12,
        hidden_text: int = 12,
        hidden_category: int = 12,
        steps: int = 3,
        beta: float = 0.2,
        edges: str = "complete",
        loss: str = "bpr",
        consistency: str = "paper",
        consistency_weight: float = 5.0,
        consistency_mean: str = "present",
        l2: float = 0.0,
        init_readout: str = "clean",
        reduction: str = "mean",
    ) -> None:
        """Build and draw the parameters; the options are described in conf/model/ngnn.yaml.

        Args:
            sizes: Of the data.
            hidden_image: Width of the states of pictures.
            hidden_text: Of words.
            hidden_category: Of categories, where nothing else is known.
            steps: Of propagation.
            beta: Weight of the pictures' score; that of the words' is 1 - beta.
            edges: A word of ``outfit_graph.EDGES``.
            loss: A word of ``outfit_losses.PAIR_LOSSES``.
            consistency: ``paper``: projections of pictures and of words are alike. ``reference_bug``: those of the
                pictures of both outfits. ``none``.
            consistency_weight: Factor of that term.
            consistency_mean: ``paper``: over the nodes that are ``present``, or ``all`` categories.
            l2: Penalty l2 * sum(w^2) on all parameters.
            init_readout: ``clean`` or ``reference``.
            reduction: Of a batch's losses: ``mean`` or ``sum``.

        Raises:
            ConfigError: ``paper`` compares vectors of different widths.
        """
        super().__init__()
        known = sizes.modalities
        if consistency == "paper" and {"image", "text"} <= set(known) and hidden_image != hidden_text:
            raise ConfigError([_widths_differ(hidden_image, hidden_text)])
        self.num_categories, self.steps, self.beta, self.edges = sizes.num_categories, steps, beta, edges
        self.pair_loss, self.consistency, self.consistency_weight = loss, consistency, consistency_weight
        self.consistency_mean, self.l2, self.reduction = consistency_mean, l2, reduction
        hidden = {"image": hidden_image, "text": hidden_text, "category": hidden_category}
        self.graphs = nn.ModuleDict(
            {
                name: OutfitGraph(
                    num_categories=sizes.num_categories, width=known[name], hidden=h, by_word=name == "text"
                )
                for name, h in hidden.items()
                if name in known
            }
        )
        self._by_hand: NGNNGradients | None = None
        weights = sizes.cooccurrence if edges == "cooccurrence" else None
        self.register_buffer("cooccurrence", weights, persistent=False)
        for name, graph in self._graphs().items():
            width = graph.hidden if name == "category" else _REFERENCE_WIDTH
            graph.initialise(input_std=1 / math.sqrt(width), readout=init_readout)
            for parameter in graph.of_propagation:
                # Several processes wait for the gradient of whatever can have one.
                parameter.requires_grad_(steps > 0)

    def _graphs(self) -> dict[str, OutfitGraph]:
        return {name: cast(OutfitGraph, graph) for name, graph in self.graphs.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The matrices of categories, of which a batch looks up some, and the rest."""
        tables = [table for graph in self._graphs().values() for table in graph.tables]
        taken = {id(table) for table in tables}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        return [{"params": tables, "l2": self.l2}, {"params": rest, "l2": self.l2, "tables": False}]

    def project(self, items: ItemBatch) -> dict[str, Tensor]:
        """Each item times the matrix of its category, before the tanh, by modality, float32 [U, h]."""
        with block(self, "projection", items.category):
            return {name: self._projected(name, graph, items) for name, graph in self._graphs().items()}

    @staticmethod
    def _projected(name: str, graph: OutfitGraph, items: ItemBatch) -> Tensor:
        if name == "image":
            return image_products(graph.w_in, items)
        return word_sums(graph.w_in, items, graph.width) if name == "text" else category_vectors(graph.w_in, items)

    def gradients_by_hand(self) -> NGNNGradients | None:
        """On a processor that has the compiled loops."""
        if not applies(self):
            return None
        if self._by_hand is None:
            self._by_hand = NGNNGradients(self)
        return self._by_hand

    def modality_scores(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> dict[str, Tensor]:
        """Score of each outfit by each modality alone, float32 [B, K]; higher: goes together."""
        if not torch.is_grad_enabled():
            found = compiled_scores(self, projected, outfits)
            if found is not None:
                return found
        graphs = self._graphs()
        with block(self, "propagation", *(projected[name] for name in graphs)) as entered:
            neighbours = Neighbours.of(outfits, self.edges, self.cooccurrence, entered[0].dtype)
            return {
                name: graph.scores(own, outfits, neighbours, self.steps)
                for (name, graph), own in zip(graphs.items(), entered, strict=True)
            }

    def scores(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> Tensor:
        """Score of each outfit, beta image + (1 - beta) text or that of the only modality, float32 [B, K]."""
        found = self.modality_scores(projected, outfits)
        if {"image", "text"} <= set(found):
            return self.beta * found["image"] + (1 - self.beta) * found["text"]
        return next(iter(found.values()))

    def loss(self, batch: OutfitBatch) -> Tensor:
        """Loss of each pair, float32 [B]; the penalty is the optimiser's."""
        projected = self.project(batch.items)
        losses = pair_losses(self.scores(projected, batch.outfits), self.pair_loss)
        distance = self._distance(projected, batch.outfits)
        return losses if distance is None else losses + self.consistency_weight * distance

    def _distance(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> Tensor | None:
        """What the term of consistency measures; None where the data has nothing to compare."""
        if self.consistency == "paper" and {"image", "text"} <= set(projected):
            slots = self.num_categories if self.consistency_mean == "all" else None
            return modality_distance(projected["image"], projected["text"], outfits, slots=slots)
        if self.consistency == "reference_bug" and "image" in projected:
            return swap_distance(projected["image"], outfits, slots=self.num_categories)
        return None


def _widths_differ(image: int, text: int) -> str:
    return (
        f"model.consistency=paper compares the projections of an item's picture and of its words, but "
        f"model.hidden_image={image} and model.hidden_text={text}. Make them equal, or set model.consistency=none."
    )
