"""Evaluation protocols of the next-item problem: which candidates a user's target is ranked among, and how.

| id | candidates | ties | metrics | used by |
|---|---|---|---|---|
| p1 | target + 101 items the user never met, of all ids | target last | HR, ln-NDCG, MRR | TF reference |
| p2 | target + 100 such items | target last | HR, NDCG, MRR at 10 | RecLearn |
| p3 | all ids without the user's training items | fair | HR, NDCG, MRR, AUC | AttRec's paper |
| p4 | all items anyone met, without the user's history | fair | HR, NDCG, MRR | recexp's headline |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recexp.metrics.ranking import RankingSpec


@dataclass(frozen=True)
class Protocol:
    """One way to rank a target.

    Attributes:
        name: Its word on the command line.
        suffix: What its metrics' names end in; empty for the headline.
        sampled: Number of sampled candidates beside the target, None for a ranking of the catalogue.
        catalogue: ``rated`` (ids that occur) or ``all`` ids up to the largest.
        removed: Events whose items are no candidates: ``history`` (all before the target) or ``train``.
        spec: Which metrics.
        text: One line for tables.
    """

    name: str
    suffix: str
    sampled: int | None
    catalogue: str
    removed: str
    spec: RankingSpec
    text: str

    def metric_name(self, name: str) -> str:
        """Full name of one of the spec's metrics under this protocol."""
        if self.spec.log_base != 2.0:
            name = name.replace("ndcg_", "ndcg_ln_")
        return f"{name}_{self.suffix}" if self.suffix else name


def protocols(names: Sequence[str], k: Sequence[int]) -> list[Protocol]:
    """The protocols of these names with these cut-offs, in the order of the names."""
    cuts = tuple(sorted(set(k)))
    known = {
        "p1": Protocol(
            "p1", "sampled101", 101, "all", "history", RankingSpec(cuts, "pessimistic", log_base=math.e),
            "target + 101 sampled items, ties lose, natural log",
        ),
        "p2": Protocol(
            "p2", "sampled100", 100, "all", "history", RankingSpec(cuts, "pessimistic", mrr_at=10),
            "target + 100 sampled items, ties lose",
        ),
        "p3": Protocol(
            "p3", "unseen", None, "all", "train", RankingSpec(cuts, "fair", auc=True),
            "all ids but the user's training items, fair ties",
        ),
        "p4": Protocol(
            "p4", "", None, "rated", "history", RankingSpec(cuts, "fair"),
            "all rated items but the user's history, fair ties",
        ),
    }  # fmt: skip
    return [known[name] for name in names]
