"""The plug-in in a plain Lightning project, and Lightning's own words for the same, which train somewhere else."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.nn import functional

from recexp.devices.npu import NPUAccelerator, NPURandomState, NPUStrategy, mixed_precision, register
from recexp.devices.scaler import LossScaler

IDS = torch.randint(0, 500, (1024, 4), generator=torch.Generator().manual_seed(3))
LABELS = (IDS[:, 0] % 2).float()


class Clicks(pl.LightningModule):
    """An ordinary module of somebody else's, which notes where and in what it computes."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.table, self.hidden, self.out = torch.nn.Embedding(500, 8), torch.nn.Linear(32, 16), torch.nn.Linear(16, 1)
        self.dropout = torch.nn.Dropout(dropout)
        self.dtypes: set[torch.dtype] = set()
        self.devices: set[torch.device] = set()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.hidden(self.table(ids).flatten(1))
        self.dtypes.add(hidden.dtype)
        self.devices.add(hidden.device)
        return self.out(self.dropout(hidden.relu())).squeeze(-1)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01, foreach=False)


class CareFree(NPUAccelerator):
    """The accelerator as it is usually written: it takes what it is given."""

    def setup_device(self, device: torch.device) -> None:
        pass

    @staticmethod
    def name() -> str:
        return "npu"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(folder: Path, dropout: float = 0.0, ckpt: str | None = None, **options: Any) -> tuple[Clicks, pl.Trainer]:
    pl.seed_everything(5, verbose=False)
    module = Clicks(dropout)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IDS, LABELS), batch_size=64)
    defaults = {"logger": False, "enable_checkpointing": False, "max_epochs": 2}
    trainer = pl.Trainer(
        **{**defaults, **options}, default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, loader, ckpt_path=ckpt, weights_only=True if ckpt else None)
    return module, trainer


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def assert_on_npu(module: Clicks, device: str, dtype: torch.dtype) -> None:
    """What this plug-in promises; Lightning's own words are measured by the same."""
    assert module.devices == {torch.device(device)}
    assert module.dtypes == {dtype}


@pytest.mark.parametrize(
    ("devices", "expected"), [(1, "npu:0"), ([1], "npu:1"), ("1", "npu:0"), ("1,", "npu:1")], ids=str
)
def test_the_words_train_on_the_npu_that_was_named(tmp_path: Path, devices: Any, expected: str) -> None:
    module, trainer = fit(tmp_path, accelerator="npu", strategy="npu", devices=devices)
    assert_on_npu(module, expected, torch.float32)
    assert trainer.strategy.root_device == torch.device(expected)
    assert same(module, fit(tmp_path, accelerator="cpu")[0])


@pytest.mark.parametrize(("word", "dtype"), [("16-mixed", torch.float16), ("bf16-mixed", torch.bfloat16)])
def test_mixed_precision_is_the_npu_s(tmp_path: Path, word: str, dtype: torch.dtype) -> None:
    module, trainer = fit(tmp_path, accelerator="npu", strategy="npu", devices=1, plugins=[mixed_precision(word)])
    assert_on_npu(module, "npu:0", dtype)
    scaler = trainer.precision_plugin.scaler
    assert isinstance(scaler, LossScaler) if word == "16-mixed" else scaler is None


def test_lightning_s_own_strategy_trains_on_the_cpu(tmp_path: Path) -> None:
    """The trap: the accelerator is ours but for its check, the strategy is chosen by Lightning."""
    AcceleratorRegistry.register("careless", CareFree, override=True)
    module, trainer = fit(tmp_path, accelerator=CareFree(), devices=1)
    assert trainer.strategy.root_device.type == "cpu"
    with pytest.raises(AssertionError):
        assert_on_npu(module, "npu:0", torch.float32)


def test_lightning_s_own_precision_trains_in_float32(tmp_path: Path) -> None:
    """The trap: the device is right, the precision is Lightning's."""
    strategy = SingleDeviceStrategy("npu:0", accelerator=NPUAccelerator())
    module, trainer = fit(tmp_path, strategy=strategy, devices=1, precision="16-mixed")
    assert isinstance(trainer.precision_plugin, MixedPrecision)
    assert module.devices == {torch.device("npu:0")}
    with pytest.raises(AssertionError):
        assert_on_npu(module, "npu:0", torch.float16)


def test_both_traps_are_refused_by_the_plug_in(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"was given the device cpu: .*strategy='npu'\) for one"):
        fit(tmp_path, accelerator="npu", devices=1)
    with pytest.raises(MisconfigurationException, match=r"opens autocast for 'cuda'.*mixed_precision\('bf16-mixed'\)"):
        fit(tmp_path, accelerator="npu", strategy="npu", devices=1, precision="bf16-mixed")


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        (9, r"devices=9 means the NPUs \[0, 1, .*this machine has 2"),
        ([0, 0], r"devices=\[0, 0\] means"),
        ([2], r"this machine has 2: \[0, 1\]"),
        ([], r"No|devices=\[\]"),
        ("x", r"devices='x': a number of NPUs"),
        (2, r"runs on one NPU, but devices means .*devices=1, or strategy='npu_ddp'"),
    ],
    ids=str,
)
def test_devices_that_are_not_there_are_refused(tmp_path: Path, devices: Any, reason: str) -> None:
    with pytest.raises(MisconfigurationException, match=reason):
        fit(tmp_path, accelerator="npu", strategy="npu", devices=devices)


def test_a_strategy_that_names_its_device_keeps_it(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, strategy=NPUStrategy("npu:1", accelerator=NPUAccelerator()))
    assert_on_npu(module, "npu:1", torch.float32)
    with pytest.raises(MisconfigurationException, match="contradict"):
        fit(tmp_path, strategy=NPUStrategy(1, accelerator=NPUAccelerator()), devices=[0])


def test_memory_is_counted() -> None:
    torch.npu.reset_peak_memory_stats(0)
    before = torch.npu.memory_allocated(0)
    held = torch.zeros(1 << 20, device="npu:0")
    stats = NPUAccelerator().get_device_stats(torch.device("npu:0"))
    assert torch.npu.memory_allocated(0) - before >= 4 << 20
    assert any(name.startswith("npu.") and value >= 4 << 20 for name, value in stats.items())
    del held
    assert torch.npu.memory_allocated(0) == before


@pytest.mark.parametrize("map_location", ["cpu", "npu:1"])
def test_a_checkpoint_of_plain_lightning_goes_on(tmp_path: Path, map_location: str) -> None:
    options: dict[str, Any] = {"accelerator": "npu", "strategy": "npu", "devices": 1}
    whole, _ = fit(tmp_path, 0.3, callbacks=[NPURandomState()], **options)
    half, trainer = fit(tmp_path, 0.3, callbacks=[NPURandomState()], max_epochs=1, **options)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    loaded = Clicks.load_from_checkpoint(tmp_path / "half.ckpt", map_location=map_location, weights_only=True)
    assert same(loaded, half)
    resumed, _ = fit(tmp_path, 0.3, str(tmp_path / "half.ckpt"), callbacks=[NPURandomState()], **options)
    assert same(resumed, whole)


def test_without_the_random_state_a_resumed_run_is_another(tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "npu", "strategy": "npu", "devices": 1}
    whole, _ = fit(tmp_path, 0.3, **options)
    _, trainer = fit(tmp_path, 0.3, max_epochs=1, **options)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = fit(tmp_path, 0.3, str(tmp_path / "half.ckpt"), **options)
    assert not same(resumed, whole)


def two_processes(*words: str) -> list[list[str]]:
    command = [sys.executable, str(Path(__file__).with_name("plain_ddp.py")), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return sorted(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("DONE"))


def test_two_npus_train_as_two_processes_of_the_cpu_do() -> None:
    npu, cpu = two_processes("npu", "npu_ddp", "32"), two_processes("cpu", "ddp", "32")
    assert [facts[:4] for facts in npu] == [[str(n), f"npu:{n}", "hccl", "torch.float32"] for n in (0, 1)]
    assert {facts[4] for facts in npu} == {facts[4] for facts in cpu}
    mixed = two_processes("npu", "npu_ddp", "16-mixed")
    assert [facts[3] for facts in mixed] == ["torch.float16"] * 2
    assert mixed[0][4] == mixed[1][4] != npu[0][4]


def test_the_overflow_of_one_chip_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """On chips that saturate. Else one process would skip updates that the other makes."""
    monkeypatch.setenv("NPU_HOST_NO_INF_NAN", "1")
    first, second = two_processes("npu", "npu_ddp", "16-mixed", "1")
    assert first[4] == second[4]


def test_lightning_s_own_ddp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="say strategy='npu_ddp'"):
        fit(tmp_path, accelerator="npu", strategy="ddp", devices=1)


def test_wrong_words_for_mixed_precision() -> None:
    with pytest.raises(ValueError, match="one of '16-mixed', 'bf16-mixed'"):
        mixed_precision("16")
    with pytest.raises(ValueError, match="not scaled"):
        mixed_precision("bf16-mixed", loss_scale=128)
    assert mixed_precision("16-mixed", loss_scale=128).scaler.get_scale() == 128


def test_the_plug_in_needs_no_configuration_of_ours() -> None:
    code = "import sys, recexp.devices.npu; print([m for m in sys.modules if m.startswith(('recexp.config', 'hydra'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
