"""The device computes what the host computes, to the last bit, and refuses what a device refuses."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def doubled_below(rows):
    """Changes a view in place."""
    rows = rows.clone()
    rows[1:].mul_(2)
    return rows


IDS = torch.tensor([3, 0, 3, 7])
ROWS = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))

MODULES = {
    "mlp": (nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.LayerNorm(16), nn.Dropout(0.5), nn.Linear(16, 3)), ROWS),
    "embedding": (nn.Embedding(8, 4), IDS),
    "sparse embedding": (nn.Embedding(8, 4, sparse=True), IDS),
    "embedding bag": (nn.EmbeddingBag(8, 4, mode="sum"), IDS, torch.tensor([0, 2])),
    "batch norm": (nn.BatchNorm1d(6), ROWS),
    "group norm": (nn.GroupNorm(2, 6), ROWS),
    "convolution": (nn.Conv1d(2, 4, 3, padding=1), ROWS.view(4, 2, 6)),
    "transposed convolution": (nn.ConvTranspose1d(4, 4, 3, groups=2), ROWS.view(2, 4, 6)),
}

FUNCTIONS = {
    "bmm": (lambda a: a.bmm(a.mT), ROWS.view(2, 4, 6)),
    "softmax": (lambda a: a.softmax(-1), ROWS),
    "gelu": (F.gelu, ROWS),
    "masked softmax": (lambda a: a.masked_fill(a < 0, -1e9).log_softmax(-1), ROWS),
    "einsum": (lambda a: torch.einsum("ij,kj->ik", a, a), ROWS),
    "gather": (lambda a: a.gather(1, (a > 0).long()), ROWS),
    "index": (lambda a, i: a[i], ROWS, IDS),
    "index_add": (lambda a, i: torch.zeros_like(a).index_add(0, i, a[:4]), ROWS, IDS),
    "index_select": (lambda a, i: a.index_select(0, i), ROWS, IDS),
    "index_put": (lambda a, i: a.clone().index_put((i,), a[:4], accumulate=True), ROWS, IDS),
    "scatter_add": (lambda a: torch.zeros_like(a).scatter_add(0, (a > 0).long(), a), ROWS),
    "sort": (lambda a: a.sort(descending=True).values, ROWS),
    "topk": (lambda a: a.topk(3).values, ROWS),
    "cumsum": (lambda a: a.cumsum(0), ROWS),
    "cat": (lambda a: torch.cat([a, a[1:].flip(0)]).unfold(0, 3, 2), ROWS),
    "views": (lambda a: a.t().reshape(-1)[3:].unsqueeze(0).expand(2, -1).contiguous(), ROWS),
    "in place on a view": (doubled_below, ROWS),
    "norm": (lambda a: a / a.norm(dim=1, keepdim=True).clamp_min(1e-6), ROWS),
    "complex": (lambda a: torch.view_as_real(torch.fft.fft(a).conj() * torch.fft.fft(a)), ROWS),
    "conjugate": (lambda a: torch.view_as_real(torch.complex(a, a).conj().resolve_conj()), ROWS),
    "float64": (lambda a: a.double().exp().mean(0), ROWS),
    "binary cross entropy": (lambda a: F.binary_cross_entropy_with_logits(a, (a > 0).float()), ROWS),
    "cross entropy": (lambda a, i: F.cross_entropy(a[:4], i.clamp_max(5)), ROWS, IDS),
}


@pytest.mark.parametrize("case", MODULES)
def check_modules(case, on_both):
    module, *inputs = MODULES[case]
    if case == "mlp":
        module.eval()  # another kernel draws for dropout than on the host
    on_both(module, *inputs)


@pytest.mark.parametrize("case", FUNCTIONS)
def check_functions(case, on_both):
    function, *inputs = FUNCTIONS[case]
    on_both(Function(function), *inputs)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def check_recurrent_layers(kind, on_both):
    on_both(kind(6, 5, num_layers=2, bidirectional=True), ROWS.view(2, 4, 6), exact=False)


def check_attention(on_both):
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    on_both(layer, ROWS.view(2, 4, 6), exact=False)
    q = ROWS.view(1, 2, 4, 6)
    on_both(Function(lambda a: F.scaled_dot_product_attention(a, a, a, is_causal=True)), q, exact=False)


def check_results_without_gradients():
    ids = torch.tensor([5, 1, 5, 2])
    mine = ids.npu()
    assert torch.unique(mine).tolist() == [1, 2, 5]
    assert [part.tolist() for part in mine.unique(return_inverse=True, return_counts=True)] == [
        [1, 2, 5],
        [2, 0, 2, 1],
        [1, 1, 2],
    ]
    assert torch.bincount(mine).tolist() == torch.bincount(ids).tolist()
    assert torch.searchsorted(mine.sort().values, mine).tolist() == [2, 0, 2, 1]
    assert mine.nonzero().device.type == "npu"
    out = torch.empty(0, device="npu")
    assert torch.add(torch.ones(3, device="npu"), 1, out=out) is out
    assert out.tolist() == [2, 2, 2]
    mine[mine > 2] = 0
    assert mine.tolist() == [0, 1, 0, 2]
    assert torch.arange(3, device="npu").resize_(5).shape == (5,)


def check_a_view_of_the_argument_shares_its_memory():
    tensor = torch.zeros(2, 2, device="npu")
    tensor.diagonal().fill_(3)
    tensor.view(-1)[1:2] += 1
    assert tensor.tolist() == [[3, 1], [0, 3]]
    first, second = tensor.unbind()
    second.mul_(2)
    assert tensor.tolist() == [[3, 1], [0, 6]]
    assert first.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("mixed", "devices"),
    [
        (lambda: torch.ones(2, device="npu") + torch.ones(2), "npu:0 and cpu"),
        (lambda: torch.ones(2) + torch.ones(2, device="npu"), "npu:0 and cpu"),
        (lambda: nn.Linear(2, 2).npu()(torch.ones(1, 2)), "npu:0 and cpu"),
        (lambda: F.embedding(IDS, torch.ones(8, 2, device="npu")), "npu:0 and cpu"),
        (lambda: torch.cat([torch.ones(2, device="npu"), torch.ones(2)]), "npu:0 and cpu"),
        (lambda: torch.ones(2, device="npu:0") * torch.ones(2, device="npu:1"), "npu:0 and npu:1"),
    ],
)
def check_tensors_of_two_devices_are_refused(mixed, devices):
    with pytest.raises(RuntimeError, match=f"Expected all tensors to be on the same device.*{devices}"):
        mixed()


def check_what_may_be_mixed():
    mine = torch.arange(5, device="npu")
    assert mine[torch.tensor([1, 3])].tolist() == [1, 3]
    assert (mine * torch.tensor(2)).tolist() == [0, 2, 4, 6, 8]
    host = torch.empty(5, dtype=torch.int64)
    assert host.copy_(mine).tolist() == mine.to("npu:1").tolist()
    with pytest.raises(TypeError, match="can't convert npu:0 device type tensor to numpy"):
        mine.numpy()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def check_autocast(dtype):
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1)).npu()
    with torch.autocast("npu", dtype=dtype):
        out = module(torch.randn(3, 4, device="npu"))
        loss = F.binary_cross_entropy_with_logits(out.squeeze(-1), torch.ones(3, device="npu"))
        assert torch.cat([out, out.float()]).dtype == torch.float32
        with torch.autocast("npu", enabled=False):
            assert module(torch.randn(3, 4, device="npu")).dtype == torch.float32
    loss.backward()
    assert (out.dtype, loss.dtype, module[0].weight.grad.dtype) == (dtype, torch.float32, torch.float32)
    with torch.npu.amp.autocast(dtype=dtype):
        assert torch.npu.is_autocast_enabled()
        assert torch.npu.get_autocast_dtype() == dtype
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32  # the host's tensors stay as they are


OPTIMIZERS = [
    ("Adam", {"foreach": True}),
    ("Adam", {"foreach": False}),
    ("Adam", {"fused": True}),
    ("AdamW", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"fused": True}),
    ("Adagrad", {}),
    ("RMSprop", {}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def check_optimizers(name, options):
    host = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(16, 1))
    twin = copy.deepcopy(host).to("npu")
    for model in (host, twin):
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.05, **options)
        ids = torch.arange(40, device=model[2].weight.device).view(20, 2) % 20
        for _ in range(5):
            optimizer.zero_grad()
            F.softplus(model(ids)).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert all(torch.equal(a, b.cpu()) for a, b in zip(host.parameters(), twin.parameters(), strict=True))


def check_sparse_optimizer():
    host = nn.Embedding(10, 4, sparse=True)
    twin = copy.deepcopy(host).to("npu")
    for model in (host, twin):
        optimizer = torch.optim.SparseAdam(model.parameters(), lr=0.1)
        ids = torch.tensor([1, 2, 1, 7]).to(model.weight.device)
        for step in range(4):
            optimizer.zero_grad(set_to_none=step != 2)
            for _ in range(2):  # the second gradient is added to the first
                model(ids).pow(2).sum().backward()
            optimizer.step()
    assert twin.weight.grad.is_sparse
    assert twin.weight.grad.is_npu
    assert torch.equal(host.weight, twin.weight.cpu())
    assert torch.equal(host.weight.grad.to_dense(), twin.weight.grad.to_dense().cpu())
    assert torch.equal(host.weight.grad.to_dense(), twin.weight.grad.cpu().npu().to_dense().cpu())


@pytest.mark.parametrize("make", [lambda: torch.amp.GradScaler("npu", 4.0), lambda: torch.npu.amp.GradScaler(4.0)])
def check_a_step_with_overflow_is_skipped(make):
    weight = nn.Parameter(torch.ones(2, device="npu"))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = make()
    for factor, expected, scale in ((float("inf"), [1, 1], 2.0), (0.25, [0.75, 0.75], 2.0)):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert weight.tolist() == expected
        assert scaler.get_scale() == scale


def check_operators_are_recorded():
    ops = torch.ops.npu_host
    weight = torch.ones(2, 2, device="npu", dtype=torch.float16)
    ops.record(True)
    torch.mm(weight, weight)
    weight[0].add_(1)
    F.embedding(torch.zeros(2, dtype=torch.int64, device="npu"), weight)
    ops.record(False)
    torch.exp(weight)
    seen = ops.recorded()
    assert "aten::mm|float16,float16" in seen
    assert "aten::index_select|float16,int64" in seen
    assert "aten::add_.Tensor|float16,int64" in seen
    assert any(line.startswith("aten::as_strided|") for line in seen)
    assert not any("exp" in line for line in seen)
    assert len(set(seen)) == len(seen)
    ops.record(True)
    assert ops.recorded() == []
    ops.record(False)
