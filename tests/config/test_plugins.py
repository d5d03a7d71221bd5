"""What Hydra sees of conf/: no schema, no bases, recipes as a group; and that installing twice changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import OmegaConf

from recexp.config import location, plugins
from recexp.config.compose import loader

pytestmark = pytest.mark.usefixtures("house")


@pytest.fixture
def source() -> plugins.RecexpSource:
    return plugins.RecexpSource("main", f"recexp://{location.find().conf}")


def test_groups_and_choices(source: plugins.RecexpSource) -> None:
    assert "experiment" in source.list("", ObjectType.GROUP)
    assert "model" in source.list("", None)
    assert source.list("dataset", ObjectType.CONFIG) == ["click", "shelf"]
    assert source.list("experiment", None) == ["alpha_shelf", "grid"]
    assert source.is_group("model")
    assert source.is_group("experiment")
    assert not source.is_group("nothing")
    assert source.is_config("dataset/_rows")
    assert not source.is_config("dataset/nothing")
    assert source.available()


def test_schema_is_left_out(source: plugins.RecexpSource) -> None:
    assert "_schema_" not in OmegaConf.to_yaml(source.load_config("model/alpha").config)
    assert source.load_config("experiment/alpha_shelf").header == {"package": "_global_"}
    assert source.load_config("dataset/shelf").header == {"package": None}


def test_copies_are_free(source: plugins.RecexpSource) -> None:
    assert copy.deepcopy(source) is source


def test_install_twice() -> None:
    plugins.install()
    before = list(Plugins.instance().discover(ConfigSource))
    plugins.install()
    assert Plugins.instance().discover(ConfigSource) == before


def test_hydra_writes_nothing_and_two_sweeps_have_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr(location, "find", lambda: location.Location(root / "conf", root / "experiments", None))
    plugins.install()
    setup_globals()
    words = ["paths.root=/somewhere"]
    first, second = (loader().load_configuration("config", words, RunMode.MULTIRUN) for _ in range(2))
    assert first.hydra.output_subdir is None
    assert first.hydra.run.dir == "."
    assert first.hydra.job_logging.root is None
    assert first.hydra.hydra_logging.root is None
    assert first.hydra.sweep.dir.startswith("/somewhere/runs/sweeps/")
    assert first.hydra.sweep.dir != second.hydra.sweep.dir
