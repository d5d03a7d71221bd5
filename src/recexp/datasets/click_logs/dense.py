"""What becomes of the numbers of a click log."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs.layout import MISSING

_Ints = npt.NDArray[np.int32]
#: Nearly all numbers of click logs are small, and a look-up takes a third of a logarithm's time.
_LOG1P = np.log1p(np.arange(1 << 14, dtype=np.float64)).astype(np.float32)


def log1p(numbers: _Ints) -> npt.NDArray[np.float32]:
    """log(1 + x); a negative or missing x counts as 0. Source: facebookresearch/dlrm, data_utils.py."""
    positive = np.maximum(numbers, 0)
    found = _LOG1P.take(np.minimum(positive, len(_LOG1P) - 1))
    is_large = positive >= len(_LOG1P)
    found[is_large] = np.log1p(positive[is_large].astype(np.float64))
    return found


def by_largest(numbers: _Ints, largest: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """X by the largest of its column; 0 where x is missing. Source: mindspore-ai/models, DeepFM preprocess_data.py.

    Args:
        numbers: int32[D, N].
        largest: int64[D], at least 0; 0 divides by 1, where the source would fail.
    """
    shares = numbers / np.maximum(largest, 1)[:, None]
    shares[numbers == MISSING] = 0.0
    return shares.astype(np.float32)


def largest_of(numbers: _Ints) -> npt.NDArray[np.int64]:
    """int64[D] from int32[D, N]: at least 0."""
    return np.asarray(numbers.max(axis=1, initial=0), np.int64)


def _boundaries(kind: str) -> npt.NDArray[np.int32]:
    """The smallest x above 2 of each category: whole numbers decide, where a logarithm would be rounded."""
    if kind == "log2":
        return np.array([4 << place for place in range(29)], np.int32)
    # floor(ln(x) ** 2) for 32 bits reaches 461; each step is found by looking at the numbers round it.
    found = []
    for category in range(2, 462):
        near = np.arange(-2, 4) + round(np.exp(np.sqrt(category)))
        at = near[(near > 2) & (np.floor(np.log(np.maximum(near, 1).astype(np.float64)) ** 2) >= category)]
        found.append(int(at.min(initial=2**31)))
    return np.array([each for each in found if each < 2**31], np.int32)


_BOUNDARIES = {kind: _boundaries(kind) for kind in ("ln_squared", "log2")}


def as_categories(numbers: _Ints, kind: str) -> npt.NDArray[np.int64]:
    """The category of each number; a missing one is 0.

    Args:
        numbers: int32[N].
        kind: ``ln_squared``: floor(ln(x) ** 2) for x above 2 (FuxiCTR's code); ``log2``: floor(log2(x)) (BARS's text).
    """
    category = np.searchsorted(_BOUNDARIES[kind], numbers, side="right") + 1
    small = np.where(numbers == MISSING, 0, numbers)
    return np.where(numbers > 2, category, small).astype(np.int64)
