"""Checks of a recipe of experiments/ before Hydra reads it: is it there, is it YAML, does it choose what exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recexp.config import aliases, catalogue, choices, schema
from recexp.config.findings import FILES, Findings
from recexp.config.suggest import closest, did_you_mean
from recexp.config.values import IllegalValue
from recexp.errors import ConfigError


@dataclass
class Recipe:
    """One experiment: ``files`` in the order of merging, the choices of its defaults list, and whether all is sound."""

    files: list[catalogue.ConfigFile]
    chosen: dict[str, str] = field(default_factory=dict)
    sound: bool = True

    def content(self) -> dict[str, Any]:
        """Its settings alone, for a check of the rest when its defaults list cannot be followed."""
        merged: dict[str, Any] = {}
        for file in self.files:
            loaded = OmegaConf.to_container(OmegaConf.load(file.path), resolve=False)
            plain = {str(key): value for key, value in loaded.items()} if isinstance(loaded, dict) else {}
            merged = catalogue.merge(merged, plain)
        return {key: value for key, value in merged.items() if key not in ("defaults", "hydra", "_schema_")}


def inspect(name: str, findings: Findings) -> Recipe | None:
    """Read and check ``experiments/name.yaml`` and what it is based on; None when it cannot be read."""
    refused = catalogue.clash(name)
    if refused is not None:
        findings.add(FILES, f"experiment={name}: {refused}", catalogue.EXPERIMENT)
        return None
    try:
        recipe = Recipe(_files(f"{catalogue.EXPERIMENT}/{name}", ()))
        for file in recipe.files:
            OmegaConf.load(file.path)  # stricter than plain YAML: it refuses a key that is written twice
    except ConfigError as error:
        findings.extend(FILES, error.problems)
    except (YAMLError, OmegaConfBaseException) as error:
        findings.add(FILES, f"experiment={name}: {' '.join(str(error).split())}")
    else:
        for file in recipe.files:
            _check_defaults(recipe, file, findings)
        return recipe
    findings.bad.add(catalogue.EXPERIMENT)
    return None


def _files(path: str, above: tuple[str, ...]) -> list[catalogue.ConfigFile]:
    file = catalogue.read(path)
    found: list[catalogue.ConfigFile] = []
    itself = False
    for entry in file.defaults:
        base = catalogue.base_of(entry, catalogue.EXPERIMENT)
        if entry == "_self_":
            itself = True
            found.append(file)
        elif isinstance(entry, str):
            _check_base(entry, base, file, (*above, path))
            found += _files(str(base), (*above, path))
    return found if itself else [*found, file]


def _check_base(entry: str, base: str | None, file: catalogue.ConfigFile, above: tuple[str, ...]) -> None:
    where = f"{catalogue.shown(file.path)}: defaults: {entry}"
    if base is None or catalogue.locate(base) is None:
        legal = catalogue.choices(catalogue.EXPERIMENT)
        meant = did_you_mean(closest(entry, legal))
        raise ConfigError([f"{where}: there is no experiment '{entry}'.{meant} Legal: {', '.join(legal)}."])
    if base in above:
        raise ConfigError([f"{where}: this experiment is built on itself."])


def stated(recipe: Recipe, facts: set[str]) -> Iterator[str]:
    """Sentences about keys that a recipe sets although group files state them about themselves."""
    for file in recipe.files:
        for key in dotted(file.tree):
            if any(key == fact or key.startswith(f"{fact}.") for fact in facts):
                group = key.split(".")[0]
                yield (
                    f"{catalogue.shown(file.path)}: {key} is stated by the {group}'s own file and cannot be set. "
                    f"Choose another {group}."
                )


def without_aliases(
    tree: Mapping[str, Any], recipe: Recipe, options: schema.Schema, findings: Findings
) -> dict[str, Any]:
    """The tree with the recipe's other names replaced; of several files, the last that sets the option counts."""
    result, others = dict(tree), schema.aliases(options)
    by_option: dict[str, list[str]] = {}
    for name, alias in others.items():
        by_option.setdefault(alias.key, []).append(name)
    for key, names in by_option.items():
        last = where = None
        for file in recipe.files:
            used = [name for name in (key, *names) if name in set(dotted(file.tree))]
            if len(used) > 1:
                text = (
                    f"{catalogue.shown(file.path)}: {' and '.join(used)} are two names of one option: set one of them."
                )
                findings.add(FILES, text, key)
            last, where = (used[-1], file.path) if used else (last, where)
        if last in names and where is not None:
            given = catalogue.value_at(result, last)
            try:
                value = aliases.converted(others[last], options[key], given)
            except IllegalValue as illegal:
                findings.add(FILES, f"{catalogue.shown(where)}: {last}: {illegal}", key)
            else:
                result = _put(result, key, value)
        for name in names:
            result = _without(result, name)
    return result


def dotted(tree: Mapping[str, Any]) -> Iterator[str]:
    """Every dotted key that a file sets, Hydra's own left out."""
    return _dotted({name: below for name, below in tree.items() if name != "hydra"}, "")


def _check_defaults(recipe: Recipe, file: catalogue.ConfigFile, findings: Findings) -> None:
    where = f"{catalogue.shown(file.path)}: defaults"
    for entry in file.defaults:
        for key, word in entry.items() if isinstance(entry, Mapping) else ():
            before = len(findings.texts())
            group = str(key).removeprefix("override ").strip().lstrip("/").split("@")[0]
            if group in schema.groups():
                _check_choice(recipe, f"{where}: {key}: {word}", str(key), group, word, findings)
            elif not group.startswith("hydra/"):
                nearest = closest(group, schema.groups())
                text = f"there is no group '{group}'.{did_you_mean(nearest)} Groups: {', '.join(schema.groups())}."
                findings.add(FILES, f"{where}: {key}: {word}: {text}", catalogue.EXPERIMENT)
            recipe.sound = recipe.sound and len(findings.texts()) == before


def _check_choice(recipe: Recipe, where: str, key: str, group: str, word: Any, findings: Findings) -> None:
    if key != f"override /{group}":
        findings.add(FILES, f"{where}: write it 'override /{group}: {word}'.", group)
    choice = choices.choose(group, str(word), findings, FILES, where)
    if choice is not None:
        recipe.chosen[group] = choice


def _dotted(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, Mapping) and node:
        for name, below in node.items():
            yield from _dotted(below, f"{prefix}{name}.")
    elif prefix:
        yield prefix[:-1]


def _put(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**tree, first: _put(tree.get(first) or {}, rest, value) if rest else value}


def _without(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    if rest and isinstance(tree.get(first), Mapping):
        return {**tree, first: _without(tree[first], rest)}
    return {name: value for name, value in tree.items() if rest or name != first}
