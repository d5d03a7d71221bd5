"""Whether a hand-written form may stand in for torch's operators: `trainer.kernels`, for the whole process."""

from __future__ import annotations

import torch

_plain = False


def choose(word: str) -> None:
    """Follow ``trainer.kernels``.

    Args:
        word: ``auto`` takes a hand-written form where it is the faster one; ``plain`` takes torch's operators
            everywhere, so that two kinds of device compute the same thing in the same order.
    """
    global _plain  # noqa: PLW0603 - a property of the process, as torch's own matmul precision is
    if word not in ("auto", "plain"):
        raise ValueError(f"trainer.kernels={word!r}: one of auto, plain")
    _plain = word == "plain"


def hand_written(tensor: torch.Tensor) -> bool:
    """Whether the form written for a processor's caches applies to a tensor."""
    return not _plain and tensor.device.type == "cpu"
