"""Several processes on the CPU: same result as one, whoever starts them, and an end when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recexp.devices import ddp
from recexp.devices.cpu import CpuDevice
from recexp.errors import DeviceError

SCRIPT = Path(__file__).parent / "ddp_script.py"


def start(*words: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(SCRIPT), *words]
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE", "RANK")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def results(process: subprocess.Popen[str]) -> list[tuple[list[str], list[float]]]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-3000:]
    lines = [line.split()[1:] for line in out.splitlines() if line.startswith("DONE")]
    return sorted((line[:3], [float.fromhex(value) for value in line[3:]]) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_two_processes_train_like_one(precision: str) -> None:
    two, one = results(start(precision, "2", "-")), results(start(precision, "1", "-"))
    assert [facts[:2] for facts, _ in two] == [["0", "2"], ["1", "2"]]
    assert two[0][1] == two[1][1], "both processes end with the same weights"
    assert two[0][1] == pytest.approx(one[0][1], rel=1e-6 if precision == "fp32" else 1e-2)


@pytest.mark.slow
def test_a_second_training_in_one_process_starts_processes_of_its_own() -> None:
    # The first training's second process ends after it, the second training starts the script anew.
    done = results(start("fp32", "2", "again"))
    assert [facts[0] for facts, _ in done] == ["0", "0", "1", "1"]
    assert len({tuple(weights) for _, weights in done}) == 1


@pytest.mark.slow
def test_torchrun_starts_the_processes() -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = results(start("fp32", "2", "-", launcher=torchrun))
    assert [facts[:2] for facts, _ in done] == [["0", "2"], ["1", "2"]]


@pytest.mark.slow
def test_the_death_of_a_process_ends_the_training_soon() -> None:
    began = time.monotonic()
    process = start("fp32", "2", "dies")
    _, errors = process.communicate(timeout=100)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "RecexpError: process 1 of the training" in errors
    assert "ended with code 7, so that the training could not go on." in errors
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_process_without_its_launcher_ends() -> None:
    process = start("fp32", "2", "hangs")
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("HANGS"))
    child = psutil.Process(int(line.split()[1]))
    process.kill()
    process.communicate()
    child.wait(timeout=10)


def test_torchrun_with_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match=r"torchrun started 2 processes on this machine, but device\.count is 1: say"):
        CpuDevice().check()
    CpuDevice(count=2).check()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ddp.machines() == 2


def test_a_scheduler_s_variables_do_not_choose_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x", "SLURM_LOCALID": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(key, value)
    made = ddp.environment()
    assert isinstance(made, ddp.OwnProcesses)
    assert (made.local_rank(), made.node_rank(), made.creates_processes_externally) == (0, 0, False)


def test_a_dead_process_is_noticed_and_this_one_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp, "PATIENCE_S", (0.1, 0.1))
    monkeypatch.setattr(ddp, "_POLL_S", 0.05)
    sent: list[int] = []
    kill, this = os.kill, os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number) if pid == this else kill(pid, number))
    other = subprocess.Popen(["sleep", "60"])
    with ddp.watched([subprocess.Popen(["false"]), other]):
        time.sleep(1)
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    assert other.wait(5) == -signal.SIGKILL


def test_nothing_is_sent_where_the_training_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp, "PATIENCE_S", (0.5, 0.5))
    monkeypatch.setattr(ddp, "_POLL_S", 0.05)
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    with ddp.watched([subprocess.Popen(["false"])]):
        time.sleep(0.2)
    time.sleep(0.6)
    assert not sent
