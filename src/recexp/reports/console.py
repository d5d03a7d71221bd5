"""Shows results on stdout: a table with colours on a terminal, plain aligned lines in a pipe, a file or CI.

The progress of a run goes to stderr (``reports.progress``), so that ``recexp ... > result.txt`` keeps the result alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recexp.reports.summary import COLUMNS, SYNTHETIC, MetricRow, RunSummary, cells, facts, ui_command
from recexp.reports.terminal import interactive, one_line, width

__all__ = ["MetricRow", "RunSummary", "show", "show_facts", "ui_command"]

_NUMBERS = (1, 2, 3)
_NAME_WIDTH = 32


def show(summary: RunSummary, stream: TextIO | None = None) -> None:
    """Show the result of a run.

    Args:
        summary: What to show. Its texts are shown as they are: neither markup nor control characters do anything.
        stream: Default: stdout.

    Raises:
        OSError: The stream cannot be written (``BrokenPipeError``: nobody reads it any more).
    """
    out = sys.stdout if stream is None else stream
    if interactive(out):
        _show_rich(summary, out)
    else:
        out.writelines(f"{line}\n" for line in _plain(summary, out))
    out.flush()


def show_facts(title: str, known: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Show labelled texts under a title; streams and errors as for :func:`show`."""
    out = sys.stdout if stream is None else stream
    rows = [(one_line(label, out), one_line(text, out)) for label, text in known.items()]
    if interactive(out):
        console = _console(out)
        console.print(Text(one_line(title, out), "bold cyan"))
        console.print(_grid(rows))
    else:
        out.write(f"{one_line(title, out)}\n")
        out.writelines(f"  {line}\n" for line in _aligned(rows))
    out.flush()


def _plain(summary: RunSummary, out: TextIO) -> Iterator[str]:
    yield "RESULT" + (" (SYNTHETIC DATA)" if summary.synthetic else "")
    yield " | ".join(f"{one_line(key, out)} {one_line(value, out)}" for key, value in summary.title.items())
    if summary.synthetic:
        yield SYNTHETIC
    yield ""
    rows = [tuple(one_line(cell, out) for cell in cells(row)) for row in summary.metrics]
    yield from _aligned([COLUMNS, *rows], right=_NUMBERS) if rows else ["no test metrics"]
    yield ""
    yield from _aligned([(one_line(label, out), one_line(text, out)) for label, text in facts(summary)])


def _aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> Iterator[str]:
    """The rows as lines whose columns stand below each other, two blanks apart."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        blanks = [" " * (size - cell_len(cell)) for cell, size in zip(row, widths, strict=True)]
        columns = (b + c if i in right else c + b for i, (b, c) in enumerate(zip(blanks, row, strict=True)))
        yield "  ".join(columns).rstrip()


def _console(out: TextIO) -> Console:
    return Console(
        file=out, force_terminal=True, width=width(out), markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def _show_rich(summary: RunSummary, out: TextIO) -> None:
    console = _console(out)
    console.print()
    console.print(_headline(summary, out))
    if summary.synthetic:
        console.print(Text(f" {SYNTHETIC} ", "bold black on yellow"))
    for part in _metrics(summary.metrics, out):
        console.print(part)
    if not summary.metrics:
        console.print(Text("no test metrics", "bold red"))
    console.print(_grid([(one_line(label, out), one_line(text, out)) for label, text in facts(summary)]))


def _headline(summary: RunSummary, out: TextIO) -> Text:
    line = Text()
    for key, value in summary.title.items():
        line.append("  " if line else "").append(f"{one_line(key, out)} ", "dim").append(one_line(value, out), "bold")
    return line


def _metrics(rows: Sequence[MetricRow], out: TextIO) -> Iterator[Text | Table]:
    """A table for each protocol, all with the same columns; side by side they would not fit on a terminal."""
    shown = [tuple(one_line(cell, out) for cell in cells(row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(COLUMNS, *shown, strict=True)]
    for protocol in dict.fromkeys(texts[-1] for texts in shown):
        table = Table(box=box.ROUNDED, header_style="bold cyan", border_style="dim")
        for index, heading in enumerate(COLUMNS[:-1]):
            number = index in _NUMBERS
            table.add_column(
                heading,
                justify="right" if number else "left",
                no_wrap=number,
                overflow="fold",
                min_width=widths[index] if number else min(widths[index], _NAME_WIDTH),
            )
        for row, (name, value, floor, ratio, words) in zip(rows, shown, strict=True):
            if words == protocol:
                table.add_row(Text(name), Text(value, _colour(row)), Text(floor, "dim"), Text(ratio))
        if protocol != "-":
            yield Text(f" {protocol}", "italic")
        yield table


def _colour(row: MetricRow) -> str:
    if not math.isfinite(row.value):
        return "bold red"
    return "bold yellow" if row.floor is not None and row.value < row.floor else "bold green"


def _grid(rows: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(no_wrap=False, overflow="fold")
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(Text(f" {label}", "cyan"), Text(text, "yellow" if label == "note" else ""))
    return grid
