"""Whether compiled loops compute what they should: each family of them once, on small numbers, against numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.models.compiled_graph import GraphLayout

_HIDDEN, _STEPS, _APART = 3, 2, 1e-4


def check(loaded: ctypes.CDLL) -> None:
    """Compare loops with numpy: a compiler that takes too many liberties is not used.

    Raises:
        ValueError: They differ.
    """
    draw = np.random.default_rng(0)
    if not (_is_softmax(loaded, draw) and _is_adagrad(loaded, draw) and _is_graph(loaded, draw)):
        raise ValueError("it does not compute what it should")


def _is_softmax(loaded: ctypes.CDLL, draw: np.random.Generator) -> bool:
    scores = draw.normal(size=(3, 37)).astype(np.float32) * 20
    scores[:, 5] = -np.inf
    own, transposed, sums = np.array([1, 2, 36]), np.empty((37, 3), np.float32), np.empty(37, np.float32)
    share = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    loss = -np.log(share[range(3), own]).sum()
    share[range(3), own] -= 1
    arrays = (scores.ctypes.data, transposed.ctypes.data, sums.ctypes.data)
    found = loaded.softmax_gradient(3, 37, own.ctypes.data, 0.5, *arrays)
    return bool(np.allclose(found, loss, rtol=1e-5) and np.allclose(transposed.T, share / 2, atol=1e-6))


def _is_adagrad(loaded: ctypes.CDLL, draw: np.random.Generator) -> bool:
    value, gradient, total, velocity = (np.abs(draw.normal(size=37)).astype(np.float32) for _ in range(4))
    moved = 0.5 * velocity - 0.1 * gradient / np.sqrt(total + gradient**2 + 0.01)
    expected = value + moved
    loaded.adagrad_momentum(37, 0.1, 0.5, 0.01, *(a.ctypes.data for a in (gradient, value, total, velocity)))
    return bool(np.allclose(velocity, moved, atol=1e-5) and np.allclose(value, expected, atol=1e-5))


def _is_graph(loaded: ctypes.CDLL, draw: np.random.Generator) -> bool:
    """One outfit of three nodes, of a category each: its score, and the gradients of all in one direction."""
    h = _HIDDEN
    shapes = {
        "projected": (3, h), "w_out": (3, h, h), "w_msg": (3, h, h), "gate_kernel": (2 * h, 2 * h),
        "gate_bias": (2 * h,), "candidate_kernel": (2 * h, h), "candidate_bias": (h,), "w_conf": (h,), "w_score": (h,),
    }  # fmt: skip
    given = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    way = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    results = {f"d_{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    results |= {"scores": np.zeros(1, np.float32), "d_scores": np.ones(1, np.float32)}
    places, member = np.arange(3), np.ones(3, np.uint8)
    layout = GraphLayout(rows=1, outfits=1, nodes=3, hidden=h, steps=_STEPS, edges=0, categories=3, occurring=3, keep=1)
    held: dict[str, npt.NDArray[Any]] = {
        **given,
        **results,
        "node": places,
        "category": places,
        "occurs": places,
        "member": member,
    }
    for name, array in held.items():
        setattr(layout, name, array.ctypes.data)
    room = np.zeros(loaded.graph_room(ctypes.byref(layout)), np.float32)
    layout.room = room.ctypes.data
    loaded.graph_forward(ctypes.byref(layout))
    loaded.graph_backward(ctypes.byref(layout))
    ahead, behind = (_score({name: given[name] + sign * _APART * way[name] for name in given}) for sign in (1, -1))
    slope = sum(float((results[f"d_{name}"] * way[name]).sum()) for name in given)
    return bool(
        np.allclose(results["scores"], _score(given), rtol=1e-4, atol=1e-5)
        and np.allclose(slope, (ahead - behind) / (2 * _APART), rtol=1e-4, atol=1e-5)
    )


def _score(given: Mapping[str, npt.NDArray[np.floating]]) -> float:
    """The outfit's score as models/outfit_graph.py defines it."""
    own = {name: value.astype(np.float64) for name, value in given.items()}
    state = np.tanh(own["projected"])
    for _ in range(_STEPS):
        said = np.einsum("nh,nhk->nk", state, own["w_out"])
        message = np.einsum("nh,nhk->nk", said.sum(0) - said, own["w_msg"])
        gates = _sigmoid(np.hstack((message, state)) @ own["gate_kernel"] + own["gate_bias"])
        reset, update = gates[:, :_HIDDEN], gates[:, _HIDDEN:]
        candidate = np.tanh(np.hstack((message, reset * state)) @ own["candidate_kernel"] + own["candidate_bias"])
        state = update * state + (1 - update) * candidate
    score = state @ own["w_score"]
    return float((_sigmoid(state @ own["w_conf"]) * np.where(score > 0, score, 0.01 * score)).sum())


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return found
