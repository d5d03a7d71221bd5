"""The picture of the learning curves."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recexp.reports import curves

USUAL = {
    "train/loss": [(step, 1 / step) for step in range(1, 200)],
    "train/lr": [(1, 0.1)],
    "perf/examples_per_s": [(1, 1.0)],
    "val/hr_at_10": [(10, 0.1), (20, 0.2)],
    "val/hr_at_50": [(20, 0.4), (10, 0.3)],
    "val/ndcg_at_10_sampled101": [(10, 0.1)],
    "val/loss": [(10, 0.5)],
}


def size(path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def test_a_picture_of_the_usual_size(tmp_path):
    path = curves.plot(USUAL, tmp_path / "curves.png", "attrec-ml1m-1")
    assert path == tmp_path / "curves.png"
    assert size(path) == (1200, 700)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_drawn(monkeypatch, tmp_path):
    panels = curves._panels(USUAL)
    assert {name: list(lines) for name, lines in panels.items()} == {
        "loss": ["train", "val"],
        "hr": ["at 10", "at 50"],
        "ndcg_sampled101": ["at 10"],
    }
    assert panels["hr"]["at 50"] == [(10, 0.3), (20, 0.4)]
    figure = curves._figure(panels, "my run", True)
    assert {text.get_text() for text in figure.texts} == {"my run", "SYNTHETIC DATA", "updates"}
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert ["at 10  0.2000", "at 50  0.4000"] in legends


def test_only_synthetic_data_is_labelled():
    figure = curves._figure(curves._panels(USUAL), "my run", False)
    assert "SYNTHETIC DATA" not in {text.get_text() for text in figure.texts}


def test_points_that_are_not_finite_are_left_out():
    panels = curves._panels(
        {"val/x": [(1, math.nan), (2, 0.5), (3, math.inf), (4, -math.inf)], "val/y": [(1, math.nan)]}
    )
    assert panels == {"x": {"": [(2, 0.5)]}}


@pytest.mark.parametrize(
    "points",
    [
        {},
        {"train/loss": [(1, math.nan)]},
        {"train/loss": [(0, 0.5)]},
        {"val/hr_at_10": [(5, 0.1)]},
        {"train/loss": [(1, 1e308), (2, -1e308), (3, 3e38), (4, -3e38)]},
    ],
)
def test_little_to_draw(tmp_path, points):
    assert size(curves.plot(points, tmp_path / "c.png", "x", True)) == (1200, 700)


def test_many_panels_make_it_taller(tmp_path):
    points = {f"val/{letter}": [(1, 0.1), (2, 0.2)] for letter in "abcdefgh"}
    assert size(curves.plot(points, tmp_path / "c.png", "x")) == (1200, 1050)


@given(
    title=st.text(max_size=40) | st.sampled_from(["$\\frac{", "[red]", "\ud800", "x" * 5000, "漢字", "\x00\n"]),
    name=st.text(max_size=20) | st.sampled_from(["$x_{", "_", "a_at_10_at_5"]),
    values=st.lists(st.floats(), max_size=3),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_texts_and_values(tmp_path, title, name, values):
    points = {f"val/{name}": list(enumerate(values)), "train/loss": [(1, 1.0)]}
    assert size(curves.plot(points, tmp_path / "c.png", title)) == (1200, 700)


def test_a_failure_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "c.png"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(curves, "_draw", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            curves.plot(USUAL, path, "x")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_smoothing_is_the_mean_of_the_neighbours():
    values = [float(i % 7) for i in range(160)]
    smooth = curves._smooth(values)
    assert smooth[50] == pytest.approx(sum(values[46:55]) / 9)
    assert smooth[0] == pytest.approx(sum(values[:5]) / 5)
    assert len(smooth) == len(values)


def test_points_come_from_the_journal(tmp_path):
    journal = tmp_path / "journal.jsonl"
    events = [
        {"e": "create", "name": "x"},
        {"e": "metrics", "step": 1, "m": {"train/loss": 0.5, "val/x": "nan"}},
        {"e": "metrics", "step": 2, "m": {"train/loss": 0.25}},
    ]
    text = "".join(json.dumps(event) + "\n" for event in events)
    journal.write_text(text.replace("\n", "\nnot json\n", 1) + '{"e": "metr')
    points = curves.read_points(journal)
    assert points["train/loss"] == [(1, 0.5), (2, 0.25)]
    assert math.isnan(points["val/x"][0][1])
    assert curves.read_points(tmp_path / "missing.jsonl") == {}
