"""The composed configuration as dataclasses."""

from __future__ import annotations

import dataclasses

import pytest

from recexp.config.compose import compose
from recexp.config.schema import core_defaults
from recexp.config.settings import ScheduleSettings, Settings
from recexp.config.typed import settings


def test_defaults_round_trip() -> None:
    assert settings(core_defaults()) == Settings()


@pytest.mark.usefixtures("house")
def test_composed() -> None:
    config = compose(["optim.lr=1", "optim.schedule.warmup_steps=3"])
    typed = settings(config)
    assert typed.optim.lr == 1.0
    assert typed.optim.schedule == ScheduleSettings(warmup_steps=3)
    assert typed.model["dim"] == 8
    assert dataclasses.asdict(typed) == config


def test_missing_section() -> None:
    with pytest.raises(KeyError):
        settings({"seed": 1})
