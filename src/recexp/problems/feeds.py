"""The feed that a model asks for, over the training part that a problem has cut out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from recexp.config.settings import TrainerSettings
from recexp.problems.module import Network
from recexp.problems.next_item import WindowNetwork
from recexp.problems.placed_events import PlacedEvents
from recexp.problems.problem_data import Feed
from recexp.problems.session_feed import SessionFeed
from recexp.problems.session_steps import SessionNetwork
from recexp.problems.training_part import TrainingPart
from recexp.problems.window_feed import NegativeOptions, WindowFeed


def make_feed(
    config: Mapping[str, Any], placed: PlacedEvents, part: TrainingPart, trainer: TrainerSettings, network: Network
) -> Feed:
    """Session-parallel steps for a model that runs through sessions, windows for the others.

    Args:
        config: The whole configuration; ``dataset``, ``problem`` and ``seed`` are read.
        placed: The events.
        part: Which of them are for training.
        trainer: Its settings.
        network: Says what it wants.

    Raises:
        ValueError: There is nothing to train on.
    """
    batch_size = config["dataset"]["batch_size"]
    plan = {
        "accumulate": trainer.accumulate_grad_batches,
        "updates_per_block": trainer.updates_per_block,
        "limit": trainer.limit_train_batches,
        "max_updates": trainer.max_steps,
    }
    if not isinstance(network, SessionNetwork):
        windows = cast(WindowNetwork, network)
        return WindowFeed(
            placed,
            part,
            plan={**plan, "batch_size": batch_size, "drop_last": config["problem"]["drop_last"]},
            max_len=windows.max_len,
            targets=windows.targets,
            negatives=NegativeOptions(**config["problem"]["negatives"]),
            seed=config["seed"],
        )
    events, options = placed.events, network.feed_options()
    support = part.support(events.item, events.user, events.num_items)
    network.observe(torch.from_numpy(support), batch_size)
    sessions = part.sessions(events.time, events.user_labels, options.order)
    return SessionFeed(
        events.item,
        part.begin[sessions],
        part.end[sessions],
        batch_size=batch_size,
        options=options,
        support=support,
        seed=config["seed"],
        plan=plan,
    )
