"""The conversion of vectors in processes: killed at any moment it goes on; threads change no byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from outfit_files import pack, write_ngnn, write_vectors

from recexp.datasets import outfit_store
from recexp.datasets.outfit_files import vectors
from recexp.datasets.outfit_files.vector_files import VectorFiles
from recexp.datasets.outfit_files.vectors import Conversion

PREPARE = """
import sys, time
from pathlib import Path
from pyarrow import csv  # takes time, in which no kill would find anything
from recexp.datasets.outfit_files import vectors
from recexp.datasets.prepare import prepare
path, cache, slow = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
vectors.CHUNK_FILES = 20
work = open(cache / "work.log", "a", buffering=1)
save = vectors._save
def saving(path, arrays):
    time.sleep(slow)
    save(path, arrays)
    print(path.name, file=work)
vectors._save = saving
node = {"name": "polyvore", "path": path, "_target_": "recexp.datasets.polyvore.read", "features": "all"}
print("ready", flush=True)
sys.stdin.readline()
print(prepare(node, data=None, cache=cache).meta.fingerprint, flush=True)
"""
OUTFITS = 100


def write_data(folder: Path) -> tuple[Path, dict[str, list[float]]]:
    """NGNN's files with 300 items and vectors of both kinds."""
    worn = {f"{outfit}": [(9, 1), (17, 2), (46, 3)] for outfit in range(1000, 1000 + OUTFITS)}
    train = {key: worn[key] for key in [*worn][:-10]}
    write_ngnn(folder, train, {key: worn[key] for key in [*worn][-10:]}, (9, 17, 46))
    rng = np.random.default_rng(0)
    images = {f"{outfit}_{index}": rng.normal(size=8).tolist() for outfit in worn for index in (1, 2, 3)}
    write_vectors(folder / "polyvore_image_vectors", images)
    words = {label: rng.integers(0, 2, 6).tolist() for label in images}
    write_vectors(folder / "polyvore_text_mhot", words)
    return folder, images


def start(path: Path, cache: Path, slow: float) -> subprocess.Popen:
    cache.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PREPARE, str(path), str(cache), str(slow)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()
    return process


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_killed_conversion_goes_on(tmp_path: Path, kills: int, packed: bool) -> None:
    path, _ = write_data(tmp_path / "data")
    if packed:
        for name in ("polyvore_image_vectors", "polyvore_text_mhot"):
            pack(path / name, path / f"{name}.tar.gz")
    cache, rng = tmp_path / "cache", random.Random()
    slow = 0.05 if kills < 10 else 0.2
    waits = [rng.uniform(0.1, 0.5) for _ in range(kills)]
    for wait in waits:
        with start(path, cache, slow) as process:
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        for folder in cache.glob("datasets/polyvore-*/"):
            if folder.suffix == "":
                assert outfit_store.load(folder) is not None, f"half published, kills after {waits}"
    told = []
    for folder in (cache, tmp_path / "reference"):
        out, err = start(path, folder, 0.0).communicate(timeout=100)
        told.append(out)
        assert out, err
    assert told[0] == told[1], f"kills after {waits}"
    arrays = [sorted(folder.glob("datasets/polyvore-*/*.npy")) for folder in (cache, tmp_path / "reference")]
    assert len(arrays[0]) == 8
    assert [each.read_bytes() for each in arrays[0]] == [each.read_bytes() for each in arrays[1]]
    done = (cache / "work.log").read_text().splitlines()
    assert len(done) == len(set(done)), f"done twice, kills after {waits}: {sorted(done)}"
    once = (tmp_path / "reference" / "work.log").read_text().splitlines()
    assert len(once) == 30
    # a kill may fall between a finished chunk and its line in the log
    assert set(done) <= set(once)
    assert len(done) >= len(once) - 3 * kills
    assert [each.name for each in (cache / "datasets").iterdir() if each.suffix in {".work", ".tmp"}] == []


@pytest.mark.parametrize("ending", ["", ".zip", ".tar.gz"])
def test_threads_and_chunks_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path, images = write_data(tmp_path / "data")
    folder = path / "polyvore_image_vectors"
    files = VectorFiles(pack(folder, path / f"x{ending}") if ending else folder)
    items = {label: number for number, label in enumerate(reversed(images))}
    wanted = np.array([*images.values()][::-1]).astype(np.float16)
    sums = set()
    for workers, size in ((1, 7), (2, 7), (4, 50), (2, 1000)):
        monkeypatch.setattr(vectors, "CHUNK_FILES", size)
        out = tmp_path / f"{workers}-{size}"
        out.mkdir()
        array, total = Conversion(out, workers).image(files, items, len(items), out)
        assert np.array_equal(array, wanted)
        sums.add((total, (out / "image.npy").read_bytes()))
    assert len(sums) == 1


def test_a_damaged_chunk_is_done_again(tmp_path: Path) -> None:
    path, images = write_data(tmp_path / "data")
    files, items = VectorFiles(path / "polyvore_image_vectors"), {label: n for n, label in enumerate(images)}
    _, total = Conversion(tmp_path).image(files, items, len(items), tmp_path)
    (chunk,) = tmp_path.glob("image-*.npz")
    chunk.write_bytes(chunk.read_bytes()[:500])
    told = []
    _, other = Conversion(tmp_path, progress=lambda *seen: told.append(seen)).image(files, items, len(items), tmp_path)
    assert total == other
    assert told == [("read image vectors", 300, 300)]
