"""Work on the pieces of something large: several at a time, results in order, never more than a few in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_MOST_WORKERS = 4
"""More would each hold a piece in memory, and the one thread that takes the results would not follow."""


def usable_workers() -> int:
    """Threads that are worth starting on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _MOST_WORKERS))


def in_order(work: Callable[[_Task], _Result], tasks: Iterable[_Task], workers: int | None = None) -> Iterator[_Result]:
    """``work`` of each task, in the order of the tasks; threads, since numpy and Arrow let others run.

    At most one task more than there are workers is under way, however slowly the results are taken. The first error
    of any task is raised in its turn, and nothing new is started after it.

    Args:
        work: Called in several threads at once.
        tasks: Taken one by one, in the caller's thread.
        workers: Threads; None: as many as are worth it. 1 works in the caller's thread.
    """
    workers = workers or usable_workers()
    if workers == 1:
        yield from map(work, tasks)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="data") as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(work, task))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
