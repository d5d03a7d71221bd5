"""Data parallel training: Lightning's strategy, its processes started by our own command line and watched by us."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from recexp.errors import RecexpError

_log = logging.getLogger(__name__)
#: Names, in a process that we started, the process that started it.
LAUNCHER = "RECEXP_LAUNCHER_PID"
#: Seconds that a training may take to end by itself after one of its processes died, then after SIGTERM.
PATIENCE_S = (10.0, 20.0)
_POLL_S = 0.5


class OwnProcesses(LightningEnvironment):
    """One machine whose processes we start. Leaves this process's environment as it is, so that a next run may start.

    Lightning takes ``LOCAL_RANK`` in the environment, which its launcher leaves behind, for a sign that somebody else
    starts the processes: a second training in one process would wait for them for ever.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """True in a process that we started."""
        return LAUNCHER in os.environ

    @property
    def main_address(self) -> str:
        """Loopback: nobody else takes part."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """A free port, the same in all processes, another one for each training."""
        if self._main_port == -1:
            inherited = LAUNCHER in os.environ
            self._main_port = int(os.environ["MASTER_PORT"]) if inherited else find_free_network_port()
        return self._main_port

    def local_rank(self) -> int:
        """0 in the process that was started by the user."""
        return int(os.environ["LOCAL_RANK"]) if LAUNCHER in os.environ else 0

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def environment() -> ClusterEnvironment:
    """Torchrun's processes where it started this one, otherwise our own; no scheduler's variables are guessed from."""
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else OwnProcesses()


def machines() -> int:
    """How many machines take part: torchrun says so, otherwise one."""
    if not TorchElasticEnvironment.detect():
        return 1
    return int(os.environ["WORLD_SIZE"]) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def started_beside() -> int | None:
    """Processes that torchrun started on this machine, None where it did not."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if TorchElasticEnvironment.detect() else None


def local_rank() -> int:
    """This process's number on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if LAUNCHER in os.environ or started_beside() is not None else 0


def command() -> list[str]:
    """The command that starts this very job again, also one of a multirun; a plain script starts itself."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return [sys.executable, "-m", "recexp", *HydraConfig.get().overrides.task]
    return list(_basic_subprocess_cmd())


def leave() -> None:
    """Leave the process group of an earlier training in this process, whose other processes are gone.

    Metrics would otherwise wait for them, even in a training of one process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes once, however often the Trainer is called, and stays with them.

    Lightning's own adds words about Hydra's directories, which we do not have, to the last command line, which in a
    multirun is that of all jobs; and it kills this process outright when another one dies.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start what is missing, call, and take the other processes down with this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if self.cluster_environment.creates_processes_externally:
            _follow_launcher()
            return function(*args, **kwargs)
        if not self.procs:
            self._start()
        try:
            with watched(self.procs):
                return function(*args, **kwargs)
        except BaseException as error:
            dead = _first_dead(self.procs) if _is_broken_connection(error) else None
            for process in self.procs:
                process.terminate()
            if dead is not None:
                raise RecexpError(f"{_obituary(dead, self.procs)}, so that the training could not go on.") from error
            raise

    def _start(self) -> None:
        leave()
        # Loopback is enough, and a machine whose name does not resolve would keep gloo from finding itself.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        common = {LAUNCHER: str(os.getpid()), "MASTER_PORT": str(self.cluster_environment.main_port)}
        for rank in range(1, self.num_processes):
            own = {**os.environ, **common, "LOCAL_RANK": str(rank)}
            self.procs.append(subprocess.Popen(command(), env=own))
        atexit.register(_wait_for, self.procs)


def _is_broken_connection(error: BaseException) -> bool:
    """Whether a collective operation missed its partner; gloo has no type of its own for that."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _first_dead(processes: Sequence[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """A process that failed; one that closes its connections may take a moment to end."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll():
                return process
        time.sleep(0.05)
    return None


def _obituary(dead: subprocess.Popen[bytes], processes: Sequence[subprocess.Popen[bytes]]) -> str:
    code = dead.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"process {processes.index(dead) + 1} of the training (pid {dead.pid}) {how}"


def _wait_for(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        try:
            process.wait(PATIENCE_S[0])
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def watched(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """While the block runs, the death of one of the processes ends all of them, with a chance to record it.

    A collective operation that misses a partner often raises by itself. Where it hangs instead, this process is asked
    to end (SIGTERM), and killed only if it does not.
    """
    done = threading.Event()

    def look() -> None:
        while not done.wait(_POLL_S):
            dead = [process for process in processes if process.poll()]
            if dead:
                _end(dead[0], processes, done)
                return

    watcher = threading.Thread(target=look, daemon=True, name="recexp-process-watch")
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _end(dead: subprocess.Popen[bytes], processes: Sequence[subprocess.Popen[bytes]], done: threading.Event) -> None:
    _log.error("%s; stopping", _obituary(dead, processes))
    for patience, number in zip(PATIENCE_S, (signal.SIGTERM, signal.SIGKILL), strict=True):
        if done.wait(patience):
            return
        for process in processes:
            if process.poll() is None:
                process.kill()
        os.kill(os.getpid(), number)


def _follow_launcher() -> None:
    """End with the process that started this one: without it, a collective operation may wait for ever."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return

    def look() -> None:
        while os.getppid() == int(launcher):
            threading.Event().wait(_POLL_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True, name="recexp-launcher-watch").start()


class RecexpDDPStrategy(DDPStrategy):
    """DDP with our launcher."""

    strategy_name = "recexp_ddp"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
