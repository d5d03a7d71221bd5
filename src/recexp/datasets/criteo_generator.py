"""Generated impressions in Criteo's format: its columns' shapes and gaps, and labels that depend on the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.criteo_lines import LARGEST_COUNT, NUM_CATEGORICAL, NUM_DENSE, format_lines
from recexp.datasets.parallel import in_order
from recexp.storage.atomic import atomic_file
from recexp.storage.download import Progress

GENERATOR = 1
"""Goes up whenever the same plan would give other lines."""

_BLOCK = 16_384
_BYTES_PER_LINE = 240
#: Ids of C1 to C26 in the 45,840,617 published lines, the missing one counted.
CARDINALITIES = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
#: Share of clicks in them.
BASE_RATE = 0.256
#: Columns that are missing in the same rows, and how often; so in the first 10,000 published lines, rounded, as are
#: the shapes below. Columns that are not listed are always there.
_DENSE_GAPS = (((1, 10), 0.448), ((3,), 0.204), ((4, 13), 0.198), ((5, 7, 9, 11), 0.049), ((6,), 0.251), ((8,), 0.001),
               ((12,), 0.774))  # fmt: skip
_ID_GAPS = (((3, 4, 12, 16, 21, 24), 0.036), ((6,), 0.133), ((19, 20, 25, 26), 0.45), ((22,), 0.818))
_OFTEN_WITHOUT_ID = frozenset(column for columns, _ in _ID_GAPS for column in columns)
#: Mean and standard deviation of log(1 + count) of I1 to I13, and the largest count.
_LOG_MEAN = (0.8, 2.1, 2.25, 1.7, 7.2, 3.6, 1.5, 2.1, 3.6, 0.4, 0.85, 0.3, 1.9)
_LOG_SD = (1.0, 2.1, 1.3, 1.0, 2.9, 1.8, 1.4, 1.2, 1.7, 0.4, 0.75, 0.6, 1.1)
_LARGEST = (1_000, 30_000, 65_535, 969, LARGEST_COUNT, 230_000, 30_000, 6_000, 20_000, 9, 200, 4_000, 7_000)
#: I2 is negative in a tenth of the rows: -1, seldom -2.
_NEGATIVE_COLUMN, _NEGATIVE, _MINUS_TWO = 2, 0.1, 0.02
#: How steeply ids fall off: the probability of rank r is about 1 / r ** steepness. Near the published share of the most
#: frequent id.
_STEEPNESS = (
    2.0, 1.05, 1.0, 1.05, 2.4, 1.9, 0.7, 2.1, 3.9, 1.4, 0.85, 1.0, 0.85, 1.4, 0.85, 1.0, 1.4, 0.95, 2.2, 0.6, 1.0, 1.9,
    1.6, 1.05, 1.6, 1.05,
)  # fmt: skip
#: Columns whose ids' hidden vectors multiply: each has several frequent ids, so that there are pairs to learn from.
_PAIRS = ((14, 17), (14, 23), (17, 23), (6, 14), (6, 17), (6, 23), (2, 17))
_WIDTH = 2
#: Share of the log-odds' variance that single ids, pairs of ids and counts have.
_SHARES = (0.45, 0.4, 0.15)
_SPREAD = 1.7
_TABLE = 4096
_NO_ID = _TABLE

Ids = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]
_Gaps = tuple[tuple[tuple[int, ...], float], ...]


@dataclass(frozen=True)
class Plan:
    """What is generated.

    Attributes:
        rows: Lines.
        max_cardinality: Most ids of a column; columns have the published number where that is smaller.
        structure: How far labels depend on the features: factor of the hidden log-odds; 0: not at all.
        seed: Of the generator.
    """

    rows: int = 100_000
    max_cardinality: int = 200
    structure: float = 1.0
    seed: int = 1

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Plan:
        """From the ``dataset`` node of a configuration, where ``rows`` is ``impressions``."""
        options = {name: dataset[name] for name in cls.__dataclass_fields__ if name != "rows" and name in dataset}
        return cls(rows=dataset.get("impressions", cls.rows), **options)


@dataclass(frozen=True)
class Block:
    """Consecutive rows.

    Shapes: N rows. ``label`` bool[N]; ``probability`` float64[N], that the label was drawn with: no model can rank
    better. ``dense`` int64[13, N] and ``ids`` uint32[26, N]; where ``no_dense`` bool[13, N] or ``no_id`` bool[26, N],
    there is none.
    """

    label: npt.NDArray[np.bool_]
    probability: Floats
    dense: npt.NDArray[np.int64]
    no_dense: npt.NDArray[np.bool_]
    ids: Ids
    no_id: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    def lines(self) -> npt.NDArray[np.uint8]:
        """The rows as text."""
        return format_lines(self.label, self.dense, self.no_dense, self.ids, self.no_id)


def write(
    path: Path, *, rows: int, max_cardinality: int, seed: int, structure: float = 1.0, progress: Progress | None = None
) -> None:
    """Write lines of Criteo's ``train.txt``, atomically and in memory that does not grow with them.

    Args:
        path: File to create or replace; its folder must exist.
        rows: As in `Plan`, which the next three are from, too. A longer file begins with the shorter one.
        max_cardinality: Most ids of a column.
        seed: Of the generator.
        structure: How far labels depend on the features.
        progress: Told how many lines are written.

    Raises:
        OSError: the disk refuses.
    """
    source = Source(Plan(rows, max_cardinality, structure, seed))
    with atomic_file(path, expected_bytes=rows * _BYTES_PER_LINE) as stream:
        numbers = range(source.blocks)
        for done, lines in enumerate(in_order(lambda number: source.block(number).lines(), numbers), start=1):
            stream.write(lines)
            if progress is not None:
                progress("generate impressions", min(rows, done * _BLOCK), rows)


class Source:
    """A plan's impressions, block by block; each block is drawn from its own number, so any may come first."""

    def __init__(self, plan: Plan) -> None:
        """Draw the hidden model of the plan's seed."""
        self.plan = plan
        rng = np.random.default_rng([plan.seed, 0])
        self._keys = rng.integers(0, 1 << 32, NUM_CATEGORICAL, dtype=np.uint32)
        self._weights = rng.standard_normal((NUM_CATEGORICAL, _TABLE + 1))
        self._vectors = rng.standard_normal((NUM_CATEGORICAL, _TABLE + 1, _WIDTH))
        self._slopes = rng.choice((-1.0, 1.0), NUM_DENSE) * rng.uniform(0.5, 1.5, NUM_DENSE)
        self._scales: tuple[tuple[float, float], ...] = ((0.0, 1.0),) * len(_SHARES)
        self._bias = 0.0
        self._calibrate()

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.plan.rows // _BLOCK)

    def block(self, number: int) -> Block:
        """Up to 16,384 rows, from row ``number * 16,384`` on."""
        rng = np.random.default_rng([self.plan.seed, 2, number])
        dense, no_dense = _draw_counts(rng)
        ids, no_id = self._draw_ids(rng)
        probability = 1.0 / (1.0 + np.exp(-self._log_odds(dense, ids, no_id)))
        label = rng.random(_BLOCK) < probability
        kept = min(_BLOCK, self.plan.rows - number * _BLOCK)
        return Block(
            label[:kept], probability[:kept], dense[:, :kept], no_dense[:, :kept], ids[:, :kept], no_id[:, :kept]
        )

    def _draw_ids(self, rng: np.random.Generator) -> tuple[Ids, npt.NDArray[np.bool_]]:
        missing = _gaps(rng, NUM_CATEGORICAL, _ID_GAPS)
        uniform = rng.random((NUM_CATEGORICAL, _BLOCK))
        ids = np.empty(uniform.shape, np.uint32)
        columns = zip(CARDINALITIES, _STEEPNESS, self._keys, strict=True)
        for c, (cardinality, steepness, key) in enumerate(columns):
            size = min(cardinality, self.plan.max_cardinality) - (c + 1 in _OFTEN_WITHOUT_ID)
            ids[c] = _mix(_draw_ranks(uniform[c], size, steepness) ^ key)
        return ids, missing

    def _log_odds(self, dense: npt.NDArray[np.int64], ids: Ids, no_id: npt.NDArray[np.bool_]) -> Floats:
        parts = self._parts(dense, ids, no_id)
        total = np.zeros(ids.shape[1])
        for part, (mean, scale) in zip(parts, self._scales, strict=True):
            total += (part - mean) * scale
        return self._bias + self.plan.structure * _SPREAD * total

    def _parts(self, dense: npt.NDArray[np.int64], ids: Ids, no_id: npt.NDArray[np.bool_]) -> tuple[Floats, ...]:
        """What single ids, pairs of ids and counts say, float64[N] each and not yet weighed against each other.

        A missing count says what 0 says.
        """
        place = _places(ids, no_id)
        first = np.zeros(ids.shape[1])
        for c in range(NUM_CATEGORICAL):
            first += self._weights[c].take(place[c])
        pairs = np.zeros(ids.shape[1])
        for left, right in _PAIRS:
            vectors = self._vectors[left - 1].take(place[left - 1], axis=0)
            pairs += np.einsum("nd,nd->n", vectors, self._vectors[right - 1].take(place[right - 1], axis=0))
        size = (np.log1p(np.maximum(dense, 0)) / np.array(_LOG_SD)[:, None] * self._slopes[:, None]).sum(axis=0)
        return first, pairs, size

    def _calibrate(self) -> None:
        """Weigh the parts and set the bias on rows of their own, so that every seed has one base rate and spread.

        Vectors are centred, so that a product says nothing that one of its ids could say alone.
        """
        rng = np.random.default_rng([self.plan.seed, 1])
        dense, _ = _draw_counts(rng)
        ids, no_id = self._draw_ids(rng)
        place = _places(ids, no_id)
        for column in {column - 1 for pair in _PAIRS for column in pair}:
            self._vectors[column] -= self._vectors[column].take(place[column], axis=0).mean(axis=0)
        parts = self._parts(dense, ids, no_id)
        self._scales = tuple(
            (float(part.mean()), float(np.sqrt(share) / max(part.std(), 1e-9)))
            for part, share in zip(parts, _SHARES, strict=True)
        )
        centred = sum((part - mean) * scale for part, (mean, scale) in zip(parts, self._scales, strict=True))
        log_odds = self.plan.structure * _SPREAD * np.asarray(centred)
        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            above = (1.0 / (1.0 + np.exp(-(log_odds + middle)))).mean() > BASE_RATE
            low, high = (low, middle) if above else (middle, high)
        self._bias = low


def _draw_counts(rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Counts int64[13, N], log-normal and 0 where there is none, and where there is none bool[13, N]."""
    missing = _gaps(rng, NUM_DENSE, _DENSE_GAPS)
    logarithm = np.array(_LOG_MEAN)[:, None] + np.array(_LOG_SD)[:, None] * rng.standard_normal((NUM_DENSE, _BLOCK))
    counts = np.minimum(np.rint(np.expm1(np.maximum(logarithm, 0.0))), np.array(_LARGEST)[:, None]).astype(np.int64)
    chance = rng.random(_BLOCK)
    negative = -1 - (chance < _NEGATIVE * _MINUS_TWO).astype(np.int64)
    column = _NEGATIVE_COLUMN - 1
    counts[column] = np.where(chance < _NEGATIVE, negative, counts[column])
    counts[missing] = 0
    return counts, missing


def _gaps(
    rng: np.random.Generator, columns: int, groups: tuple[tuple[tuple[int, ...], float], ...]
) -> npt.NDArray[np.bool_]:
    missing = np.zeros((columns, _BLOCK), np.bool_)
    for members, share in groups:
        missing[np.array(members) - 1] = rng.random(_BLOCK) < share
    return missing


def _places(ids: Ids, no_id: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where an id's hidden weight and vector stand: the first three of its digits say so, however many ids there are.

    A missing id has a place of its own.
    """
    return np.where(no_id, _NO_ID, ids >> np.uint32(20)).astype(np.int64)


def _draw_ranks(uniform: Floats, size: int, steepness: float) -> Ids:
    """Ranks 0..size-1 with probabilities of about 1 / (rank + 1) ** steepness, as the inverse of an integral."""
    if steepness == 1.0:
        real = np.exp(uniform * np.log(size + 1.0))
    else:
        power = 1.0 - steepness
        real = (1.0 + uniform * ((size + 1.0) ** power - 1.0)) ** (1.0 / power)
    ranks: Ids = np.clip(real.astype(np.int64) - 1, 0, size - 1).astype(np.uint32)
    return ranks


def _mix(value: Ids) -> Ids:
    """MurmurHash3's final mixing of 32 bits: one to one, so no two ranks have the same id."""
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x85EBCA6B)
    value = value ^ (value >> np.uint32(13))
    value = value * np.uint32(0xC2B2AE35)
    mixed: Ids = value ^ (value >> np.uint32(16))
    return mixed
