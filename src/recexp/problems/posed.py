"""A problem posed on a dataset for a model: everything that a task needs and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningDataModule

from recexp.problems.module import ProblemModule

#: Makes the network from the sizes that the data decides (``num_users=...``).
MakeNetwork = Callable[..., torch.nn.Module]


class Answers(Protocol):
    """What a user sent, laid out for a pass through a network."""

    def steps(self) -> Iterable[Any]:
        """What the module's ``predict_step`` is given."""
        ...

    def answers(self, scored: Sequence[Any]) -> list[dict[str, Any]]:
        """An answer of plain types for each request, from what ``predict_step`` gave."""
        ...


@dataclass(frozen=True)
class Posed:
    """What the builder of a problem returns.

    Attributes:
        module: To train and to evaluate.
        data: Its batches.
        headline: The metric, ``val/...``, that picks the best checkpoint.
        protocol: What makes two runs' numbers comparable, as plain types; its hash is the run's protocol.
        explanations: The protocol of each metric in words, by the metric's name without its split.
        floor: Metrics ``test/...`` of a trivial model, computed on a device; None where switched off.
        updates: Updates of an epoch.
        validates: Whether validation data is held out; without, the last state is tested.
        left_out: Counts of what the split leaves out, by reason.
        answer: Lays out requests (parsed JSON) for a device; ``options`` are those of the task. None where the problem
            takes none.
        lower_is_better: The metrics ``val/...`` of which less is better; of all others, more is.
    """

    module: ProblemModule
    data: LightningDataModule
    headline: str
    protocol: dict[str, Any]
    explanations: dict[str, str]
    floor: Callable[[torch.device], dict[str, float]] | None
    updates: int
    validates: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()
    answer: Callable[[Sequence[Any], Mapping[str, Any]], Answers] | None = None
