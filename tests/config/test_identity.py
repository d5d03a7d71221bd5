"""The hash of a run: what must not change it does not, what must change it does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.config.compose import compose
from recexp.config.identity import excluded, identity

FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text()
TREES = st.dictionaries(
    st.text(min_size=1),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5),
    max_size=6,
)


def shuffled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: shuffled(node[key]) for key in reversed(list(node))}
    return [shuffled(value) for value in node] if isinstance(node, list) else node


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_order_of_keys_does_not_matter(tree: dict[str, Any]) -> None:
    assert identity({"model": tree}, "f") == identity({"model": shuffled(tree)}, "f")


@settings(max_examples=40, deadline=None)
@given(TREES, TREES)
def test_differs_exactly_when_the_json_differs(one: dict[str, Any], two: dict[str, Any]) -> None:
    def reference(tree: dict[str, Any]) -> str:
        return json.dumps(tree, sort_keys=True)

    same = identity({"model": one}, "f") == identity({"model": two}, "f")
    assert same == (reference(one) == reference(two))


@given(st.lists(st.integers(), min_size=2, unique=True), st.data())
def test_order_of_lists_matters(values: list[int], data: st.DataObject) -> None:
    first, second = data.draw(st.lists(st.sampled_from(range(len(values))), min_size=2, max_size=2, unique=True))
    swapped = list(values)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert identity({"model": {"x": values}}, "f") != identity({"model": {"x": swapped}}, "f")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([256, 128], [128, 256]),
        (12, 21),
        ([1, 23], [12, 3]),
        ("1", 1),
        (None, "null"),
        (True, 1),
        ([[1], [2]], [[1, 2]]),
        ({"a": 1}, {"b": 1}),
        (0.1, 0.1 + 1e-16),
    ],
)
def test_these_differ(one: Any, two: Any) -> None:
    assert identity({"model": {"x": one}}, "f") != identity({"model": {"x": two}}, "f")


def test_negative_zero_is_zero() -> None:
    assert identity({"optim": {"lr": -0.0}}, "f") == identity({"optim": {"lr": 0.0}}, "f")


def test_fingerprint_counts() -> None:
    assert identity({"seed": 1}, "f") != identity({"seed": 1}, "g")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_identity_without_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        identity({"model": {"x": value}}, "f")


def test_keys_are_texts() -> None:
    with pytest.raises(TypeError):
        identity({"model": {1: 2}}, "f")


def test_argument_is_left_as_it_was() -> None:
    config = {"model": {"x": [1, {"y": 2}]}, "paths": {"root": "."}}
    before = copy.deepcopy(config)
    identity(config, "f")
    assert config == before


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("seed=1", True),
        ("optim.lr=0.0010", True),
        ("model.rate=5e-1", True),
        ("trainer.early_stop_min_delta=0", True),
        ("paths.root=/elsewhere", True),
        ("tracking.run_name=x", True),
        ("tracking=off", True),
        ("log_level=debug", True),
        ("resume=true", True),
        ("dataset.path=/mine", True),
        ("task=evaluate", True),
        ("seed=2", False),
        ("model.dim=9", False),
        ("model.sizes=[2,4]", False),
        ("dataset.batch_size=33", False),
        ("dataset.columns.user=uid", False),
        ("device=chip", False),
        ("trainer.max_epochs=4", False),
        ("problem.k=[10,50]", False),
    ],
)
def test_of_composed_configurations(word: str, same: bool) -> None:
    assert (identity(compose([]), "f") == identity(compose([word]), "f")) is same


@pytest.mark.usefixtures("house")
def test_excluded_keys_come_from_the_schema() -> None:
    assert {"task", "paths.root", "dataset.path", "resume"} <= excluded(compose([]))
    assert "seed" not in excluded(compose([]))


def test_known_value() -> None:
    """The format itself is frozen: finished runs are found again by it."""
    text = '{"config":{"model":{"dim":8},"seed":1},"data":"f"}'
    import hashlib

    assert identity({"seed": 1, "model": {"dim": 8}}, "f") == hashlib.sha256(text.encode()).hexdigest()


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        identity({"model": {"x": tmp_path}}, "f")
