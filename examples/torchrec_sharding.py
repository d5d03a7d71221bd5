"""DLRM whose tables lie in pieces on several processes: TorchRec cuts and updates them, everything else stays ours.

    torchrun --standalone --nproc-per-node 2 examples/torchrec_sharding.py

trains the same network twice from the same parameters, whole in one process and sharded over all, prints the loss of
every update side by side, and ends with an error where they differ. What to install: docs/large-tables.md.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise, table_wise
from torchrec.distributed.types import ShardingPlan
from torchrec.optim import RowWiseAdagrad
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.optimizers import in_backward_optimizer_filter

from recexp.config.settings import OptimSettings
from recexp.datasets.impressions import Field
from recexp.models.dlrm import DLRM
from recexp.models.field_tables import FieldTables
from recexp.problems.click import ClickBatch, ClickSizes
from recexp.training.optimizers import make_optimizer

#: Two of them have several ids a row; the first is the one that would not fit.
FIELDS = (Field("C1", 60_000), Field("C2", 4_000), Field("C3", 900, 3), Field("C4", 24), Field("C5", 7, 2))
NUM_DENSE, DIM, BATCH = 5, 16, 256
#: Tables from so many rows on are cut between rows; smaller ones go to one process each.
CUT_FROM = 1_000
#: Sums in another order differ in their last digits.
TOLERANCE = 1e-5
ADAGRAD_EPS = 1e-8


class ShardedTables(nn.Module):
    """In the place of ``FieldTables``: the same rows as TorchRec's collection of tables, which it can cut."""

    def __init__(self, tables: FieldTables) -> None:
        """Describe the tables; nothing is allocated until they are cut, and then only a process's own part."""
        super().__init__()
        self.names, self.slots = [field.name for field in tables.fields], tables.slots
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=field.name,
                    embedding_dim=tables.width,
                    num_embeddings=field.size,
                    feature_names=[field.name],
                )
                for field in tables.fields
            ],
            device=torch.device("meta"),
        )

    @torch.no_grad()
    def take_over(self, tables: FieldTables) -> None:
        """Copy the rows of this process, once the collection is cut: out of a checkpoint, this is the place."""
        pieces = self.collection.state_dict()
        for number, name in enumerate(self.names):
            rows = tables.rows_of(number)
            for shard in pieces[f"embedding_bags.{name}.weight"].local_shards():
                first, count = shard.metadata.shard_offsets[0], shard.metadata.shard_sizes[0]
                shard.tensor.copy_(rows[first : first + count])

    def forward(self, ids: Tensor) -> Tensor:
        """Integers [B, S] to [B, F, width], as ``FieldTables`` does: one exchange of ids, one of pooled vectors."""
        own = [part[part >= 0] for part in ids.split(self.slots, dim=1)]
        lengths = [(part >= 0).sum(1) for part in ids.split(self.slots, dim=1)]
        jagged = KeyedJaggedTensor(self.names, torch.cat(own).to(torch.int64), lengths=torch.cat(lengths))
        # The order of a sharded collection is that of its shards.
        pooled = self.collection(jagged).to_dict()
        return torch.stack([pooled[name] for name in self.names], dim=1)


class MeanLoss(nn.Module):
    """What DistributedModelParallel wraps: it hooks into ``forward``."""

    def __init__(self, network: DLRM) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: ClickBatch) -> Tensor:
        """Mean loss of a batch."""
        return self.network.loss(batch).mean()


def plan(sizes: Sequence[Field], collection: EmbeddingBagCollection, module: str) -> ShardingPlan:
    """Large tables row by row over all processes, the others whole, in turn.

    TorchRec's ``EmbeddingShardingPlanner`` finds a plan from the memory and the bandwidth of the devices instead.
    """
    world = distributed.get_world_size()
    ways = {
        field.name: row_wise() if field.size >= CUT_FROM else table_wise(rank=number % world)
        for number, field in enumerate(sizes)
    }
    cut = construct_module_sharding_plan(
        collection,
        ways,
        sharder=EmbeddingBagCollectionSharder(),
        world_size=world,
        local_size=world,
        device_type="cpu",
    )
    return ShardingPlan({module: cut})


def sharded(network: DLRM, optimizer: str, lr: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network with its tables cut, and the optimiser of the rest.

    Tables are updated inside of the backward pass, on the process that has the rows; layers are replicated, their
    gradients averaged.
    """
    whole = network.tables
    assert isinstance(whole, FieldTables)
    tables = network.tables = ShardedTables(whole)
    ways = {"sgd": (torch.optim.SGD, {"lr": lr}), "rowwise_adagrad": (RowWiseAdagrad, {"lr": lr, "eps": ADAGRAD_EPS})}
    apply_optimizer_in_backward(ways[optimizer][0], tables.collection.parameters(), ways[optimizer][1])
    model = DistributedModelParallel(
        MeanLoss(network),
        device=torch.device("cpu"),
        plan=plan(FIELDS, tables.collection, "network.tables.collection"),
        sharders=[EmbeddingBagCollectionSharder()],
    )
    tables.take_over(whole)
    dense = [parameter for _, parameter in in_backward_optimizer_filter(model.named_parameters())]
    if optimizer == "sgd":
        return model, torch.optim.SGD(dense, lr=lr)
    return model, torch.optim.Adagrad(dense, lr=lr, eps=ADAGRAD_EPS)


def batches(updates: int) -> list[ClickBatch]:
    """Clicks that depend on the ids; the same in every process."""
    generator = torch.Generator().manual_seed(7)
    taste = [torch.randn(field.size, generator=generator) for field in FIELDS]
    made = []
    for _ in range(updates):
        dense = torch.rand(BATCH, NUM_DENSE, generator=generator)
        columns = []
        for field in FIELDS:
            spread = torch.rand(BATCH, field.slots, generator=generator) ** 3
            ids = (spread * field.size).long().clamp(max=field.size - 1)
            unused = torch.rand(BATCH, field.slots, generator=generator) < 0.3
            columns.append(ids.masked_fill(unused, -1) if field.slots > 1 else ids)
        odds = sum(taste[number][ids[:, 0].clamp(min=0)] for number, ids in enumerate(columns)) + dense.sum(1) - 3
        label = (torch.rand(BATCH, generator=generator) < torch.sigmoid(torch.as_tensor(odds))).float()
        made.append(ClickBatch(label, dense, torch.cat(columns, dim=1)))
    return made


def new_network() -> DLRM:
    """Equal in every process."""
    torch.manual_seed(3)
    return DLRM(
        sizes=ClickSizes(FIELDS, NUM_DENSE),
        arch_sparse_feature_size=DIM,
        arch_mlp_bot=[32, DIM],
        arch_mlp_top=[32, 1],
    )


def train_whole(network: DLRM, optimizer: str, lr: float, updates: int) -> list[float]:
    """Loss of each update, as recexp trains it on one device; ``optim.rows=touched``."""
    eps = ADAGRAD_EPS if optimizer == "rowwise_adagrad" else None
    settings = OptimSettings(name=optimizer, lr=lr, rows="touched", eps=eps)
    rule, _ = make_optimizer(settings, None, kernels="plain")(network.parameter_groups())
    losses = []
    for batch in batches(updates):
        rule.zero_grad()
        loss = network.loss(batch).mean()
        loss.backward()
        rule.step()
        losses.append(loss.item())
    return losses


def train_sharded(model: nn.Module, rule: torch.optim.Optimizer, updates: int) -> list[float]:
    """Loss of each update over all processes, of which each has its share of the rows."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    losses = []
    for batch in batches(updates):
        rule.zero_grad()
        loss = model(batch.rows(slice(rank, None, world)))
        loss.backward()
        rule.step()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        losses.append(mean.item() / world)
    return losses


def rows_here(model: nn.Module) -> int:
    """Rows of all tables that this process holds."""
    held = 0
    for value in model.state_dict().values():
        if hasattr(value, "local_shards"):
            held += sum(shard.tensor.shape[0] for shard in value.local_shards())
    return held


def said(text: str, *, rank: int) -> None:
    """Once, whatever the number of processes."""
    if rank == 0:
        sys.stdout.write(f"{text}\n")


def main() -> int:
    """Train both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=["sgd", "rowwise_adagrad"], default="sgd")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--updates", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    network = new_network()
    # Before there are several processes: recexp's tables then train as on one device.
    alone = train_whole(copy.deepcopy(network), chosen.optimizer, chosen.lr, chosen.updates)
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    if BATCH % world:
        raise SystemExit(f"--nproc-per-node {world}: a batch of {BATCH} rows has no equal shares. Choose 2, 4 or 8.")
    model, rule = sharded(network, chosen.optimizer, chosen.lr)
    total = sum(field.size for field in FIELDS)
    held: list[int | None] = [None] * world
    distributed.all_gather_object(held, rows_here(model))
    said(f"{total:,} rows of tables; held by each process: {', '.join(f'{rows:,}' for rows in held)}", rank=rank)
    together = train_sharded(model, rule, chosen.updates)
    said("update  one process   sharded", rank=rank)
    for number, pair in enumerate(zip(alone, together, strict=True), 1):
        said(f"{number:>6}  {pair[0]:>11.6f}  {pair[1]:>8.6f}", rank=rank)
    apart = max(abs(one - other) for one, other in zip(alone, together, strict=True))
    said(f"largest difference {apart:.1e}", rank=rank)
    distributed.destroy_process_group()
    return int(apart > TOLERANCE)


if __name__ == "__main__":
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    sys.exit(main())
