"""The final table: exact in a pipe, complete on a terminal, harmless whatever the texts are."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recexp.reports.console import MetricRow, RunSummary, show, show_facts, ui_command

GOLDEN = """\
RESULT (SYNTHETIC DATA)
model attrec | dataset ml1m_synthetic | device cpu | precision fp32 | seed 1
SYNTHETIC DATA: generated, not real; these numbers say nothing about real users

metric                      value   floor  vs floor  protocol
test/hr_at_50              0.4123  0.1399     2.95x  whole catalogue, fair ties
test/hr_at_10_sampled101      nan  0.4715         -  101 sampled items
test/loss                     inf       -         -  -
test/gain                 -0.5000  0.0000   -0.5000  whole catalogue, fair ties

best validation   val/hr_at_50 0.4200 after 4,600 updates
throughput        84,321 examples/s
step, median      6.100 ms
waiting for data  1.2% of the time
perf/x            2.5
time, training    2 min 05 s
time, total       9.0 s
run directory     /r/001
best checkpoint   /r/001/best.ckpt
MLflow            run 12 in sqlite:///x.db
note              3 points were not delivered. Run task=sync.
"""


def printed(summary: RunSummary) -> str:
    stream = io.StringIO()
    show(summary, stream)
    return stream.getvalue()


def visible(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_plain_output_is_exact(summary):
    assert printed(summary) == GOLDEN


def test_plain_output_is_ascii_and_goes_to_stdout(summary, capsys):
    show(summary)
    out, err = capsys.readouterr()
    assert (out, err) == (GOLDEN, "")
    assert out.isascii()


def test_real_data_carries_no_synthetic_label(summary):
    assert "SYNTHETIC" not in printed(replace(summary, synthetic=False))


def test_without_validation_and_metrics(summary):
    text = printed(replace(summary, metrics=[], best=("val/hr_at_50", None, 7)))
    assert "no test metrics" in text
    assert "best validation   no validation; checkpoint of 7 updates" in text
    assert "best validation" not in printed(replace(summary, best=None))


def test_a_terminal_shows_every_value(summary, terminal):
    show(summary, terminal)
    raw = terminal.getvalue()
    assert "\x1b[" in raw
    text = visible(raw)
    for line in GOLDEN.splitlines()[4:]:
        for word in re.split(r"  +", line):
            assert word in text or word in ("-", "protocol"), word
    assert text.count("SYNTHETIC DATA") == 1
    assert re.search(r"test/loss\s+│\s+inf\s+│\s+-\s+│\s+-", text)


def test_a_narrow_terminal_wraps_within_its_width(summary, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    show(summary, terminal)
    assert max(map(len, visible(terminal.getvalue()).splitlines())) <= 60


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_ci_and_dumb_terminals_get_plain_lines(summary, terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    show(summary, terminal)
    assert terminal.getvalue() == GOLDEN


def test_facts_are_aligned(terminal):
    stream = io.StringIO()
    show_facts("versions", {"python": "3.11", "pytorch-lightning": "2.6\n[x]"}, stream)
    assert stream.getvalue() == "versions\n  python             3.11\n  pytorch-lightning  2.6 [x]\n"
    show_facts("versions", {"python": "[red]3.11"}, terminal)
    assert re.search(r"versions\n python  +\[red\]3.11", visible(terminal.getvalue()))
    show_facts("nothing", {}, stream)


odd = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["[red]", "[/]", "[bold", ":smile:", "\ud800", "\x1b[2J", "a\r\nb", "漢字" * 30, "x" * 3000, "%s{0}", "\\["]
    ),
)


@given(
    words=st.lists(odd, min_size=6, max_size=6),
    number=st.floats(),
    encoding=st.sampled_from(["utf-8", "ascii", "cp1252"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_texts_are_shown_and_nothing_raises(words, number, encoding, terminal):
    a, b, c, d, e, f = words
    summary = RunSummary(
        {a: b}, False, [MetricRow(c, number, number, d)], (e, number, 1), {f: number}, {a: number}, {b: c}, [d]
    )
    pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    show(summary, pipe)
    pipe.seek(0)
    lines = pipe.read().split("\n")
    # Title, names, blank, heading, one metric, blank, five facts, end: no text adds a line or a control character.
    assert len(lines) == 12
    assert all(line.isprintable() for line in lines)
    terminal.encoding = encoding
    terminal.seek(0)
    terminal.truncate()
    show(summary, terminal)
    assert "\x1b[2J" not in terminal.getvalue()
    terminal.getvalue().encode(encoding)


def test_markup_is_no_markup(summary, terminal):
    show(replace(summary, notes=["[red]alarm[/red] :smile:"]), terminal)
    assert "[red]alarm[/red] :smile:" in visible(terminal.getvalue())


def test_a_closed_pipe_reaches_the_caller(summary, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal.hung_up = True
    with pytest.raises(BrokenPipeError):
        show(summary, terminal)


def test_the_ui_command_hides_credentials():
    assert ui_command("https://me:secret@host/x") == "open https://host/x"
    assert ui_command("sqlite:////a b/x.db").endswith("--backend-store-uri 'sqlite:////a b/x.db')")


def test_reports_import_no_torch_and_no_matplotlib():
    code = (
        "import sys, recexp.reports.console, recexp.reports.progress, recexp.reports.curves;"
        "sys.exit(bool({'torch', 'matplotlib', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_standard_error_is_not_compared_with_that_of_the_floor(summary):
    row = MetricRow("test/fitb_random_category_se", 0.002, 0.0017, "standard error")
    line = next(text for text in printed(replace(summary, metrics=[row])).splitlines() if "_se" in text)
    assert line.split()[1:4] == ["0.0020", "0.0017", "-"]
