"""Options of debugging that would do nothing are refused, each with the way on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.config.compose import compose
from recexp.config.identity import excluded
from recexp.errors import ConfigError

Writer = Callable[[Path, dict[str, str]], None]

pytestmark = pytest.mark.usefixtures("house")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("debug.profiler.wait=3", "debug.profiler.wait=3 has no effect without debug.profiler=true"),
        ("debug.profiler.wait=5", "has no effect without debug.profiler=true"),
        ("debug.profiler=false debug.profiler.level=1", "debug.profiler.level=1 has no effect"),
        ("debug.profiler=true debug.profiler.level=1", "is an option of device=npu, not of box"),
        ("debug.profiler=true debug.profiler.l2_cache=false", "set debug.profiler.l2_cache=null"),
        ("debug.profiler=true debug.profiler.active=0", "a whole number >= 1"),
        ("debug.dump.mode=tensor", "debug.dump.mode=tensor has no effect without debug.dump=[10]"),
        ("debug.dump.ranks=[0]", "has no effect without"),
        ("debug.dump=[0]", "whole numbers >= 1"),
        ("debug.dump=[3] debug.dump.level=L1 debug.dump.backend=own", "only msprobe sees the calls of torch"),
        ("debug.dump=[3] debug.dump.scope=[a*] debug.dump.level=mix", "not of msprobe"),
        ("debug.dump=[3] debug.dump.scope=[a*] debug.dump.backend=msprobe", "not of msprobe"),
        ("debug.overflow=ignore", "one of off, warn, skip, stop"),
        ("task=evaluate debug.profiler=true", "task=evaluate has none"),
        ("task=evaluate debug.dump=[3]", "debug.dump.steps=[3] looks into a training"),
    ],
)
def test_refused(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(words.split())
    assert len(caught.value.problems) == 1
    assert says in caught.value.problems[0]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("debug.profiler=true debug.profiler.wait=3", ("profiler", "wait"), 3),
        ("debug.dump=[3] debug.dump.mode=tensor debug.dump.scope=[a*]", ("dump", "steps"), [3]),
        ("debug.dump=[3] debug.dump.level=mix", ("dump", "level"), "mix"),
        ("debug.overflow=off", ("overflow", "action"), "off"),
        ("debug.overflow=skip", ("overflow", "action"), "skip"),
        ("task=evaluate debug.overflow=skip", ("overflow", "action"), "skip"),
    ],
)
def test_accepted(words: str, key: tuple[str, str], value: object) -> None:
    assert compose(words.split())["debug"][key[0]][key[1]] == value


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("debug.profiler.aic_metrics=memory debug.profiler.level=0", "needs debug.profiler.level=1 or 2"),
        ("debug.profiler.aic_metrics=l2_cache debug.profiler.level=none", "needs debug.profiler.level=1 or 2"),
        ("debug.profiler.level=none debug.profiler.mstx=false", "nothing would be left to collect"),
        ("debug.profiler.aic_metrics=memory debug.profiler.level=2", None),
        ("debug.profiler.aic_metrics=memory", None),
        ("debug.profiler.level=none debug.profiler.export=db", None),
    ],
)
def test_options_of_ascends_own_profiler(words: str, says: str | None, new_house: Path, write: Writer) -> None:
    write(new_house, {"conf/device/npu.yaml": "# help: Ascend\nname: npu\nprecisions: [full]\n"})
    given = ["device=npu", "debug.profiler=true", *words.split()]
    if says is None:
        assert compose(given)["debug"]["profiler"]["enabled"]
    else:
        with pytest.raises(ConfigError, match=says):
            compose(given)


def test_only_what_changes_a_result_is_of_the_identity() -> None:
    left_out = excluded(compose([]))
    assert {"debug.profiler.enabled", "debug.profiler.shapes", "debug.dump.steps", "debug.dump.backend"} <= left_out
    assert "debug.overflow.action" not in left_out
