"""The stand-in for torch-npu, in this process. It changes the process for good, so it has one of its own."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

try:
    import torch_npu
except ModuleNotFoundError:
    # The everyday run comes by on its way through the folders; the checks are not for it.
    collect_ignore_glob = ["*"]


@pytest.fixture(autouse=True)
def clean() -> None:
    """Each check starts on device 0, with nothing set."""
    torch_npu._host.settings.clear()
    torch_npu._host.overflow = False
    torch.npu.set_device(0)
    torch.manual_seed(0)


@pytest.fixture
def knobs(monkeypatch: pytest.MonkeyPatch):
    """``knobs(BUSY="1")`` sets ``NPU_HOST_BUSY`` until the check has ended."""

    def turn(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"NPU_HOST_{name}", value)
        torch_npu._host.reload()

    yield turn
    monkeypatch.undo()
    torch_npu._host.reload()


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run some lines in a process of their own: ``run_python(code, NPU_HOST_DEVICES="0")`` is what they print."""

    def run(code: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def on_both() -> Callable[..., None]:
    """Run a module forwards and backwards on host and device; results and gradients must agree to the last bit."""

    def run(module: torch.nn.Module, *inputs: torch.Tensor, exact: bool = True) -> None:
        twin = copy.deepcopy(module).to("npu")
        results = []
        for model, device in ((module, "cpu"), (twin, "npu")):
            given = [tensor.detach().clone().to(device) for tensor in inputs]
            for tensor in given:
                tensor.requires_grad_(tensor.is_floating_point())
            torch.manual_seed(1)
            out = model(*given)
            out = out[0] if isinstance(out, tuple) else out
            assert out.device.type == device
            out.pow(2).sum().backward()
            grads = [p.grad for p in model.parameters()] + [t.grad for t in given if t.requires_grad]
            assert all(g is not None and g.device.type == device for g in grads)
            results.append([out.detach().cpu(), *(g.to_dense().cpu() for g in grads)])
        for expected, got in zip(*results, strict=True):
            assert torch.equal(expected, got) if exact else torch.allclose(expected, got, rtol=1e-5, atol=1e-6)

    return run
