"""Generated clicks in RSC15's raw format, with order in them that a model of sessions can find; any number of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets import session_data
from recexp.datasets.click_files import Found, Member
from recexp.datasets.parallel import in_order
from recexp.datasets.places import Places
from recexp.datasets.table import LargeRecording, Written
from recexp.errors import ConfigError
from recexp.storage.atomic import atomic_file
from recexp.storage.checksum import sha256_json
from recexp.storage.download import Progress

_GENERATOR = 1
_BLOCK = 100_000
_FIRST_MS = 1_396_310_400_000
_DAY_MS = 86_400_000
_LONGEST = 40
_FIRST_ITEM = 214_500_000
_STRIDES = (1, 7, 29, 113)

Column = npt.NDArray[np.int64]
Block = tuple[Column, Column, Column]


@dataclass(frozen=True)
class Plan:
    """What is planted.

    Attributes:
        sessions: Number of sessions, those of one click among them.
        items: Number of items.
        clicks_per_session: Mean length of a session; lengths are geometric from 1 to 40.
        days: Days over which the sessions begin.
        structure: Probability that a click follows the session's own rule; else it is any item by popularity.
        seed: Of the generator.
    """

    sessions: int = 4000
    items: int = 300
    clicks_per_session: float = 4.0
    days: int = 14
    structure: float = 0.8
    seed: int = 1

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Plan:
        """From the ``dataset`` node of a configuration."""
        return cls(**{name: dataset[name] for name in cls.__dataclass_fields__ if name in dataset})


def read(dataset: Mapping[str, Any], places: Places) -> LargeRecording:
    """The reader of ``dataset=rsc15_synthetic``: writes raw clicks beside the arrays and reads them as any others.

    Raises:
        ConfigError: files are named, which generated clicks do not have.
    """
    named = [f"dataset.{key}" for key in ("path", "train", "test", "member") if dataset.get(key) is not None]
    if named:
        raise ConfigError([
            f"dataset=rsc15_synthetic is generated: {', '.join(named)} has no meaning. Use dataset=rsc15."
        ])  # fmt: skip
    session_data.refuse_ratings(dataset)
    plan = Plan.of(dataset)
    content = sha256_json({"generator": _GENERATOR, **asdict(plan)})

    def make(folder: Path) -> Written:
        clicks = folder / session_data.CLICKS
        write(clicks, plan, places.progress)
        found = Found((Member(clicks, clicks.stat().st_size),))
        written = session_data.build(found, dataset, places, folder)
        clicks.unlink()
        return dataclasses.replace(written, origin=f"generated ({plan.sessions:,} sessions, seed {plan.seed})")

    return LargeRecording(content, session_data.options(dataset, 1), make, synthetic=True)


def write(path: Path, plan: Plan, progress: Progress | None = None) -> None:
    """Write the clicks as ``session,time,item,category`` lines, atomically and in bounded memory.

    Raises:
        OSError: the disk refuses.
    """
    with atomic_file(path, expected_bytes=int(plan.sessions * plan.clicks_per_session * 45)) as stream:
        blocks = range(1, plan.sessions + 1, _BLOCK)
        for done, lines in enumerate(in_order(lambda first: _lines(*generate(plan, first)), blocks), start=1):
            stream.write(lines)
            if progress is not None:
                progress("generate clicks", min(plan.sessions, done * _BLOCK), plan.sessions)


def generate(plan: Plan, first: int = 1) -> Block:
    """Session, time in milliseconds and item, int64[N] each, of up to 100,000 sessions from number ``first`` on.

    All items stand on a ring. Each session has one of four strides and keeps it: a click goes on by the stride with
    probability ``structure``, so two clicks tell the third, and one click leaves four choices. Other clicks, the first
    among them, fall on items by popularity, 1 / rank ** 0.8. Sessions are numbered from 1 and stand one behind the
    other; when they begin does not depend on the number, as in the original.
    """
    weight = 1.0 / np.arange(1, plan.items + 1) ** 0.8
    cumulated = np.cumsum(weight) / weight.sum()
    shuffle = np.random.default_rng(plan.seed)
    place_of_rank, item_at = shuffle.permutation(plan.items), shuffle.permutation(plan.items)
    rng = np.random.default_rng([plan.seed, first])
    count = min(_BLOCK, plan.sessions + 1 - first)
    length = np.minimum(rng.geometric(1 / plan.clicks_per_session, count), _LONGEST)
    start = _FIRST_MS + rng.integers(0, plan.days * _DAY_MS, count)
    stride = np.array(_STRIDES)[rng.integers(0, len(_STRIDES), count)]
    steps = int(length.max())
    inside = np.arange(steps) < length[:, None]
    place = np.zeros((count, steps), np.int64)
    for step in range(steps):
        live = np.flatnonzero(inside[:, step])
        drawn = place_of_rank[np.searchsorted(cumulated, rng.random(len(live))).clip(max=plan.items - 1)]
        follows = (rng.random(len(live)) < plan.structure) & (step > 0)
        place[live, step] = np.where(follows, (place[live, step - 1] + stride[live]) % plan.items, drawn)
    gap = (rng.exponential(60_000, place.shape) + 500).astype(np.int64)
    gap[:, 0] = 0
    session = np.repeat(np.arange(first, first + count), length)
    return session, (start[:, None] + np.cumsum(gap, axis=1))[inside], _FIRST_ITEM + item_at[place[inside]]


def _lines(session: Column, time: Column, item: Column) -> npt.NDArray[np.uint8]:
    """The text of the clicks, without a call for each of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = pa.Array.from_buffers(pa.binary(24), len(time), [None, pa.py_buffer(_moments(time))])
    fields = [pa.array(column).cast(pa.string()).cast(pa.binary()) for column in (session, item)]
    text = pc.binary_join_element_wise(fields[0], moments.cast(pa.binary()), fields[1], b"0\n", b",")
    _, offsets, data = text.buffers()
    end = int(np.frombuffer(offsets, np.int32)[len(text)])
    return np.frombuffer(data, np.uint8)[:end]


def _moments(time: Column) -> npt.NDArray[np.uint8]:
    """uint8[N, 24]: the times as text."""
    day = (time // _DAY_MS).astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    count = month.astype(np.int64)
    text = np.tile(np.frombuffer(b"0000-00-00T00:00:00.000Z", np.uint8), (len(time), 1))
    numbers = (
        (0, 4, 1970 + count // 12), (5, 2, 1 + count % 12), (8, 2, 1 + (day - month).astype(np.int64)),
        (11, 2, time // 3_600_000 % 24), (14, 2, time // 60_000 % 60), (17, 2, time // 1000 % 60), (20, 3, time % 1000),
    )  # fmt: skip
    for place, digits, values in numbers:
        for digit in range(digits):
            text[:, place + digit] += (values // 10 ** (digits - 1 - digit) % 10).astype(np.uint8)
    return text
