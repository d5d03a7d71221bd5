"""Whether a hand-written form may stand in for torch's operators: `trainer.kernels`, for the whole process."""

from __future__ import annotations

from pathlib import Path

import torch

_plain = False
_folder: Path | None = None


def choose(word: str, folder: Path | None = None) -> None:
    """Follow ``trainer.kernels``.

    Args:
        word: ``auto`` takes a hand-written form where it is the faster one; ``plain`` takes torch's operators
            everywhere, so that two kinds of device compute the same thing in the same order.
        folder: Where compiled loops are kept; None: nothing is compiled.
    """
    global _plain, _folder
    if word not in ("auto", "plain"):
        raise ValueError(f"trainer.kernels={word!r}: one of auto, plain")
    _plain, _folder = word == "plain", folder


def hand_written(tensor: torch.Tensor) -> bool:
    """Whether the form written for a processor's caches applies to a tensor."""
    return not _plain and tensor.device.type == "cpu"


def compiled_folder() -> Path | None:
    """Where compiled loops are kept, None where none are to be used."""
    return None if _plain else _folder
