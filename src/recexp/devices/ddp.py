"""Data parallel training: Lightning's strategy, started again by our own command line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from lightning_fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher rewrites Hydra's directories for the children; ours have none and need no rewriting."""

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        self.procs = []
        environment = self.cluster_environment
        os.environ.update(
            MASTER_ADDR=environment.main_address,
            MASTER_PORT=str(environment.main_port),
            NODE_RANK=str(environment.node_rank()),
            LOCAL_RANK=str(environment.local_rank()),
            WORLD_SIZE=str(self.num_processes * self.num_nodes),
        )
        for rank in range(1, self.num_processes):
            self.procs.append(subprocess.Popen(command(), env={**os.environ, "LOCAL_RANK": str(rank)}))


def command() -> list[str]:
    """The command that starts this very job again, also one of a multirun; a plain script starts itself."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return [sys.executable, "-m", "recexp", *HydraConfig.get().overrides.task]
    return list(_basic_subprocess_cmd())


class RecexpDDPStrategy(DDPStrategy):
    """DDP with our launcher."""

    strategy_name = "recexp_ddp"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
