"""Rows that cannot be used: counted by kind, shown, and refused or left out as the policy says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recexp.errors import DataError

SHOWN_LINES = 5
SHOWN_CHARACTERS = 120
_HOPELESS = 100_000


@dataclass(frozen=True)
class Policy:
    """``error`` refuses a source with any malformed row; ``skip`` leaves out up to ``limit`` of them."""

    word: str = "error"
    limit: int = 100

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Policy:
        """What the ``dataset`` node of a configuration says."""
        return cls(dataset.get("malformed", cls.word), dataset.get("malformed_limit", cls.limit))

    def __post_init__(self) -> None:
        """Refuse other words."""
        if self.word not in {"error", "skip"}:
            raise ValueError(f"dataset.malformed must be error or skip, not {self.word!r}")
        if self.limit < 0:
            raise ValueError(f"dataset.malformed_limit must be at least 0, not {self.limit}")

    def refuses(self, count: int) -> bool:
        """Whether a source with so many malformed rows may not be used."""
        return count > (0 if self.word == "error" else self.limit)


@dataclass
class Malformed:
    """Collects malformed rows of one source; ``check`` applies the policy when all rows were seen."""

    source: str
    policy: Policy
    unit: str = "line"
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    _shown: list[tuple[int, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Malformed rows so far."""
        return sum(self.counts.values())

    def add(self, kind: str, row: int, text: str | bytes) -> None:
        """Note one row.

        Args:
            kind: Short word for what is wrong.
            row: Line (or row) number in the source, counted from 1.
            text: The row as it stands; escaped and cut before it is shown.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.rows.append(row)
        if len(self._shown) < SHOWN_LINES or row < self._shown[-1][0]:
            self._shown = sorted([*self._shown, (row, f"{self.unit} {row} ({kind}): {_escape(text)}")])[:SHOWN_LINES]
        if len(self.rows) >= _HOPELESS and self.policy.refuses(self.total):
            raise DataError(self._message(f"The first {row:,} {self.unit}s were read; reading stopped there."))

    def check(self, rows_read: int) -> None:
        """Raise DataError if the policy does not allow what was found among ``rows_read`` rows."""
        if self.policy.refuses(self.total):
            raise DataError(self._message(f"{rows_read:,} rows were read."))

    def _message(self, extent: str) -> str:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.counts.items(), key=lambda kv: -kv[1]))
        if self.policy.word == "error":
            advice = f"or leave such rows out with dataset.malformed=skip dataset.malformed_limit={self.total}"
        else:
            advice = f"or allow more of them than dataset.malformed_limit={self.policy.limit}"
        lines = "\n".join(f"  {line}" for _, line in self._shown)
        found = f"{self.total:,} {'row is' if self.total == 1 else 'rows are'} malformed ({kinds})"
        return f"{self.source}: {found}. {extent}\n{lines}\nCorrect the file, {advice}."


def _escape(text: str | bytes) -> str:
    shown = repr(text[: SHOWN_CHARACTERS + 1])
    if isinstance(text, bytes):
        shown = shown[1:]
    return (
        shown if len(text) <= SHOWN_CHARACTERS and len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "..."
    )
