"""What training and evaluation share: data, device, the posed problem and a Trainer, from one configuration."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from recexp.config import targets
from recexp.config.settings import Settings
from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.devices.build import build as build_device
from recexp.devices.device import Device
from recexp.devices.host import memory_bytes
from recexp.devices.precision import Policy
from recexp.models import kernels
from recexp.models.blocks import keep_float32
from recexp.problems.module import Clip, StepSettings
from recexp.problems.posed import Posed
from recexp.training.checkpoint_io import AtomicCheckpointIO
from recexp.training.memory import assert_room
from recexp.training.optimizers import assert_penalties, make_optimizer

Notify = Callable[[str, int, int | None], None]
_MODEL_FACTS = {"name", "problems", "feed", "_target_", "blocks"}


@dataclass(frozen=True)
class Session:
    """One configuration, made real."""

    config: Mapping[str, Any]
    settings: Settings
    device: Device
    policy: Policy
    events: Any
    posed: Posed

    @property
    def epochs(self) -> int:
        """Epochs of the training, the last one possibly cut short by ``trainer.max_steps``."""
        trainer = self.settings.trainer
        by_steps = -(-trainer.max_steps // self.posed.updates) if trainer.max_steps else None
        return min(value for value in (trainer.max_epochs, by_steps) if value is not None)

    @property
    def total_updates(self) -> int:
        """Updates of the training."""
        return min(self.epochs * self.posed.updates, self.settings.trainer.max_steps or 2**62)


def data_and_device(config: Mapping[str, Any], notify: Notify | None) -> tuple[Settings, Device, Policy, Any]:
    """The device first, because it fails fastest; then the data.

    Raises:
        DeviceError: The device or the precision cannot be had.
        DataError: The data cannot.
    """
    settings = typed(config)
    device, policy = build_device(config["device"], config["precision"], deterministic=settings.trainer.deterministic)
    events = prepare.prepare(
        config["dataset"],
        data=data_folder(settings),
        cache=cache_folder(settings),
        progress=notify,
        problem=config["problem"],
    )
    return settings, device, policy, events


def data_folder(settings: Settings) -> Path | None:
    """The user's own copies."""
    return Path(settings.paths.data).expanduser() if settings.paths.data else prepare.default_data()


def cache_folder(settings: Settings) -> Path:
    """Downloads and prepared arrays."""
    return Path(settings.paths.cache).expanduser() if settings.paths.cache else prepare.default_cache()


def open_session(config: Mapping[str, Any], settings: Settings, device: Device, policy: Policy, events: Any) -> Session:
    """Seed everything and pose the problem."""
    random.seed(settings.seed)
    np.random.seed(settings.seed)
    torch.manual_seed(settings.seed)
    model = {key: value for key, value in config["model"].items() if key not in _MODEL_FACTS}
    pose = targets.load(config["problem"]["_target_"])
    # The length of the training is known once the problem is posed; the optimiser is made after that.
    session: list[Session] = []

    def optimizer(groups: list[dict[str, Any]]) -> Any:
        return _optimizer(session[0])(groups)

    kernels.choose(settings.trainer.kernels, cache_folder(settings) / "native")
    step = StepSettings(
        make_optimizer=optimizer,
        clip=_clip(settings),
        log_every_n_steps=settings.trainer.log_every_n_steps,
    )
    make = targets.load(config["model"]["_target_"])

    def network(**sizes: Any) -> torch.nn.Module:
        def build() -> torch.nn.Module:
            made: torch.nn.Module = make(**model, **sizes)
            return made

        free, where = device.free_memory_bytes(), str(device.root)
        # Others have to see a table's gradient whole: ``models.tables``.
        alone = device.kind == "cpu" and device.count == 1 and step.clip is None and settings.trainer.kernels == "auto"
        assert_room(build, settings.optim, free=free, host=memory_bytes()[1], where=where, row_gradients=alone)
        built = build()
        keep_float32(built, policy.fp32_blocks, config["model"].get("blocks") or ())
        return built

    posed: Posed = pose(config, events, trainer=settings.trainer, step=step, make_network=network)
    # Before a run is recorded; the optimiser itself is made when the training begins.
    assert_penalties(posed.module.parameter_groups(), settings.optim)
    session.append(Session(config, settings, device, policy, events, posed))
    return session[0]


def _clip(settings: Settings) -> Clip | None:
    value = settings.trainer.gradient_clip_val
    return None if value is None else Clip(value, settings.trainer.gradient_clip_algorithm)


def _optimizer(session: Session) -> Any:
    return make_optimizer(session.settings.optim, session.total_updates, kernels=_optimizer_kernels(session))


def _optimizer_kernels(session: Session) -> str:
    """The device's best, but fused ones where gradients must be unscaled before they are clipped."""
    trainer = session.settings.trainer
    if trainer.kernels == "plain":
        return "plain"
    clipped_under_scale = session.policy.scaled and trainer.gradient_clip_val is not None
    return next(word for word in session.device.optimizers if not (clipped_under_scale and word == "fused"))


def make_trainer(session: Session, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """The one place that builds a Trainer. Nothing in it is left to Lightning's choice."""
    quiet_lightning()
    trainer = session.settings.trainer
    return pl.Trainer(
        **session.device.trainer_arguments(session.policy, AtomicCheckpointIO()),
        max_epochs=session.epochs,
        check_val_every_n_epoch=trainer.eval_every_n_epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=True,
    )


def quiet_lightning() -> None:
    """Keep Lightning's hints off the console: what they say is either shown by us or chosen on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*litlogger.*",
        ".*sync_dist=True.*",
        ".*isinstance.treespec, LeafSpec.*",
        "Total length of .list. across ranks is zero.*",
    ):
        warnings.filterwarnings("ignore", message=message)
