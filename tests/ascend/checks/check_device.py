"""Devices, their memory, streams and events; and the refusals of a device that is missing, taken or broken."""

import inspect

import pytest
import torch
import torch_npu


def check_devices_are_found():
    assert torch.npu is torch_npu.npu
    assert torch.npu.is_available()
    assert torch.npu.device_count() == torch.accelerator.device_count() == 2
    assert torch.accelerator.current_accelerator() == torch.device("npu")
    assert torch.ones(2).npu(1).device == torch.device("npu:1")
    assert torch.nn.Linear(2, 2).npu().weight.is_npu
    assert torch.npu.get_device_properties(1).total_memory == torch.npu.mem_get_info(1)[1]
    assert torch.npu.get_device_properties(1).name == torch.npu.get_device_name(1)


def check_the_current_device():
    torch.npu.set_device("npu:1")
    assert torch.npu.current_device() == 1
    assert torch.ones(1, device="npu").device.index == 1
    with torch.npu.device(0):
        assert torch.ones(1, device="npu").device.index == 0
    assert torch.npu.current_device() == 1
    with pytest.raises(RuntimeError, match="107001"):
        torch.npu.set_device(2)
    with pytest.raises(AssertionError, match="Invalid device id"):
        torch.npu.get_device_name(2)
    with pytest.raises(ValueError, match="Expected a npu device"):
        torch.npu.set_device("cpu")


def check_no_device(run_python):
    code = (
        "import torch, torch_npu; torch.manual_seed(1)\n"
        "print(torch.npu.is_available(), torch.npu.device_count(), torch.accelerator.is_available())\n"
        "print(torch.rand(1).item() > 0)\n"
        "try: torch.ones(1, device='npu')\n"
        "except RuntimeError as error: print('107001' in str(error))"
    )
    assert run_python(code, NPU_HOST_DEVICES="0").split() == ["False", "0", "False", "True", "True"]


def check_a_taken_device(knobs):
    knobs(BUSY="1")
    for use in (lambda: torch.npu.set_device(1), lambda: torch.ones(1, device="npu:1")):
        with pytest.raises(RuntimeError, match=r"(?s)error code is 507033.*EL0005: The resources are busy"):
            use()
    assert torch.ones(1, device="npu:0").item() == 1


def check_a_broken_device(knobs):
    knobs(BROKEN="0")
    assert torch.npu.is_available()
    assert torch.npu.device_count() == 2
    for use in (lambda: torch.ones(1, device="npu:0"), lambda: torch.zeros(1).to("npu:0")):
        with pytest.raises(RuntimeError, match="ERR00100 PTA call acl api failed"):
            use()
    assert torch.ones(1, device="npu:1").item() == 1


def check_a_device_that_computes_wrongly(knobs):
    one = torch.ones(1, device="npu:0")
    assert (one + one).item() == 2
    knobs(WRONG="0")
    assert (one + one).item() == 3


def check_a_forked_child_may_not_use_the_device(run_python):
    code = (
        "import os, torch, torch_npu; torch.ones(1, device='npu'); read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    try: torch.ones(1, device='npu')\n"
        "    except RuntimeError as error: os.write(write, str(error)[:24].encode())\n"
        "    torch.manual_seed(0); os.write(write, str(torch.npu._is_in_bad_fork()).encode()); os._exit(0)\n"
        "os.wait(); print(os.read(read, 99).decode())"
    )
    assert run_python(code) == "Cannot re-initialize NPUTrue"


def check_memory_is_counted(knobs):
    before = torch.npu.memory_allocated()
    elsewhere = torch.npu.memory_allocated(1)
    tensor = torch.empty(1000, 1000, device="npu")
    doubled = tensor * 2  # a result, which the host's allocator made
    view = doubled[1:].t()
    assert torch.npu.memory_allocated() - before == 8_000_000
    assert torch.npu.max_memory_allocated() >= before + 8_000_000
    del tensor, doubled
    assert torch.npu.memory_allocated() - before == 4_000_000
    del view
    assert torch.npu.memory_allocated() == before
    torch.npu.reset_peak_memory_stats()
    assert torch.npu.max_memory_allocated() == before
    assert torch.npu.memory_allocated(1) == elsewhere
    assert torch.npu.memory_stats()["allocated_bytes.all.current"] == before
    assert "allocated_bytes" in torch.npu.memory_summary()
    free, total = torch.npu.mem_get_info()
    assert total - free == before


def check_memory_is_limited(knobs):
    torch.npu.empty_cache()
    knobs(MEMORY_MB="1")
    kept = torch.zeros(1000, device="npu")
    with pytest.raises(torch.OutOfMemoryError, match="NPU out of memory"):
        torch.empty(1 << 20, device="npu")
    with pytest.raises(torch.OutOfMemoryError, match="NPU out of memory"):
        kept.expand(1000, 1000) + 1
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 50, device="npu")
    assert kept.sum().item() == 0


def check_streams_and_events():
    other = torch.npu.Stream()
    assert other != torch.npu.current_stream() == torch.npu.default_stream()
    with torch.npu.stream(other):
        assert torch.npu.current_stream() == other
    assert torch.npu.current_stream() == torch.npu.default_stream()
    first, second = (torch.npu.Event(enable_timing=True) for _ in range(2))
    first.record()
    torch.ones(3, device="npu").sum()
    second.record()
    second.synchronize()
    assert first.elapsed_time(second) > 0
    other.wait_event(other.record_event())
    assert torch.npu.Stream(device="npu:1").device == torch.device("npu:1")


def check_waiting_is_counted():
    before = torch_npu._host.synchronized
    torch.npu.synchronize()
    torch.accelerator.synchronize()
    torch.npu.current_stream().synchronize()
    assert torch_npu._host.synchronized == before + 3


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (torch.npu.set_device, "(device)"),
        (torch.npu.synchronize, "(device=None)"),
        (torch.npu.set_compile_mode, "(jit_compile=False)"),
        (torch.npu.get_device_properties, "(device_name=None)"),
        (torch.npu.memory_summary, "(device=None, abbreviated=False)"),
        (torch.npu.Event.__init__, "(self, enable_timing=False, blocking=False, interprocess=False)"),
    ],
)
def check_signatures(function, signature):
    assert str(inspect.signature(function)) == signature
