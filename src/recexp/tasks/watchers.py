"""What ``debug=`` asks for, made real: the watchers of a training's updates, and the folders that they fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning import Callback

from recexp.config.settings import DebugSettings, DumpSettings, ProfilerSettings
from recexp.devices.device import Device
from recexp.devices.profiling import Profile, ProfilerOptions
from recexp.errors import ConfigError
from recexp.problems.watch import UpdateWatcher
from recexp.tasks.session import Session
from recexp.tracking.tracker import Recorder
from recexp.training import msprobe
from recexp.training.dump import Dump
from recexp.training.msprobe import MsprobeDump
from recexp.training.overflow import Overflow
from recexp.training.profiling import Profiling

PROFILE, DUMP = "profile", "dump"


@dataclass(frozen=True)
class Watching:
    """What looks into a training.

    Attributes:
        watchers: Told of every update.
        callbacks: For the Trainer; before the one that saves, which may be the last that is called.
        counters: Gives the further metrics at the points of the loss, by update.
    """

    watchers: list[UpdateWatcher]
    callbacks: list[Callback]
    counters: Callable[[], Mapping[int, Mapping[str, float]]] = dict


class KeepFolders(Callback):
    """Records the folders that were filled, when the training ends or fails."""

    def __init__(self, folders: list[Path], recorder: Recorder) -> None:
        self.folders, self.recorder = folders, recorder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait until all processes have written, and record."""
        trainer.strategy.barrier()
        self._record()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Record what is there: the other processes may be gone."""
        self._record()

    def _record(self) -> None:
        for folder in self.folders:
            if folder.is_dir():
                self.recorder.artifact(folder, folder.name)


def build(session: Session, directory: Path, recorder: Recorder) -> Watching:
    """The watchers that the settings ask for, and a counter of overflows wherever there is a loss scaler.

    Args:
        session: What is trained.
        directory: Of the run.
        recorder: Takes the folders.

    Raises:
        ConfigError: A dump needs msprobe, which is not there.
    """
    debug = session.settings.debug
    watchers: list[Profiling | Dump | MsprobeDump | Overflow] = []
    if debug.profiler.enabled:
        watchers.append(_profiling(debug.profiler, session.device, directory / PROFILE))
    if debug.dump.steps:
        # Before the one that stops: what made it stop is to be seen.
        watchers.append(_dump(debug.dump, directory / DUMP))
    overflow = _overflow(session, debug)
    if overflow is not None:
        watchers.append(overflow)
    folders = [directory / PROFILE] * debug.profiler.enabled + [directory / DUMP] * bool(debug.dump.steps)
    keep = [KeepFolders(folders, recorder)] if folders else []
    return Watching([*watchers], [*watchers, *keep], overflow.take_points if overflow else dict)


def _overflow(session: Session, debug: DebugSettings) -> Overflow | None:
    action = debug.overflow.action
    if action == "off" and session.policy.scaler() is None:
        return None
    return Overflow(action, log_every_n_steps=session.settings.trainer.log_every_n_steps)


def _profiling(settings: ProfilerSettings, device: Device, folder: Path) -> Profiling:
    given = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "enabled"}

    def make(first_update: int, rank: int) -> Profile:
        return device.profiler(ProfilerOptions(**given, first_update=first_update, rank=rank), folder)

    return Profiling(make, ProfilerOptions(**given).length)


def _dump(settings: DumpSettings, folder: Path) -> Dump | MsprobeDump:
    values = settings.mode == "tensor"
    if _uses_msprobe(settings):
        return MsprobeDump(folder, settings.steps, values=values, level=settings.level, ranks=settings.ranks)
    return Dump(folder, settings.steps, values=values, ranks=settings.ranks, scope=settings.scope)


def _uses_msprobe(settings: DumpSettings) -> bool:
    """Whether mindstudio-probe dumps: where it is asked for, or is there and can do what is asked for."""
    is_needed = settings.backend == "msprobe" or settings.level != "L0"
    if settings.backend == "own" or (settings.scope and not is_needed):
        return False
    reason = msprobe.missing()
    if reason is not None and is_needed:
        raise ConfigError(
            [
                f"debug.dump.backend={settings.backend} with debug.dump.level={settings.level} needs msprobe, which "
                f"cannot be imported here ({reason}): pip install mindstudio-probe, or use debug.dump.backend=own "
                "with debug.dump.level=L0."
            ]
        )
    return reason is None
