"""Propagation in one modality's graph of outfits by compiled loops, there and back without autograd."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recexp.models.outfit_graph import EDGES

if TYPE_CHECKING:
    from recexp.models.outfit_graph import OutfitGraph
    from recexp.problems.outfit import OutfitNodes

_NUMBERS = ("rows", "outfits", "nodes", "hidden", "steps", "edges", "categories", "occurring", "keep")
_BATCH = ("node", "category", "member", "occurs", "projected", "cooccurrence")
_DENSE = ("gate_kernel", "gate_bias", "candidate_kernel", "candidate_bias", "w_conf", "w_score")
_PARAMETERS = ("w_out", "w_msg", *_DENSE)
_RESULTS = ("scores", "d_scores", "d_projected", *(f"d_{name}" for name in _PARAMETERS), "room")


class GraphLayout(ctypes.Structure):
    """As ``Graph`` in native_graph.cpp: the numbers, then addresses."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in (*_BATCH, *_PARAMETERS, *_RESULTS)),
    ]  # fmt: skip


def whole(tensor: Tensor, kind: torch.dtype) -> Tensor:
    """As the loops read it: of that type, without gaps; most often the tensor itself."""
    return tensor.to(kind).contiguous()


class CompiledGraph:
    """The loops on the parameters of an :class:`OutfitGraph`, float32 on a processor; not for two threads at once."""

    def __init__(
        self, library: ctypes.CDLL, graph: OutfitGraph, *, steps: int, edges: str, cooccurrence: Tensor | None
    ) -> None:
        """Prepare.

        Args:
            library: Of :func:`native.library`.
            graph: Parameters.
            steps: Of propagation.
            edges: A word of ``EDGES``.
            cooccurrence: From one category to another, float32 [C, C]; only for ``cooccurrence``.
        """
        self._library, self._layout = library, GraphLayout()
        self._parameters: dict[str, Tensor] = {name: getattr(graph, name) for name in _PARAMETERS}
        self._room = torch.empty(0)
        self._held: dict[str, Tensor | None] = {}
        self._gradients = {name: torch.zeros(self._parameters[name].shape) for name in _DENSE}
        self._tables: dict[str, Tensor] = {}
        self._layout.hidden, self._layout.steps, self._layout.edges = graph.hidden, steps, EDGES.index(edges)
        self._layout.categories = len(graph.w_out)
        self._hold(cooccurrence=None if cooccurrence is None else whole(cooccurrence, torch.float32))

    def _hold(self, **tensors: Tensor | None) -> None:
        """Tell the loops where tensors are, and keep these until others take their place."""
        self._held.update(tensors)
        for name, tensor in tensors.items():
            setattr(self._layout, name, None if tensor is None else tensor.data_ptr())

    def forward(self, projected: Tensor, outfits: OutfitNodes, occurs: Tensor, *, keep: bool) -> Tensor:
        """Score of each outfit, float32 [B, K].

        Args:
            projected: Of each item, before the tanh, float32 [U, h].
            outfits: Nodes and members.
            occurs: Categories of all nodes that are members, distinct, int64 [R].
            keep: Keep what :meth:`backward` needs.
        """
        layout, member = self._layout, whole(outfits.member, torch.bool)
        layout.rows, layout.outfits, layout.nodes = member.shape
        layout.occurring, layout.keep = len(occurs), keep
        scores = torch.empty(member.shape[:2])
        self._hold(
            node=whole(outfits.node, torch.int64), category=whole(outfits.category, torch.int64), member=member,
            occurs=occurs, projected=projected.contiguous(), scores=scores,
        )  # fmt: skip
        # Asked for anew: a parameter stays the same when its memory is another one's.
        self._hold(**self._parameters)
        size = self._library.graph_room(ctypes.byref(layout))
        if len(self._room) < size:
            self._room = torch.empty(size)
        self._hold(room=self._room)
        self._library.graph_forward(ctypes.byref(layout))
        return scores

    def backward(self, d_scores: Tensor, d_projected: Tensor) -> dict[str, Tensor]:
        """Gradients by the parameter's name, after :meth:`forward`; of ``w_out`` and ``w_msg`` those of what occurs.

        They are valid until the next call.

        Args:
            d_scores: Gradient of the scores, float32 [B, K].
            d_projected: That of the projected items is added to it, float32 [U, h].
        """
        layout = self._layout
        for name in ("w_out", "w_msg"):
            if name not in self._tables or len(self._tables[name]) < layout.occurring:
                self._tables[name] = torch.empty(layout.occurring, layout.hidden * layout.hidden)
        found = {name: table[: layout.occurring] for name, table in self._tables.items()} | self._gradients
        self._hold(d_scores=d_scores, d_projected=d_projected, **{f"d_{name}": value for name, value in found.items()})
        self._library.graph_backward(ctypes.byref(layout))
        return found
