"""Composition and its mistakes: everything wrong with a command is said at once, with what is legal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from recexp.config.compose import compose, compose_all, loader
from recexp.errors import ConfigError

pytestmark = pytest.mark.usefixtures("house")

Writer = Callable[[Path, dict[str, str]], None]


def mistakes(*words: str, multirun: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_all(words, multirun=multirun)
    return list(caught.value.problems)


def by_hydra(*words: str) -> dict[str, Any]:
    """The independent reference: Hydra's own composition."""
    composed = OmegaConf.to_container(loader().load_configuration("config", list(words), RunMode.RUN), resolve=False)
    assert isinstance(composed, dict)
    composed.pop("hydra")
    resolved = OmegaConf.to_container(OmegaConf.create(composed), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["model=beta", "dataset=click", "model.depth=3"],
        ["experiment=alpha_shelf", "seed=3", "model.sizes=[1,2,3]"],
        ["optim={lr:0.5,name:sgd}", "optim.momentum=0.9"],
        ["++optim.lr=0.25", "dataset.columns.user='a b'", "paths.cache=${paths.root}/x"],
        ["seed=2", "seed=3", "tracking.uri=http://127.0.0.1:5000"],
        ["dataset.path=null", "device=chip", "precision=half", "hydra.verbose=true"],
    ],
)
def test_equals_hydras_own_composition(words: list[str]) -> None:
    assert compose(words) == by_hydra(*words)


def test_result_is_plain_and_typed() -> None:
    config = compose(["optim.lr=1", "trainer.limit_train_batches=2"])
    assert type(config) is dict
    assert isinstance(config["optim"]["lr"], float)
    assert isinstance(config["trainer"]["limit_train_batches"], float)
    assert "_schema_" not in str(config)
    assert "hydra" not in config


def test_four_mistakes_at_once() -> None:
    found = mistakes("model=alfa", "dataset=shelv", "optim.lrr=1", "trainer.max_epochs=abc")
    assert found == [
        "model=alfa: there is no model 'alfa'. Did you mean alpha? Legal: alpha, beta.",
        "dataset=shelv: there is no dataset 'shelv'. Did you mean shelf? Legal: click, shelf.",
        "optim.lrr=1: there is no setting optim.lrr. Did you mean optim.lr?",
        "trainer.max_epochs=abc: 'abc' is not a whole number >= 1, or null.",
    ]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("modle=alpha", "Did you mean model?"),
        ("experiment=alpha_shlef", "Did you mean alpha_shelf? Legal: alpha_shelf, grid."),
        ("model=zzz", "Legal: alpha, beta."),
        ("model=_x", "Legal: alpha, beta."),
        ("dataset=_rows", "Legal: click, shelf."),
        ("model=null", "model takes one word"),
        ("experiment=null", "experiment takes one word"),
        ("++model=alpha", "without the ++"),
        ("model=[alpha,beta]", "model takes one word"),
        ("model={dim:3}", "model takes one word"),
        ("model@x=alpha", "without @"),
        ("+model=alpha", "without the +"),
        ("~model", "cannot be removed"),
        ("+optim.lr=1", "exists already"),
        ("+optim.foo=1", "there is no setting optim.foo"),
        ("++optim.foo=1", "++ cannot create it"),
        ("~optim.lr", "cannot be removed"),
        ("~optim.eps", "Write optim.eps=null"),
        ("lr=0.1", "Did you mean optim.lr?"),
        ("optim.schedule.foo=1", "optim.schedule has: name"),
        ("optim={lr:1,lrr:2}", "there is no setting optim.lrr"),
        ("trainer=3", "trainer is a section"),
        ("optim=addam", "Did you mean adam?"),
        ("tracking=ofv", "Did you mean off?"),
        ("seed=1.5", "a whole number"),
        ("seed.x=1", "there is no setting seed.x"),
        ("seed=-1", "out of range"),
        ("model.mode=innr", "Did you mean inner?"),
        ("model.dim=65", "from 1 to 64"),
        ("model.sizes=4", "write [a,b]"),
        ("optim.lr=[1,2", "cannot be read"),
        ("alfa", "Did you mean model=alpha?"),
        ("=3", "cannot be read"),
        ("model.name=x", "cannot be set"),
        ("dataset.poses=[guess]", "cannot be set"),
        ("model._target_=os.system", "only names that begin with recexp."),
        ("model._target_=recexp.errors.DataError", "cannot be set"),
        ("optim._target_=os.system", "not allowed"),
        ("paths.root=${oc.env:HOME}", "not to a function"),
        ("optim.lr=${oc.env:HOME}", "not to a function"),
        ("optim.lr=${nothing.here}", "nothing.here"),
        ("paths.root=${nothing.here}", "nothing.here"),
        ("optim.lr=${paths.root}", "a number >= 0"),
        ("seed=1,2", "Add -m"),
        ("hydra.foo=1", "Key 'foo' not in"),
        ("hydra/launcher=nothing", "hydra/launcher/nothing"),
        ("_schema_.x=1", "there is no setting"),
    ],
)
def test_one_mistake(word: str, says: str) -> None:
    found = mistakes(word)
    assert len(found) == 1
    assert says in found[0]
    assert word.removeprefix("optim=").removeprefix("tracking=") in found[0]


def test_keys_are_checked_by_the_suggested_choice() -> None:
    found = mistakes("model=betta", "dataset=click", "model.depth=x", "model.dim=3")
    assert found[1].startswith("model.depth=x: 'x' is not a whole number")
    assert found[2].startswith("model.dim=3: there is no setting model.dim")


def test_keys_of_an_unrecognisable_choice_may_be_those_of_any() -> None:
    found = mistakes("model=zzz", "model.depth=1", "model.foo=1")
    assert [text.split(":")[0] for text in found] == ["model=zzz", "model.foo=1"]


def test_yaml_truth_value_is_not_a_word() -> None:
    assert compose(["tracking=off"])["tracking"]["backend"] == "off"
    assert compose(["resume=true"])["resume"] == "true"
    assert compose(["tracking.run_name=001"])["tracking"]["run_name"] == "001"


def test_settings_survive_when_files_cannot_be_composed(new_house: Path, write: Writer) -> None:
    write(new_house, {"conf/precision/full.yaml": "name: [\n"})
    found = mistakes("optim.lrr=1", "trainer.max_epochs=abc")
    assert len(found) == 3
    assert "full.yaml" in found[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optim: {lrr: 1}\n", "there is no setting optim.lrr. Did you mean optim.lr?"),
        ("optim.lr: 1\n", "write it nested, optim: {lr: ...}"),
        ("trainer: {max_epochs: abc}\n", "trainer.max_epochs: 'abc' is not a whole number"),
        ("model: {name: x}\n", "model.name is stated"),
        ("model: {_target_: os.system}\n", "os.system"),
        ("trainer: 3\n", "trainer is a section"),
        ("defaults: [override /model: alfa]\n", "Did you mean alpha?"),
        ("defaults: [model: alpha]\n", "write it 'override /model: alpha'"),
        ("defaults: [override model: alpha]\n", "write it 'override /model: alpha'"),
        ("defaults: [override /modle: alpha]\n", "there is no group 'modle'. Did you mean model?"),
        ("defaults: [nothing]\n", "there is no experiment 'nothing'"),
        ("defaults: [mine]\n", "built on itself"),
        ("defaults: [alpha_shlef]\n", "Did you mean alpha_shelf?"),
        ("a: [1\n", "not YAML"),
        ("- 1\n", "mapping"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
        ("paths: {root: '${oc.env:HOME}'}\n", "not to a function"),
        ("hydra: {swepeer: 1}\n", "swepeer"),
        ("1: 2\n", "there is no setting 1"),
    ],
)
def test_mistakes_in_a_recipe_name_the_file(new_house: Path, write: Writer, text: str, says: str) -> None:
    write(new_house / "work", {"experiments/mine.yaml": text})
    found = mistakes("experiment=mine")
    assert any(says in one and "mine" in one for one in found), found


def test_recipe_mistakes_come_with_those_of_the_command(new_house: Path, write: Writer) -> None:
    text = "defaults: [override /model: alfa]\noptim: {lrr: 1}\ntrainer: {max_epochs: abc}\n"
    write(new_house / "work", {"experiments/mine.yaml": text})
    found = mistakes("experiment=mine", "seed=x")
    assert len(found) == 4
    assert found[0].startswith("seed=x")
    assert all(one.startswith("experiments/mine.yaml: ") for one in found[1:])


def test_recipe_needs_no_header_and_can_build_on_another(new_house: Path, write: Writer) -> None:
    write(new_house / "work", {"experiments/mine.yaml": "defaults: [alpha_shelf, _self_]\nmodel: {dim: 5}\n"})
    config = compose(["experiment=mine"])
    assert (config["model"]["dim"], config["seed"], config["device"]["name"]) == (5, 7, "chip")


def test_clash_of_recipes_is_refused(new_house: Path, write: Writer) -> None:
    write(new_house / "work", {"experiments/alpha_shelf.yaml": "seed: 3\n"})
    assert "Rename yours" in mistakes("experiment=alpha_shelf")[0]


def test_mistake_in_a_group_file_names_it(new_house: Path, write: Writer) -> None:
    write(new_house, {"conf/precision/full.yaml": "# @package _global_\nprecision: {name: full}\nseed: abc\n"})
    assert mistakes()[0].endswith("conf/precision/full.yaml: seed: 'abc' is not a whole number from 0 to 4294967295.")


def test_sweep_is_every_combination_in_hydras_order() -> None:
    configs = compose_all(["seed=1,2", "model.dim=range(3,5)"], multirun=True)
    assert [(config["seed"], config["model"]["dim"]) for config in configs] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_sweep_of_a_recipe_and_its_parameters() -> None:
    configs = compose_all(["experiment=grid", "seed=5"], multirun=True)
    assert [(config["model"]["dim"], config["seed"]) for config in configs] == [(4, 5), (8, 5)]


def test_sweep_by_mode_and_by_glob() -> None:
    assert len(compose_all(["hydra.mode=MULTIRUN", "seed=1,2"])) == 2
    names = [config["device"]["name"] for config in compose_all(["device=glob(*)"], multirun=True)]
    assert names == ["box", "chip"]


def test_every_combination_is_checked() -> None:
    found = mistakes("model=alpha,beta", "dataset=shelf,click", "seed=1,x", multirun=True)
    assert [one.split(":")[0] for one in found] == [
        "seed=x",
        "model=alpha with dataset=click",
        "model=beta with dataset=shelf",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=interval(1,2)"], "INTERVAL"),
        (["model=glob(zzz*)"], "empty"),
        (["model=alpha,alfa"], "Did you mean alpha?"),
        (["model.dim=8,800"], "model.dim=800"),
        (["++optim.foo=1,2"], "there is no setting optim.foo"),
    ],
)
def test_mistakes_in_a_sweep(words: list[str], says: str) -> None:
    assert any(says in one for one in mistakes(*words, multirun=True))


def test_no_word_is_no_mistake() -> None:
    assert compose([])["model"]["name"] == "alpha"
