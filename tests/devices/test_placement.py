"""Where a training runs and in which types it computes, seen from inside a step."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from recexp.config import catalogue
from recexp.devices import precision
from recexp.devices.auto import choose, default
from recexp.devices.build import assert_placement, build
from recexp.devices.probe import ProductProbe
from recexp.errors import DeviceError
from recexp.training.checkpoint_io import AtomicCheckpointIO

KINDS = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]),
]
WORDS = ["fp32", "mixed", "bf16", "fp16"]


class Tiny(pl.LightningModule):
    """Embeds, multiplies, and remembers the types that it saw. Updates by hand, as our models do."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.table, self.layer = torch.nn.Embedding(9, 8), torch.nn.Linear(8, 1)
        self.seen: set[tuple[str, torch.dtype]] = set()
        self.devices: set[torch.device] = set()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.arange(36) % 9, batch_size=9)

    def training_step(self, batch: torch.Tensor, _: int) -> STEP_OUTPUT:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        with ProductProbe() as probe:
            loss = self.layer(self.table(batch)).float().square().mean()
            self.manual_backward(loss)
        optimizer.step()
        self.seen |= probe.seen
        self.devices.add(self.device)
        return None


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_float32_matmul_precision("highest")


def trainer(**options: object) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_step_runs_where_and_in_what_was_asked_for(kind: str, word: str) -> None:
    device, policy = build({"name": kind, "_target_": _target(kind)}, {"name": word})
    module = Tiny()
    before = module.table.weight.detach().clone()
    trainer(**device.trainer_arguments(policy, AtomicCheckpointIO())).fit(module)
    assert {d.type for d in module.devices} == {kind}
    assert (kind, policy.meaning.compute) in module.seen
    if word == "fp32":
        assert {dtype for _, dtype in module.seen} == {torch.float32}
    assert not torch.equal(before, module.table.weight.detach().cpu())
    facts = assert_placement(module.to(device.root), device, policy, module.seen)
    assert facts["precision.asked"] == word
    assert facts["precision.computed"] == precision.name(policy.meaning.compute)


def _target(kind: str) -> str:
    return catalogue.read(f"device/{kind}").tree["device"]["_target_"]


def test_a_wrong_type_or_place_is_an_error() -> None:
    device, policy = build({"name": "cpu", "_target_": _target("cpu")}, {"name": "bf16"})
    with pytest.raises(DeviceError, match="means products in bfloat16, but the first step computed them in float32"):
        assert_placement(Tiny(), device, policy, {("cpu", torch.float32)})
    with pytest.raises(DeviceError, match=r"table\.weight is bfloat16, but precision=bf16 keeps parameters in float32"):
        assert_placement(Tiny().bfloat16(), device, policy)
    with pytest.raises(DeviceError, match=r"is on meta, but cpu was asked for"):
        assert_placement(Tiny().to("meta"), device, policy)


def test_every_word_of_the_table_is_offered_by_the_configuration() -> None:
    for kind in catalogue.choices("device"):
        listed = catalogue.read(f"device/{kind}").tree["device"]["precisions"]
        assert sorted(listed) == sorted(precision.words(kind) if kind != "auto" else WORDS), kind
    words = {word for kind in precision.TABLE for word in precision.words(kind)}
    assert sorted(catalogue.choices("precision")) == sorted(words | set(precision.ALIASES))


@pytest.mark.parametrize("alias", precision.ALIASES)
def test_a_word_of_the_original_systems_is_the_word_that_the_documentation_says(alias: str) -> None:
    from recexp.config.compose import compose

    meaning = precision.ALIASES[alias][0]
    assert compose([f"precision={alias}"])["precision"] == compose([f"precision={meaning}"])["precision"]


def test_auto_takes_what_computes() -> None:
    assert choose(order=["mps", "cpu"] if sys.platform != "darwin" else ["cpu"]).kind == "cpu"
    if not torch.cuda.is_available() and sys.platform != "darwin":
        with pytest.raises(DeviceError, match=r"device=cuda cannot be used: .*device=mps cannot be used: "):
            choose(order=["cuda", "mps"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_on_a_machine_without_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match=r"without CUDA|no usable NVIDIA driver") as caught:
        default("cuda").check()
    assert "device=cpu" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_precision_that_cannot_work_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"precision=int8 cannot work on device=cpu\. Legal there: fp32, mixed, bf16"):
        precision.resolve("cpu", "int8")
    with pytest.raises(DeviceError, match="precision=bf16 has no loss scaling"):
        precision.resolve("cpu", {"name": "bf16", "loss_scale": 2.0})


def test_random_states_come_back() -> None:
    device = default("cpu")
    state = device.rng_state()
    first = torch.rand(3)
    device.set_rng_state(state)
    assert torch.equal(first, torch.rand(3))


def test_threads_are_set_whatever_the_launcher_says() -> None:
    code = (
        "from recexp.devices.cpu import CpuDevice; import torch; d = CpuDevice(threads=2); d.prepare();"
        "print(torch.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "2"


def test_the_documented_table_is_the_code_s() -> None:
    page = Path(__file__).parents[2] / "docs" / "precision.md"
    assert page.read_text("utf-8") == precision.markdown(), (
        "run: python -m recexp.devices.precision > docs/precision.md"
    )
