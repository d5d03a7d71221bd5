"""What there is to choose: the files of conf/ and experiments/, with their help, defaults and schema. No Hydra here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from recexp.config import location, schema
from recexp.errors import ConfigError

EXPERIMENT = "experiment"


@dataclass(frozen=True)
class ConfigFile:
    """One YAML file as the composition sees it: ``tree`` starts at the top of the configuration.

    ``rooted`` says that the file itself does so too (experiments, and files headed ``# @package _global_``).
    """

    path: Path
    rooted: bool
    help: str
    defaults: tuple[Any, ...]
    tree: Mapping[str, Any]
    schema: schema.Schema


def choices(group: str) -> list[str]:
    """The words that can be said for a group, or the names of the experiments. Bases (``_x.yaml``) are not choices."""
    folders = _folders(group)
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml") if not path.name.startswith("_")})


def locate(config_path: str) -> Path | None:
    """The file of ``group/choice``, ``experiment/name`` or ``config``, or None."""
    group, _, name = config_path.removesuffix(".yaml").rpartition("/")
    for folder in reversed(_folders(group)):  # of two identical experiments, the user's is the one to name in a message
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    return None


def clash(name: str) -> str | None:
    """Why ``experiment=name`` is ambiguous: a shipped recipe and the user's own of one name differ."""
    paths = [folder / f"{name}.yaml" for folder in location.find().experiment_folders()]
    found = [path for path in paths if path.is_file()]
    if len(found) < 2 or found[0].read_bytes() == found[1].read_bytes():
        return None
    return f"two different experiments are called '{name}': {found[0]} and yours, {found[1]}. Rename yours."


def read(config_path: str) -> ConfigFile:
    """Parse a file of conf/ or experiments/.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    path = locate(config_path)
    if path is None:
        raise ConfigError([f"there is no configuration file {config_path}.yaml"])
    stamp = path.stat()
    return _parse(path, config_path.rpartition("/")[0], (stamp.st_mtime_ns, stamp.st_size))


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return str(path)


def chain(config_path: str) -> Iterator[ConfigFile]:
    """A file and the bases of its own group that its defaults list names, in the order of merging."""
    file = read(config_path)
    group = config_path.rpartition("/")[0]
    itself = False
    for entry in file.defaults:
        if entry == "_self_":
            itself = True
            yield file
        else:
            base = base_of(entry, group)
            if base is not None:
                yield from chain(base)
    if not itself:
        yield file


def base_of(entry: Any, group: str) -> str | None:
    """The config path of a base that an entry of a defaults list names, or None when it chooses for another group."""
    if not isinstance(entry, str):
        return None
    path = entry.removeprefix("/") if entry.startswith("/") else f"{group}/{entry}"
    return path if path.startswith(f"{group}/") else None


def schema_for(chosen: Mapping[str, str | None]) -> dict[str, schema.Option]:
    """The core's options and those of the chosen files; a group whose choice is None adds those of all its files."""
    options = dict(schema.core())
    for group, choice in chosen.items():
        for name in choices(group) if choice is None else [choice]:
            for file in chain(f"{group}/{name}"):
                options.update(file.schema)
    return options


def facts(chosen: Mapping[str, str | None], options: schema.Schema) -> set[str]:
    """The keys that the chosen files state about themselves (name, _target_, ...) and nobody else may set."""
    found: set[str] = set()
    inner = schema.sections(options)
    for group, choice in chosen.items():
        for file in chain(f"{group}/{choice}") if choice is not None else ():
            found.update(_facts(file.tree.get(group), f"{group}.", options, inner))
    return found


def default_choices() -> dict[str, str]:
    """What conf/config.yaml chooses, and the problem that its model brings in."""
    chosen: dict[str, str] = {}
    for entry in read("config").defaults:
        if isinstance(entry, Mapping):
            chosen.update({key: word for key, word in entry.items() if key in schema.groups() and word is not None})
    return chosen | implied(chosen)


def implied(chosen: Mapping[str, str]) -> dict[str, str]:
    """The groups that a chosen file brings in by an absolute entry of its defaults list (``/problem: next_item``)."""
    found: dict[str, str] = {}
    for group, choice in chosen.items():
        if locate(f"{group}/{choice}") is not None:
            for entry in read(f"{group}/{choice}").defaults:
                if isinstance(entry, Mapping):
                    pairs = {str(key).lstrip("/"): word for key, word in entry.items() if str(key).startswith("/")}
                    found.update({key: word for key, word in pairs.items() if key in schema.groups()})
    return found


def defaults(chosen: Mapping[str, str]) -> dict[str, Any]:
    """The nested values of the core with the chosen files merged in, in the order of conf/config.yaml."""
    order = [key for entry in read("config").defaults if isinstance(entry, Mapping) for key in entry]
    values = schema.core_defaults()
    for group in sorted(chosen, key=lambda group: order.index(group) if group in order else -1):
        for file in chain(f"{group}/{chosen[group]}"):
            values = merge(values, file.tree)
    return values


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, or None where there is none."""
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def choices_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The choices of a composed configuration, found again from their names."""
    names = {group: node.get("name") for group in schema.groups() if isinstance(node := config.get(group), Mapping)}
    return {group: name for group, name in names.items() if name and locate(f"{group}/{name}") is not None}


def schema_of(config: Mapping[str, Any]) -> dict[str, schema.Option]:
    """The options of a composed configuration."""
    return schema_for(choices_of(config))


def stated(group: str, choice: str, key: str, otherwise: Any = None) -> Any:
    """What the file of a choice, or its base, says of a key of its own group."""
    for file in reversed(list(chain(f"{group}/{choice}"))):
        node = file.tree.get(group)
        if isinstance(node, Mapping) and key in node:
            return node[key]
    return otherwise


def merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced. Neither argument is changed."""
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _folders(group: str) -> tuple[Path, ...]:
    place = location.find()
    return place.experiment_folders() if group == EXPERIMENT else (place.conf / group,)


def _facts(node: Any, prefix: str, options: schema.Schema, inner: set[str]) -> Iterator[str]:
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in inner:
            yield from _facts(value, f"{key}.", options, inner)
        elif key not in options:
            yield key


@lru_cache(maxsize=256)
def _parse(path: Path, group: str, _stamp: tuple[int, int]) -> ConfigFile:
    text = path.read_text(encoding="utf-8")
    where = shown(path)
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError([f"{where}: this is not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{where}: a configuration file is a mapping (key: value), this is a {type(tree).__name__}"])
    rooted = (
        group in ("", EXPERIMENT) or re.search(r"^#[ \t]*@package[ \t]+_global_[ \t]*$", text, re.MULTILINE) is not None
    )
    defaults = tuple(tree.pop("defaults", None) or ())
    block = tree.pop("_schema_", None) or {}
    options = schema.parse(block, "" if rooted else f"{group}.", where)
    help_line = re.search(r"^#[ \t]*help:[ \t]*(.+)$", text, re.MULTILINE)
    purpose = help_line[1].strip() if help_line else ""
    return ConfigFile(path, rooted, purpose, defaults, tree if rooted else {group: tree}, options)
