"""Did you mean: the legal word that is nearest to a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, legal: Iterable[str]) -> str | None:
    """The legal word that ``word`` was probably meant to be, or None when nothing is near."""
    by_folded = {_fold(name): name for name in legal}
    matches = get_close_matches(_fold(word), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def closest_key(key: str, legal: Iterable[str]) -> str | None:
    """Like `closest` for dotted keys: the same last word elsewhere counts as near (``lr`` means ``optim.lr``)."""
    keys = list(legal)
    section, _, last = key.rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in keys if name.rpartition(".")[0] == section}
    sibling = closest(last, siblings)
    if sibling is not None:
        return siblings[sibling]
    namesakes = [name for name in keys if _fold(name.rpartition(".")[2]) == _fold(last)]
    if namesakes:
        return min(namesakes, key=len)
    # Within an existing section the shared prefix would make anything look near.
    return None if section and siblings else closest(key, keys)


def did_you_mean(suggestion: str | None) -> str:
    """The sentence for the message, or nothing."""
    return "" if suggestion is None else f" Did you mean {suggestion}?"


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")
