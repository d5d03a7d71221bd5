"""The progress display, with a clock that stands still and streams that only claim to be something."""

from __future__ import annotations

import io
import logging
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recexp.reports.canvas import fit
from recexp.reports.progress import Progress
from recexp.reports.terminal import clock, compact, duration


def train(display, now, seconds=8, rows=1000):
    """Ten updates a second, each of 100 rows."""
    start = display._done
    for tenth in range(1, seconds * 10 + 1):
        now.time = round(now.time + 0.1, 6)
        display.update(start + tenth, rows // 10)


def last_drawn(terminal) -> str:
    drawn = [part for part in terminal.getvalue().split("\r") if part.startswith("\x1b[2K") and len(part) > 4]
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", drawn[-1])


def screen(text: str) -> list[str]:
    """What stays on the terminal's lines."""
    lines = [""]
    for part in re.split(r"(\r|\n|\x1b\[2K)", re.sub(r"\x1b\[[0-9;]*m", "", text)):
        if part == "\n":
            lines.append("")
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part != "\r":
            lines[-1] = part + lines[-1][len(part) :]
    return [line for line in lines if line]


def test_lines_in_a_pipe(now):
    pipe = io.StringIO()
    with Progress("auto", pipe, monitor="val/hr_at_50", now=now) as display:
        display.start(300, 0, epochs=2)
        train(display, now, seconds=12)
        display.loss(0.43216)
        train(display, now, seconds=3)
        now.time += 1.0  # the validation
        display.epoch(1, 2, {"val/hr_at_10": 0.1, "val/hr_at_50": 0.25})
        train(display, now, seconds=15)
        display.epoch(2, 2, {"val/hr_at_10": 0.1, "val/hr_at_50": 0.5})
    shown = "loss 0.4322  val/hr_at_50 0.2500  val/hr_at_10 0.1000"
    assert pipe.getvalue().splitlines() == [
        "training: 300 updates",
        " 33%  epoch 1/2  update 100/300  1,000 examples/s  0:20 left",
        f"epoch 1/2  update 150/300  {shown}  1,000 examples/s  0:16 left",
        f" 83%  epoch 2/2  update 250/300  {shown}  1,000 examples/s  0:05 left",
        "epoch 2/2  update 300/300  loss 0.4322  val/hr_at_50 0.5000  val/hr_at_10 0.1000  1,000 examples/s  0:00 left",
        "trained 300 of 300 updates in 31.0 s, 1,000 examples/s at the end",
    ]


def test_a_bar_on_a_terminal(now, terminal):
    display = Progress("auto", terminal, now=now)
    display.start(400, epochs=2)
    display.loss(0.5)
    train(display, now, seconds=20)
    display.epoch(1, 2, {"val/hr_at_10": 0.25})
    train(display, now, seconds=10)
    text = last_drawn(terminal)
    assert re.fullmatch(r"━+  75%  epoch 2/2  loss 0.5000  hr_at_10 0.2500  1.00k examples/s  0:10 left", text)
    display.stop()
    assert screen(terminal.getvalue()) == ["trained 300 of 400 updates in 30.0 s, 1,000 examples/s at the end"]
    assert terminal.getvalue().endswith("\n")


def test_it_draws_at_most_four_times_a_second(now, terminal):
    display = Progress("bar", terminal, now=now)
    display.start(10**6)
    before = terminal.writes
    for step in range(10_000):
        now.time += 0.001
        display.update(step, 1)
        display.epoch(step, 0, {"val/x": 1.0})
    assert 36 <= terminal.writes - before <= 41


def test_an_update_that_draws_nothing_is_cheap(terminal):
    display = Progress("bar", terminal)
    display.start(10**6)
    display._next = float("inf")
    best = min(_seconds_of_updates(display) for _ in range(5))
    assert best / 2000 < 20e-6


def _seconds_of_updates(display) -> float:
    began = time.perf_counter()
    for step in range(2000):
        display.update(step, 512)
    return time.perf_counter() - began


def test_the_validation_does_not_slow_the_shown_speed(now, terminal):
    display = Progress("bar", terminal, now=now)
    display.start(1000)
    train(display, now, seconds=5)
    now.time += 100.0
    display.epoch(1, 5, {})
    train(display, now, seconds=1)
    assert "1.00k examples/s" in last_drawn(terminal)


def test_going_on_counts_from_where_it_stopped(now):
    pipe = io.StringIO()
    display = Progress("lines", pipe, now=now)
    display.start(400, done=100)
    train(display, now, seconds=10)
    display.stop()
    assert pipe.getvalue().splitlines()[0] == "training: 400 updates, 100 of them done before"
    assert pipe.getvalue().splitlines()[1] == " 50%  update 200/400  1,000 examples/s  0:20 left"


@pytest.mark.parametrize(
    ("environment", "bar"),
    [({}, True), ({"TERM": "dumb"}, False), ({"CI": "true"}, False), ({"CI": "1"}, False), ({"CI": "false"}, True)],
)
def test_auto_chooses(terminal, monkeypatch, now, environment, bar):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    display = Progress("auto", terminal, now=now)
    display.start(10)
    assert ("\r" in terminal.getvalue()) is bar


def test_off_says_nothing_and_other_words_are_refused(terminal, now):
    with Progress("off", terminal, now=now) as display:
        display.task("download", 0, None)
        display.start(10)
        train(display, now)
        display.epoch(1, 1, {})
    assert terminal.getvalue() == ""
    with pytest.raises(ValueError, match="auto, bar, lines, off"):
        Progress("loud")


def test_a_download_in_a_pipe_and_on_a_terminal(now, terminal):
    pipe = io.StringIO()
    for stream in (pipe, terminal):
        display = Progress("auto", stream, now=now)
        for block in range(31):
            display.task("download x.zip", block * 100_000, 3_000_000)
            now.time += 1.0
        display.task("fast", 0, 10)
        display.task("fast", 10, 10)
        display.stop()
    assert pipe.getvalue().splitlines() == [
        "  7%  download x.zip  200k/3.00M  0:28 left",
        " 40%  download x.zip  1.20M/3.00M  0:18 left",
        " 73%  download x.zip  2.20M/3.00M  0:08 left",
        "download x.zip  3.00M  in 30.0 s",
    ]
    assert screen(terminal.getvalue()) == ["download x.zip  3.00M  in 30.0 s"]
    assert "  50%  download x.zip  1.50M/3.00M  0:15 left" in re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


def test_a_task_of_unknown_length_is_shown_at_once(now):
    pipe = io.StringIO()
    display = Progress("lines", pipe, now=now)
    display.task("fetch with pip", 0, None)
    assert pipe.getvalue() == "fetch with pip ...\n"
    now.time += 3
    display.start(10)
    assert pipe.getvalue().splitlines()[1] == "fetch with pip  in 3.0 s"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_the_terminal_clean(now, terminal, error):
    def fail() -> None:
        with Progress("auto", terminal, now=now) as display:
            display.start(400)
            train(display, now)
            raise error

    with pytest.raises(error):
        fail()
    assert screen(terminal.getvalue()) == ["trained 80 of 400 updates in 8.0 s, 1,000 examples/s at the end"]
    assert "\x1b[?25l" not in terminal.getvalue()


def test_stopping_twice_says_it_once(now, terminal):
    display = Progress("auto", terminal, now=now)
    display.stop()
    display.start(400)
    display.stop()
    display.stop()
    assert screen(terminal.getvalue()) == ["trained 0 of 400 updates in 0.0 s"]


def test_a_closed_stream_ends_the_display_only(now, terminal):
    closed = io.StringIO()
    closed.close()
    for stream in (terminal, closed):
        for mode in ("auto", "bar", "lines"):
            terminal.hung_up = False
            with Progress(mode, stream, now=now) as display:
                display.start(100)
                terminal.hung_up = True
                train(display, now, seconds=30)
                display.epoch(1, 2, {"val/x": 1.0})
                display.task("x", 1, 2)


def test_log_lines_clear_the_bar(now, terminal):
    handler = logging.StreamHandler(terminal)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with Progress("auto", terminal, now=now) as display:
            display.start(100)
            root.warning("disk is nearly full")
            assert screen(terminal.getvalue()) == ["disk is nearly full"]
            train(display, now, seconds=1)
        assert screen(terminal.getvalue())[0] == "disk is nearly full"
        assert handler.filters == []
    finally:
        root.removeHandler(handler)


@given(
    words=st.lists(
        st.text(max_size=40) | st.sampled_from(["[red]", "\ud800", "\x1b[2J", "漢" * 300, "\n"]), min_size=2, max_size=2
    ),
    value=st.floats(),
    numbers=st.lists(st.integers(-3, 2**70), min_size=4, max_size=4),
    mode=st.sampled_from(["bar", "lines"]),
    columns=st.sampled_from(["1", "20", "120"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_raises_for_odd_values(words, value, numbers, mode, columns, now, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    text, metric = words
    with Progress(mode, terminal, now=now) as display:
        for total in (numbers[0], None, 0):
            display.task(text, numbers[1], total)
            now.time += 20
            display.task(text, numbers[1], total)
        display.start(numbers[0], numbers[1])
        display.loss(value)
        now.time += 20
        display.update(numbers[2], 5)
        display.epoch(numbers[3], numbers[0], {metric: value})
        now.time += 20
        display.update(numbers[3], 5)
    assert "\x1b[2J" not in terminal.getvalue()


def test_a_line_fits_by_leaving_out_the_least_important():
    fields = [(3, "epoch 1/2"), (1, "loss 0.5"), (0, "0:10 left")]
    assert fit(fields, 30) == ["epoch 1/2", "loss 0.5", "0:10 left"]
    assert fit(fields, 29) == ["loss 0.5", "0:10 left"]
    assert fit(fields, 1) == ["0:10 left"]


@pytest.mark.parametrize("columns", [10, 40, 79, 80, 200])
def test_the_bar_never_reaches_the_last_column(now, terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with Progress("bar", terminal, now=now) as display:
        display.start(10**7, epochs=20)
        display.loss(0.123)
        train(display, now)
        assert len(last_drawn(terminal)) < columns


def test_words_for_numbers():
    assert [clock(s) for s in (7, 754, 3723, float("nan"), -1)] == ["0:07", "12:34", "1:02:03", "?", "0:00"]
    assert [duration(s) for s in (12.34, 59.96, 125, 3599.6, 3725)] == [
        "12.3 s",
        "1 min 00 s",
        "2 min 05 s",
        "1 h 00 min",
        "1 h 02 min",
    ]
    assert [compact(n) for n in (0, 812, 84321, 999_900, 5_917_549, 123456)] == [
        "0",
        "812",
        "84.3k",
        "1.00M",
        "5.92M",
        "123k",
    ]
