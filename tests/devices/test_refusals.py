"""Each way in which a device cannot be had has a message of its own, with the next thing to do."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from recexp.devices import auto, mps, precision
from recexp.devices.build import build
from recexp.devices.cpu import CpuDevice
from recexp.devices.cuda import CudaDevice
from recexp.devices.mps import MpsDevice
from recexp.errors import DeviceError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """torch believes in two GPUs; nothing can be put on them."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def refusal(device: CudaDevice | MpsDevice | CpuDevice) -> str:
    with pytest.raises(DeviceError) as caught:
        device.check()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_build_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    release = torch.__version__.partition("+")[0]
    assert f"is a build without CUDA. Install the CUDA build of torch=={release} " in refusal(CudaDevice())


def test_no_driver_and_no_gpu(two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(torch.cuda, "device_count", lambda: 0)
    two_gpus.setattr("shutil.which", lambda _: None)
    assert "there is no NVIDIA driver on this machine" in refusal(CudaDevice())
    two_gpus.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    assert "the driver shows no GPU" in refusal(CudaDevice(count=-1))
    two_gpus.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES='-1' shows no GPU. Type `unset" in refusal(CudaDevice())


@pytest.mark.parametrize(("index", "count"), [(2, 1), (None, 3), (1, 2)])
def test_a_gpu_that_is_not_there(two_gpus: pytest.MonkeyPatch, index: int | None, count: int) -> None:
    message = refusal(CudaDevice(index=index, count=count))
    assert "this machine has 2: cuda:0, cuda:1." in message
    assert f"device.index={index}, device.count={count}" in message


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 MiB.", "Its memory is full: `nvidia-smi` shows by whom"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "Another process has it for itself"),
        ("CUDA error: no kernel image is available for execution on the device", "no kernels for a GPU of that age"),
        ("The NVIDIA driver on your system is too old (found version 11040).", "Update the NVIDIA driver"),
        ("CUDA error: unknown error", "See `nvidia-smi`"),
    ],
)
def test_a_gpu_that_does_not_compute(two_gpus: pytest.MonkeyPatch, error: str, advice: str) -> None:
    def fail(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError(f"{error}\nCUDA kernel errors might be asynchronously reported")

    two_gpus.setattr(torch, "ones", fail)
    message = refusal(CudaDevice(index=1))
    assert f"cuda:1 was found, but an addition failed there: {error}" in message
    assert advice in message
    assert "asynchronously" not in message


@pytest.mark.parametrize("count", [0, -1])
def test_no_device_at_all(two_gpus: pytest.MonkeyPatch, count: int) -> None:
    assert "must be at least 1, or -1" in refusal(CudaDevice(index=2 if count else None, count=count))


def test_all_gpus_from_the_index_on(two_gpus: pytest.MonkeyPatch) -> None:
    assert CudaDevice(count=-1).devices == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert CudaDevice(index=1, count=-1).devices == [torch.device("cuda", 1)]


def test_metal_elsewhere_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "platform", SimpleNamespace(system=lambda: "Linux"))
    assert "exists on Apple computers only, and this is Linux" in refusal(MpsDevice())
    monkeypatch.setattr(mps, "platform", SimpleNamespace(system=lambda: "Darwin"))
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    assert "has no Metal" in refusal(MpsDevice())
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "it needs macOS 14 or newer" in refusal(MpsDevice())


def test_auto_passes_over_a_device_that_is_there_but_does_not_compute(
    two_gpus: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = torch.ones

    def ones(*size: int, device: torch.device) -> torch.Tensor:
        if device.type == "cuda":
            raise RuntimeError("CUDA error: unknown error")
        return real(*size, device=device)

    two_gpus.setattr(torch, "ones", ones)
    with caplog.at_level("INFO"):
        assert auto.choose(order=["cuda", "cpu"]).kind == "cpu"
    assert "device=auto is cpu here; task=doctor says why not cuda" in caplog.text


def test_bfloat16_that_would_be_imitated_is_refused(two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(DeviceError, match=r"precision=bf16 cannot work on cuda:0: .*Try one of fp32, mixed, fp16\."):
        CudaDevice().check_precision(precision.resolve("cuda", "bf16"))


def test_a_precision_that_has_no_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: torch.no_grad())
    with pytest.raises(DeviceError, match=r"precision=bf16 cannot work on cpu: a product has the type torch\.float32"):
        build({"name": "cpu", "_target_": "recexp.devices.cpu.CpuDevice"}, {"name": "bf16"})


def test_deterministic_is_switched_on_with_what_cublas_needs_and_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "-")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    CudaDevice().set_deterministic(True)
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        CudaDevice().set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()
