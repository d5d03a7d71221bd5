"""Training loops as the command runs them, and several loops measured in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recexp.config.compose import compose
from recexp.config.typed import settings as typed
from recexp.devices.build import build as build_device
from recexp.tasks.session import Session, make_trainer, open_session
from recexp.training.throughput import Throughput


def session(folder: Path, words: Sequence[str], data: Any) -> Session:
    """The session of a command, with some data in the place of a prepared dataset."""
    config = compose([*words, "device=cpu", "tracking=off", "problem.floor=false", f"paths.root={folder}"])
    settings = typed(config)
    device, policy = build_device(config["device"], config["precision"], deterministic=settings.trainer.deterministic)
    return open_session(config, settings, device, policy, data)


def whole(session: Session) -> Callable[[], float]:
    """Examples a second of the Trainer's loop, data included; its own start and end are no part of an update."""

    def rate() -> float:
        throughput = Throughput(lambda: None, lambda: 0)
        trainer = make_trainer(session, [throughput])
        trainer.fit_loop.max_epochs = 1
        trainer.limit_val_batches = 0
        trainer.fit(session.posed.module, datamodule=session.posed.data)
        return throughput.rows / throughput.seconds

    return rate


class InTurn:
    """Rates of several loops, one after the other in every round; the first round does not count."""

    def __init__(self, rounds: int, *loops: Callable[[], float]) -> None:
        self.rounds = [[loop() for loop in loops] for _ in range(rounds + 1)][1:]

    def rate(self, loop: int) -> str:
        """The median."""
        return f"{statistics.median(rates[loop] for rates in self.rounds):,.0f}/s"

    def ratio(self, one: int, other: int) -> str:
        """The median of the ratios one / other."""
        return f"{statistics.median(rates[one] / rates[other] for rates in self.rounds):.2f} x"
