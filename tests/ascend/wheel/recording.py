"""Records of the operators of whole commands, kept in the cache while product and configuration stay the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from recexp.config import catalogue

from .cache import ROOT, digest, published
from .child import HERE

PRECISIONS = ["fp32", "mixed", "bf16"]
#: A set of generated data for each problem.
DATASETS = {"next_item": "ml1m_synthetic"}
#: Settings that change which operators a model uses; each is recorded.
VARIANTS = {"attrec": ["model.mode=inner", "model.mode=dist"]}
SMALL = ["trainer.max_steps=8", "dataset.batch_size=128", "trainer.progress=lines", "tracking.backend=off"]


def models() -> list[str]:
    """Words of ``model=``."""
    return list(catalogue.choices("model"))


def cells(model: str) -> list[list[str]]:
    """The settings of each command that is recorded for a model."""
    dataset = DATASETS[catalogue.implied({"model": model})["problem"]]
    return [
        [f"model={model}", f"dataset={dataset}", f"precision={precision}", *variant.split()]
        for precision in PRECISIONS
        for variant in VARIANTS.get(model, [""])
    ]


def record(words: list[str], ways: str, variables: dict[str, str], where: str) -> dict[str, dict]:
    """The operators of a training and its evaluation with ``device=npu``.

    Args:
        words: Settings of the cell.
        ways: What children/kernels.py printed.
        variables: Of the child: what its ``import torch_npu`` finds.
        where: A name for that.
    """
    sources = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml"), *HERE.rglob("*.py")])
    sources += sorted([*HERE.glob("*.c*"), *(HERE.parent / "host_device").rglob("*.[cp]*")])
    key = digest(where, ways, *words, *(path for path in sources if path.is_file()))

    def make(target: Path) -> None:
        work, given, made = target / "work", target / "ways.json", target / "record.json"
        work.mkdir()
        given.write_text(ways)
        command = [sys.executable, str(HERE / "children" / "record.py"), str(given), str(made)]
        done = subprocess.run(
            [*command, *words, *SMALL, "device=npu"], cwd=work, capture_output=True, text=True, timeout=600,
            env={**variables, "RECEXP_CACHE": str(work / "cache")},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        shutil.rmtree(work)

    return json.loads((published(f"record-{key}", make) / "record.json").read_text())
