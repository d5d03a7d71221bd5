"""The training's end of the delivery: starts the sender process, and waits for it at the end, but not for long."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from recexp.tracking import delivered
from recexp.tracking.store import Store

LOG_FILE = "sender.log"
#: Importing MLflow and creating a fresh store is local work that comes to its end, however busy the machine is.
START_PATIENCE_S = 90.0
_LOCK_FILE = "sender.lock"
_POLL_S = 0.02
_log = logging.getLogger(__name__)


def sending_lock(run_dir: Path) -> FileLock:
    """Held by the one process that delivers a run."""
    return FileLock(run_dir / _LOCK_FILE, thread_local=False)


class Sender:
    """A process of its own: no server, slow or dead, can hold up the training, and it outlives a killed training."""

    def __init__(self, run_dir: Path, target: Store, drain_timeout: float) -> None:
        """Start it; returns at once. Where no process can be had, everything stays in the journal.

        Args:
            run_dir: A run directory.
            target: Where to deliver to; it is handed over through a pipe, because it may hold credentials.
            drain_timeout: Seconds that the process goes on after this one has ended.
        """
        self.run_dir = run_dir
        command = [sys.executable, "-m", "recexp.tracking.sender", str(run_dir)]
        try:
            with (run_dir / LOG_FILE).open("ab") as log:
                self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            _log.warning("The sender of %s cannot be started: %s. Its records stay on disk.", run_dir, error)
            self._process = None
            return
        order = {
            "uri": target.uri,
            "default": target.is_default,
            "drain_timeout": drain_timeout,
            "parent": os.getpid(),
        }
        self._tell(json.dumps(order).encode() + b"\n")

    def _tell(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def finish(self, drain_timeout: float) -> None:
        """Wait until everything is delivered, at most ``drain_timeout`` seconds from the sender's readiness."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        started, ready = time.monotonic(), None
        while process.poll() is None:
            if ready is None and self._is_ready(process.pid):
                ready = time.monotonic()
            limit = started + START_PATIENCE_S if ready is None else ready + drain_timeout
            if drain_timeout <= 0 or time.monotonic() >= limit:
                # What it has not confirmed is sent again by the next one.
                process.kill()
                process.wait()
                return
            time.sleep(_POLL_S)

    def _is_ready(self, pid: int) -> bool:
        said = delivered.noted(self.run_dir)
        return said.get("pid") == pid and said.get("state") != "starting"
