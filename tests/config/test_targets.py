"""The allow-list: names defined in recexp, and nothing that can be reached through them."""

from __future__ import annotations

import pytest

from recexp.config import targets
from recexp.errors import ConfigError, RecexpError


def test_loads_our_own() -> None:
    assert targets.load("recexp.errors.RecexpError") is RecexpError


@pytest.mark.parametrize(
    "dotted",
    [
        "os.system",
        "builtins.eval",
        "recexp",
        "recexpx.errors.RecexpError",
        "recexp.errors.__builtins__",
        "recexp.__main__.os",
        "recexp..errors",
        "recexp.errors.RecexpError()",
        "recexp.config.location.Path",
        "recexp.config.targets.importlib",
        "recexp.config.targets.ALLOWED",
        "recexp.errors.Nothing",
        "recexp.nowhere.thing",
        " recexp.errors.RecexpError",
        "recexp.errors.RecexpError\n",
        "",
    ],
)
def test_refuses(dotted: str) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        targets.load(dotted)


def test_a_missing_dependency_is_not_the_configurations_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(targets.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        targets.load("recexp.models.some.Model")


def test_inner_names_of_python_are_refused_by_name() -> None:
    assert "two underscores" in (targets.refusal("recexp.__main__.main") or "")


@pytest.mark.parametrize("dotted", [None, 3, ["recexp.errors.RecexpError"]])
def test_refusal_of_what_is_no_text(dotted: object) -> None:
    assert targets.refusal(dotted) is not None
