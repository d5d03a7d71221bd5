"""The mistakes found so far, in the order in which the user reads them: the command line, files, combinations."""

from __future__ import annotations

from collections.abc import Iterable

FILES = 10_000
COMBINATIONS = 20_000


class Findings:
    """Collects mistakes; ``bad`` are the keys and groups that further checks had better not rely on."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []
        self.bad: set[str] = set()

    def add(self, order: int, text: str, key: str | None = None) -> None:
        """Note a mistake; ``order`` is the position of its word, `FILES` or `COMBINATIONS`."""
        self._found.append((order, text))
        if key is not None:
            self.bad.add(key)

    def extend(self, order: int, texts: Iterable[str]) -> None:
        """Note several at one place."""
        for text in texts:
            self.add(order, text)

    def is_bad(self, key: str) -> bool:
        """Whether this key, or one above or below it, is among the mistakes."""
        return any(key == bad or key.startswith(f"{bad}.") or bad.startswith(f"{key}.") for bad in self.bad)

    def texts(self) -> list[str]:
        """All mistakes, each once, ordered."""
        return list(dict.fromkeys(text for _, text in sorted(self._found, key=lambda entry: entry[0])))

    def absorb(self, other: Findings) -> None:
        """Take over what was found in one job of several."""
        self._found.extend(other._found)
        self.bad |= other.bad
