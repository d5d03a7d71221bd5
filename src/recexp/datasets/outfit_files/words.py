"""Words of items' names: which are known, and which each item has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MIN_LETTERS, MIN_COUNT = 3, 5


def vocabulary(names: Iterable[str]) -> dict[str, int]:
    """Numbers of known words, in the order of their letters.

    As in NGNN's script a name is split at single spaces and stays as it is otherwise: capital letters, hyphens and
    the like are part of a word. Words of three letters or more that occur five times or more are known. The script
    counts occurrences in the raw training file; its numbers depend on the order of a dictionary, ours do not.
    """
    counts = Counter(word for name in names for word in name.split(" ") if len(word) >= MIN_LETTERS)
    return {word: number for number, word in enumerate(sorted(w for w, n in counts.items() if n >= MIN_COUNT))}


def words_of(name: str, known: dict[str, int], *, last: bool) -> list[int]:
    """Numbers of the words of a name, ascending, each once.

    Args:
        name: What the item is called.
        known: Number of each word.
        last: As NGNN's script does, which begins a new vector with every word: the last word only, if it is known.
    """
    words = name.split(" ")
    return sorted({known[word] for word in (words[-1:] if last else words) if word in known})
