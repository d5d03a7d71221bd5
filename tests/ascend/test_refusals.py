"""Each way in which NPUs cannot be had: its own message with the next thing to type, exit code 2, within seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from host_npu import STAND_IN, environment

from recexp.devices.ascend import diagnosis, preflight

#: Of the processor's time, which other processes do not lengthen; the promise to users is 5 s by the clock.
LIMIT_S = 5.0
Run = Callable[..., tuple[str, float]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One command in an empty folder; returns what it says on stderr and the processor time that it took."""

    def start(*words: str, env: dict[str, str] | None = None, code: int = 2) -> tuple[str, float]:
        inherited = {k: v for k, v in (env or os.environ).items() if not k.startswith(("ASCEND", "RANK_TABLE"))}
        inherited.update({k: v for k, v in (env or {}).items() if k.startswith(("ASCEND", "RANK_TABLE"))})
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-m", "recexp", "dataset=ml1m_synthetic", "tracking=off", *words], cwd=tmp_path,
            env=inherited, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        after = os.times()
        assert done.returncode == code, done.stdout + done.stderr
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        return done.stderr, seconds

    return start


def package(folder: Path, body: str, version: str = "2.13.0") -> dict[str, str]:
    """An environment with a package torch_npu of that content."""
    (folder / "torch_npu").mkdir(parents=True)
    (folder / "torch_npu" / "__init__.py").write_text(body)
    info = folder / f"torch_npu-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch-npu\nVersion: {version}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def assert_quick(seconds: float) -> None:
    assert seconds < LIMIT_S


def test_without_torch_npu(run: Run) -> None:
    text, seconds = run("device=npu")
    assert "torch-npu is not installed. Type `pip install 'recexp[npu]'`, or use device=cpu." in text
    assert_quick(seconds)


def test_torch_npu_of_another_release(run: Run, tmp_path: Path) -> None:
    text, seconds = run("device=npu", env=package(tmp_path / "p", "raise OSError('undefined symbol')", "2.12.0"))
    assert "torch-npu 2.12.0 does not match torch 2.13.0" in text
    assert "Type `pip install torch-npu==2.13.0.*`" in text
    assert_quick(seconds)


CANN = "raise ImportError('libhccl.so: cannot open shared object file: No such file or directory')"


def test_without_cann(run: Run, tmp_path: Path) -> None:
    text, seconds = run("device=npu", env=package(tmp_path / "p", CANN))
    assert "CANN is not installed here (libhccl.so: cannot open shared object file" in text
    assert "`source /usr/local/Ascend/ascend-toolkit/set_env.sh`" in text
    assert_quick(seconds)


def test_without_cann_s_environment(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "cann" / "set_env.sh"
    script.parent.mkdir()
    script.touch()
    env = {**package(tmp_path / "p", CANN), "ASCEND_HOME_PATH": str(script.parent)}
    text, _ = run("device=npu", env=env)
    assert f"Type `source {script}` and start again" in text


def test_a_vendor_s_build_without_cann_is_found_before_torch_is_loaded(run: Run, tmp_path: Path) -> None:
    env = package(tmp_path / "p", "raise AssertionError('was imported')")
    (tmp_path / "p" / "torch_npu" / "lib").mkdir()
    (tmp_path / "p" / "torch_npu" / "lib" / "libtorch_npu.so").touch()
    text, seconds = run("device=npu", env=env)
    assert "CANN is not installed here (libascendcl.so: cannot open" in text
    assert seconds < 2.5, "torch alone takes longer"


def test_a_torch_npu_that_cannot_be_imported(run: Run, tmp_path: Path) -> None:
    text, _ = run("device=npu", env=package(tmp_path / "p", "raise RuntimeError('undefined symbol: _ZN2at')"))
    assert "torch-npu cannot be imported: RuntimeError: undefined symbol: _ZN2at" in text
    assert "pip install --force-reinstall" in text


def test_no_chip(run: Run) -> None:
    text, seconds = run("device=npu", env=environment(NPU_HOST_DEVICES="0"))
    assert "CANN finds no NPU. Type `npu-smi info`" in text
    assert_quick(seconds)
    text, _ = run("device=npu", env=environment(NPU_HOST_DEVICES="0", ASCEND_RT_VISIBLE_DEVICES=""))
    assert "ASCEND_RT_VISIBLE_DEVICES='' shows no NPU. Type `unset ASCEND_RT_VISIBLE_DEVICES`" in text


def test_a_busy_chip(run: Run) -> None:
    text, seconds = run("device=npu", "device.index=1", env=environment(NPU_HOST_BUSY="1"))
    assert "npu:1 was asked and failed" in text
    assert "Another process has it: `npu-smi info` shows which. Choose another with device.index" in text
    assert_quick(seconds)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("device.count=4",), "device.count=4 was asked for"),
        (("device.index=2",), "device.index=2, device.count=1 was asked for"),
        (("device.index=1", "device.count=2"), "device.index=1, device.count=2 was asked for"),
    ],
)
def test_too_few_chips(run: Run, words: tuple[str, ...], asked: str) -> None:
    text, seconds = run("device=npu", *words, env=environment())
    assert f"{asked}, but this machine has 2: npu:0, npu:1. Say device.index=0 device.count=2 or less" in text
    assert_quick(seconds)


def test_a_chip_that_does_not_compute(run: Run) -> None:
    text, _ = run("device=npu", env=environment(NPU_HOST_BROKEN="0"))
    assert "npu:0 was asked and failed" in text
    assert "task=doctor" in text


def test_a_rank_table_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    """torch-npu itself ignores it, and lets HCCL negotiate."""
    text, seconds = run("device=npu", "device.rank_table=/no/8p.json", env=environment())
    assert "device.rank_table=/no/8p.json: there is no such file. Write one with `python -m recexp task=" in text
    assert_quick(seconds)
    text, _ = run("device=npu", env=environment(RANK_TABLE_FILE="/no/8p.json"))
    assert "RANK_TABLE_FILE=/no/8p.json: there is no such file." in text
    assert "unset RANK_TABLE_FILE" in text


def test_options_of_cann_that_do_not_exist(run: Run) -> None:
    text, _ = run("device=npu", "device.acl={ACL_OP_DEBUG_LEVEL: 9}", env=environment())
    assert "device.acl.ACL_OP_DEBUG_LEVEL=9: one of 0, 1, 2, 3, 4." in text
    text, _ = run("device=npu", "device.hccl_connect_timeout_s=5", "device.cpu_fallback=silent")
    assert "device.hccl_connect_timeout_s=5" in text
    assert "device.cpu_fallback=silent" in text


@pytest.mark.parametrize("body", [CANN, "raise SystemError('broken')", "import os; os.abort()"])
def test_a_broken_torch_npu_does_not_disturb_the_cpu(run: Run, tmp_path: Path, body: str) -> None:
    env = package(tmp_path / "p", body)
    (tmp_path / "p" / "torch_npu-2.13.0.dist-info" / "entry_points.txt").write_text(
        "[torch.backends]\ntorch_npu = torch_npu:_autoload\n"
    )
    env["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "1"
    small = ("trainer.max_epochs=1", "trainer.max_steps=2", "model.dim=4", "trainer.limit_eval_users=5")
    run("device=cpu", *small, env=env, code=0)


def test_auto_passes_over_an_npu_that_does_not_compute() -> None:
    code = "from recexp.devices.auto import choose; print(choose(order=['npu', 'cpu']).kind)"

    def kind(**knobs: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(**knobs), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert kind() == "npu"
    assert kind(NPU_HOST_BROKEN="0") == "cpu"
    assert kind(NPU_HOST_BUSY="0") == "cpu"
    assert kind(NPU_HOST_DEVICES="0") == "cpu"


def test_the_doctor_shows_what_is_installed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "latest"
    (home / "x86_64-linux").mkdir(parents=True)
    (home / "x86_64-linux" / "ascend_toolkit_install.info").write_text("package_name=Ascend-cann\nversion=8.3.RC1\n")
    for part in ("driver", "firmware"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "version.info").write_text(f"Version={part}-25.2.0\n")
    info = tmp_path / "install.info"
    info.write_text(f"Driver_Install_Path_Param={tmp_path}\nFirmware_Install_Path_Param={tmp_path}\n")
    tool = tmp_path / "bin" / "npu-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '| 0     910B1               | OK            | 93.6        41 |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(home))
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(diagnosis, "_INSTALL_INFO", info)
    facts = diagnosis.facts()
    assert facts["CANN"] == f"8.3.RC1 in {home}"
    assert (facts["driver"], facts["firmware"]) == ("driver-25.2.0", "firmware-25.2.0")
    assert facts["npu-smi info"] == "0 910B1 OK 93.6 41"
    done = subprocess.run(
        [sys.executable, "-m", "recexp", "task=doctor", "device=npu"], cwd=tmp_path, env=environment(
            ASCEND_HOME_PATH=str(home), PATH=os.environ["PATH"]
        ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "npu installation" in done.stdout
    assert "8.3.RC1" in done.stdout
    assert "usable: 2 x" in done.stdout


def test_torch_is_loaded_before_lightning_is(tmp_path: Path) -> None:
    """What makes the answers quick: nothing of Lightning's is imported to find a chip."""
    code = (
        "import sys; from recexp.devices.ascend import preflight; preflight.run({'cpu_fallback': 'error'}); "
        "print('torch' in sys.modules, any(m.startswith(('pytorch_lightning', 'lightning')) for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_errors_of_the_runtime_are_explained() -> None:
    assert "device.cpu_fallback=warn" in str(diagnosis.explain("... by TORCH_NPU_FALLBACK_CPU_DISABLE=1."))
    assert "memory is full" in str(diagnosis.explain("EL0004: failed to allocate memory"))
    assert diagnosis.explain("something else") is None
    assert preflight.too_few(0, 3, 1).endswith("`npu-smi info` shows the chips.")


@pytest.mark.slow
def test_by_the_clock(run: Run) -> None:
    """The promise itself; slow, because the machine must be left alone for it."""
    for knobs in ({"NPU_HOST_DEVICES": "0"}, {"NPU_HOST_BUSY": "0"}):
        best = min(_clock(run, **knobs) for _ in range(3))
        assert best < LIMIT_S


def _clock(run: Run, **knobs: str) -> float:
    began = time.monotonic()
    run("device=npu", env=environment(**knobs))
    return time.monotonic() - began


def test_the_stand_in_is_the_one_that_was_asked_for() -> None:
    code = "import torch_npu, json; print(json.dumps(torch_npu.__file__))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert Path(json.loads(done.stdout)).is_relative_to(STAND_IN)
