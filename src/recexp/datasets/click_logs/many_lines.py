"""Many lines of a click log at once with numpy: eight characters are one 64-bit word, read in a few steps.

Source of the arithmetic: "SIMD within a register", as in D. Lemire, "Quickly parsing eight digits" (2018).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs.layout import MISSING, Layout, Rows

PADDING = 8
"""Bytes before the first line: a word of eight characters that ends in the first column begins there."""

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]


def _each(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


# By the length of a field: which characters of the word are its own, and zeros in place of the others.
_OWN = np.array([(~0 << 8 * (8 - length)) & (2**64 - 1) for length in range(9)], np.uint64)
_ZEROS = np.array([int.from_bytes(b"0" * (8 - length), "little") for length in range(9)], np.uint64)
_LINE_END, _CONTROL, _MINUS = 0x0A, 0x20, 0x2D
_HIGH, _LOW, _CHARACTER_0 = _each(0x80), _each(0x0F), _each(0x30)


def parse_lines(padded: _Bytes, layout: Layout) -> Rows | None:
    """Read whole lines; None where any of them has to be looked at one by one.

    Args:
        padded: PADDING bytes that do not count (no control characters), then lines that each end with a newline.
        layout: Of the lines.
    """
    is_end = padded < _CONTROL
    if layout.separator != "\t":
        is_end |= padded == ord(layout.separator)
    flat = np.flatnonzero(is_end)
    if flat.size % layout.width or not flat.size:
        return None
    ends = flat.reshape(-1, layout.width)
    found = padded.take(flat).reshape(ends.shape)
    if (found[:, -1] != _LINE_END).any() or (found[:, :-1] != ord(layout.separator)).any():
        return None
    lengths = np.empty_like(ends)
    each = lengths.reshape(-1)
    np.subtract(flat[1:], flat[:-1] + 1, out=each[1:])
    each[0] = flat[0] - PADDING
    label = _label(padded, ends, lengths, layout)
    numbers = _numbers(padded, *_chosen(ends, lengths, layout.places("number")))
    ids = _ids(padded, *_chosen(ends, lengths, layout.places("hex")))
    if label is None or numbers is None or ids is None:
        return None
    return Rows(label, numbers, *ids)


def _chosen(ends: _Ints, lengths: _Ints, places: list[int]) -> tuple[_Ints, _Ints]:
    """Columns in a row of their own, without a copy where they are neighbours."""
    if places == list(range(places[0], places[-1] + 1)):
        return ends[:, places[0] : places[-1] + 1], lengths[:, places[0] : places[-1] + 1]
    return ends[:, places], lengths[:, places]


def _label(padded: _Bytes, ends: _Ints, lengths: _Ints, layout: Layout) -> _Bytes | None:
    (place,) = layout.places("label")
    value = padded.take(ends[:, place] - 1) - np.uint8(ord("0"))
    return None if (lengths[:, place] != 1).any() or (value > 1).any() else value


def _words(padded: _Bytes, ends: _Ints) -> _Words:
    """The eight characters before each end. A view of void type is not copied for being unaligned."""
    windows: npt.NDArray[np.void] = np.ndarray((padded.size - 7,), dtype="V8", buffer=padded, strides=(1,))
    return windows.take(ends.reshape(-1) - 8).view(np.uint64).reshape(ends.shape)


def _numbers(padded: _Bytes, ends: _Ints, lengths: _Ints) -> npt.NDArray[np.int32] | None:
    """int32[D, N] from [N, D] fields."""
    if lengths.max() > 8:
        return None
    negative = padded.take(ends - lengths) == _MINUS
    digits = lengths - negative
    if (negative & (digits == 0)).any():
        return None
    word = _words(padded, ends)
    word &= _OWN.take(digits)
    word |= _ZEROS.take(digits)
    word ^= _CHARACTER_0
    if (((word + _each(0x76)) | word) & _HIGH).any():
        return None
    word = (word * np.uint64(10 * 2**8 + 1)) >> np.uint64(8)
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1)) >> np.uint64(16)
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10000 * 2**32 + 1)) >> np.uint64(32)
    value = word.astype(np.int32)
    np.negative(value, out=value, where=negative)
    value[lengths == 0] = MISSING
    return np.ascontiguousarray(value.T)


def _ids(padded: _Bytes, ends: _Ints, lengths: _Ints) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]] | None:
    """uint32[C, N] and bool[C, N] from [N, C] fields."""
    if lengths.max() > 8:
        return None
    word = _words(padded, ends)
    word &= _OWN.take(lengths)
    word |= _ZEROS.take(lengths)
    value = word & _LOW
    value += ((word >> np.uint64(6)) & _each(1)) * np.uint64(9)
    is_letter = ((value + _each(6)) >> np.uint64(4)) & _each(1)
    written = value + _CHARACTER_0 + is_letter * np.uint64(0x27)
    if ((written ^ (word | _each(0x20))) | (value & _each(0x10))).any():
        return None
    value = ((value << np.uint64(4)) | (value >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    value = ((value << np.uint64(8)) | (value >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    value = (value << np.uint64(16)) | (value >> np.uint64(32))
    ids = value.astype(np.uint32)
    return np.ascontiguousarray(ids.T), np.ascontiguousarray((lengths == 0).T)
