"""Puts the next-item problem together from the configuration: data module, Lightning module, protocol, floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from recexp.config.settings import TrainerSettings
from recexp.errors import ConfigError
from recexp.problems.evaluation import Evaluation
from recexp.problems.feeds import make_feed
from recexp.problems.leave_one_out import MIN_EVENTS
from recexp.problems.module import Network, StepSettings
from recexp.problems.next_item import CatalogueNetwork, NextItemModule
from recexp.problems.next_item_data import NextItemData
from recexp.problems.posed import MakeNetwork, Posed
from recexp.problems.protocols import Protocol, protocols

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
    """Pose the problem.

    Args:
        config: The whole configuration; ``model``, ``dataset``, ``problem`` and ``seed`` are read.
        events: The prepared data.
        trainer: Its settings.
        step: For the shared step.
        make_network: The model's class, to be called with ``num_users`` and ``num_items``.

    Raises:
        ConfigError: The data and the options leave nothing to train on or to draw from.
    """
    options = config["problem"]
    chosen = protocols(options["protocols"], options["k"])
    network = cast(Network, make_network(num_users=events.num_users, num_items=events.num_items))
    try:
        data = _data(config, events, trainer, network)
    except ValueError as error:
        raise ConfigError([f"dataset={config['dataset']['name']}: {error}"]) from error
    module = NextItemModule(network, step, {name: Evaluation(chosen, data.rated) for name in ("val", "test")})
    return Posed(
        module=module,
        data=data,
        headline=_headline(chosen),
        protocol=_protocol(events, options, chosen),
        explanations={
            protocol.metric_name(name): protocol.text for protocol in chosen for name in protocol.spec.metric_names()
        },
        floor=(lambda device: popularity_floor(data, chosen, device)) if options["floor"] else None,
        updates=data.plan.updates,
    )


def _data(config: Mapping[str, Any], events: Events, trainer: TrainerSettings, network: Network) -> NextItemData:
    return NextItemData(
        events,
        make_feed=lambda placed, part: make_feed(config, placed, part, trainer, network),
        eval_batch_size=config["dataset"]["eval_batch_size"],
        max_len=cast(CatalogueNetwork, network).max_len,
        sampled=max(
            (p.sampled or 0 for p in protocols(config["problem"]["protocols"], config["problem"]["k"])), default=0
        ),
        eval_seed=config["problem"]["eval_seed"],
        limit_eval_users=trainer.limit_eval_users,
    )


def _headline(chosen: list[Protocol]) -> str:
    """NDCG of the whole catalogue where it is computed, at the first cut-off."""
    first = min(chosen, key=lambda protocol: protocol.name != "p4")
    return "val/" + first.metric_name(f"ndcg_at_{first.spec.k[0]}")


def _protocol(events: Events, options: Mapping[str, Any], chosen: list[Protocol]) -> dict[str, Any]:
    return {
        "data": events.meta.fingerprint,
        "split": f"leave-one-out, users with at least {MIN_EVENTS} events",
        "eval_seed": options["eval_seed"],
        "rankings": {p.name: {"candidates": p.text, "log_base": p.spec.log_base, "k": list(p.spec.k)} for p in chosen},
    }


def popularity_floor(data: NextItemData, chosen: list[Protocol], device: torch.device) -> dict[str, float]:
    """Test metrics of ranking every user's catalogue by the number of training events."""
    data.place(device)
    scores = data.popularity.to(device)
    evaluation = Evaluation(chosen, data.rated).to(device)
    with torch.inference_mode():
        for batch in data.test_dataloader():
            evaluation.update(scores.expand(len(batch.user), -1), batch)
    return {f"test/{name}": value for name, value in evaluation.compute().items()}
