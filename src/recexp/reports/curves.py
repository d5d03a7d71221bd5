"""Draws a run's learning curves from its journal as a picture."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recexp.reports.terminal import one_line
from recexp.storage.atomic import atomic_file
from recexp.tracking import journal as journals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panels = dict[str, dict[str, list[tuple[int, float]]]]
Points = Mapping[str, Sequence[tuple[int, float]]]

DPI = 100
SIZE = (1200, 700)
_LOSS = "loss"
_ROWS_OF_SIZE = 2
_LONGEST = 72
_MARKED, _DENSE = 40, 80
_INK, _SOFT, _GRID = "#1f2933", "#66727f", "#e4e8ec"
_COLOURS = ("#2563a8", "#d97706", "#2a9d6e", "#b83b5e", "#7a5cb8", "#6b7280")
_TOO_LARGE = 1e100  # to be drawn; NaN compares as false
_LEFT, _RIGHT = 0.065, 0.98
_CUT = re.compile(r"_at_(\d+)")


def read_points(journal: Path) -> dict[str, list[tuple[int, float]]]:
    """All recorded points of a run's ``journal.jsonl``: metric to (step, value). Damaged lines are left out."""
    series: dict[str, list[tuple[int, float]]] = {}
    for event, _ in journals.read(journal):
        if event["e"] == "metrics":
            for key, value in event["m"].items():
                series.setdefault(key, []).append((int(event["step"]), value))
    return series


def plot(points: Points, path: Path, title: str, synthetic: bool = False) -> Path:
    """Draw the loss and the validation metrics over the updates.

    Args:
        points: Metric to (step, value). Drawn are the losses and what begins with ``val/``; metrics that differ in
            their cut-off alone share a panel. Values that are not finite are left out.
        path: The PNG to write, atomically; 1200 x 700 pixels, taller where there are more than two rows of panels.
        title: Shown above.
        synthetic: Say that the data is.

    Returns:
        ``path``.

    Raises:
        OSError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    panels = _panels(points)
    with warnings.catch_warnings(), atomic_file(path) as stream:
        warnings.simplefilter("ignore")  # letters that the font does not have become boxes
        figure = _figure(panels, one_line(title), synthetic)
        FigureCanvasAgg(figure)
        figure.savefig(stream, format="png")
    return path


def _panels(points: Points) -> Panels:
    """Panel to label to finite points by step; the loss comes first."""
    panels: Panels = {}
    for name in sorted(points, key=lambda name: not name.startswith("train/")):
        split, _, metric = name.partition("/")
        if not (split == "val" or name == f"train/{_LOSS}"):
            continue
        finite = sorted((step, value) for step, value in points[name] if abs(value) < _TOO_LARGE)
        if finite:
            cut = _CUT.search(metric)
            panel = _LOSS if metric == _LOSS else _CUT.sub("", metric, count=1)
            label = split if panel == _LOSS else f"at {cut[1]}" if cut else ""
            panels.setdefault(panel, {})[label] = finite
    return panels


def _figure(panels: Panels, title: str, synthetic: bool) -> Figure:
    from matplotlib.figure import Figure

    others = [name for name in panels if name != _LOSS]
    columns = math.ceil(math.sqrt(len(others)))
    rows = math.ceil(len(others) / columns) if others else 1
    height = SIZE[1] * max(rows, _ROWS_OF_SIZE) / _ROWS_OF_SIZE
    figure = Figure(figsize=(SIZE[0] / DPI, height / DPI), dpi=DPI, facecolor="white")
    _head(figure, title, synthetic, height)
    if not panels:
        figure.text(0.5, 0.5, "no points were recorded", ha="center", va="center", color=_SOFT, fontsize=14)
        return figure
    widths = [1.15] * (_LOSS in panels) + [1.0] * columns
    grid = figure.add_gridspec(
        rows, len(widths), width_ratios=widths, left=_LEFT, right=_RIGHT, top=1 - 82 / height, bottom=62 / height,
        wspace=0.27, hspace=0.38,
    )  # fmt: skip
    last = max(1, *(step for lines in panels.values() for series in lines.values() for step, _ in series))
    if _LOSS in panels:
        _draw(figure.add_subplot(grid[:, 0]), _LOSS, panels[_LOSS], last)
    for index, name in enumerate(others):
        row, column = divmod(index, columns)
        _draw(figure.add_subplot(grid[row, column + (_LOSS in panels)]), name, panels[name], last)
    figure.text(0.5, 14 / height, "updates", ha="center", color=_SOFT, fontsize=10)
    return figure


def _head(figure: Figure, title: str, synthetic: bool, height: float) -> None:
    short = title if len(title) <= _LONGEST else f"{title[: _LONGEST - 3]}..."
    figure.text(
        _LEFT, 1 - 24 / height, short, ha="left", va="center", color=_INK, fontsize=14, weight="bold", parse_math=False
    )
    if synthetic:
        box = {"facecolor": "#fde68a", "edgecolor": "none", "boxstyle": "round,pad=0.35"}
        figure.text(
            _RIGHT, 1 - 24 / height, "SYNTHETIC DATA", ha="right", va="center", color="#7c2d12", fontsize=11,
            weight="bold", bbox=box,
        )  # fmt: skip


def _draw(axes: Axes, name: str, lines: Mapping[str, Sequence[tuple[int, float]]], last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for (label, series), colour in zip(lines.items(), _cycle(len(lines)), strict=True):
        steps, values = zip(*series, strict=True)
        marker = "o" if len(series) <= _MARKED else None
        dense = len(series) > _DENSE
        if dense:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(
            steps, _smooth(values) if dense else values, color=colour, linewidth=1.8, marker=marker, markersize=3.5,
            label=f"{label}  {values[-1]:.4f}".strip(), solid_capstyle="round",
        )  # fmt: skip
    axes.set_title(one_line(name)[:_LONGEST], loc="left", fontsize=11, color=_INK, parse_math=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.4g}k" if abs(value) >= 1000 else f"{value:.4g}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.margins(y=0.12)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, labelsize=9, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
        axes.spines[side].set_color("#b8c0c8")
    legend = axes.legend(
        loc="upper right" if name == _LOSS else "lower right",  # where a curve that gets better is not
        fontsize=9, labelcolor=_INK, handlelength=1.4, edgecolor="none", framealpha=0.75, borderpad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over the neighbours, a fortieth of the whole on each side."""
    half = max(1, len(values) // 40)
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(values)))
    return [math.fsum(value / len(window) for value in window) for window in windows]


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]
