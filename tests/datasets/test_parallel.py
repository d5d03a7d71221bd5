"""Pieces by several threads: in order, few at a time, and the first error ends it."""

from __future__ import annotations

import threading
import time

import pytest

from recexp.datasets.parallel import in_order, usable_workers


@pytest.mark.parametrize("workers", [1, 2, 4, None])
def test_results_are_in_order(workers: int | None) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))
        return number * number

    assert list(in_order(work, range(50), workers)) == [number * number for number in range(50)]
    assert list(in_order(work, [], workers)) == []


def test_few_tasks_are_taken_ahead_of_the_results() -> None:
    taken = []

    def tasks() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, tasks(), workers=2)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()
    assert len(taken) <= 4


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_error_ends_it(workers: int) -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise OSError("full")
        return number

    done = []
    with pytest.raises(OSError, match="full"):
        done += in_order(work, range(1000), workers)
    assert len(begun) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("data")]


def test_workers_are_few() -> None:
    assert 1 <= usable_workers() <= 4
