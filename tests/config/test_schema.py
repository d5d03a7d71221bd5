"""The table of options: from the dataclasses, and from the blocks in group files."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

from recexp.config import schema
from recexp.config.settings import Settings
from recexp.errors import ConfigError


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_core_has_every_setting_once() -> None:
    assert set(schema.core()) == set(leaves(dataclasses.asdict(Settings())))
    hints = get_type_hints(Settings)
    assert schema.groups() == tuple(name for name in hints if hints[name] == dict[str, Any])


def test_core_defaults_are_legal() -> None:
    from recexp.config.values import convert

    for key, value in leaves(schema.core_defaults()).items():
        assert convert(schema.core()[key], value) == value, key


def test_core_defaults_are_copies() -> None:
    schema.core_defaults()["trainer"]["max_epochs"] = 99
    assert schema.core_defaults()["trainer"]["max_epochs"] is None


def test_types_and_null() -> None:
    core = schema.core()
    assert (core["trainer.max_epochs"].type, core["trainer.max_epochs"].nullable) == ("int", True)
    assert (core["seed"].type, core["seed"].nullable) == ("int", False)
    assert core["optim.nesterov"].type == "bool"
    assert not core["paths.root"].identity


def test_every_option_says_what_it_is_for() -> None:
    assert [key for key, option in schema.core().items() if not option.help] == []


def test_parse_nests_and_flattens() -> None:
    block = {"dim": {"type": "int", "min": 1}, "columns": {"user": {"type": "str", "identity": False}}}
    parsed = schema.parse(block, "dataset.", "x.yaml")
    assert parsed == {
        "dataset.dim": schema.Option("int", min=1),
        "dataset.columns.user": schema.Option("str", identity=False),
    }


@pytest.mark.parametrize(
    "block",
    [
        {"model": {"dim": 3}},
        {"model": {"dim": {"type": "integer"}}},
        {"model": {"dim": {"type": "int", "mni": 1}}},
        {"optim": {"lr": {"type": "float"}}},
    ],
)
def test_malformed_block_names_its_file(block: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: _schema_"):
        schema.parse(block, "", "x.yaml")


def test_legal_in_words() -> None:
    assert schema.Option("int", min=0, max=2**32 - 1).legal() == "a whole number from 0 to 4294967295"
    assert schema.Option("str", choices=("a", "b"), nullable=True).legal() == "one of a, b, or null"
    assert schema.Option("list[str]", choices=("a", "b")).legal() == "a list of any of a, b"
    assert schema.Option("float", max=1).legal() == "a number <= 1"


def test_shorthands_exist() -> None:
    for section, key in schema.SHORTHANDS.items():
        assert section in schema.sections(schema.core())
        assert key in schema.core()
