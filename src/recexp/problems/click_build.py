"""Puts the click problem together from the configuration: data module, Lightning module, protocol, floor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch

from recexp.config.settings import TrainerSettings
from recexp.datasets.impressions import Impressions
from recexp.errors import ConfigError, DataError
from recexp.metrics.clicks import ClickMetrics
from recexp.metrics.probabilities import base_rate_metrics
from recexp.problems.click import ClickBatch, ClickModule, ClickNetwork, ClickSizes
from recexp.problems.click_feed import ClickFeed, ClickLoader, PlacedRows
from recexp.problems.module import StepSettings
from recexp.problems.posed import MakeNetwork, Posed
from recexp.problems.problem_data import ProblemData
from recexp.problems.row_order import RowOrder
from recexp.problems.schedule import Plan

#: Metrics of which less is better.
LOSSES = ("logloss", "ece")


def build(
    config: Mapping[str, Any],
    data: Impressions,
    *,
    trainer: TrainerSettings,
    step: StepSettings,
    make_network: MakeNetwork,
) -> Posed:
    """Pose the problem.

    Args:
        config: The whole configuration; ``model``, ``dataset``, ``problem`` and ``seed`` are read.
        data: The prepared impressions.
        trainer: Its settings.
        step: For the shared step.
        make_network: The model's class, to be called with ``sizes``.

    Raises:
        ConfigError: The data and the options leave nothing to train or to test on.
        DataError: The training rows have one label.
    """
    options, word = config["problem"], config["dataset"]["name"]
    empty = [part for part in ("train", "test") if not len(data.label[data.part(part)])]
    if empty:
        counts = ", ".join(f"{part} {len(data.label[data.part(part)]):,}" for part in ("train", "val", "test"))
        raise ConfigError([f"dataset={word}: no rows for {' and '.join(empty)} (rows: {counts}). Change its split."])
    _assert_both_labels(data, word)
    network = cast(ClickNetwork, make_network(sizes=ClickSizes(data.fields, data.dense.shape[1])))
    parts = ClickData(
        data,
        lambda rows: _feed(rows, config, trainer),
        eval_batch_size=config["dataset"]["eval_batch_size"],
        limit=trainer.limit_eval_users,
    )
    judges = {split: ClickMetrics(auc=options["auc"], bins=options["auc_bins"]) for split in ("val", "test")}
    module = ClickModule(network, step, judges)
    limit = trainer.limit_eval_users

    def floor(_: torch.device) -> dict[str, float]:
        return {f"test/{name}": value for name, value in base_rate_floor(data, limit).items()}

    validates = bool(len(data.label[data.part("val")]))
    return Posed(
        module=module,
        data=parts,
        headline="val/auc",
        lower_is_better=frozenset(f"val/{name}" for name in LOSSES),
        protocol=_protocol(data, options),
        explanations=dict.fromkeys(judges["test"].metric_names(), "all rows of the test part"),
        floor=floor if options["floor"] else None,
        updates=parts.plan.updates,
        validates=validates,
    )


def _assert_both_labels(data: Impressions, word: str) -> None:
    label = data.label[data.part("train")]
    if label.min() == label.max():
        raise DataError(
            f"dataset={word}: {'all' if label[0] else 'none'} of its {len(label):,} training rows are clicks, and from "
            "equal labels nothing can be learned. Look at the labels of the source, or at dataset.negative_subsampling "
            "where it is set."
        )


def _feed(rows: PlacedRows, config: Mapping[str, Any], trainer: TrainerSettings) -> ClickFeed:
    options = config["problem"]
    order = RowOrder(len(rows), options["shuffle"], options["shuffle_window"], config["seed"])
    plan = Plan(
        rows=len(rows),
        batch_size=config["dataset"]["batch_size"],
        accumulate=trainer.accumulate_grad_batches,
        updates_per_block=trainer.updates_per_block,
        limit=trainer.limit_train_batches,
        drop_last=options["drop_last"],
        max_updates=trainer.max_steps,
    )
    return ClickFeed(rows, order, plan)


def _protocol(data: Impressions, options: Mapping[str, Any]) -> dict[str, Any]:
    """Both forms of the area measure the same; only the bound of their difference distinguishes them."""
    exact = options["auc"] == "exact"
    return {
        "data": data.meta.fingerprint,
        "split": data.split,
        "auc": "exact, ties counted half" if exact else f"histogram of {options['auc_bins']} bins",
    }


class ClickData(ProblemData):
    """Training blocks and evaluated batches of the three parts."""

    def __init__(self, data: Impressions, make_feed: Any, *, eval_batch_size: int, limit: int | None) -> None:
        """Join the parts.

        Args:
            data: The impressions.
            make_feed: Makes the feed from the training rows.
            eval_batch_size: Rows of an evaluation batch, over all processes.
            limit: Evaluate the first so many only.
        """
        super().__init__(make_feed(PlacedRows(data, "train")))
        self._parts = {part: PlacedRows(data, part) for part in ("val", "test")}
        self.eval_batch_size, self.limit = eval_batch_size, limit

    def val_dataloader(self) -> Iterable[ClickBatch]:
        """The validation part; nothing where there is none."""
        return self._loader("val") if len(self._parts["val"]) else []

    def test_dataloader(self) -> Iterable[ClickBatch]:
        """The test part."""
        return self._loader("test")

    def _loader(self, part: str) -> ClickLoader:
        rows = self._parts[part]
        rows.place(self.device)
        return ClickLoader(rows, self.eval_batch_size, rank=self.rank, world=self.world, limit=self.limit)


def base_rate_floor(data: Impressions, limit: int | None = None) -> dict[str, float]:
    """Test metrics of predicting the share of clicks in training, whatever the impression."""
    rate = float(np.mean(data.label[data.part("train")], dtype=np.float64))
    label = data.label[data.part("test")][:limit]
    return base_rate_metrics(rate, clicks=int(label.sum(dtype=np.int64)), rows=len(label))
