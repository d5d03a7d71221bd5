"""Whole commands with the real torch_npu 2.13.0, whose AscendCL is host memory and whose kernels are the host's.

What is real: torch_npu's Python and C++, that is device discovery, allocator, streams, generators, autocast lists,
storage and serialisation. What is not: CANN, its operators, a chip. Nothing here is evidence about hardware.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from whole_commands import Recexp

from .wheel import needed
from .wheel.child import ask
from .wheel.host_acl import HostAcl

pytestmark = [pytest.mark.slow, pytest.mark.wheel, pytest.mark.timeout(1200)]
WORDS = [
    "model=attrec", "dataset=ml1m_synthetic", "model.dim=16", "dataset.batch_size=128", "trainer.max_epochs=2",
    "trainer.kernels=plain", "trainer.updates_per_block=4", "trainer.log_every_n_steps=10", "trainer.progress=lines",
    "trainer.checkpoint_every_n_steps=40", "tracking.backend=off", "device.threads=1",
]  # fmt: skip
ON_NPU = [*WORDS[:-1], "device=npu"]
#: The kernels are the same on both sides, and so were all bits when this was written; a release of torch_npu that
#: composes an operator of others than the CPU does may change the order of a sum.
TOLERANCE = 1e-6


@pytest.fixture(scope="session")
def device() -> HostAcl:
    return needed.on_host_memory()


@pytest.fixture(scope="session")
def recexp_in(device: HostAcl, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, bool], Recexp]:
    cache = tmp_path_factory.mktemp("cache")

    def make(folder: Path, on_npu: bool) -> Recexp:
        recexp = Recexp(folder, cache)
        if on_npu:
            recexp.environment = device.variables(RECEXP_CACHE=str(cache))
        return recexp

    return make


def status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["status"])


def state(run: Path) -> dict:
    """The checkpoint, loaded as on a machine that has never heard of torch_npu: this process."""
    assert "torch_npu" not in sys.modules
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")


def losses(recexp: Recexp, run: Path) -> dict[tuple[str, int], float]:
    return {(n, step): float(value) for n, step, value in recexp.points(run) if "loss" in n}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def on_npu(tmp_path_factory: pytest.TempPathFactory, recexp_in: Callable[[Path, bool], Recexp]) -> tuple[Recexp, Path]:
    recexp = recexp_in(tmp_path_factory.mktemp("npu"), True)
    recexp.run(*ON_NPU)
    (run,) = recexp.runs()
    return recexp, run


def test_a_kernel_that_is_not_there_is_an_error(device: HostAcl, tmp_path: Path) -> None:
    variables = {name: value for name, value in device.variables().items() if name != "RECEXP_HOST_KERNELS"}
    said = ask("launch", None, variables, cwd=tmp_path)
    assert said["back"] == [1.0, 1.0, 1.0]
    assert said["sum"].startswith("RuntimeError")


def test_it_trains_as_on_the_cpu(
    on_npu: tuple[Recexp, Path], recexp_in: Callable[[Path, bool], Recexp], tmp_path: Path
) -> None:
    cpu = recexp_in(tmp_path, False)
    cpu.run(*WORDS, "device=cpu")
    (reference,) = cpu.runs()
    recexp, run = on_npu
    assert status(run) == "FINISHED"
    found, expected = losses(recexp, run), losses(cpu, reference)
    assert found.keys() == expected.keys()
    assert len(found) >= 10
    assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    assert min(found.values()) < 0.95 * max(found.values())
    for name, value in state(reference)["state_dict"].items():
        torch.testing.assert_close(state(run)["state_dict"][name], value, rtol=TOLERANCE, atol=TOLERANCE)


def test_its_checkpoint_knows_nothing_of_the_device(on_npu: tuple[Recexp, Path]) -> None:
    loaded = state(on_npu[1])
    assert loaded["global_step"] > 0
    assert all(value.device.type == "cpu" for value in loaded["state_dict"].values())


def test_killed_in_the_middle_it_resumes_and_finishes(
    on_npu: tuple[Recexp, Path], recexp_in: Callable[[Path, bool], Recexp], tmp_path: Path
) -> None:
    recexp, words = recexp_in(tmp_path, True), [*ON_NPU, "resume=true"]
    process = recexp.start(*words)
    while not list(recexp.folder.glob("runs/*/*/checkpoints/last.ckpt")):
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = recexp.runs()
    assert status(run) == "RUNNING"
    recexp.run(*words)
    assert recexp.runs() == [run]
    assert status(run) == "FINISHED"
    whole, reference = on_npu
    assert sorted(recexp.points(run)) == sorted(whole.points(reference))
    for name, value in state(reference)["state_dict"].items():
        assert torch.equal(state(run)["state_dict"][name], value), name


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_it_trains_in_half_precision(
    precision: str, on_npu: tuple[Recexp, Path], recexp_in: Callable[[Path, bool], Recexp], tmp_path: Path
) -> None:
    recexp = recexp_in(tmp_path, True)
    recexp.run(*ON_NPU, f"precision={precision}")
    (run,) = recexp.runs()
    assert status(run) == "FINISHED"
    found, full = losses(recexp, run), losses(*on_npu)
    assert found != full
    assert found == pytest.approx(full, rel=0.02)
