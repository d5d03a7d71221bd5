"""The real files of conf/ and experiments/: each explains itself, is legal, and composes."""

from __future__ import annotations

from itertools import product

import pytest

from recexp.config import catalogue, conditions, experiment, location, schema, targets
from recexp.config.compose import compose
from recexp.errors import ConfigError

EVERY = [(group, choice) for group in schema.groups() for choice in catalogue.choices(group)]
RECIPES = catalogue.choices(catalogue.EXPERIMENT)


def test_groups_are_the_folders() -> None:
    folders = {path.name for path in location.find().conf.iterdir() if path.is_dir()}
    assert folders == set(schema.groups())


@pytest.mark.parametrize(("group", "choice"), EVERY)
def test_choice_explains_itself(group: str, choice: str) -> None:
    files = list(catalogue.chain(f"{group}/{choice}"))
    assert files[-1].help
    node: dict[str, object] = {}
    for file in files:
        node = catalogue.merge(node, file.tree.get(group, {}))
    is_alias = not files[-1].tree.get(group)
    assert node["name"] in catalogue.choices(group) if is_alias else node["name"] == choice
    assert targets.refusal(node.get("_target_", "recexp.x")) is None
    for key, option in reference_options(group, choice).items():
        assert option.help, key


def reference_options(group: str, choice: str) -> dict[str, schema.Option]:
    return {key: option for key, option in catalogue.schema_for({group: choice}).items() if key not in schema.core()}


@pytest.mark.parametrize(("group", "choice"), EVERY)
def test_what_a_choice_declares_about_its_options_can_be(group: str, choice: str) -> None:
    own = options = catalogue.schema_for({group: choice})
    facts = catalogue.facts({group: choice}, options)
    for other in schema.groups():  # a relation may name what another group's choices have
        for one in catalogue.choices(other) if other != group else ():
            chosen = catalogue.schema_for({other: one})
            facts |= catalogue.facts({other: one}, chosen)
            options = {**chosen, **options}
    # Two choices of another group may have options of one name: each is looked at in its own turn.
    assert [text for text in conditions.mistakes(options, facts) if text.partition(":")[0] in own] == []


@pytest.mark.parametrize(("group", "choice"), EVERY)
def test_a_choice_does_not_state_an_option_under_another_name(group: str, choice: str) -> None:
    options = catalogue.schema_for({group: choice})
    stated = {key for file in catalogue.chain(f"{group}/{choice}") for key in experiment.dotted(file.tree)}
    assert not stated & set(schema.aliases(options))


@pytest.mark.parametrize("model", catalogue.choices("model"))
def test_a_model_says_what_it_solves_and_how_it_is_fed(model: str) -> None:
    solves = catalogue.stated("model", model, "problems")
    assert isinstance(solves, list)
    assert set(solves) <= set(catalogue.choices("problem"))
    assert catalogue.stated("model", model, "feed") in ("windows", "sessions", "rows", "pairs")
    assert catalogue.stated("model", model, "problem") is None


@pytest.mark.parametrize("group", schema.groups())
def test_no_two_choices_disagree_on_the_identity_of_a_key(group: str) -> None:
    seen: dict[str, bool] = {}
    for choice in catalogue.choices(group):
        for key, option in reference_options(group, choice).items():
            assert seen.setdefault(key, option.identity) == option.identity, key


PARTNERS = {"model": "dataset", "dataset": "model", "device": "precision", "precision": "device"}


@pytest.mark.parametrize(("group", "choice"), [pair for pair in EVERY if pair[0] in PARTNERS])
def test_some_cell_of_the_grid_takes_the_choice(group: str, choice: str) -> None:
    refused: list[str] = []
    for partner in catalogue.choices(PARTNERS[group]):
        try:
            compose([f"{group}={choice}", f"{PARTNERS[group]}={partner}"])
        except ConfigError as error:
            refused += error.problems
        else:
            break
    else:
        assert any("no value" in text for text in refused), refused
    # A choice may need a setting of the user's (a path), but no file may hold a mistake of its own.
    assert all(" with " in text or "Precisions of" in text or "no value" in text for text in refused), refused


@pytest.mark.parametrize(("device", "precision"), list(product(catalogue.choices("device"), ["fp32"])))
def test_every_device_has_single_precision(device: str, precision: str) -> None:
    assert compose([f"device={device}", f"precision={precision}"])["device"]["name"] == device


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_opens_with_its_command_and_composes(name: str) -> None:
    path = location.find().experiments / f"{name}.yaml"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python -m recexp")
    assert f"experiment={name}" in first
    assert catalogue.read(f"experiment/{name}").help
    compose([f"experiment={name}"])
