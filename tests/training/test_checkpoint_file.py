"""Checkpoints that are cut off, altered, hostile, or interrupted while they are written."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recexp.errors import CheckpointError
from recexp.training import checkpoint_file

WRITER = """
import sys, torch
from pathlib import Path
from recexp.training import checkpoint_file
path, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    tensor = torch.full((500_000,), float(number))
    checkpoint_file.save({"recexp": {"format": checkpoint_file.FORMAT}, "number": number, "tensor": tensor}, path)
"""


def state(value: float = 1.0) -> dict:
    made = {"format": checkpoint_file.FORMAT, "version": "test"}
    return {"recexp": made, "tensor": torch.full((1000,), value), "plain": {"a": [1, 2.5, "x", None]}}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint_file.save(state(3.0), path)
    loaded = checkpoint_file.load(path)
    assert loaded["plain"] == state()["plain"]
    assert torch.equal(loaded["tensor"], state(3.0)["tensor"])
    # Any tool that reads torch's files reads ours.
    assert torch.load(path, weights_only=True)["plain"] == state()["plain"]


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path, broken = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    checkpoint_file.save(state(), path)
    content = path.read_bytes()
    for part in range(64):
        broken.write_bytes(content[: len(content) * part // 64])
        with pytest.raises(CheckpointError, match=r"b\.ckpt"):
            checkpoint_file.load(broken)
    draw = random.Random(0)
    for _ in range(64):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        broken.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="checksum"):
            checkpoint_file.load(broken)


def test_another_format_is_refused_by_version(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint_file.save({"recexp": {"format": 99, "version": "9.9"}}, path)
    with pytest.raises(CheckpointError, match=r"format 99, written by recexp '9\.9'"):
        checkpoint_file.load(path)


class Bomb:
    """Runs a command where a pickle is loaded without care."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.sentinel}",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "a.ckpt", tmp_path / "ran"
    torch.save({**state(), "bomb": Bomb(sentinel)}, path)
    with pytest.raises(CheckpointError):
        checkpoint_file.load(path)
    # Even with a right checksum.
    checkpoint_file.save({**state(), "bomb": Bomb(sentinel)}, path)
    with pytest.raises(CheckpointError, match="Cannot load"):
        checkpoint_file.load(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_kill_while_writing_never_costs_the_previous_one(tmp_path: Path, kills: int) -> None:
    path, draw = tmp_path / "a.ckpt", random.Random(kills)
    elsewhere = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"
    environment = {**os.environ, "TMPDIR": elsewhere}
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.03, 0.3))
            process.kill()
        if path.exists():
            loaded = checkpoint_file.load(path)
            assert torch.equal(loaded["tensor"], torch.full((500_000,), float(loaded["number"])))
    assert path.exists()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_previous_one(small_disk: Path) -> None:
    path = small_disk / "a.ckpt"
    checkpoint_file.save(state(1.0), path)
    with pytest.raises(CheckpointError, match=r"no space left .* bytes are needed, .* bytes are free"):
        checkpoint_file.save({**state(), "large": torch.randn(5_000_000)}, path)
    assert torch.equal(checkpoint_file.load(path)["tensor"], state(1.0)["tensor"])
    assert [p.name for p in small_disk.iterdir()] == ["a.ckpt"]
