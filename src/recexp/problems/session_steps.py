"""What a model that runs through sessions takes: steps of session-parallel mini-batches, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from recexp.problems.module import Network


@dataclass(frozen=True)
class SessionStep:
    """One step of this process's slots; b of them are alive.

    Attributes:
        item: What each slot sees, int64 [b].
        reset: Slots whose session begins here, bool [b].
        alive: Rows of the carried state that the slots have, int64 [b]; None where all slots are alive.
        column: Items that are scored: the targets of all processes' slots [M], then shared samples [S]; int64 [M + S].
        own: Column of each slot's own target, int64 [b].
        targets: M, how many of the columns are targets.
        dropped: Factors of dropout, 0 or 1 / (1 - p), one tensor for each layer that drops, float32 [b, width].
    """

    item: Tensor
    reset: Tensor
    alive: Tensor | None
    column: Tensor
    own: Tensor
    targets: int
    dropped: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class SessionBatch:
    """Consecutive steps that are differentiated together: one (BP), or a window of them (truncated BPTT)."""

    steps: list[SessionStep]


@dataclass(frozen=True)
class FeedOptions:
    """How a model wants its steps.

    Attributes:
        window: Steps of a batch.
        samples: Items S drawn for each step, shared by all slots.
        sample_alpha: They are drawn in proportion to (training events of the item) ** alpha.
        end: A word of ``session_parallel.END_RULES``.
        order: Sessions by the ``time`` of their first event, or by ``id``.
        reset: A slot's state is zero when it takes a new session; False: only when an epoch begins.
        dropout: (probability, width) of each place that drops; a probability of 0 draws nothing.
    """

    window: int
    samples: int
    sample_alpha: float
    end: str
    order: str
    reset: bool = True
    dropout: tuple[tuple[float, int], ...] = ()


@runtime_checkable
class SessionNetwork(Network, Protocol):
    """A model that runs through sessions and carries a state from step to step."""

    def feed_options(self) -> FeedOptions:
        """How it wants its steps."""
        ...

    def observe(self, support: Tensor, batch_size: int) -> None:
        """Told before training: the training events of each item id, int64 [num_items + 1], and the slots."""
        ...

    def loss(self, batch: SessionBatch) -> Tensor:
        """Loss of each slot at each step, float32 [rows]; moves the carried state on."""
        ...

    def carried(self) -> list[Tensor]:
        """The state after the last step, one tensor a layer [slots, width]; empty before the first."""
        ...

    def carry(self, state: list[Tensor]) -> None:
        """Take such a state up again."""
        ...

    def encode(self, items: Tensor) -> Tensor:
        """State after each event of whole sessions, from zero, int64 [T, b] to float [T, b, D]; 0 changes nothing."""
        ...

    def score(self, query: Tensor) -> Tensor:
        """Scores of every id for such states, higher is better, [R, D] to [R, num_items + 1]."""
        ...
