"""A file of several million clicks with one line that is broken, from the command on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from in_process import InProcess

from recexp.config.compose import compose
from recexp.datasets.prepare import prepare

SESSIONS, EACH = 1_000_000, 3
#: Counted from 1; the middle click of its session.
BROKEN = 1_700_003 // EACH * EACH + 2
PREPARE = ["task=prepare", "model=gru4rec", "dataset=rsc15"]


def write(path: Path, *, broken: bool) -> None:
    """Sessions of three clicks, ten in a second, on 500 items; the broken line is there or is left out."""
    rows = []
    for session in range(SESSIONS):
        minute, second = divmod(session // 10, 60)
        hour, minute = divmod(minute, 60)
        day, hour = divmod(hour, 24)
        moment = f"2014-04-{1 + day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
        rows += [f"{session + 1},{moment}.{n}00Z,{1000 + (session * 7 + n) % 500},0\n" for n in range(EACH)]
    rows[BROKEN - 1] = "566668,2014-04-01T15:4Z,12x,0\n" if broken else ""
    path.write_text("".join(rows))


@pytest.mark.slow
def test_one_broken_line_among_millions_is_named_or_left_out_alone(tmp_path: Path) -> None:
    recexp = InProcess(tmp_path, tmp_path / "cache")
    path, clean = tmp_path / "yoochoose-clicks.dat", tmp_path / "clean" / "yoochoose-clicks.dat"
    clean.parent.mkdir()
    write(path, broken=True)
    write(clean, broken=False)
    said = recexp.refused(*PREPARE, f"dataset.path={path}", code=1)
    assert "1 row is malformed" in said
    assert f"line {BROKEN}" in said.replace(",", "")
    assert "12x" in said
    done = recexp.run(*PREPARE, f"dataset.path={path}", "dataset.malformed=skip")
    assert f"{SESSIONS * EACH:,}" in done.out
    nodes = [
        {**compose(["model=gru4rec", "dataset=rsc15"])["dataset"], "path": str(place), "malformed": "skip"}
        for place in (path, clean)
    ]
    skipped, without = (prepare(node, data=None, cache=tmp_path / "cache") for node in nodes)
    assert len(skipped) == SESSIONS * EACH - 1
    for name in ("item", "user", "time", "offsets"):
        assert np.array_equal(getattr(skipped, name), getattr(without, name)), name
