"""Every task as a user starts it, and what a result depends on: the seed and the settings, nothing else."""

from __future__ import annotations

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from whole_commands import SMALL, Recexp

from recexp.config.compose import compose
from recexp.tasks import meeting, records, train

OFF = "tracking=off"
ALL = "problem.protocols=[p1,p2,p3,p4]"
WORDS = [*SMALL, "trainer.max_epochs=2", OFF]
WORDS.remove("trainer.max_epochs=3")
WORDS.remove("trainer.progress=lines")
#: Several commands in one process, because torch takes long to import; each one's code and stdout.
SEVERAL = """
import contextlib, io, json, sys
from recexp.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    answers.append([code, out.getvalue()])
print(json.dumps(answers))
"""


def several(recexp: Recexp, *commands: list[str]) -> list[tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        cwd=recexp.folder, env=recexp.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(code, out) for code, out in json.loads(done.stdout.splitlines()[-1])]


def table(out: str) -> dict[str, str]:
    """The test metrics of a printed result, with their floors, as they are shown."""
    rows = [line.split() for line in out.splitlines() if line.startswith("test/")]
    return {name: f"{value} {floor}" for name, value, floor, *_ in rows}


def measured(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


def weights(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, recexp_in: Callable[[Path], Recexp]
) -> tuple[Recexp, Path, subprocess.CompletedProcess[str]]:
    recexp = recexp_in(tmp_path_factory.mktemp("trained"))
    done = recexp.run(*WORDS)
    return recexp, recexp.runs()[0], done


def test_prepare_prepares_and_imports_no_torch(recexp: Recexp) -> None:
    words = ["task=prepare", "model=attrec", "dataset=ml1m_synthetic", "paths.cache=cache"]
    code = "import sys; from recexp.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=recexp.folder, env=recexp.environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "dataset ml1m_synthetic (SYNTHETIC)" in done.stdout
    assert "users        600" in done.stdout
    assert [path.name for path in recexp.folder.iterdir()] == ["cache"]
    again = recexp.run(*words)
    assert "built" not in again.stderr


@pytest.mark.slow
def test_doctor_names_versions_devices_data_and_tracking(recexp: Recexp) -> None:
    done = recexp.run("task=doctor", "model=attrec", "device=cpu", OFF)
    for line in ("versions", "devices", "data", "tracking", "  torch"):
        assert line in done.stdout
    assert any(line.split()[:2] == ["cpu", "usable:"] for line in done.stdout.splitlines())


def test_the_console_script_is_the_same_command(recexp: Recexp) -> None:
    script = Path(sys.executable).parent / "recexp"
    if not script.exists():
        pytest.skip("recexp is not installed beside this Python")
    done = subprocess.run([script, "--version"], env=recexp.environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("recexp ")
    wrong = subprocess.run(
        [script, "model=attrek"], env=recexp.environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "Did you mean" in wrong.stderr


def test_a_run_evaluated_again_has_the_same_metrics(
    trained: tuple[Recexp, Path, subprocess.CompletedProcess[str]],
) -> None:
    recexp, run, done = trained
    first, evaluate = table(done.stdout), ["task=evaluate", "device=cpu", "device.threads=1"]
    assert first
    by_words, by_run, by_file, last, by_label = several(
        recexp,
        [*WORDS, "task=evaluate", "ckpt=best"],
        [*evaluate, f"ckpt={run}", ALL],
        [*evaluate, f"ckpt={run / 'checkpoints' / 'best.ckpt'}"],
        [*WORDS, "task=evaluate", "ckpt=last"],
        [*evaluate, f"ckpt={run.parent.name}/{run.name}"],
    )
    assert table(by_words[1]) == table(by_file[1]) == table(by_label[1]) == first
    everything = table(by_run[1])
    assert {name: everything[name] for name in first} == first
    for name in ("hr_at_10_sampled100", "hr_at_10_unseen", "auc_unseen"):
        assert f"test/{name}" in everything
    assert "last.ckpt" in last[1]
    assert [code for code, _ in (by_words, by_run, by_file, last, by_label)] == [0] * 5
    assert recexp.runs() == [run]


@pytest.mark.slow
def test_there_is_no_run_to_evaluate(recexp: Recexp) -> None:
    done = recexp.run(*WORDS, "task=evaluate", code=2)
    assert "no run of this configuration" in done.stderr
    assert "Train it first (python -m recexp model=attrec" in done.stderr
    assert not (recexp.folder / "runs").exists()


@pytest.mark.slow
def test_a_missing_run_or_file_is_named(recexp: Recexp) -> None:
    done = recexp.run(*WORDS, "task=evaluate", "ckpt=nowhere.ckpt", code=2)
    assert "No run 'nowhere.ckpt'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_checkpoint_of_another_shape_is_refused(
    trained: tuple[Recexp, Path, subprocess.CompletedProcess[str]],
) -> None:
    recexp, run, _ = trained
    done = recexp.run("task=evaluate", f"ckpt={run}", "model.dim=8", code=1)
    assert "does not fit this configuration" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_seed_alone_decides(
    trained: tuple[Recexp, Path, subprocess.CompletedProcess[str]], recexp_in: Callable[[Path], Recexp], tmp_path: Path
) -> None:
    whole, run, _ = trained
    other = recexp_in(tmp_path)
    unlike = ["trainer.updates_per_block=16", "log_level=error", "trainer.progress=off", "paths.root=elsewhere"]
    answers = several(other, [w for w in WORDS if not w.startswith("trainer.updates")] + unlike, [*WORDS, "seed=2"])
    assert [code for code, _ in answers] == [0, 0]
    (elsewhere,) = (path.parent for path in tmp_path.glob("elsewhere/runs/*/*/run.json"))
    (reseeded,) = other.runs()
    assert elsewhere.parent.name == run.parent.name
    assert same(weights(run), weights(elsewhere))
    assert same(weights(run, "best.ckpt"), weights(elsewhere, "best.ckpt"))
    assert measured(run) == measured(elsewhere)
    assert whole.points(run) == other.points(elsewhere)
    assert not same(weights(run), weights(reseeded))
    assert measured(run) != measured(reseeded)


def test_synthetic_data_is_called_so_everywhere(
    trained: tuple[Recexp, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, run, done = trained
    assert "SYNTHETIC DATA" in done.stdout
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    tags = {key: value for event in events if event["e"] == "tags" for key, value in event["tags"].items()}
    assert tags["data.synthetic"] == "true"
    assert "synthetic" in tags["mlflow.note.content"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_pipe_gets_plain_lines(trained: tuple[Recexp, Path, subprocess.CompletedProcess[str]]) -> None:
    _, _, done = trained
    assert "epoch 1/2" in done.stderr
    assert not {"\r", "\x1b"} & set(done.stderr + done.stdout)
    assert "warn" not in done.stderr.lower()


def test_a_terminal_gets_a_bar(recexp: Recexp) -> None:
    recexp.environment = {key: value for key, value in recexp.environment.items() if key not in ("CI", "NO_COLOR")}
    recexp.environment["TERM"] = "xterm"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "recexp", *WORDS], cwd=recexp.folder, env=recexp.environment,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = _read_all(ours, process)
    assert process.returncode == 0, shown
    assert "\r\x1b[2K" in shown
    assert "\u2501" in shown
    assert "epoch 1/2" in shown
    assert "test/ndcg_at_10" in shown
    assert "\x1b[?25l" not in shown  # the cursor is never hidden, so that no kill leaves it hidden


def _read_all(descriptor: int, process: subprocess.Popen[Any]) -> str:
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                piece = os.read(descriptor, 1 << 16)
            except OSError:  # the other end was closed
                break
            shown += piece
        elif process.poll() is not None:
            break
    os.close(descriptor)
    process.wait(timeout=30)
    return shown.decode(errors="replace")


def test_events_of_ones_own_from_end_to_end(recexp: Recexp) -> None:
    lines = [f"anna-{u},sku/{(u * 5 + n * n) % 60},{n * 10}" for u in range(50) for n in range(15)]
    (recexp.folder / "events.csv").write_text("uid,sku,ts\n" + "\n".join(lines) + "\n")
    columns = ["dataset.columns.user=uid", "dataset.columns.item=sku", "dataset.columns.time=ts"]
    words = [w.replace("ml1m_synthetic", "interactions") for w in WORDS if not w.startswith("trainer")]
    done = recexp.run(
        *words, *columns, "dataset.path=events.csv", "dataset.columns.rating=null", "trainer.max_epochs=1",
    )  # fmt: skip
    assert "dataset interactions" in done.stdout
    assert "SYNTHETIC" not in done.stdout
    (run,) = recexp.runs()
    assert ("data/rows_read", 0, 750.0) in recexp.points(run)
    assert 0 <= measured(run)["test/hr_at_10"] <= 1


def test_a_run_whose_picture_cannot_be_drawn_has_failed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(points: object, path: Path, title: str, synthetic: bool) -> Path:
        assert synthetic
        raise RuntimeError("no fonts")

    monkeypatch.setattr(records.curves, "plot", broken)
    monkeypatch.setenv(meeting.RUN, "")
    words = [*WORDS, f"paths.root={tmp_path}", f"paths.cache={cache}", "trainer.max_steps=2", "trainer.progress=off"]
    with pytest.raises(RuntimeError, match="no fonts"):
        train.run(compose(words))
    (state,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/run.json"))
    assert state["status"] == "FAILED"
    (journal,) = tmp_path.glob("runs/*/*/journal.jsonl")
    assert json.loads(journal.read_text().splitlines()[-1])["status"] == "FAILED"


@pytest.mark.slow
def test_a_failed_run_has_failed_in_mlflow_too(recexp: Recexp) -> None:
    """The sender knows the end that the run itself recorded; it does not take it for a kill."""
    code = (
        "import sys; from recexp.tasks import records; "
        "records.curves.plot = lambda *_: 1 / 0; from recexp.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [word for word in WORDS if word != OFF]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "trainer.max_steps=2", "tracking.drain_timeout=60"],
        cwd=recexp.folder, env=recexp.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (run,) = recexp.runs()
    assert json.loads((run / "run.json").read_text())["status"] == "FAILED"
    with sqlite3.connect(recexp.folder / "mlflow.db") as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]
