"""Puts the session problem together from the configuration: data module, Lightning module, protocol, floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from recexp.config.settings import TrainerSettings
from recexp.errors import ConfigError
from recexp.problems.feeds import make_feed
from recexp.problems.module import Network, StepSettings
from recexp.problems.placed_events import PlacedEvents
from recexp.problems.posed import MakeNetwork, Posed
from recexp.problems.session import SessionData, SessionModule, evaluations
from recexp.problems.session_evaluation import popularity_floor
from recexp.problems.session_split import SessionSplit, session_split
from recexp.problems.training_part import TrainingPart

if TYPE_CHECKING:
    from recexp.datasets.events import Events


def build(
    config: Mapping[str, Any],
    events: Events,
    *,
    trainer: TrainerSettings,
    step: StepSettings,
    make_network: MakeNetwork,
) -> Posed:
    """Pose the problem; the arguments are those of ``next_item_build.build``.

    Raises:
        ConfigError: The data and the options leave nothing to train or to test on.
        DataError: The split shows a model the future of what it is tested on.
    """
    options = config["problem"]
    network = cast(Network, make_network(num_users=events.num_users, num_items=events.num_items))
    try:
        split = session_split(
            events, validate=options["validate"], test_share=options["test_share"], leakage=options["leakage"]
        )
        part = training_part(events, split)
        placed = PlacedEvents(events)
        feed = make_feed(config, placed, part, trainer, network)
    except ValueError as error:
        raise ConfigError([f"dataset={config['dataset']['name']}: {error}"]) from error
    data = SessionData(
        feed,
        placed,
        split,
        eval_batch_size=config["dataset"]["eval_batch_size"],
        limit=trainer.limit_eval_users,
    )
    k, ties = sorted(set(options["k"])), options["ties"]
    judges = evaluations(split, k, ties)
    module = SessionModule(network, step, judges)
    support = part.support(events.item, events.user, events.num_items)

    def floor(device: torch.device) -> dict[str, float]:
        limit = trainer.limit_eval_users
        values = popularity_floor(split.test, support, k=k, ties=ties, device=device, limit=limit)
        return {f"test/{name}": value for name, value in values.items()}

    text = f"every event after the first, among all {int(split.known.sum()):,} training items, {ties} ties"
    return Posed(
        module=module,
        data=data,
        headline=f"val/recall_at_{k[-1]}",
        protocol=_protocol(events, split, options),
        explanations=dict.fromkeys(judges["test"].metric_names(), text),
        floor=floor if options["floor"] else None,
        updates=feed.plan.updates,
        validates=split.validation is not None,
        left_out=split.left_out,
    )


def _protocol(events: Events, split: SessionSplit, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": events.meta.fingerprint,
        "split": split.text,
        "validate": options["validate"],
        "candidates": "all items with a training event",
        "ties": options["ties"],
        "k": sorted(set(options["k"])),
    }


def training_part(events: Events, split: SessionSplit) -> TrainingPart:
    """The training sessions' events: all of them, and none of the others'."""
    begin = np.asarray(events.offsets[:-1]).astype(np.int64)
    end = begin.copy()
    end[split.train] = np.asarray(events.offsets)[split.train + 1]
    return TrainingPart(begin, end)
