"""Node-wise gated graph network over outfits: propagation and read-out of one modality (arXiv 1902.08009).

Shape letters: C categories, B rows, K outfits in each, W nodes, h width of a state. States are [B, W, K, h], so that
the outfits of a row share the matrices of their nodes; those of absent nodes are exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recexp.models import kernels
from recexp.models.click_losses import widened
from recexp.models.gru_cell import gru_step
from recexp.models.tables import table_rows

if TYPE_CHECKING:
    from recexp.problems.outfit import OutfitNodes

#: Words of ``model.edges``.
EDGES = ("complete", "mean", "cooccurrence")
#: Slope of the leaky ReLU below 0 (the reference's).
_SLOPE = 0.01
#: On a processor, torch multiplies batches of matrices with fewer products than this in a loop without vectors.
_FEWEST_PRODUCTS = 400
#: So few states are worth zeros beside them.
_FEW_STATES = 3


@dataclass(frozen=True)
class Neighbours:
    """Who hears whom; the same for all modalities.

    Attributes:
        present: 1 for members of an outfit, [B, W, K, 1].
        connected: 1 for members that have a neighbour; the state of others is 0 after a step, [B, W, K, 1].
        share: Factor on the sum of messages of each outfit, [B, 1, K, 1]; None: 1.
        weights: Of the message from the second node to the first, [B, W, W]; None: 1 between different nodes.
    """

    present: Tensor
    connected: Tensor
    share: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def of(cls, outfits: OutfitNodes, edges: str, cooccurrence: Tensor | None, dtype: torch.dtype) -> Neighbours:
        """The graph of each outfit.

        Args:
            outfits: Nodes and members.
            edges: A word of ``EDGES``. ``complete``: 1 between members. ``mean``: that divided by its column sums,
                1 / (members - 1). ``cooccurrence``: from j to i the share of outfits with j that have i.
            cooccurrence: Those shares, [C, C]; only for ``cooccurrence``.
            dtype: Of the states.
        """
        present = outfits.member.transpose(1, 2)[..., None].to(dtype)
        if edges == "cooccurrence":
            assert cooccurrence is not None
            shares = cooccurrence.to(dtype)[outfits.category[:, :, None], outfits.category[:, None, :]]
            either = torch.bmm(shares + shares.transpose(1, 2), present.squeeze(-1))[..., None]
            return cls(present, present * (either > 0), weights=shares.transpose(1, 2))
        count = present.sum(1, keepdim=True)
        connected = present * (count > 1)
        return cls(present, connected, share=1 / (count - 1).clamp(min=1) if edges == "mean" else None)

    def summed(self, messages: Tensor) -> Tensor:
        """What reaches each node, [B, W, K, h]; of absent nodes anything.

        Args:
            messages: Of each node, 0 of absent ones, [B, W, K, h].
        """
        if self.weights is not None:
            return torch.bmm(self.weights, messages.flatten(2)).view_as(messages)
        total = messages.sum(1, keepdim=True)
        return total - messages if self.share is None else (total - messages) * self.share


class OutfitGraph(nn.Module):
    """Parameters of one modality: a matrix in, a sender's and a receiver's per category; one gated unit; a read-out."""

    def __init__(self, *, num_categories: int, width: int, hidden: int, by_word: bool) -> None:
        """Allocate.

        Args:
            num_categories: C.
            width: d, of the input.
            hidden: h.
            by_word: A row of ``w_in`` is the vector of one word in one category, not the matrix of a category.
        """
        super().__init__()
        self.width, self.hidden = width, hidden
        rows = (num_categories * width, hidden) if by_word else (num_categories, width * hidden)
        self.w_in = nn.Parameter(torch.empty(rows))
        self.w_out = nn.Parameter(torch.empty(num_categories, hidden * hidden))
        self.w_msg = nn.Parameter(torch.empty(num_categories, hidden * hidden))
        self.gate_kernel = nn.Parameter(torch.empty(2 * hidden, 2 * hidden))
        self.gate_bias = nn.Parameter(torch.empty(2 * hidden))
        self.candidate_kernel = nn.Parameter(torch.empty(2 * hidden, hidden))
        self.candidate_bias = nn.Parameter(torch.empty(hidden))
        self.w_conf = nn.Parameter(torch.empty(hidden))
        self.w_score = nn.Parameter(torch.empty(hidden))

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters of which a batch looks up rows."""
        return [self.w_in, self.w_out, self.w_msg]

    @property
    def of_propagation(self) -> list[nn.Parameter]:
        """Parameters that no score depends on without a step."""
        unit = [self.gate_kernel, self.gate_bias, self.candidate_kernel, self.candidate_bias]
        return [self.w_out, self.w_msg, *unit]

    @torch.no_grad()
    def initialise(self, *, input_std: float, readout: str) -> None:
        """Draw the parameters.

        Args:
            input_std: Standard deviation of the matrices in.
            readout: ``clean``: N(0, std 1 / sqrt(h)). ``reference``: N(mean 1 / sqrt(h), std 1), because the number was
                passed as the first argument, which is the mean.
        """
        std = 1 / math.sqrt(self.hidden)
        nn.init.normal_(self.w_in, std=input_std)
        for matrices in (self.w_out, self.w_msg):
            nn.init.normal_(matrices, std=std)
        for kernel in (self.gate_kernel, self.candidate_kernel):
            nn.init.xavier_uniform_(kernel)
        self.gate_bias.fill_(1.0)
        self.candidate_bias.zero_()
        for weight in (self.w_conf, self.w_score):
            nn.init.normal_(
                weight, mean=std if readout == "reference" else 0.0, std=1.0 if readout == "reference" else std
            )

    def scores(self, projected: Tensor, outfits: OutfitNodes, neighbours: Neighbours, steps: int) -> Tensor:
        """Score of each outfit, float32 [B, K].

        Args:
            projected: Of each item, before the tanh, [U, h].
            outfits: Nodes and members.
            neighbours: Their graph.
            steps: Of propagation.
        """
        states = self.propagate(projected, outfits, neighbours, steps)
        return self.read_out(states).sum(1)

    def propagate(self, projected: Tensor, outfits: OutfitNodes, neighbours: Neighbours, steps: int) -> Tensor:
        """States after all steps, [B, W, K, h]; arguments as of :meth:`scores`."""
        start = torch.tanh(projected).index_select(0, outfits.node.reshape(-1))
        start = start.view(*outfits.node.shape, 1, self.hidden)
        states = start * neighbours.present
        if not steps:
            return states
        # One gather for all steps: it costs as much as a step's products.
        sender, receiver = (self._matrices(table, outfits) for table in (self.w_out, self.w_msg))
        for step in range(steps):
            # Before the first step, the outfits of a row differ only in who is there.
            messages = _each(states, sender) if step else _each(start, sender) * neighbours.present
            states = self._updated(_each(neighbours.summed(messages), receiver), states) * neighbours.connected
        return states

    def _matrices(self, table: Tensor, outfits: OutfitNodes) -> Tensor:
        """Of each node's category, [B * W, h, h]."""
        return table_rows(table, outfits.category.reshape(-1), padded=False).view(-1, self.hidden, self.hidden)

    def _updated(self, message: Tensor, states: Tensor) -> Tensor:
        """The gated unit in TensorFlow 1's convention: both kernels multiply the message beside the state."""
        h = self.hidden
        heard = torch.cat((self.gate_kernel[:h], self.candidate_kernel[:h]), dim=1)
        kept = torch.cat((self.gate_kernel[h:], self.candidate_kernel[h:]), dim=1)
        bias = torch.cat((self.gate_bias, self.candidate_bias))
        projected = torch.addmm(bias, message.reshape(-1, h), heard)
        after = gru_step(projected, states.reshape(-1, h), kept.T, None, convention="tf", act=torch.tanh)
        return after.view_as(states)

    def read_out(self, states: Tensor) -> Tensor:
        """sigmoid(h w_conf) * leaky_relu(h w_score) of each node, float32 [B, W, K]; 0 of a state of 0."""
        with torch.autocast(states.device.type, enabled=False):
            both = torch.matmul(widened(states), torch.stack((self.w_conf, self.w_score), dim=1))
        confidence, score = both.unbind(-1)
        return torch.sigmoid(confidence) * nn.functional.leaky_relu(score, _SLOPE)


def _each(states: Tensor, matrices: Tensor) -> Tensor:
    """Every node's states times its own matrix, [B, W, K, h], at least float32."""
    flat = states.flatten(0, 1)
    missing = math.ceil(_FEWEST_PRODUCTS / matrices.shape[1:].numel()) - flat.shape[1]
    if not kernels.hand_written(states) or not 0 < missing <= _FEW_STATES - flat.shape[1]:
        return widened(torch.bmm(flat, matrices)).view_as(states)
    padded = torch.bmm(nn.functional.pad(flat, (0, 0, 0, missing)), matrices)
    return widened(padded[:, : flat.shape[1]]).reshape(states.shape)
