"""Sharded tables: the example trains as one process does, and its page counts bytes as the code does."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from recexp.config.settings import OptimSettings
from recexp.datasets.criteo_generator import CARDINALITIES
from recexp.datasets.impressions import Field
from recexp.errors import DeviceError
from recexp.models.dlrm import DLRM
from recexp.problems.click import ClickSizes
from recexp.training.memory import assert_room, needed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "large-tables.md").read_text("utf-8")
EXAMPLE = ROOT / "examples" / "torchrec_sharding.py"
#: Ids of the Terabyte logs, at most 40 million a field, as MLPerf's DLRM has them.
TERABYTE = (
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208, 11938, 155, 4, 976, 14,
    39979771, 25641295, 39664984, 585935, 12972, 108, 36,
)  # fmt: skip
PACKAGES = (
    ("torchrec==1.8.0", "fbgemm-gpu-cpu==1.8.0"),
    # with what these two need and recexp does not
    ("tensordict", "pyre-extensions", "orjson", "pyvers", "typing-inspect", "mypy-extensions"),
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process that can import TorchRec; installs it into a folder of its own where it is not there."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    if importlib.util.find_spec("torchrec") is None:
        folder = tmp_path_factory.mktemp("torchrec")
        for packages in PACKAGES:
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *packages]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
            if done.returncode:
                pytest.skip(f"TorchRec cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        found["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


def run(environment: dict[str, str], processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *launch, str(EXAMPLE), *words],
        env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("optimizer", ["sgd", "rowwise_adagrad"])
def test_sharded_tables_train_as_whole_ones(environment: dict[str, str], optimizer: str) -> None:
    done = run(environment, 2, "--optimizer", optimizer, "--updates", "6")
    assert done.returncode == 0, done.stderr
    losses = [line.split()[1:] for line in done.stdout.splitlines() if re.match(r"\s+\d+  ", line)]
    assert len(losses) == 6
    one, other = ([float(pair[place]) for pair in losses] for place in (0, 1))
    assert other == pytest.approx(one, abs=1e-5)
    assert one[-1] < one[0]
    (held,) = re.findall(r"([\d,]+) rows of tables; held by each process: ([\d,]+), ([\d,]+)", done.stdout)
    total, *pieces = (int(number.replace(",", "")) for number in held)
    assert sum(pieces) == total
    assert max(pieces) < 0.6 * total


@pytest.mark.slow
@pytest.mark.network
def test_shares_of_a_batch_that_are_not_equal_are_refused(environment: dict[str, str]) -> None:
    done = run(environment, 3, "--updates", "1")
    assert done.returncode != 0
    assert "a batch of 256 rows has no equal shares" in done.stderr


def network(sizes: Sequence[int], dim: int, bottom: list[int], top: list[int]) -> DLRM:
    fields = [Field(f"C{number}", size) for number, size in enumerate(sizes, 1)]
    return DLRM(
        sizes=ClickSizes(fields, 13), arch_sparse_feature_size=dim, arch_mlp_bot=[*bottom, dim], arch_mlp_top=top
    )


def kaggle() -> DLRM:
    return network(CARDINALITIES, 16, [512, 256, 64], [512, 256, 1])


def terabyte() -> DLRM:
    return network(TERABYTE, 128, [512, 256], [1024, 1024, 512, 256, 1])


def test_the_page_counts_as_the_code_does() -> None:
    rows = {int(row[0].replace(",", "")): row[1:] for row in re.findall(r"\| ([\d,]{9,}) \| (\d+) \| (.*) GB \|", PAGE)}
    assert set(rows) == {sum(CARDINALITIES), sum(min(size, 10**6) for size in CARDINALITIES), sum(TERABYTE)}
    for count, (dim, cells) in rows.items():
        weights = 4 * count * int(dim)
        # weights; SGD; row-wise Adagrad; Adagrad; Adam
        expected = [weights, weights, weights + 4 * count, 2 * weights, 3 * weights]
        assert [float(cell.removesuffix(" GB")) for cell in cells.split(" | ")] == [round(n / 1e9, 2) for n in expected]


@pytest.mark.parametrize(("make", "layers"), [(kaggle, 475_985), (terabyte, 2_368_897)])
def test_the_layers_are_as_small_as_the_page_says(make, layers: int) -> None:
    tables = sum(CARDINALITIES) * 16 if make is kaggle else sum(TERABYTE) * 128
    counted = needed(make, OptimSettings(name="sgd", lr=0.1, rows="touched")).weights // 4
    assert counted - tables == layers
    assert f"{layers:,}" in PAGE


def test_the_message_of_the_page_is_that_of_the_code() -> None:
    settings = OptimSettings(name="sgd", lr=0.1, rows="touched")
    with pytest.raises(DeviceError) as raised:
        assert_room(terabyte, settings, free=80 << 30, host=512 << 30, where="cuda:0")
    quoted = re.search(r"```text\n(The model does not fit.*?)```", PAGE, re.DOTALL)
    assert quoted
    # An ellipsis stands for what may change with the layers.
    for part in " ".join(quoted[1].split()).split("..."):
        assert part.strip() in str(raised.value)


def test_what_is_sent_is_what_the_page_says() -> None:
    """The table in megabytes from the table of formulas, W = 8 and b = 2,048."""
    world, batch, fields = 8, 2048, 26
    for name, dim, layers, rows in (
        ("Kaggle, d 16", 16, 475_985, sum(CARDINALITIES)),
        ("Terabyte, d 128", 128, 2_368_897, sum(TERABYTE)),
    ):
        (line,) = re.findall(rf"^\| {name} \| (.*) \|$", PAGE, re.MULTILINE)
        found = [float(cell.replace(",", "")) for cell in line.split(" | ")]
        share, vectors = (world - 1) / world, 4 * batch * fields * dim
        replicated = 8 * rows * dim * share
        sent = [8 * batch * fields * share, vectors * share, vectors * (world - 1), 8 * layers * share, replicated]
        assert found == pytest.approx([each / 1e6 for each in sent], rel=5e-3)
