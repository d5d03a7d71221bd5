"""NGNN through the whole loop against the dense form with a node for every category; evaluation of its questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.loops import InTurn, session, whole
from benchmarks.measure import Row, median_seconds
from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import Category, Outfits
from recexp.problems.outfit import OutfitBatch
from recexp.tasks.session import Session, make_trainer

CATEGORIES, PICTURE, WORDS, HIDDEN, STEPS = 120, 2048, 2757, 12, 3
OUTFITS, LENGTHS = 8192, (3, 8)
#: Pairs of a round of the dense form, whose inputs take 37 MB a side for 16 pairs.
DENSE_UPDATES, REFERENCE_BATCH, BATCHES = 8, 16, (16, 256, 1024)


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """All measurements; outfits and features are random, in the published shapes."""
    data = outfits(folder)
    yield Row("data", "random", f"{len(data):,} outfits, {data.num_items:,} items, {PICTURE} numbers, {WORDS} words")
    sessions = [_session(folder, data, batch) for batch in BATCHES]
    dense = _dense(sessions[0])
    together = _session(folder, data, 256, "problem.shuffle=outfits")
    plain = _session(folder, data, 256, "trainer.kernels=plain", "trainer.limit_train_batches=64")
    found = InTurn(rounds, *(whole(one) for one in (*sessions, together, plain)), dense)
    last = len(BATCHES) + 2
    for number, batch in enumerate(BATCHES):
        yield Row(f"NGNN, batch {batch:,}, ours", found.rate(number), "pairs a second, 3 steps, whole loop")
    yield Row("NGNN, batch 256, pairs of an outfit together", found.rate(len(BATCHES)), "problem.shuffle=outfits")
    yield Row("NGNN, batch 256, torch's operators alone", found.rate(len(BATCHES) + 1), "trainer.kernels=plain")
    yield Row(f"NGNN, batch {REFERENCE_BATCH}, dense form in PyTorch", found.rate(last), "inputs ready")
    yield Row("  ours against the dense form", found.ratio(0, last))
    yield from _evaluation(sessions[1], rounds)


def outfits(folder: Path) -> Outfits:
    """Frequent and rare categories; every item is in one outfit; pictures in a mapped file, as prepared ones are."""
    rng = np.random.default_rng(1)
    weight = 1 / np.arange(1, CATEGORIES + 1) ** 0.8
    lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, OUTFITS)
    own = [rng.choice(CATEGORIES, n, replace=False, p=weight / weight.sum()) for n in lengths]
    category = np.concatenate(own)
    order = np.argsort(category, kind="stable")
    members = np.empty(len(category), dtype=np.int32)
    members[order] = np.arange(len(category))
    path = folder / "pictures.npy"
    np.save(path, rng.random((len(category), PICTURE), dtype=np.float32).astype(np.float16))
    counts = rng.integers(4, 12, len(category))
    words = np.concatenate([np.sort(rng.choice(WORDS, n, replace=False)) for n in counts])
    tested = OUTFITS // 8
    return Outfits(
        category_offsets=np.searchsorted(category[order], np.arange(CATEGORIES + 1)).astype(np.int64),
        members=members,
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        bounds=(0, OUTFITS - tested, OUTFITS - tested, OUTFITS),
        categories=tuple(Category(str(c), "") for c in range(CATEGORIES)),
        item_labels=np.arange(len(category)).astype(str),
        outfit_labels=np.arange(OUTFITS).astype(str),
        meta=DataMeta("random", "0" * 64, "none", "random", synthetic=True, rows_read=OUTFITS),
        image=np.load(path, mmap_mode="c"),
        words=words.astype(np.int32),
        word_offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        num_words=WORDS,
    )


def _session(folder: Path, data: Outfits, batch: int, *words: str) -> Session:
    # Batches of a block exist together.
    blocks = max(1, 4096 // batch)
    named = ["model=ngnn", "dataset=polyvore_synthetic", f"dataset.batch_size={batch}", "problem.repeats=1"]
    return session(folder, [*named, f"trainer.updates_per_block={blocks}", *words], data)


@dataclass
class Side:
    """One side of a batch of pairs, as the reference feeds it: rows of absent categories are 0."""

    inputs: dict[str, Tensor]
    graph: Tensor


class Dense(nn.Module):
    """The mathematics with a node for every category, in batched products."""

    def __init__(self) -> None:
        super().__init__()
        widths = {"image": PICTURE, "text": WORDS}
        self.w_in = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(CATEGORIES, width, HIDDEN) / PICTURE**0.5)
                for name, width in widths.items()
            }
        )
        square = (CATEGORIES, HIDDEN, HIDDEN)
        self.w_out, self.w_msg = (
            nn.ParameterDict({name: nn.Parameter(torch.randn(square) / HIDDEN**0.5) for name in widths})
            for _ in range(2)
        )
        self.cells = nn.ModuleDict({name: nn.GRUCell(HIDDEN, HIDDEN) for name in widths})
        self.read = nn.ParameterDict({name: nn.Parameter(torch.randn(HIDDEN, 2) / HIDDEN**0.5) for name in widths})

    def score(self, side: Side, name: str) -> tuple[Tensor, Tensor]:
        """Scores [B] and projections [B, C, h] of one modality."""
        entered = torch.einsum("bcd,cdh->bch", side.inputs[name], self.w_in[name])
        state, alive = torch.tanh(entered), (side.graph.sum(1) > 0).float()[..., None]
        for _ in range(STEPS):
            sent = torch.einsum("bch,chk->bck", state, self.w_out[name])
            message = torch.einsum("bch,chk->bck", side.graph @ sent, self.w_msg[name])
            state = self.cells[name](message.flatten(0, 1), state.flatten(0, 1)).view_as(state) * alive
        both = state @ self.read[name]
        return (torch.sigmoid(both[..., 0]) * functional.leaky_relu(both[..., 1])).sum(1), entered

    def forward(self, real: Side, other: Side) -> Tensor:
        """Loss of each pair, with the paper's consistency over all categories."""
        (image, seen), (text, told) = (self.score(real, name) for name in ("image", "text"))
        difference = 0.2 * (image - self.score(other, "image")[0]) + 0.8 * (text - self.score(other, "text")[0])
        return functional.softplus(-difference) + 5 * (seen - told).square().mean((1, 2))


def _dense(one: Session) -> Callable[[], float]:
    """Pairs a second over inputs that are ready; dense RMSProp, as the reference."""
    feed = one.posed.data.feed  # type: ignore[attr-defined]
    batches = [update.batches[0] for update in feed.block(0, range(DENSE_UPDATES)).updates]
    sides = [tuple(_side(batch, which) for which in (0, 1)) for batch in batches[: DENSE_UPDATES // 2]]
    network = Dense()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9)

    def rate() -> float:
        began = time.perf_counter()
        for real, other in sides:
            optimizer.zero_grad()
            network(real, other).mean().backward()
            optimizer.step()
        return len(sides) * REFERENCE_BATCH / (time.perf_counter() - began)

    return rate


def _side(batch: OutfitBatch, which: int) -> Side:
    items, nodes = batch.items, batch.outfits
    assert items.image is not None
    assert items.words is not None
    assert items.owner is not None
    words = torch.zeros(len(items), WORDS)
    words[items.owner, items.words] = 1
    member = nodes.member[:, which]
    row, column = member.nonzero(as_tuple=True)
    item, category = nodes.node[row, column], nodes.category[row, column]
    inputs = {"image": torch.zeros(len(batch), CATEGORIES, PICTURE), "text": torch.zeros(len(batch), CATEGORIES, WORDS)}
    inputs["image"][row, category] = items.image[item]
    inputs["text"][row, category] = words[item]
    present = torch.zeros(len(batch), CATEGORIES)
    present[row, category] = 1
    graph = present[:, :, None] * present[:, None, :] * (1 - torch.eye(CATEGORIES))
    return Side(inputs, graph)


def _evaluation(one: Session, rounds: int) -> Iterator[Row]:
    """All questions about the tested outfits, pictures read again."""
    trainer = make_trainer(one, [])
    questions = one.posed.module.evaluations["test"].questions  # type: ignore[operator, union-attr]
    scored = sum(rows.member.shape[0] * rows.member.shape[1] for q in questions for rows in (q.blanks, q.real, q.other))
    took = median_seconds(lambda: trainer.test(one.posed.module, datamodule=one.posed.data, verbose=False), rounds)
    yield Row("NGNN, evaluation", f"{scored / took:,.0f}/s", f"outfits a second, {scored:,} outfits")
