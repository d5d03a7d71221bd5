"""Dumps of single updates by mindstudio-probe (``msprobe``), which also sees each call of torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from recexp.errors import RecexpError
from recexp.problems.watch import WatchedUpdate
from recexp.storage.atomic import write_json
from recexp.training.dump import OfChosenUpdates


def missing() -> str | None:
    """Why msprobe cannot be used here; None if it can."""
    try:
        importlib.import_module("msprobe.pytorch")
    except ImportError as error:
        return str(error)
    return None


def configuration(folder: Path, *, values: bool, level: str) -> dict[str, Any]:
    """The content of msprobe's configuration file. We choose updates and processes: it takes all that it is shown."""
    task = "tensor" if values else "statistics"
    details: dict[str, Any] = {"scope": [], "list": [], "data_mode": ["all"]}
    if not values:
        details["summary_mode"] = "statistics"
    common = {"task": task, "dump_path": str(folder), "rank": [], "step": [], "level": level, "async_dump": False}
    return {**common, task: details}


class MsprobeDump(OfChosenUpdates):
    """Starts msprobe's debugger for the chosen updates; it writes ``step{N}/rank{R}/``."""

    def __init__(
        self, folder: Path, steps: Sequence[int], *, values: bool, level: str, ranks: Sequence[int] = ()
    ) -> None:
        """Choose.

        Args:
            folder: Of the dumps of a run.
            steps: Numbers of updates, from 1.
            values: Keep all values, not only their statistics.
            level: ``L0`` modules, ``L1`` calls of torch, ``mix`` both.
            ranks: Processes that write; none for all.
        """
        super().__init__(steps, ranks)
        self.folder, self.values, self.level = folder, values, level
        self._debugger: Any = None
        self._is_open = False

    def before(self, update: WatchedUpdate) -> None:
        """Let msprobe listen."""
        if not self.is_due(update.number):
            return
        if self._debugger is None:
            self._debugger = self._make()
        self._debugger.set_init_step(update.number)
        self._debugger.start(model=update.module, rank_id=self.rank)
        self._is_open = True

    def _make(self) -> Any:
        # Imported late: it replaces functions of torch, and takes seconds.
        debugger = importlib.import_module("msprobe.pytorch").PrecisionDebugger
        if getattr(debugger, "_instance", None) is not None:
            raise RecexpError(
                "msprobe dumps one training of a process: start the jobs of a sweep one by one, or use "
                "debug.dump.backend=own."
            )
        path = self.folder / f"msprobe-rank{self.rank}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, configuration(self.folder, values=self.values, level=self.level))
        return debugger(config_path=str(path))

    def after_backward(self, update: WatchedUpdate, loss: Tensor) -> None:
        """Let it write, before anybody clips the gradients or stops because of them."""
        self.close()

    def close(self) -> None:
        """Let msprobe write what it has."""
        if self._is_open:
            self._is_open = False
            self._debugger.stop()
            self._debugger.step()
