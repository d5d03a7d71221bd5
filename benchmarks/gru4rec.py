"""GRU4Rec's updates through the whole loop against a plain PyTorch loop on the same schedule, and its evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Row, median_seconds
from recexp.config.compose import compose
from recexp.problems.session_feed import SessionFeed
from recexp.problems.session_steps import SessionStep
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.training.throughput import Throughput

UPDATES = 640
#: Peers' published setting: batch 50, one layer of 100; cross-entropy in the batch alone, and with 2,048 samples.
SETTINGS = {"in-batch": 0, "2,048 samples": 2048}
WORDS = [
    "model=gru4rec", "dataset=rsc15_synthetic", "dataset.sessions=120000", "dataset.items=40000",
    "dataset.min_item_support=1", "dataset.batch_size=50", "device=cpu", "tracking=off", "problem.floor=false",
]  # fmt: skip


class PlainGRU4Rec:
    """What one writes down in PyTorch: a cell, sparse gradients of the tables, Adagrad with momentum on their rows."""

    def __init__(self, session: Session, samples: int) -> None:
        network = session.posed.module.network
        self.output = nn.Embedding(session.events.num_items + 1, 100, sparse=True)
        self.bias = nn.Embedding(session.events.num_items + 1, 1, sparse=True)
        nn.init.zeros_(self.bias.weight)
        nn.init.uniform_(self.output.weight, -0.01, 0.01)
        self.cell = nn.GRUCell(100, 100)
        self.correction = torch.stack((network.log_support, 0.5 * network.log_support))  # type: ignore[union-attr]
        self.parameters = [self.output.weight, self.bias.weight, *self.cell.parameters()]
        self.sums = [torch.zeros_like(p) for p in self.parameters]
        self.velocities = [torch.zeros_like(p) for p in self.parameters]
        self.state = torch.zeros(50, 100)
        self.samples = samples

    def update(self, step: SessionStep) -> None:
        """One step."""
        state = torch.where(step.reset[:, None], 0.0, self.state[: len(step.item)])
        rows = self.output(torch.cat((step.item, step.column)))
        state = functional.dropout(self.cell(rows[: len(step.item)], state), 0.4)
        scores = state @ rows[len(step.item) :].T + self.bias(step.column).T
        targets, samples = self.correction[0, step.column[:50]], self.correction[1, step.column[50:]]
        scores = scores - torch.cat((targets, samples))
        (functional.cross_entropy(scores, step.own, reduction="sum") / 50).backward()
        self.state = state.detach()
        self._adagrad()

    @torch.no_grad()
    def _adagrad(self) -> None:
        for value, total, velocity in zip(self.parameters, self.sums, self.velocities, strict=True):
            gradient = value.grad
            assert gradient is not None
            if gradient.is_sparse:
                gradient = gradient.coalesce()
                rows, found = gradient.indices()[0], gradient.values()
                added = total[rows] + found.square()
                total.index_copy_(0, rows, added)
                moved = velocity[rows] * 0.2 - 0.2 * found / (added + 1e-6).sqrt()
                velocity.index_copy_(0, rows, moved)
                value.index_add_(0, rows, moved)
            else:
                total.addcmul_(gradient, gradient)
                velocity.mul_(0.2).addcdiv_(gradient, (total + 1e-6).sqrt(), value=-0.2)
                value.add_(velocity)
            value.grad = None


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """All measurements; the data is synthetic."""
    session = None
    for name, samples in SETTINGS.items():
        session = _session(folder, samples)
        yield from _updates(session, samples, name, rounds)
    assert session is not None
    yield from _evaluation(session, rounds)


def _session(folder: Path, samples: int) -> Session:
    correction = [] if samples else ["model.logq=0"]
    config = compose([*WORDS, f"paths.root={folder}", f"model.samples={samples}", *correction])
    return open_session(config, *data_and_device(config, None))


def _updates(session: Session, samples: int, name: str, rounds: int) -> Iterator[Row]:
    """Events a second of the Trainer's loop, data included, and of the plain loop on steps that are ready."""
    feed = session.posed.data.feed  # type: ignore[attr-defined]
    assert isinstance(feed, SessionFeed)
    per_block = session.settings.trainer.updates_per_block
    blocks = [feed.block(0, feed.plan.updates_of(0, number)) for number in range(UPDATES // per_block)]
    steps = [update.batches[0].steps[0] for block in blocks for update in block.updates]
    plain = PlainGRU4Rec(session, samples)
    trained: list[float] = []

    def ours() -> None:
        throughput = Throughput(lambda: None, lambda: 0)
        trainer = make_trainer(session, [throughput])
        trainer.fit_loop.max_epochs = 1
        trainer.limit_train_batches = UPDATES // per_block + 1
        trainer.limit_val_batches = 0
        trainer.fit(session.posed.module, datamodule=session.posed.data)
        trained.append(throughput.rows / throughput.seconds)

    def theirs() -> None:
        for step in steps:
            plain.update(step)

    # The Trainer's own start and end are no part of an update: its rate is measured inside.
    ratios, rates = [], []
    for number in range(rounds + 1):
        ours()
        took = median_seconds(theirs, 1)
        if number:
            rates.append(sum(len(step.item) for step in steps) / took)
            ratios.append(trained[-1] / rates[-1])
    middle = sorted(range(rounds), key=ratios.__getitem__)[rounds // 2]
    yield Row(f"updates, {name}, ours", f"{trained[1:][middle]:,.0f}/s", "events a second, batch 50, h 100, whole loop")
    yield Row(f"updates, {name}, plain PyTorch loop", f"{rates[middle]:,.0f}/s")
    yield Row(f"updates, {name}, ours against the plain loop", f"{ratios[middle]:.2f} x")


def _evaluation(session: Session, rounds: int) -> Iterator[Row]:
    """Every event of the test sessions against the whole catalogue."""
    module, data = session.posed.module.eval(), session.posed.data
    evaluation = module.evaluations["test"]  # type: ignore[index]

    @torch.inference_mode()
    def whole() -> None:
        for batch in data.test_dataloader():
            evaluation.update(module.network, batch)
        evaluation.compute()
        evaluation.reset()

    whole()
    took = median_seconds(whole, rounds)
    events = data.split.test.targets  # type: ignore[attr-defined]
    items = int(data.split.known.sum())  # type: ignore[attr-defined]
    yield Row(
        f"evaluation, {events:,} events, {items:,} items", f"{events / took:,.0f}/s", "goal: 20,000 events a second"
    )
