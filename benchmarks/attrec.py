"""AttRec's training step against a plain PyTorch loop, the cost of the loop around it, and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure import Row, paired, seconds
from recexp.config.compose import compose
from recexp.problems.next_item import NextItemBatch, NextItemModule
from recexp.problems.next_item_data import NextItemData
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.tracking import run_directory
from recexp.tracking.tracker import Tracker
from recexp.training.reporting import Reporting
from recexp.training.throughput import Throughput

UPDATES = 96


class PlainAttRec(nn.Module):
    """What one writes down from the paper: embeddings, attention, two scores."""

    def __init__(self, num_users: int, num_items: int, position: Tensor, dim: int = 100) -> None:
        super().__init__()
        self.user = nn.Embedding(num_users + 1, dim)
        self.short = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.long = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.weight = nn.Parameter(torch.empty(dim, dim).uniform_(-0.05, 0.05))
        self.register_buffer("position", position)

    def forward(self, batch: NextItemBatch) -> Tensor:
        """Mean loss of a batch."""
        history = self.short(batch.history)
        query = torch.relu((history + self.position) @ self.weight)
        scores = query @ query.transpose(1, 2) / query.shape[-1] ** 0.5
        scores = scores.masked_fill((batch.history == 0)[:, None], float("-1e9"))
        mean = (scores.softmax(-1) @ history).mean(1)
        user = self.user(batch.user)

        def score(item: Tensor) -> Tensor:
            return 0.5 * (user * self.long(item)).sum(-1) + 0.5 * (mean * self.short(item)).sum(-1)

        return functional.softplus(score(batch.negative[:, 0, 0]) - score(batch.target[:, 0])).mean()


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """All measurements."""
    session = _session(folder)
    batches = _batches(session)
    yield Row("data", session.config["dataset"]["name"], "synthetic" if session.events.meta.synthetic else "real")
    yield from _step(session, batches, rounds)
    yield from _loop(session, folder, rounds)
    yield from _evaluation(session, rounds)
    yield Row("peak memory of all this", f"{session.device.peak_memory_bytes() / 2**30:.2f} GiB", "goal: under 2 GiB")


def _session(folder: Path) -> Session:
    words = ["model=attrec", "device=cpu", f"paths.root={folder}", "tracking.backend=mlflow", "problem.floor=false"]
    for dataset in ("ml1m", "ml1m_synthetic"):
        try:
            config = compose([*words, f"dataset={dataset}"])
            return open_session(config, *data_and_device(config, None))
        except Exception as error:
            if dataset == "ml1m_synthetic":
                raise
            print(f"  MovieLens-1M cannot be had, measuring on synthetic data: {str(error).splitlines()[0]}")
    raise AssertionError


def _batches(session: Session) -> list[NextItemBatch]:
    data = session.posed.data
    assert isinstance(data, NextItemData)
    data.place(torch.device("cpu"))
    updates = data.feed.block(0, range(min(UPDATES, data.plan.updates))).updates
    return [batch for update in updates for batch in update.batches]


def _step(session: Session, batches: list[NextItemBatch], rounds: int) -> Iterator[Row]:
    module = session.posed.module
    assert isinstance(module, NextItemModule)
    network = module.network
    optimizer, _ = module.settings.make_optimizer(module.parameter_groups())
    plain = PlainAttRec(session.events.num_users, session.events.num_items, network.position)
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, weight_decay=2e-6)

    def ours() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=False)
            network.loss(batch).mean().backward()
            optimizer.step()

    def theirs() -> None:
        for batch in batches:
            plain_optimizer.zero_grad()
            plain(batch).backward()
            plain_optimizer.step()

    one, other, ratio = paired(ours, theirs, rounds)
    count = sum(len(batch.user) for batch in batches)
    yield Row("step, ours", f"{count / one:,.0f}/s", "examples a second, batch 512, d 100, L 5")
    yield Row("step, plain PyTorch loop", f"{count / other:,.0f}/s")
    yield Row("step, ours against the plain loop", f"{ratio:.2f} x")


class _Loop:
    """One epoch's part through the Trainer, with or without tracking."""

    def __init__(self, session: Session, folder: Path, *, tracked: bool) -> None:
        self.session, self.folder, self.tracked = session, folder, tracked

    def step_seconds(self) -> float:
        """Seconds of an update, warm-up left out."""
        session = self.session
        throughput = Throughput(lambda: None, lambda: 0)
        recorder = None
        callbacks: list[pl.Callback] = [throughput]
        if self.tracked:
            directory = run_directory.create(self.folder, "benchmark")
            recorder = Tracker.open(directory, session.settings.tracking, self.folder)
            callbacks.insert(0, Reporting(recorder, _Nowhere(), throughput, UPDATES))
        trainer = make_trainer(session, callbacks)
        trainer.fit_loop.max_epochs = 1
        trainer.limit_train_batches = UPDATES // session.settings.trainer.updates_per_block
        trainer.limit_val_batches = 0
        trainer.fit(session.posed.module, datamodule=session.posed.data)
        if recorder is not None:
            recorder.finish("FINISHED")
        return throughput.seconds / throughput.updates


class _Nowhere:
    def start(self, total_updates: int, done: int = 0, epochs: int | None = None) -> None: ...

    def update(self, done: int, rows: int) -> None: ...

    def loss(self, value: float) -> None: ...

    def epoch(self, number: int, of: int, metrics: object) -> None: ...


def _loop(session: Session, folder: Path, rounds: int) -> Iterator[Row]:
    """Time of an update in the Trainer against the same updates in a bare loop, data included in both."""
    data, module = session.posed.data, session.posed.module
    assert isinstance(data, NextItemData)
    assert isinstance(module, NextItemModule)
    per_block = session.settings.trainer.updates_per_block
    optimizer, _ = module.settings.make_optimizer(module.parameter_groups())

    def bare() -> None:
        for block in range(UPDATES // per_block):
            for update in data.feed.block(0, data.plan.updates_of(0, block)).updates:
                optimizer.zero_grad(set_to_none=False)
                module.network.loss(update.batches[0]).mean().backward()
                optimizer.step()

    plain, tracked = _Loop(session, folder, tracked=False), _Loop(session, folder, tracked=True)
    shares, tracking = [], []
    for _ in range(rounds):
        alone = seconds(bare) / UPDATES
        inside = plain.step_seconds()
        recorded = tracked.step_seconds()
        shares.append(inside / alone - 1)
        tracking.append(recorded / inside - 1)
    yield Row("Lightning's loop around the step", f"{sorted(shares)[rounds // 2]:+.1%}", "goal: under 10 %")
    yield Row("tracking on top", f"{sorted(tracking)[rounds // 2]:+.1%}", "goal: under 1 %; noise is larger here")


def _evaluation(session: Session, rounds: int) -> Iterator[Row]:
    data, module = session.posed.data, session.posed.module
    assert isinstance(data, NextItemData)
    assert isinstance(module, NextItemModule)
    evaluation = module.evaluations["test"]

    @torch.inference_mode()
    def full() -> None:
        for batch in data.test_dataloader():
            evaluation.update(module.network.catalogue_scores(batch.user, batch.history), batch)
        evaluation.compute()
        evaluation.reset()

    full()
    took = sorted(seconds(full) for _ in range(rounds))[rounds // 2]
    users = len(data.split.users)
    yield Row(f"evaluation of {users:,} users, whole catalogue and p1", f"{took:.2f} s", "goal: under 1 s")
