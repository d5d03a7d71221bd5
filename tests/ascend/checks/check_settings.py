"""Options, switches, overflow flags and the profiler: checked as the real ones are, and remembered."""

import json

import pytest
import torch
import torch_npu

settings = torch_npu._host.settings


def check_options():
    given = {"ACL_PRECISION_MODE": "must_keep_origin_dtype", "ACL_OP_DEBUG_LEVEL": 2, "ACL_AICORE_NUM": 32}
    torch.npu.set_option(given)
    assert given["ACL_OP_DEBUG_LEVEL"] == "2"
    assert settings == {f"option:{name}": str(value) for name, value in given.items()}


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ({"FOO": 1}, RuntimeError, "invalid npu option name:FOO"),
        ({"ACL_PRECISION_MODE": "force_fp16"}, ValueError, "value of ACL_PRECISION_MODE should be in"),
        ({"ACL_AICORE_NUM": 33}, ValueError, "value of ACL_AICORE_NUM"),
        ([], TypeError, "npu option must be a dict"),
    ],
)
def check_illegal_options(option, error, text):
    with pytest.raises(error, match=text):
        torch.npu.set_option(option)
    assert settings == {}


def check_switches(tmp_path):
    assert (torch.npu.matmul.allow_hf32, torch.npu.conv.allow_hf32) == (False, True)
    torch.npu.matmul.allow_hf32 = True
    torch.npu.conv.allow_hf32 = False
    torch.npu.config.allow_internal_format = False
    torch.npu.set_compile_mode(jit_compile=False)
    torch.npu.set_aoe(str(tmp_path / "aoe"))
    (tmp_path / "acl.json").write_text("{}")
    torch.npu.init_dump()
    torch.npu.set_dump(str(tmp_path / "acl.json"))
    assert (torch.npu.matmul.allow_hf32, torch.npu.conv.allow_hf32) == (True, False)
    assert torch.npu.is_jit_compile_false()
    assert (tmp_path / "aoe").is_dir()
    assert settings == {
        "hf32.matmul": True,
        "hf32.conv": False,
        "allow_internal_format": False,
        "jit_compile": False,
        "aoe": True,
        "aoe.path": str(tmp_path / "aoe"),
        "dump": True,
        "dump.path": str(tmp_path / "acl.json"),
    }
    torch.npu.finalize_dump()
    assert settings["dump"] is False
    with pytest.raises(TypeError, match="allow_hf32 must be a bool"):
        torch.npu.matmul.allow_hf32 = 1
    with pytest.raises(AssertionError, match="does not exist"):
        torch.npu.set_dump(str(tmp_path / "none.json"))


def check_deterministic_level():
    with pytest.warns(UserWarning, match="set_deterministic_level"):
        torch.npu.set_deterministic_level(1)
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    assert settings["deterministic_level"] == 1


def check_overflow_with_inf_and_nan():
    assert torch.npu.utils.is_support_inf_nan()
    assert torch.npu.utils.npu_check_overflow(torch.tensor([1.0, float("inf")]).npu())
    assert not torch.npu.utils.npu_check_overflow(torch.ones(2).npu())
    with pytest.raises(RuntimeError, match="please use npu_check_overflow"):
        torch.npu.get_npu_overflow_flag()
    with pytest.warns(UserWarning, match="useless"):
        torch.npu.clear_npu_overflow_flag()


def check_overflow_by_flag(monkeypatch):
    monkeypatch.setenv("NPU_HOST_NO_INF_NAN", "1")
    assert not torch.npu.utils.is_support_inf_nan()
    assert not torch.npu.get_npu_overflow_flag()
    torch_npu._host.overflow = True
    assert torch.npu.get_npu_overflow_flag()
    torch.npu.clear_npu_overflow_flag()
    assert not torch_npu._host.overflow

    weight = torch.nn.Parameter(torch.ones(2, device="npu"))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.npu.amp.GradScaler(4.0)
    scaler.scale(weight.sum()).backward()
    torch_npu._host.overflow = True
    scaler.step(optimizer)
    scaler.update()
    assert (weight.tolist(), scaler.get_scale()) == ([1, 1], 2.0)


def check_static_scale():
    weight = torch.nn.Parameter(torch.ones(2, device="npu"))
    scaler = torch.npu.amp.GradScaler(8.0, dynamic=False)
    scaler.scale(weight.sum()).backward()
    scaler.step(torch.optim.SGD([weight], lr=1.0))
    scaler.update()
    assert (weight.tolist(), scaler.get_scale()) == ([0, 0], 8.0)
    assert scaler.state_dict()["dynamic"] is False


def check_schedule():
    plan = torch_npu.profiler.schedule(wait=1, active=2, warmup=1, repeat=1, skip_first=1)
    names = [plan(step).name for step in range(7)]
    assert names == ["NONE", "NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE", "NONE", "NONE"]


def check_profiler_writes_a_trace(tmp_path):
    profiler = torch_npu.profiler
    with profiler.profile(
        activities=[profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU],
        schedule=profiler.schedule(wait=0, warmup=1, active=1, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(str(tmp_path), worker_name="w"),
        record_shapes=True,
        experimental_config=profiler._ExperimentalConfig(
            profiler_level=profiler.ProfilerLevel.Level1, aic_metrics=profiler.AiCMetrics.PipeUtilization
        ),
    ) as running:
        for _ in range(3):
            torch.mm(torch.ones(2, 2, device="npu"), torch.ones(2, 2, device="npu"))
            running.step()
    (trace,) = tmp_path.glob("w_*_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json")
    assert any(event.get("name") == "aten::mm" for event in json.loads(trace.read_text())["traceEvents"])
    assert settings["profiler"]["activities"] == ["CPU", "NPU"]
    assert settings["profiler"]["profiler_level"] == "Level1"
