"""The journal: every bit of every float, torn and damaged lines, a full disk."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from recexp.errors import TrackingError
from recexp.tracking import journal


def _event(step: int, **points: float) -> journal.Event:
    return {"e": "metrics", "t": 1, "step": step, "m": points}


def test_every_float_comes_back(tmp_path: Path) -> None:
    values = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    ledger = journal.Journal(tmp_path)
    for step, value in enumerate(values):
        ledger.append(_event(step, x=value))
    ledger.close()
    read = [value for _, value in journal.points(tmp_path)["x"]]
    assert list(map(repr, read)) == list(map(repr, values))
    assert all(json.loads(line, parse_constant=pytest.fail) for line in ledger.path.read_text().splitlines())


def test_a_torn_line_is_cut_off_and_writing_goes_on(tmp_path: Path) -> None:
    ledger = journal.Journal(tmp_path)
    ledger.append(_event(1, x=1.0))
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(b'{"e":"metrics","t":1,"st')
    assert journal.points(tmp_path) == {"x": [(1, 1.0)]}
    again = journal.Journal(tmp_path)
    again.append(_event(2, x=2.0))
    again.close()
    assert journal.points(tmp_path) == {"x": [(1, 1.0), (2, 2.0)]}
    assert again.history.marks == {"x": 1}


def test_a_damaged_line_is_reported_not_fatal(tmp_path: Path) -> None:
    (tmp_path / journal.JOURNAL_FILE).write_bytes(journal.encode(_event(1, x=1.0)) + b"garbage\n[1]\n")
    kinds = [event["e"] for event, _ in journal.read(tmp_path / journal.JOURNAL_FILE)]
    assert kinds == ["metrics", "damaged", "damaged"]


def test_a_full_disk_keeps_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = journal.Journal(tmp_path)
    ledger.append(_event(1, x=1.0))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(TrackingError, match=r"journal.*Free some space"):
        ledger.flush()
    assert ledger.path.read_bytes() == b""
    monkeypatch.undo()
    ledger.append(_event(2, x=2.0))
    ledger.close()
    assert journal.points(tmp_path) == {"x": [(1, 1.0), (2, 2.0)]}
