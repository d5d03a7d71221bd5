"""Checks on the device made of host memory, each file in a process of its own (see tests/ascend/test_on_npu.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from films import write_films
from worn_outfits import write_worn

from recexp import cli
from recexp.config import catalogue
from recexp.devices.build import make


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def npu() -> torch.device:
    """The first one, with torch-npu loaded as a command loads it."""
    device = make(catalogue.read("device/npu").tree["device"])
    device.check()
    return torch.device("npu:0")


SMALL = (
    "trainer.max_epochs=2", "trainer.updates_per_block=4", "trainer.log_every_n_steps=5", "trainer.progress=off",
    "tracking=off", "log_level=warning",
)  # fmt: skip
ATTREC = ("model=attrec", "model.dim=16", "dataset.batch_size=128")
GRU4REC = ("model=gru4rec", "model.layers=[16]", "model.samples=32", "dataset.batch_size=32")
RATINGS = ("problem=next_item", "dataset=ml1m_synthetic")
CLICKS = ("problem=session", "dataset=rsc15_synthetic", "dataset.sessions=600", "dataset.items=60")
IMPRESSIONS = ("dataset=criteo_synthetic", "dataset.impressions=3000", "dataset.max_cardinality=50")
DLRM = ("model=dlrm", "model.arch_sparse_feature_size=8", "model.arch_mlp_bot=[16,8]", "model.arch_mlp_top=[16,8,1]")
DEEPFM = ("model=deepfm", "model.dim=8", "model.hidden=[24,16]", "dataset.batch_size=128")
FILMS = ("problem=click", "dataset=ml1m", "dataset.verify=false", "dataset.batch_size=64")
OUTFITS = (
    "dataset=polyvore_synthetic", "dataset.outfits=100", "dataset.categories=10", "dataset.items_per_category=12",
    "dataset.styles=3", "dataset.image_width=6", "dataset.num_words=30", "dataset.batch_size=48",
    "dataset.eval_batch_size=32",
)  # fmt: skip
#: Small trainings of each model in each problem.
TRAININGS = {
    "attrec": (*ATTREC, *RATINGS),
    "attrec of sessions": (*ATTREC, *CLICKS),
    "gru4rec": (*GRU4REC, *CLICKS),
    "dlrm": (*DLRM, *IMPRESSIONS),
    "dlrm of films": (*DLRM, *FILMS),
    "deepfm": (*DEEPFM, *IMPRESSIONS),
    "deepfm of films": (*DEEPFM, *FILMS),
    "fm": ("model=fm", *IMPRESSIONS, "dataset.batch_size=128"),
    "lr": ("model=lr", *IMPRESSIONS, "dataset.batch_size=128"),
    "ngnn": ("model=ngnn", *OUTFITS),
    "ngnn of categories": ("model=ngnn", "dataset=polyvore", "dataset.features=category", "dataset.batch_size=48"),
    # The usual rate is for many short sessions: here it would make noise of the rounding within 40 updates.
    "gru4rec of users": (*GRU4REC, *RATINGS, "optim.lr=0.05", "trainer.max_epochs=1", "trainer.max_steps=40"),
}


#: Data that has to be written, by its word.
WRITTEN = {"ml1m": write_films, "polyvore": write_worn}


def _written(folder: Path, dataset: str) -> Path:
    target = folder / dataset
    if not target.exists():
        WRITTEN[dataset](target)
    return target


@pytest.fixture
def train(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run a small training by its words in this process; returns the run's directory.

    ``of`` names one of TRAININGS; what is said twice is what was said last.
    """

    def run(*words: str, of: str = "attrec", code: int = 0) -> Path:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        last = {word.partition("=")[0]: word for word in (*SMALL, *TRAININGS[of], *words)}
        dataset = last.get("dataset", "").removeprefix("dataset=")
        if dataset in WRITTEN:
            last["dataset.path"] = f"dataset.path={_written(folder, dataset)}"
        assert cli.main([*last.values(), f"paths.root={root}", f"paths.cache={folder / 'cache'}"]) == code
        return next((path.parent for path in root.glob("runs/*/*/run.json")), root)

    return run
