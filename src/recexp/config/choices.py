"""Which file of each group a command chooses; a misspelt choice is noted, and the nearest one stands in for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from recexp.config import catalogue, schema
from recexp.config.findings import Findings
from recexp.config.suggest import closest, did_you_mean
from recexp.config.words import Word


@dataclass
class Choices:
    """``groups``: the choice of each group that the words name. ``unclear``: groups whose word resembles nothing."""

    groups: dict[str, str] = field(default_factory=dict)
    experiment: str | None = None
    unclear: set[str] = field(default_factory=set)

    def put(self, group: str, choice: str | None) -> None:
        """Set a group's choice, or remember that it could not be understood."""
        if group == catalogue.EXPERIMENT:
            self.experiment = choice
        elif choice is None:
            self.unclear.add(group)
        else:
            self.groups[group] = choice


def group_of(word: Word) -> str | None:
    """The group that a word chooses for, or None when it is a setting."""
    name = word.key.partition("@")[0]
    return name if name in (*schema.groups(), catalogue.EXPERIMENT) else None


def from_words(words: Iterable[tuple[int, Word]], findings: Findings) -> Choices:
    """Read the choices out of the words of one job, in their order."""
    chosen = Choices()
    for order, word in words:
        group = group_of(word)
        if group is not None and not word.several:
            chosen.put(group, _choice(order, word, group, findings))
        elif group is None:
            _take_misspelt_group(word, chosen)
    return chosen


def choose(group: str, word: str, findings: Findings, order: int, where: str) -> str | None:
    """The choice itself when it exists; otherwise a mistake is noted and the nearest one returned, or None."""
    legal = catalogue.choices(group)
    if word in legal:
        return word
    suggestion = closest(word, legal)
    listed = ", ".join(legal) or "none"
    text = f"{where}: there is no {group} '{word}'.{did_you_mean(suggestion)} Legal: {listed}."
    findings.add(order, text, group)
    return suggestion


def _choice(order: int, word: Word, group: str, findings: Findings) -> str | None:
    legal = ", ".join(catalogue.choices(group)) or "none"
    if "@" in word.key:
        findings.add(order, f"{word.text}: write {group}=WORD, without @. Legal: {legal}.", group)
    elif word.mark == "~":
        findings.add(order, f"{word.text}: a {group} cannot be removed, only chosen. Legal: {legal}.", group)
    elif word.value is None or isinstance(word.value, (list, Mapping)):
        findings.add(order, f"{word.text}: {group} takes one word. Legal: {legal}.", group)
    else:
        if word.mark:
            findings.add(order, f"{word.text}: {group} exists already. Write it without the {word.mark}.", group)
        return choose(group, str(word.value), findings, order, word.text)
    return None


def _take_misspelt_group(word: Word, chosen: Choices) -> None:
    """``modle=attrec``: the key is reported elsewhere; here the choice is followed, so that model.* can be checked."""
    settings = {*schema.core(), *schema.sections(schema.core())}
    meant = None if "." in word.key or word.key in settings else closest(word.key, schema.groups())
    if meant is not None and isinstance(word.value, str) and word.value in catalogue.choices(meant):
        chosen.put(meant, word.value)
