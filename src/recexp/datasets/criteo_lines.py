"""Impressions as text in the format of Criteo's train.txt, formatted column by column for whole blocks of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NUM_DENSE = 13
NUM_CATEGORICAL = 26
LARGEST_COUNT = 9_999_999
SMALLEST_COUNT = -9

_BASE = 10_000
_BLANK = 2 * _BASE
_LONGEST_LINE = 1 + NUM_DENSE * 9 + NUM_CATEGORICAL * 9 + 1
_ROW = np.dtype(
    [("label", "u1")]
    + [field for c in range(NUM_DENSE) for field in ((f"tab_i{c}", "u1"), (f"i{c}_high", "u4"), (f"i{c}_low", "u4"))]
    + [field for c in range(NUM_CATEGORICAL) for field in ((f"tab_c{c}", "u1"), (f"c{c}", "u4", 2))]
    + [("newline", "u1")]
)  # fmt: skip


def _characters(texts: list[str]) -> npt.NDArray[np.uint32]:
    """Four characters each, as one number; NUL where a text is shorter."""
    return np.frombuffer("".join(text.ljust(4, "\0") for text in texts).encode(), dtype=np.uint32)


#: 0..9999 as they are, then with zeros in front, then nothing, then -1..-9.
_DECIMAL = _characters(
    [str(value) for value in range(_BASE)]
    + [f"{value:04d}" for value in range(_BASE)]
    + [""]
    + [str(value) for value in range(-1, SMALLEST_COUNT - 1, -1)]
)
_HEX = _characters([f"{value:04x}" for value in range(1 << 16)])


def format_lines(
    label: npt.NDArray[np.bool_],
    dense: npt.NDArray[np.int64],
    no_dense: npt.NDArray[np.bool_],
    ids: npt.NDArray[np.uint32],
    no_id: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:
    """The lines of a block: label, 13 counts and 26 ids of eight hexadecimal digits, between tabs, LF at the end.

    Every row is first laid out with room for the longest values, NUL where there is nothing, and then NULs go: a few
    passes over bytes instead of one call for each value.

    Args:
        label: [N].
        dense: [13, N], from -9 to 9,999,999.
        no_dense: [13, N], where there is no count.
        ids: [26, N].
        no_id: [26, N], where there is no id.

    Returns:
        uint8[bytes].

    Raises:
        ValueError: a count has no room.
    """
    if dense.size and (dense.min() < SMALLEST_COUNT or dense.max() > LARGEST_COUNT):
        raise ValueError(f"counts are {SMALLEST_COUNT}..{LARGEST_COUNT:,}, not {dense.min():,}..{dense.max():,}")
    rows = np.zeros(len(label), dtype=_ROW)
    for name in _ROW.names or ():
        if name.startswith("tab"):
            rows[name] = ord("\t")
    rows["newline"] = ord("\n")
    rows["label"] = label + np.uint8(ord("0"))
    for c in range(NUM_DENSE):
        high, low = np.divmod(np.maximum(dense[c], 0), _BASE)
        place = np.where(high > 0, low + _BASE, np.where(dense[c] < 0, _BLANK - dense[c], low))
        rows[f"i{c}_high"] = _DECIMAL[np.where(no_dense[c] | (high == 0), _BLANK, high)]
        rows[f"i{c}_low"] = _DECIMAL[np.where(no_dense[c], _BLANK, place)]
    for c in range(NUM_CATEGORICAL):
        text = rows[f"c{c}"]
        text[:, 0] = np.where(no_id[c], 0, _HEX[ids[c] >> 16])
        text[:, 1] = np.where(no_id[c], 0, _HEX[ids[c] & 0xFFFF])
    flat = rows.view(np.uint8).reshape(-1)
    lines: npt.NDArray[np.uint8] = flat[flat != 0]
    return lines
