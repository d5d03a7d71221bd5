"""The session problem: predict each next event of a session, the whole catalogue ranked, sessions held out by time.

A dataset offers :class:`~recexp.datasets.events.Events`, whose users are the sessions; a model takes the batches of its
feed, and answers for whole sessions (``encode`` and ``score``) or for the last items (``catalogue_scores``).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from recexp.problems.evaluated_module import EvaluatedModule
from recexp.problems.placed_events import PlacedEvents
from recexp.problems.problem_data import Feed, ProblemData
from recexp.problems.session_evaluation import SessionEvaluation
from recexp.problems.session_split import SessionSet, SessionSplit
from recexp.problems.session_tiles import EvaluatedSessions, SessionLoader


class SessionModule(EvaluatedModule):
    """Trains a network, and ranks every event after the first of each held-out session."""

    def evaluate(self, batch: EvaluatedSessions, evaluation: nn.Module) -> None:
        """Rank the events of some sessions."""
        assert isinstance(evaluation, SessionEvaluation)
        evaluation.update(self.network, batch)


class SessionData(ProblemData):
    """Sessions held out by time, and the model's feed of the others."""

    def __init__(
        self, feed: Feed, placed: PlacedEvents, split: SessionSplit, *, eval_batch_size: int, limit: int | None
    ) -> None:
        """Join the parts.

        Args:
            feed: Of the training sessions.
            placed: The events.
            split: Which sessions are held out.
            eval_batch_size: Sessions of an evaluation batch.
            limit: Evaluate the first so many only.
        """
        super().__init__(feed)
        self.placed, self.split, self.eval_batch_size, self.limit = placed, split, eval_batch_size, limit

    def val_dataloader(self) -> Iterable[EvaluatedSessions]:
        """The validation sessions; nothing where none are held out."""
        return [] if self.split.validation is None else self._loader(self.split.validation)

    def test_dataloader(self) -> SessionLoader:
        """The test sessions."""
        return self._loader(self.split.test)

    def _loader(self, sessions: SessionSet) -> SessionLoader:
        return SessionLoader(
            sessions,
            eval_batch_size=self.eval_batch_size,
            device=self.device,
            rank=self.rank,
            world=self.world,
            limit=self.limit,
        )


def evaluations(split: SessionSplit, k: list[int], ties: str) -> dict[str, SessionEvaluation]:
    """The two evaluations of a module."""
    known = torch.from_numpy(split.known)
    return {name: SessionEvaluation(k, ties, known) for name in ("val", "test")}
