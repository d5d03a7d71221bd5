"""Judges a record of operators: has the real torch_npu a kernel for each, and are the types documented ones?"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("dtypes.toml")
SHORT = {
    "bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64", "u8": "uint8", "i8": "int8",
    "i16": "int16", "i32": "int32", "i64": "int64", "bool": "bool",
}  # fmt: skip

Record = dict[str, dict[str, Any]]


@dataclass
class Verdict:
    """What a record of one command comes to.

    Attributes:
        rows: One for each operator: its name, how an NPU would run it, and the types seen, by operand.
        missing: Operators that no NPU kernel runs, with the reason.
        undocumented: Types of operands that Ascend's tables do not have.
        excused: Exceptions of dtypes.toml that were needed: operator, operand, type.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    undocumented: list[str] = field(default_factory=list)
    excused: set[tuple[str, str, str]] = field(default_factory=set)

    def counted(self) -> dict[str, int]:
        """How many operators there are of each way."""
        ways = [row["way"] for row in self.rows]
        return {way: ways.count(way) for way in ("kernel", "composite", "missing")}


class Dtypes:
    """The tables of dtypes.toml."""

    def __init__(self, path: Path = TABLE) -> None:
        table = tomllib.loads(path.read_text("utf-8"))
        self.default = _types(table["default"])
        self.operators: dict[str, dict[str, str]] = table["operators"]
        self.unsupported: dict[str, str] = table["unsupported"]
        self.exceptions = {(e["operator"], e["operand"], SHORT[e["type"]]) for e in table.get("exceptions", [])}

    def legal(self, operator: str, operand: str) -> set[str]:
        """Types that an operand may have."""
        entry = self.operators.get(base(operator), {})
        text = entry.get(operand) or entry.get("any")
        if text == "all":
            return {*self.default, *SHORT.values()}
        return _types(text) if text else self.default


def base(operator: str) -> str:
    """``aten::add.Tensor`` is ``add``."""
    return operator.partition("::")[2].partition(".")[0]


def judge(record: Record, ways: Mapping[str, str], dtypes: Dtypes) -> Verdict:
    """Hold a record against the wheel's dispatcher and Ascend's tables.

    Args:
        record: What children/record.py wrote.
        ways: Operators and how the real torch_npu would run them, from children/kernels.py.
        dtypes: Ascend's tables.
    """
    found = Verdict()
    for name, seen in record.items():
        reason = _why_missing(name, record, ways, dtypes, ())
        way = "missing" if reason else "kernel" if ways[name] == "kernel" else "composite"
        operands = _by_operand(seen["operands"])
        found.rows.append({"operator": name, "way": way, "dtypes": operands})
        if reason:
            found.missing.append(f"{name}: {reason}")
        if way == "kernel":
            _compare(name, operands, dtypes, found)
    return found


def _why_missing(
    name: str, record: Record, ways: Mapping[str, str], dtypes: Dtypes, outside: tuple[str, ...]
) -> str | None:
    way = ways.get(name, "none")
    if base(name) in dtypes.unsupported:
        return f"documented as not supported ({dtypes.unsupported[base(name)]})"
    if way == "none":
        return "no kernel for an NPU"
    if way == "kernel" or name in outside:
        return None
    if name not in record:
        return "not recorded"
    for inner in record[name]["inner"]:
        reason = _why_missing(inner, record, ways, dtypes, (*outside, name))
        if reason:
            return f"composed of {inner}: {reason}"
    return None


def _by_operand(operands: list[list[list[str]]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for call in operands:
        for operand, dtype in call:
            found.setdefault(operand, set()).add(dtype)
    return {operand: sorted(types) for operand, types in sorted(found.items())}


def _compare(name: str, operands: dict[str, list[str]], dtypes: Dtypes, found: Verdict) -> None:
    for operand, types in operands.items():
        for dtype in set(types) - dtypes.legal(name, operand):
            if (base(name), operand, dtype) in dtypes.exceptions:
                found.excused.add((base(name), operand, dtype))
            else:
                found.undocumented.append(f"{name}: {operand} is {dtype}")


def _types(text: str) -> set[str]:
    return {SHORT[word] for word in text.split()}
