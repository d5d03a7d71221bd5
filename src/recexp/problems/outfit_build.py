"""Puts the outfit problem together from the configuration: data module, Lightning module, protocol, floor."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from recexp.config.settings import TrainerSettings
from recexp.datasets.outfits import Outfits
from recexp.errors import ConfigError
from recexp.problems.module import StepSettings
from recexp.problems.outfit import ItemStep, OutfitModule, OutfitNetwork, OutfitSizes, QuestionStep
from recexp.problems.outfit_answers import OutfitAnswers
from recexp.problems.outfit_arrays import Ids, Pool, categories
from recexp.problems.outfit_baseline import CategoryCounts
from recexp.problems.outfit_evaluation import OutfitEvaluation, QuestionLoader
from recexp.problems.outfit_feed import OutfitFeed
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_pairs import PairMaker
from recexp.problems.outfit_protocols import explained, metric_names, metrics, rows_of
from recexp.problems.outfit_questions import ANSWERS, PUBLISHED, RANDOM, SAME, Questions, drawn, published
from recexp.problems.outfit_requests import Requests
from recexp.problems.posed import MakeNetwork, Posed
from recexp.problems.problem_data import ProblemData
from recexp.problems.schedule import Plan, shuffled

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Outfits of each part, int64; no validation where none is held out."""

    train: Ids
    val: Ids
    test: Ids


def build(
    config: Mapping[str, Any],
    data: Outfits,
    *,
    trainer: TrainerSettings,
    step: StepSettings,
    make_network: MakeNetwork,
) -> Posed:
    """Pose the problem.

    Args:
        config: The whole configuration; ``dataset``, ``problem`` and ``seed`` are read.
        data: The prepared outfits.
        trainer: Its settings.
        step: For the shared step.
        make_network: The model's class, to be called with ``sizes``.

    Raises:
        ConfigError: The data and the options leave nothing to train or to test on.
    """
    options, word = config["problem"], config["dataset"]["name"]
    parts = split(data, options, word)
    counts = CategoryCounts.of(data, parts.train)
    if set(data.modalities) == {"category"}:
        _log.info("dataset=%s: the model is told nothing of an item but its category", word)
    sizes = OutfitSizes(len(data.categories), data.modalities, torch.from_numpy(counts.conditional()))
    network = cast(OutfitNetwork, make_network(sizes=sizes))
    placed = PlacedItems(data, shuffle_seed=options["eval_seed"] if options["shuffle_features"] else None)
    limit = trainer.limit_eval_users
    asked = {
        "val": ask(data, parts.val, options, limit, word) if len(parts.val) else (),
        "test": ask(data, parts.test, options, limit, word),
    }
    judges = {split: OutfitEvaluation(questions, options["ties"]) for split, questions in asked.items()}
    module = OutfitModule(network, step, judges)
    feed = make_feed(placed, parts.train, config, trainer)

    def floor(_: torch.device) -> dict[str, float]:
        return {f"test/{name}": value for name, value in category_floor(data, counts, asked["test"], options).items()}

    def answer(requests: Sequence[Any], task: Mapping[str, Any]) -> OutfitAnswers:
        read = Requests(data, missing=task["missing"]).read(requests)
        return OutfitAnswers(data, placed, read, top=task["top"])

    told = {name: text for one in asked["test"] for name, text in explained(one, options["ties"]).items()}
    return Posed(
        module=module,
        data=OutfitData(feed, placed, asked, config["dataset"]["eval_batch_size"]),
        headline=f"val/fitb_{(asked['val'] or asked['test'])[0].name}",
        protocol=_protocol(data, asked["test"], options, limit),
        explanations={name: told[name] for name in metric_names(asked["test"])},
        floor=floor if options["floor"] else None,
        updates=feed.plan.updates,
        validates=bool(asked["val"]),
        answer=answer,
    )


def split(data: Outfits, options: Mapping[str, Any], word: str) -> Parts:
    """The dataset's parts; where validation is asked for and it has none, a share of the training outfits.

    Raises:
        ConfigError: a part that is needed is empty.
    """
    train, val, test = (np.asarray(data.part(name), dtype=np.int64) for name in ("train", "val", "test"))
    if not options["validate"]:
        val = val[:0]
    elif not len(val):
        count = round(len(train) * options["validation_share"])
        order = shuffled(len(train), options["eval_seed"], 0)
        val, train = np.sort(train[order[:count]]), np.sort(train[order[count:]])
    needed = {"train": train, "test": test, **({"validation": val} if options["validate"] else {})}
    empty = [name for name, own in needed.items() if not len(own)]
    if empty:
        counts = ", ".join(f"{name} {len(own):,}" for name, own in needed.items())
        raise ConfigError([f"dataset={word}: no outfits for {' and '.join(empty)} (outfits: {counts})."])
    return Parts(train, val, test)


def ask(data: Outfits, outfits: Ids, options: Mapping[str, Any], limit: int | None, word: str) -> tuple[Questions, ...]:
    """The questions of every protocol about some outfits; published ones are about test outfits."""
    tested = len(outfits) and outfits[0] >= data.bounds[2]
    # From the dataset's training part, as in the reference, whatever of it is held out for validation.
    trained = Pool.of(data, np.asarray(data.part("train"), dtype=np.int64))
    pools = {RANDOM: trained}
    if SAME in options["protocols"]:
        # A model has trained on the items of training, and not on the true answers: it could tell them apart by that.
        pools[SAME] = Pool.of(data, outfits).filled_up(trained, ANSWERS)
    found = []
    for protocol in options["protocols"]:
        if protocol == PUBLISHED:
            if tested and data.published is not None:
                found.append(published(data, data.published))
            elif tested:
                _log.warning("dataset=%s has no published questions: problem.protocols has others left", word)
            continue
        own, seed = outfits[:limit], options["eval_seed"]
        found.append(drawn(data, own, pools[protocol], protocol=protocol, repeats=options["repeats"], seed=seed))
    if not found and data.published is not None:
        raise ConfigError(
            [
                f"problem.protocols={list(options['protocols'])}: published questions are about test outfits, and "
                "problem.validate=true needs others. Add random_category or same_category."
            ]
        )
    if not found:
        raise ConfigError(
            [
                f"problem.protocols={list(options['protocols'])}: dataset={word} has no published questions, so that "
                "nothing can be asked. Add random_category or same_category."
            ]
        )
    return tuple(found)


def make_feed(placed: PlacedItems, outfits: Ids, config: Mapping[str, Any], trainer: TrainerSettings) -> OutfitFeed:
    """Training pairs as batches."""
    options = config["problem"]
    pairs = PairMaker(
        placed.data,
        outfits,
        per_outfit=options["pairs_per_outfit"],
        negatives=options["negatives"],
        seed=config["seed"],
    )
    plan = Plan(
        rows=len(pairs),
        batch_size=config["dataset"]["batch_size"],
        accumulate=trainer.accumulate_grad_batches,
        updates_per_block=trainer.updates_per_block,
        limit=trainer.limit_train_batches,
        drop_last=options["drop_last"],
        max_updates=trainer.max_steps,
    )
    return OutfitFeed(placed, pairs, plan, shuffle=options["shuffle"], seed=config["seed"])


def category_floor(
    data: Outfits, counts: CategoryCounts, questions: Sequence[Questions], options: Mapping[str, Any]
) -> dict[str, float]:
    """The same metrics of scores by the categories alone."""
    scores = [counts.scores(categories(data, rows.items), rows.named) for rows in rows_of(questions)]
    return metrics(questions, scores, options["ties"])


def _protocol(
    data: Outfits, questions: Sequence[Questions], options: Mapping[str, Any], limit: int | None
) -> dict[str, Any]:
    return {
        "data": data.meta.fingerprint,
        "questions": sorted(one.name for one in questions),
        "repeats": options["repeats"],
        "eval_seed": options["eval_seed"],
        "ties": options["ties"],
        "shuffle_features": options["shuffle_features"],
        "outfits": limit,
    }


class OutfitData(ProblemData):
    """Training blocks and the questions of both splits."""

    def __init__(
        self, feed: OutfitFeed, placed: PlacedItems, asked: Mapping[str, Sequence[Questions]], batch_size: int
    ) -> None:
        super().__init__(feed)
        self._placed, self._asked, self.batch_size = placed, asked, batch_size

    def val_dataloader(self) -> Iterable[ItemStep | QuestionStep]:
        """Questions about validation outfits; nothing where there are none."""
        return self._loader("val") if self._asked["val"] else []

    def test_dataloader(self) -> Iterable[ItemStep | QuestionStep]:
        """Questions about test outfits."""
        return self._loader("test")

    def _loader(self, part: str) -> QuestionLoader:
        return QuestionLoader(self._placed, self._asked[part], self.batch_size, rank=self.rank, world=self.world)
