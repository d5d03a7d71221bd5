"""What a training has to hold in a device's memory at least, found before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from recexp.config.settings import OptimSettings
from recexp.errors import DeviceError

#: Tensors of a parameter's size that an optimiser keeps, beside the momentum where there is one.
STATES: Mapping[str, int] = {
    "adam": 2, "lazy_adam": 2, "adagrad": 1, "adagrad_momentum": 1, "rmsprop": 1, "rmsprop_tf": 1, "rowwise_adagrad": 0,
    "sgd": 0,
}  # fmt: skip
#: Those that keep the last visit of each row, four bytes, where rows rest.
COUNTING = frozenset({"rmsprop", "rmsprop_tf"})
_COUNT_BYTES = 4
_LISTED = 3


@dataclass(frozen=True)
class Needed:
    """Bytes by what they are for, and the largest parameters in words."""

    weights: int
    gradients: int
    states: int
    largest: tuple[str, ...]

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.states

    def said(self, optimizer: str) -> str:
        """The arithmetic."""
        parts = [f"weights {gib(self.weights)} ({'; '.join(self.largest)})"]
        if self.gradients:
            parts.append(f"their gradients {gib(self.gradients)}")
        if self.states:
            parts.append(f"what {optimizer} keeps {gib(self.states)}")
        return f"{' + '.join(parts)} = {gib(self.total)}"


def gib(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 // 100 else f"{size / 2**20:.2f} MiB"


def needed(make: Callable[[], nn.Module], optim: OptimSettings, *, row_gradients: bool = True) -> Needed:
    """What the network of ``make`` needs, without allocating it and without drawing a random number.

    Args:
        make: Builds the network.
        optim: The optimiser's settings.
        row_gradients: Where rows are visited alone, gradients of tables are rows, too, and are not counted.
    """
    state = torch.get_rng_state()
    with torch.device("meta"):
        network = make()
    torch.set_rng_state(state)
    # A parameter that has two names is held once.
    named = {id(p): (name, p) for name, p in reversed(list(network.named_parameters(remove_duplicate=False)))}
    sizes = sorted(((p.numel() * p.element_size(), name, p) for name, p in named.values()), key=lambda one: -one[0])
    weights = sum(size for size, _, _ in sizes)
    rows = row_gradients and optim.rows == "touched"
    gradients = sum(size for size, _, p in sizes if not (rows and p.dim() == 2))
    states = weights * (STATES[optim.name] + bool(optim.momentum))
    if optim.rows == "touched" and optim.name in COUNTING:
        states += sum(_COUNT_BYTES * len(p) for _, _, p in sizes if p.dim() == 2)
    largest = [f"{name} {' x '.join(f'{n:,}' for n in p.shape)}" for _, name, p in sizes[:_LISTED]]
    return Needed(weights, gradients, states, tuple(largest))


def assert_room(
    make: Callable[[], nn.Module],
    optim: OptimSettings,
    *,
    free: int | None,
    host: int,
    where: str,
    row_gradients: bool = True,
) -> None:
    """Refuse a training that cannot fit.

    Args:
        make: Builds the network.
        optim: The optimiser's settings.
        free: Bytes that are free on the device; None where it does not tell.
        host: Bytes that are free on the host, where the network is built first.
        where: The device, for people.
        row_gradients: As in :func:`needed`.

    Raises:
        DeviceError: With the arithmetic and the ways out.
    """
    need = needed(make, optim, row_gradients=row_gradients)
    if free is not None and need.total > free:
        lacking, place = free, where
    elif need.weights > host:
        lacking, place = host, "the host, where the network is built"
    else:
        return
    raise DeviceError(
        f"The model does not fit: {need.said(optim.name)}, and {place} has {gib(lacking)} free. Make the embeddings "
        "narrower or their vocabularies smaller, take an optimiser that keeps less (optim.name=sgd or rowwise_adagrad, "
        "optim.rows=touched on one processor), or train on a device with more memory; several devices hold a copy each."
    )
