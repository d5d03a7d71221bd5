"""One value against one option: what is taken, in which type, and what is refused with which words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recexp.config.schema import Option
from recexp.config.values import IllegalValue, convert, show

INT = Option("int", min=1, max=9)
FLOAT = Option("float", min=0)
BOOL = Option("bool")
TEXT = Option("str")
WORD = Option("str", choices=("mlflow", "off"))
CUTS = Option("list[int]", min=1)
LAYERS = Option("list[int]|str", min=1, nonempty=True)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        (INT, 1, 1),
        (INT, 9, 9),
        (FLOAT, 1, 1.0),
        (FLOAT, 1e-3, 1e-3),
        (BOOL, False, False),
        (TEXT, "a b", "a b"),
        (TEXT, True, "true"),
        (WORD, False, "off"),
        (CUTS, [10, 50], [10, 50]),
        (CUTS, [], []),
        (LAYERS, [512, 256], [512, 256]),
        (LAYERS, "512-256", "512-256"),
        (LAYERS, 512, "512"),
        (Option("list[float]|str"), [1, 0.5], [1.0, 0.5]),
        (Option("dict"), {"a": 1}, {"a": 1}),
        (Option("int", nullable=True), None, None),
        (Option("list[float]"), [1, 0.5], [1.0, 0.5]),
    ],
)
def test_legal(option: Option, value: Any, expected: Any) -> None:
    converted = convert(option, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (INT, 2.5, "a whole number from 1 to 9"),
        (INT, 2.0, "Write 2."),
        (INT, True, "a whole number"),
        (INT, "2", "a whole number"),
        (INT, 0, "out of range"),
        (INT, 10, "out of range"),
        (INT, None, "null is not allowed"),
        (INT, "???", "no value was given"),
        (LAYERS, [], "at least one is needed"),
        (LAYERS, [512, 0], "out of range"),
        (LAYERS, [1.5], "joined by dashes as in 512-256"),
        (LAYERS, {"a": 1}, "joined by dashes"),
        (FLOAT, "abc", "a number >= 0"),
        (FLOAT, True, "a number"),
        (FLOAT, math.nan, "finite"),
        (FLOAT, math.inf, "finite"),
        (BOOL, 1, "Write true."),
        (BOOL, "yes", "true or false"),
        (WORD, "ofv", "Did you mean off?"),
        (WORD, "OFF", "one of mlflow, off"),
        (TEXT, [1], "a text"),
        (CUTS, 10, "write [a,b]"),
        (CUTS, [10, 0], "out of range"),
        (CUTS, [1.5], "whole numbers"),
        (Option("dict"), 3, "a mapping"),
    ],
)
def test_illegal(option: Option, value: Any, words: str) -> None:
    with pytest.raises(IllegalValue, match=r".") as caught:
        convert(option, value)
    assert words in str(caught.value)


def test_text_keeps_what_was_typed() -> None:
    assert convert(TEXT, 1, written="001") == "001"
    assert convert(TEXT, 1000.0, written="1e3") == "1e3"


def test_float_type_is_normalised() -> None:
    assert isinstance(convert(FLOAT, 1), float)


def test_show_is_the_command_lines_form() -> None:
    assert show({"a": [True, None, 0.5]}) == "{a:[true,null,0.5]}"
