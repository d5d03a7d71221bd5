"""A small conf/ and experiments/ of the tests' own, so that they do not change with the real choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.config import location

FILES = {
    "conf/config.yaml": """
defaults:
  - settings
  - dataset: shelf
  - device: box
  - precision: full
  - task: train
  - model: alpha
  - experiment: null
  - _self_
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: "${paths.root}/runs/${now:%f}-${process_id:}", subdir: .}}
""",
    "conf/model/alpha.yaml": """
# @package _global_
# help: the first model
defaults:
  - /problem: rank
  - _self_
model:
  {name: alpha, problems: [rank], _target_: recexp.errors.RecexpError, dim: 8, rate: 0.5, mode: inner, sizes: [4, 2]}
trainer: {max_epochs: 3}
dataset: {batch_size: 32}
_schema_:
  model:
    dim: {type: int, min: 1, max: 64, help: width}
    rate: {type: float, min: 0, max: 1, help: dropout}
    mode: {type: str, choices: [inner, dist], help: score}
    sizes: {type: "list[int]", min: 1, help: layers}
""",
    "conf/model/beta.yaml": """
# @package _global_
# help: the second model
defaults:
  - /problem: guess
  - _self_
model: {name: beta, problems: [guess], _target_: recexp.errors.DataError, depth: 2}
trainer: {max_epochs: 1}
_schema_:
  model:
    depth: {type: int, min: 1, help: layers}
""",
    "conf/problem/rank.yaml": """
# help: ranking
name: rank
k: [10]
_schema_: {k: {type: "list[int]", min: 1, help: cuts}}
""",
    "conf/problem/guess.yaml": "# help: guessing\nname: guess\n",
    "conf/dataset/_rows.yaml": """
batch_size: 16
path: null
columns: {user: user, item: item}
_schema_:
  batch_size: {type: int, min: 1, help: rows of a step}
  path: {type: str, nullable: true, identity: false, help: your own copy}
  columns:
    user: {type: str, help: name of the column}
    item: {type: str, help: name of the column}
""",
    "conf/dataset/shelf.yaml": """
# help: books
defaults: [_rows, _self_]
name: shelf
poses: [rank]
licence: CC0
""",
    "conf/dataset/click.yaml": """
# help: adverts
defaults: [_rows, _self_]
name: click
poses: [guess]
licence: CC0
""",
    "conf/device/box.yaml": "# help: any machine\nname: box\nprecisions: [full]\n",
    "conf/device/chip.yaml": "# help: a chip\nname: chip\nprecisions: [full, half]\n",
    "conf/precision/full.yaml": "# help: float32\nname: full\n",
    "conf/precision/half.yaml": "# help: float16\nname: half\n",
    "conf/task/train.yaml": """
# help: train
name: train
_target_: recexp.tasks.train.run
options: [resume]
""",
    "conf/task/evaluate.yaml": """
# help: evaluate
name: evaluate
_target_: recexp.tasks.evaluate.run
options: [ckpt]
""",
    "experiments/alpha_shelf.yaml": "# recexp experiment=alpha_shelf\n# help: a recipe\ndefaults:\n"
    "  - override /device: chip\nseed: 7\noptim: {lr: 1e-2}\n",
    "experiments/grid.yaml": "# help: a grid\nhydra: {sweeper: {params: {model.dim: '4,8', seed: '1,2'}}}\n",
}


def _write(root: Path, files: dict[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"), encoding="utf-8")


@pytest.fixture
def write() -> Callable[[Path, dict[str, str]], None]:
    """Write files below a folder: ``write(folder, {"experiments/x.yaml": "seed: 1"})``."""
    return _write


def _move_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = root / "work"
    monkeypatch.chdir(work)

    def find() -> location.Location:
        own = work / "experiments"
        return location.Location(root / "conf", root / "experiments", own if own.is_dir() else None)

    monkeypatch.setattr(location, "find", find)
    return root


@pytest.fixture(scope="session")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small conf/ of all tests that only read it, so that its compositions are cached."""
    root = tmp_path_factory.mktemp("house")
    _write(root, FILES)
    (root / "work").mkdir()
    return root


@pytest.fixture
def house(shared_house: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the small conf/, not to be written to; the working folder is ``work`` in it."""
    return _move_in(shared_house, monkeypatch)


@pytest.fixture
def new_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for a test that changes files."""
    _write(tmp_path, FILES)
    (tmp_path / "work").mkdir()
    return _move_in(tmp_path, monkeypatch)
