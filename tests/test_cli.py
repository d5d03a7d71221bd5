"""The command as a user types it: exit codes, what is said, what is written, and how fast."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from recexp import __main__ as entry
from recexp import cli
from recexp.config import targets
from recexp.errors import ConfigError, DataError, DeviceError

HEAVY = "'torch', 'pytorch_lightning', 'lightning', 'mlflow', 'pandas', 'numpy', 'pyarrow'"
PROBE = f"""
import sys
from recexp.__main__ import main
sys.argv[0] = "recexp"
try:
    main()
except SystemExit as leaving:
    heavy = [name for name in ({HEAVY}) if name in sys.modules]
    sys.stderr.write(f"\\nheavy={{heavy}} code={{leaving.code}}\\n")
"""
Task = Callable[[Mapping[str, Any]], float | None]


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recexp", *words]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def use_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Task], None]:
    """Replace whatever task is chosen; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def use(task: Task) -> None:
        monkeypatch.setattr(targets, "load", lambda dotted: task)

    return use


def raising(error: BaseException) -> Task:
    def task(config: Mapping[str, Any]) -> float | None:
        raise error

    return task


def test_four_mistakes(tmp_path: Path) -> None:
    done = run("model=attrek", "dataset=ml1n", "optim.lrr=1", "trainer.max_epochs=abc", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "4 mistakes" in done.stderr
    for line in ("Did you mean attrec?", "Did you mean ml1m?", "Did you mean optim.lr?", "trainer.max_epochs=abc"):
        assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["model=attrek", "seed=x"], ["--version"]])
def test_nothing_heavy_is_imported(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "heavy=[]" in done.stderr, done.stderr[-500:]


def test_import_is_light(tmp_path: Path) -> None:
    code = "import sys, recexp; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_is_short(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert "usage: python -m recexp" in done.stdout
    assert "attrec" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recexp 0.")


def test_show_config(tmp_path: Path) -> None:
    done = run("--cfg", "job", "tracking=off", folder=tmp_path)
    assert done.returncode == 0
    assert "backend: 'off'" in done.stdout
    assert "_schema_" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_info_in_a_pipe_that_closes(tmp_path: Path) -> None:
    command = f"{sys.executable} -m recexp --info defaults | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_nobody_reads(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "recexp", "--help"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_completion_of_groups_and_keys(tmp_path: Path) -> None:
    for line, expected in (("recexp model=att", "model=attrec"), ("recexp optim.l", "optim.lr=")):
        done = run("-sc", "query=bash", folder=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
        assert expected in done.stdout.split(), done.stderr
    done = run("-sc", "query=bash", folder=tmp_path, COMP_LINE="recexp dataset=", COMP_POINT="15")
    assert "dataset=_" not in done.stdout


def test_job_gets_the_checked_configuration(use_task: Callable[[Task], None], tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []

    def task(config: Mapping[str, Any]) -> float:
        seen.append(config)
        return 0.5

    use_task(task)
    assert cli.main(["optim.lr=1", "tracking=off"]) == 0
    (config,) = seen
    assert type(config) is dict
    assert isinstance(config["optim"]["lr"], float)
    assert config["tracking"]["backend"] == "off"
    assert "hydra" not in config
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError(["one", "two"]), 2, "2 mistakes"),
        (DeviceError("no such chip"), 2, "recexp: no such chip"),
        (DataError("no such file"), 1, "recexp: no such file"),
        (OSError(28, "No space left on device", "x.ckpt"), 1, "recexp: [Errno 28]"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    says: str,
    use_task: Callable[[Task], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_task(raising(error))
    assert cli.main([]) == code
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert "HYDRA_FULL_ERROR" not in said
    assert "Error executing job" not in said
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_traceback_of_a_users_error_only_when_asked(
    use_task: Callable[[Task], None], capsys: pytest.CaptureFixture[str]
) -> None:
    use_task(raising(DataError("no such file")))
    assert cli.main(["log_level=debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_shows_its_traceback(use_task: Callable[[Task], None], capsys: pytest.CaptureFixture[str]) -> None:
    use_task(raising(ZeroDivisionError("here")))
    assert cli.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("ZeroDivisionError: here") == 1
    assert "this is a bug" in said


def test_system_exit_as_it_is(use_task: Callable[[Task], None]) -> None:
    use_task(raising(SystemExit(7)))
    with pytest.raises(SystemExit) as leaving:
        cli.main([])
    assert leaving.value.code == 7


def test_multirun_runs_each_and_swallows_nothing(
    use_task: Callable[[Task], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seeds: list[int] = []

    def task(config: Mapping[str, Any]) -> float:
        seeds.append(config["seed"])
        if config["seed"] == 2:
            raise DataError("broken at 2")
        return 0.0

    use_task(task)
    assert cli.main(["seed=1,3", "-m"]) == 0
    assert cli.main(["seed=1,2,3", "-m", "tracking=off"]) == 1
    assert seeds == [1, 3, 1, 2, 3]
    assert capsys.readouterr().err.count("broken at 2") == 1
    sweeps = list((tmp_path / "runs" / "sweeps").iterdir())
    assert len(sweeps) == 2


def test_multirun_is_checked_before_it_starts(
    use_task: Callable[[Task], None], capsys: pytest.CaptureFixture[str]
) -> None:
    use_task(raising(AssertionError("started")))
    assert cli.main(["-m", "seed=1,2", "optim.lr=0.1,abc"]) == 2
    assert "optim.lr=abc" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--config-dir", "--config-name", "--config-path", "--experimental-rerun"])
def test_flags_that_would_change_what_is_loaded(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([flag, "x"]) == 2
    assert f"{flag} is not supported" in capsys.readouterr().err


def test_unknown_flag() -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--modle"])
    assert leaving.value.code == 2


@pytest.mark.parametrize("before", [None, "1"])
def test_no_backend_is_loaded_by_torch_itself(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", before or "")
    entry.guard_environment()
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "0"
