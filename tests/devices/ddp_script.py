"""Trains a tiny model data parallel; tests start it. Words: precision, processes, and what goes wrong."""

from __future__ import annotations

import os
import signal
import sys
import warnings

import pytorch_lightning as pl
import torch

from recexp.devices import ddp
from recexp.devices.build import build

warnings.simplefilter("ignore")


class Tiny(pl.LightningModule):
    def __init__(self, trouble: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.layer, self.trouble = torch.nn.Linear(4, 1), trouble

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        rows = torch.linspace(-1, 1, 32).reshape(8, 4)
        mine = rows[self.trainer.global_rank :: self.trainer.world_size]
        return torch.utils.data.DataLoader(mine, batch_size=4 // self.trainer.world_size)

    test_dataloader = train_dataloader

    def training_step(self, batch: torch.Tensor, number: int) -> None:
        if self.trouble == "dies" and self.global_rank == 1:
            os._exit(7)
        if self.trouble == "hangs" and self.global_rank == 1 and number == 1:
            os.write(1, f"HANGS {os.getpid()}\n".encode())
            signal.pause()
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.layer(batch) - 1).square().mean())
        optimizer.step()

    def test_step(self, batch: torch.Tensor, number: int) -> None:
        self.layer(batch)


def train(precision: str, count: int, trouble: str) -> None:
    target = {"name": "cpu", "_target_": "recexp.devices.cpu.CpuDevice"}
    # A second job begins where the first has left the process: a group whose other members are gone.
    device, policy = build({**target, "count": count, "timeout_s": 60.0}, {"name": precision})
    assert not torch.distributed.is_initialized()
    trainer = pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, **device.trainer_arguments(policy),
    )  # fmt: skip
    module = Tiny(trouble)
    trainer.fit(module)
    trainer.test(module, verbose=False)
    weights = [value.item().hex() for value in module.layer.weight.flatten()]
    facts = map(str, (ddp.local_rank(), trainer.world_size, torch.get_num_threads()))
    # One write: the processes share the pipe.
    os.write(1, (" ".join(["DONE", *facts, *weights]) + "\n").encode())


if __name__ == "__main__":
    words = sys.argv[1:]
    train(words[0], int(words[1]), words[2])
    if words[2] == "again" and ddp.LAUNCHER not in os.environ:
        train(words[0], int(words[1]), words[2])
