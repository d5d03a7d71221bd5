"""Named parts of a network that can be kept in float32 inside a mixed-precision step.

The softmax, losses and embedding tables of every model are float32 whatever the precision says; a block is a part
that autocast would otherwise lower. The counterpart of the operator lists ("mixlists") of the original systems.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recexp.errors import ConfigError

_ATTRIBUTE = "_fp32_blocks"


def keep_float32(network: nn.Module, names: Sequence[str], legal: Sequence[str]) -> None:
    """Keep the named blocks of a network in float32 from now on.

    Args:
        network: Its code marks the blocks with :func:`block`.
        names: Blocks.
        legal: All blocks of that network.

    Raises:
        ConfigError: A name is none of them.
    """
    unknown = [name for name in names if name not in legal]
    if unknown:
        raise ConfigError(
            [f"precision.fp32_blocks: {name} is no block of this model. Legal: {', '.join(legal)}." for name in unknown]
        )
    setattr(network, _ATTRIBUTE, frozenset(names))


@contextmanager
def block(network: nn.Module, name: str, *operands: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Run a block, in float32 where it was asked for.

    Yields:
        The operands, cast where the block is kept in float32.
    """
    if name not in getattr(network, _ATTRIBUTE, ()):
        yield operands
        return
    kinds = {operand.device.type for operand in operands}
    with torch.autocast(kinds.pop() if kinds else "cpu", enabled=False):
        yield tuple(operand.float() for operand in operands)
