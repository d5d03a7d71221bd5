"""The generated texts name every choice and every setting, and the surface that scripts rely on is frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

from recexp.config import catalogue, help, reference, schema, surface

SURFACE = Path(__file__).with_name("surface.txt")


@pytest.mark.usefixtures("house")
def test_reference_is_complete() -> None:
    page = reference.render()
    for key in schema.core():
        assert f"| `{key}` |" in page
    for word in ("model=alpha", "model=beta", "dataset=click", "experiment=grid"):
        assert f"| `{word}` |" in page
    assert "| `model.dim` | `8` | a whole number from 1 to 64 | width |" in page
    assert "`dataset.path` | `null` | a text, or null | your own copy *(free)*" in page
    assert "It also sets `trainer.max_epochs=3`, `dataset.batch_size=32`." in page
    assert page.endswith("\n")


@pytest.mark.usefixtures("house")
def test_help_names_all_and_shows_the_chosen() -> None:
    text = help.text(["--help"])
    for group in (*schema.groups(), "experiment"):
        for choice in catalogue.choices(group):
            assert choice in text
            assert catalogue.read(f"{group}/{choice}").help in text
    for key in schema.core():
        assert f"  {key}=" in text
    assert "trainer.max_epochs=3 " in text
    assert "model.dim=8" in text
    assert "model.depth" not in text
    other = help.text(["--help", "model=beta", "dataset=nothing"])
    assert "model.depth=2" in other
    assert "problem=guess" in other


@pytest.mark.usefixtures("house")
def test_surface_shows_a_change() -> None:
    lines = surface.surface().splitlines()
    assert lines == sorted(lines)
    assert "seed: a whole number from 0 to 4294967295" in lines
    assert "model=alpha model.dim: a whole number from 1 to 64" in lines
    assert "paths.root: a text (free)" in lines


def test_frozen_surface() -> None:
    """Choices, keys, ranges and their share in the identity are a promise; a change must be meant."""
    command = "python -m recexp.config.surface > tests/config/surface.txt"
    old = set(SURFACE.read_text(encoding="utf-8").splitlines())
    new = set(surface.surface().splitlines())
    assert old == new, f"gone: {sorted(old - new)}; new: {sorted(new - old)}. If this is meant: {command}"
