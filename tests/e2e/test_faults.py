"""What goes wrong around a run: each fault has a clear message, a non-zero exit, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from whole_commands import SMALL, Recexp

from recexp.training import checkpoint_file

PREPARE = ["task=prepare", "model=attrec"]
CSV = ["dataset=interactions", "dataset.path=rows.csv"]
QUICK = [*SMALL, "trainer.max_steps=2", "trainer.limit_eval_users=20"]
WEB_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"


def refused(recexp: Recexp, *words: str, code: int = 1) -> str:
    """Run a command that must fail; its message, which is one for a person."""
    done = recexp.run(*words, code=code)
    assert done.stderr.splitlines()[-1].strip()
    assert "recexp: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug in recexp" not in done.stderr
    return done.stderr


def left_in(cache: Path) -> list[Path]:
    """What a failed preparation has left, but for locks and the remembered checksums of copies."""
    return [
        path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock" and path.parent.name != "sources"
    ]


def archive(path: Path, rows: int = 2000) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stream:
        text = "".join(f"{1 + n // 20}::{1 + n % 20}::5::{978300000 + n}\n" for n in range(rows))
        stream.writestr("ml-1m/ratings.dat", text)


def rows(path: Path, users: int = 30, items: int = 40, each: int = 12, more: str = "") -> None:
    lines = [f"u{u},i{(u * 7 + n * 3) % items},{1 + n % 5},{1000 + n}" for u in range(users) for n in range(each)]
    path.write_text("user,item,rating,time\n" + "\n".join(lines) + "\n" + more)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with the options that a test gives."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def truncated(path: Path) -> str:
    archive(path)
    path.write_bytes(path.read_bytes()[:-3000])
    return "truncated"


def altered(path: Path) -> str:
    archive(path)
    return "has sha256"


def web_page(path: Path) -> str:
    path.write_bytes(WEB_PAGE)
    return "web page"


@pytest.mark.parametrize("fault", [truncated, altered, web_page])
def test_an_archive_that_is_none(recexp: Recexp, tmp_path: Path, fault: Callable[[Path], str]) -> None:
    copies, cache = tmp_path / "copies", tmp_path / "cache"
    copies.mkdir()
    says = fault(copies / "ml-1m.zip")
    named = f"dataset.path={copies / 'ml-1m.zip'}" if fault is altered else f"paths.data={copies}"
    message = refused(recexp, *PREPARE, "dataset=ml1m", named, f"paths.cache={cache}")
    assert says in message
    assert str(copies / "ml-1m.zip") in message
    assert not left_in(cache)


def test_malformed_rows_are_refused_or_left_out_within_a_limit(recexp: Recexp, tmp_path: Path) -> None:
    rows(tmp_path / "rows.csv", more="u1,i2,often,1\nu2,i3\n")
    words, cache = [*PREPARE, *CSV, "paths.cache=cache"], tmp_path / "cache"
    message = refused(recexp, *words)
    assert "rows.csv: 2 rows are malformed" in message
    assert "line 362" in message
    assert "u1,i2,often,1" in message
    assert "dataset.malformed=skip" in message
    assert not left_in(cache)
    message = refused(recexp, *words, "dataset.malformed=skip", "dataset.malformed_limit=1")
    assert "dataset.malformed_limit=1" in message
    assert not left_in(cache)
    done = recexp.run(*words, "dataset.malformed=skip", "dataset.malformed_limit=2")
    assert [line.split()[-2:] for line in done.stdout.splitlines() if "rows read" in line] == [["read", "362"]]
    assert "malformed    none" not in done.stdout


def test_a_read_only_cache(recexp: Recexp, tmp_path: Path, mounted: Callable[[str], Path]) -> None:
    rows(tmp_path / "rows.csv")
    disk = mounted("ro,size=1m")
    message = refused(recexp, *PREPARE, *CSV, f"paths.cache={disk / 'cache'}")
    assert "Read-only file system" in message
    assert "paths.cache=FOLDER" in message


def test_a_full_disk_under_the_cache(recexp: Recexp, tmp_path: Path, mounted: Callable[[str], Path]) -> None:
    rows(tmp_path / "rows.csv", users=2000)
    disk = mounted("size=256k")
    message = refused(recexp, *PREPARE, *CSV, f"paths.cache={disk / 'cache'}")
    assert "no space left" in message.lower()
    assert "bytes are needed" in message
    assert not left_in(disk)


def test_a_full_disk_under_a_training_costs_no_checkpoint(recexp: Recexp, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=24m")
    words = [*QUICK, "model.dim=64", "trainer.max_steps=1000000", "tracking=off", f"paths.root={disk}"]
    process = recexp.start(*words, "trainer.checkpoint_every_n_steps=20")
    while not list(disk.glob("runs/*/*/checkpoints/previous.ckpt")):
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(bytes(1 << 16)):
            pass
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in error
    assert "no space left for" in error.lower()
    assert "resume=true" in error
    filler.unlink()
    (run,) = (path.parent for path in disk.glob("runs/*/*/run.json"))
    assert json.loads((run / "run.json").read_text())["status"] in ("FAILED", "RUNNING")
    checkpoints = sorted((run / "checkpoints").iterdir())
    assert {"last.ckpt"} <= {path.name for path in checkpoints} <= {"last.ckpt", "previous.ckpt", "best.ckpt"}
    for path in checkpoints:
        assert checkpoint_file.load(path)["global_step"] > 0
    assert not list(disk.rglob("*.tmp"))


@pytest.mark.parametrize("backend", ["off", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_a_root_that_cannot_be_written(recexp: Recexp, mounted: Callable[[str], Path], backend: str) -> None:
    disk = mounted("ro,size=1m")
    words = [*QUICK, f"tracking={backend}", f"paths.root={disk}"]
    message = refused(recexp, *words, code=1 if backend == "off" else 2)
    assert str(disk) in message
    assert "paths.root=PATH" in message or "cannot be written" in message


@pytest.mark.slow
def test_a_root_that_is_a_file(recexp: Recexp, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    assert "paths.root=PATH" in refused(recexp, *QUICK, "tracking=off", f"paths.root={tmp_path / 'taken'}")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("by_environment", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dead_server_stops_nothing_and_its_password_stays_secret(
    recexp: Recexp, tmp_path: Path, by_environment: bool
) -> None:
    uri = "http://jane:hunter2@127.0.0.1:1"
    words = [*QUICK, "tracking.drain_timeout=1", "tracking.run_name='see http://jane:hunter2@host/'"]
    if by_environment:
        recexp.environment["MLFLOW_TRACKING_URI"] = uri
    else:
        words.append(f"tracking.uri={uri}")
    done = recexp.run(*words)
    assert "not in MLflow yet" in done.stdout
    assert "python -m recexp task=sync" in done.stdout
    (run,) = recexp.runs()
    assert json.loads((run / "run.json").read_text())["status"] == "FINISHED"
    assert "hunter2" not in done.stdout + done.stderr
    telling = [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert telling == []


@pytest.mark.parametrize("word", [
    "tracking.urii=http://jane:hunter2@host/",
    pytest.param("tracking.uri=ftp://jane:hunter2@host/", marks=pytest.mark.slow),
])  # fmt: skip
def test_credentials_are_not_in_the_message_about_a_mistake(recexp: Recexp, word: str) -> None:
    assert "hunter2" not in refused(recexp, *QUICK, word, code=2)


class Bomb:
    """Runs a command where a pickle is loaded without care."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.sentinel}",)


def test_code_in_a_checkpoint_is_not_run(recexp: Recexp, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    torch.save({"state_dict": {}, "bomb": Bomb(sentinel)}, tmp_path / "bomb.ckpt")
    message = refused(recexp, *QUICK, "task=evaluate", "ckpt=bomb.ckpt")
    assert "bomb.ckpt" in message
    assert not sentinel.exists()


def test_only_our_own_code_is_named_by_a_configuration(recexp: Recexp, tmp_path: Path) -> None:
    words = ["model._target_=os.system", "++task._target_=os.system", "+dataset._target_=builtins.print"]
    message = refused(recexp, *QUICK, *words, code=2)
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []
