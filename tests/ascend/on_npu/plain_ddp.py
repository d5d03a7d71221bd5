"""Trains with nothing but Lightning and the plug-in, in two processes; prints what each ends with."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parent))
warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

import torch  # noqa: E402
import torch_npu  # noqa: E402
from check_plugin import fit  # noqa: E402
from pytorch_lightning import Callback, LightningModule, Trainer  # noqa: E402

from recexp.devices.npu import mixed_precision, register  # noqa: E402


class Overflows(Callback):
    """One chip overflows in the second update, the other one does not."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch_npu._host.overflow = trainer.global_step == 1 and trainer.global_rank == self.rank


if __name__ == "__main__":
    kind, strategy, precision, *overflowing = sys.argv[1:]
    register()
    callbacks = [Overflows(int(overflowing[0]))] if overflowing else []
    plugins = [mixed_precision(precision)] if precision != "32" else None
    module, trainer = fit(
        Path(mkdtemp()), accelerator=kind, strategy=strategy, devices=2, plugins=plugins, callbacks=callbacks
    )
    total = sum(parameter.double().sum().item() for parameter in module.cpu().parameters())
    backend = torch.distributed.get_backend()
    facts = ("DONE", trainer.global_rank, trainer.strategy.root_device, backend, *module.dtypes, total.hex())
    # One write: the processes share the pipe.
    sys.stdout.write(" ".join(map(str, facts)) + "\n")
