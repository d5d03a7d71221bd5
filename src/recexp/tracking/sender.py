"""The sender process: ``python -m recexp.tracking.sender RUN_DIR`` delivers a run's journal while it grows."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from recexp.errors import RecexpError
from recexp.tracking import delivered, names, outcome, store
from recexp.tracking.sending import START_PATIENCE_S, sending_lock

if TYPE_CHECKING:
    from recexp.tracking.delivery import Delivery

UNFINISHED, STOPPED = 3, 4
_LOOK_EVERY_S = 2.0
_LONGEST_PAUSE_S = 30.0
_LAST_PAUSE_S = 1.0
_PARENT_POLL_S = 0.25
_BURIAL_PATIENCE_S = 5.0
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "OMP_NUM_THREADS": "1",
}
_log = logging.getLogger(__name__)


@dataclass
class Parent:
    """The training process, as seen from here.

    Attributes:
        order: What it asked for; empty where a person started this process.
        gone: Set when it has closed its pipe or died.
        ready: To be set when the delivery can begin; the time limit counts from then.
    """

    order: dict[str, Any] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def patience_s(self) -> float:
        """Seconds to go on when it is gone."""
        return float(self.order.get("drain_timeout", _LONGEST_PAUSE_S))

    def watch(self) -> None:
        """Notice its end; then end this process when its time is over, whatever it hangs in."""
        threading.Thread(target=self._watch, name="parent-watch", daemon=True).start()

    def _watch(self) -> None:
        # Its forked children may keep the pipe open, so that its process id is looked at, too.
        pid = self.order.get("parent")
        while pid is None or os.getppid() == pid:
            if select.select([0], [], [], _PARENT_POLL_S)[0] and not os.read(0, 4096):
                break
        self.gone.set()
        self.ready.wait(START_PATIENCE_S)
        time.sleep(self.patience_s)
        # Every record that is not confirmed is still in the journal.
        os._exit(UNFINISHED)

    def pause(self, seconds: float) -> None:
        """Wait, but not when it is gone."""
        if self.gone.is_set():
            time.sleep(min(seconds, _LAST_PAUSE_S))
        else:
            self.gone.wait(seconds)


def main(arguments: Sequence[str]) -> int:
    """Deliver until the training has ended and its journal is empty.

    Returns:
        0, or an exit code that says that something is left.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    run_dir = Path(arguments[0]).absolute()
    parent = Parent(_read_order())
    parent.watch()
    with sending_lock(run_dir):
        delivered.note(run_dir, os.getpid(), "starting")
        return _deliver(run_dir, parent)


def _read_order() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return dict(json.loads(line)) if line else {}


def _deliver(run_dir: Path, parent: Parent) -> int:
    order = parent.order
    target = store.at(run_dir, order["uri"], is_default=order["default"]) if order else store.recorded(run_dir)
    if target is None:
        return 0
    pause, said = 1.0, ""
    delivery: Delivery | None = None
    while True:
        closing = parent.gone.is_set()
        try:
            delivery = delivery or open_delivery(run_dir, target)
            if not parent.ready.is_set():
                _say(run_dir, parent, "ready")
            while delivery.step():
                if said:
                    said = _say(run_dir, parent, "ready")
                pause = 1.0
        except Exception as error:  # noqa: BLE001 - a sender that dies of the unexpected delivers nothing any more
            reason = names.scrub(str(error) or type(error).__name__)
            if is_final(error):
                _say(run_dir, parent, "stopped", reason)
                return STOPPED
            if reason != said:
                said = _say(run_dir, parent, "failing", reason)
            parent.pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            continue
        if closing and outcome.outcome(run_dir).complete:
            delivered.note(run_dir, os.getpid(), "done")
            return 0
        if closing and not outcome.bury(run_dir, _BURIAL_PATIENCE_S):
            return 0
        if not closing:
            parent.pause(_LOOK_EVERY_S)


def _say(run_dir: Path, parent: Parent, state: str, reason: str = "") -> str:
    """Note the state, where the parent and the user find it."""
    if reason:
        _log.warning("%s", reason)
    delivered.note(run_dir, os.getpid(), state, reason or None)
    parent.ready.set()
    return reason


def is_final(error: BaseException) -> bool:
    """Whether trying again is of no use."""
    from recexp.tracking.delivery import Never

    return isinstance(error, Never)


def open_delivery(run_dir: Path, target: store.Store) -> Delivery:
    """Import MLflow, set up for use from a process that does its own retries, and see to it that the store exists."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from recexp.tracking.delivery import Delivery

    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    store.initialise(target)
    return Delivery(run_dir, target)


def drain(run_dir: Path, target: store.Store, attempts: int = 3) -> str | None:
    """Deliver a dead run's journal here and now.

    Returns:
        Why it could not be finished; None where it was.
    """
    try:
        with sending_lock(run_dir).acquire(timeout=0):
            outcome.bury(run_dir, 0.0)
            return _attempt(run_dir, target, attempts)
    except Timeout:
        return "another process is delivering it right now"


def _attempt(run_dir: Path, target: store.Store, attempts: int) -> str | None:
    reason = None
    for attempt in range(attempts):
        time.sleep(attempt)
        try:
            delivery = open_delivery(run_dir, target)
            while delivery.step():
                pass
            delivered.note(run_dir, os.getpid(), "done")
            return None
        except (RecexpError, OSError) as error:
            reason = names.scrub(str(error))
        except Exception as error:  # noqa: BLE001 - one run that cannot be delivered must not keep back the others
            reason = names.scrub(str(error) or type(error).__name__)
            if is_final(error):
                break
    delivered.note(run_dir, os.getpid(), "stopped", reason)
    return reason


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Everything is on disk; taking MLflow's modules down in good order would only keep the training waiting.
    os._exit(code)
