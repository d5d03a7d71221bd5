"""What ``device=npu`` is told arrives at torch-npu, CANN and HCCL; the clock waits for the NPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recexp.config import catalogue
from recexp.devices.ascend import options as switches
from recexp.devices.build import build, make
from recexp.errors import DeviceError

DEFAULTS = catalogue.read("device/npu").tree["device"]
# The device imports torch-npu, once the variables are set that are read then.
build(DEFAULTS, {"name": "fp32"})
torch_npu = sys.modules["torch_npu"]


def opened(precision: str = "fp32", *, deterministic: bool = False, **options: object) -> dict[str, object]:
    """What is set after the device was built with these options, in a process that had set nothing before."""
    torch_npu._host.settings.clear()
    switches._set.clear()
    try:
        build({**DEFAULTS, **options}, {"name": precision}, deterministic=deterministic)
    finally:
        torch.use_deterministic_algorithms(False)
    return dict(torch_npu._host.settings)


def test_what_is_set_unless_something_is_said() -> None:
    found = opened()
    assert found["hf32.matmul"] is False
    assert found["hf32.conv"] is False, "torch-npu has it on"
    assert found["option:ACL_PRECISION_MODE"] == "must_keep_origin_dtype"
    assert found["jit_compile"] is False
    assert found["allow_internal_format"] is False
    assert os.environ["TORCH_NPU_FALLBACK_CPU_DISABLE"] == "1"
    assert not [key for key in found if "IMPL" in key or key.startswith("aoe")]
    assert "RANK_TABLE_FILE" not in os.environ


@pytest.mark.filterwarnings("ignore:ACL_OP.* will be deprecated")
def test_switches_arrive(tmp_path: Path) -> None:
    found = opened(
        "allow_fp32_to_fp16", hf32=True, jit_compile=True, internal_format=True, op_impl_mode="high_precision",
        op_impl_types=["MatMul", "Add"], aoe_dir=str(tmp_path / "aoe"), acl={"ACL_OP_DEBUG_LEVEL": 2},
    )  # fmt: skip
    assert found["hf32.matmul"] is True
    assert found["hf32.conv"] is True
    assert found["option:ACL_PRECISION_MODE"] == "allow_fp32_to_fp16"
    assert found["jit_compile"] is True
    assert found["allow_internal_format"] is True
    assert found["option:ACL_OP_SELECT_IMPL_MODE"] == "high_precision"
    assert found["option:ACL_OPTYPELIST_FOR_IMPLMODE"] == "MatMul,Add"
    assert found["option:ACL_OP_DEBUG_LEVEL"] == "2"
    assert str(tmp_path / "aoe") in found.values()


@pytest.mark.filterwarnings("ignore:ACL_OP.* will be deprecated")
def test_a_switch_of_one_job_does_not_reach_the_next() -> None:
    opened(op_impl_mode="high_performance", acl={"ACL_AICORE_NUM": 2})
    build({**DEFAULTS, "op_impl_mode": "high_precision", "acl": {"ACL_AICORE_NUM": 3}}, {"name": "fp32"})
    with pytest.raises(DeviceError, match=r"device\.acl\.ACL_AICORE_NUM was set by an earlier job of this process"):
        build({**DEFAULTS, "op_impl_mode": "high_precision"}, {"name": "fp32"})
    with pytest.raises(DeviceError, match=r"device\.op_impl_mode was set by an earlier job"):
        build({**DEFAULTS, "acl": {"ACL_AICORE_NUM": 3}}, {"name": "fp32"})
    switches._set.clear()


def test_operators_without_a_mode_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"device\.op_impl_types has no effect without device\.op_impl_mode"):
        opened(op_impl_types=["MatMul"])


def test_errors_in_a_run_keep_their_words_and_get_advice() -> None:
    device = make(DEFAULTS)
    text = device.explain(RuntimeError("aclrtMalloc failed EL0004: no memory"))
    assert text is not None
    assert text.startswith("npu:0 failed: aclrtMalloc failed EL0004: no memory Its memory is full")
    assert device.explain(RuntimeError("the listening port is busy")) is None
    assert "dataset.batch_size smaller" in str(device.explain(torch.OutOfMemoryError("NPU out of memory.")))


def test_variables_arrive_and_go_back_to_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "8p.json"
    table.write_text('{"server_list": [{"server_id": "a", "device": [{"device_id": "0", "rank_id": "0"}]}]}')
    opened(deterministic=True, rank_table=str(table), hccl_connect_timeout_s=600, hccl_exec_timeout_s=1800)
    assert os.environ["RANK_TABLE_FILE"] == str(table)
    assert os.environ["HCCL_CONNECT_TIMEOUT"] == "600"
    assert os.environ["HCCL_EXEC_TIMEOUT"] == "1800"
    assert os.environ["HCCL_DETERMINISTIC"] == "true"
    opened()
    assert not {"RANK_TABLE_FILE", "HCCL_CONNECT_TIMEOUT", "HCCL_DETERMINISTIC"} & set(os.environ)


@pytest.mark.parametrize(
    ("option", "value"), [("allocator", "expandable_segments:True"), ("task_queue", 0), ("inf_nan", False)]
)
def test_what_torch_npu_reads_once_cannot_change_in_one_process(option: str, value: object) -> None:
    opened()
    with pytest.raises(DeviceError, match=rf"device\.{option} \(.* cannot become .*: start this job as a process"):
        opened(**{option: value})


def test_the_clock_waits_for_the_npu(train: Callable[..., Path]) -> None:
    before = torch_npu._host.synchronized
    train("device=npu", "trainer.max_epochs=1", "trainer.max_steps=12", "trainer.updates_per_block=1")
    assert torch_npu._host.synchronized - before >= 12


def test_an_overflow_flag_stands_for_infinities_on_chips_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_HOST_NO_INF_NAN", "1")
    scaler = make(DEFAULTS).precision_plugin(build(DEFAULTS, {"name": "mixed"})[1]).scaler
    weight = torch.nn.Parameter(torch.ones(3, device="npu"))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def update(*, overflows: bool) -> None:
        optimizer.zero_grad()
        loss = scaler.scale(weight.sum())
        torch_npu._host.overflow = overflows
        loss.backward()
        scaler.step(optimizer)
        scaler.update()

    update(overflows=False)
    assert weight.tolist() == pytest.approx([0.9] * 3)
    scale = scaler.get_scale()
    update(overflows=True)
    assert weight.tolist() == pytest.approx([0.9] * 3), "the update was left out"
    assert (scaler.skipped, scaler.get_scale()) == (1, scale / 2)
    update(overflows=False)
    assert weight.tolist() == pytest.approx([0.8] * 3)
    assert scaler.skipped == 1
