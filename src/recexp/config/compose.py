"""From the words of a command to the checked configuration of every job, or to a list of all that is wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recexp.config import (
    aliases,
    assign,
    catalogue,
    choices,
    conditions,
    experiment,
    location,
    plugins,
    rules,
    schema,
    validate,
    words,
)
from recexp.config.findings import COMBINATIONS, FILES, Findings
from recexp.errors import ConfigError

_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")

Placed = list[tuple[int, words.Word]]


@dataclass(frozen=True)
class Base:
    """What Hydra makes of the choices alone: the tree (unresolved), the choice of each group, Hydra's own settings."""

    tree: Mapping[str, Any]
    chosen: Mapping[str, str | None]
    hydra: Mapping[str, Any]


def compose(texts: Sequence[str]) -> dict[str, Any]:
    """The configuration of one job: plain, resolved, every value in its option's type.

    Args:
        texts: Words as on the command line, e.g. ``["model=attrec", "optim.lr=0.01"]``.

    Raises:
        ConfigError: with every mistake.
    """
    return compose_all(texts)[0]


def compose_all(texts: Sequence[str], *, multirun: bool = False) -> list[dict[str, Any]]:
    """The configurations of every job of a command; one, unless ``multirun`` (or ``hydra.mode``) asks for a sweep.

    Raises:
        ConfigError: with every mistake of every combination, before anything was started.
    """
    plugins.install()
    version.setbase("1.3")
    findings = Findings()
    placed = _read(enumerate(words.long_form(text) for text in texts), findings)
    configs = [_job(job, findings) for job in _jobs(placed, multirun, findings)]
    mistakes = findings.texts()
    if mistakes:
        raise ConfigError(mistakes)
    return [config for config in configs if config is not None]


def loader() -> ConfigLoaderImpl:
    """Hydra's loader over conf/ and experiments/."""
    return ConfigLoaderImpl(create_config_search_path(str(location.find().conf)))


def _read(texts: Any, findings: Findings) -> Placed:
    placed: Placed = []
    for order, text in texts:
        try:
            placed.append((order, words.read(text)))
        except words.Unreadable as error:
            findings.add(order, str(error))
    return placed


def _jobs(placed: Placed, multirun: bool, findings: Findings) -> Iterator[Placed]:
    """The words of each job, with their positions in the command."""
    hydra = _hydra_settings(placed)
    asked = [word.value for _, word in placed if word.key == "hydra.mode"] or [hydra.get("mode")]
    multirun = multirun or str(asked[-1]).endswith("MULTIRUN")
    swept = [(order, word) for order, word in placed if word.several]
    for order, word in () if multirun else swept:
        hint = f"Add -m to run each of them, write {word.key}=[{word.written}] for a list, or quote the value."
        findings.add(order, f"{word.text}: several values in a single run. {hint}")
    if not multirun and not swept:
        yield placed
        return
    sweeper = hydra.get("sweeper") or {}
    params = sweeper.get("params") or {} if multirun else {}
    if params:
        findings.extend(FILES, aliases.in_parameters(params, _readable_schema()))
    is_basic = "basic_sweeper" in str(sweeper.get("_target_", "basic_sweeper"))
    fixed = [(order, word) for order, word in placed if word.is_hydra or word.mark in ("~", "+")]
    free = [word.text for order, word in placed if (order, word) not in fixed]
    places = {word.key: order for order, word in placed}
    try:
        combinations = words.expand(free, params, loader(), only=is_basic)
    except (HydraException, ValueError) as error:
        findings.add(COMBINATIONS, f"the sweep cannot be read: {' '.join(str(error).split())}")
        combinations = [[]]
    if not combinations:
        findings.add(COMBINATIONS, "the sweep is empty: one of its words stands for no value at all")
    for job in combinations:
        yield fixed + _read(((places.get(text.lstrip("+").partition("=")[0], FILES), text) for text in job), findings)


def _hydra_settings(placed: Placed) -> Mapping[str, Any]:
    """``hydra.mode`` and the sweeper, as the command and the experiment set them; nothing when that is in error."""
    if not any(word.is_hydra or word.key == catalogue.EXPERIMENT or word.several for _, word in placed):
        return {}
    silent = Findings()
    chosen = choices.from_words(placed, silent)
    recipe = None if chosen.experiment is None else experiment.inspect(chosen.experiment, silent)
    base = _base(chosen, recipe, placed, silent)
    return {} if base is None else base.hydra


def _job(placed: Placed, findings: Findings) -> dict[str, Any] | None:
    """Check one job; its mistakes go to ``findings``."""
    found = Findings()
    chosen = choices.from_words(placed, found)
    recipe = None if chosen.experiment is None else experiment.inspect(chosen.experiment, found)
    base = _base(chosen, recipe, placed, found)
    config = None
    if base is not None:
        config = _fill(base, placed, chosen.unclear, recipe, found)
    else:
        _check_words_alone(placed, found)
    findings.absorb(found)
    return config


def _base(chosen: choices.Choices, recipe: experiment.Recipe | None, placed: Placed, findings: Findings) -> Base | None:
    """Compose the choices. A recipe whose defaults list is in error is merged by hand, so that the rest is checked."""
    hydra = tuple(word.text for _, word in placed if word.is_hydra)
    sound = recipe is None or recipe.sound
    groups = chosen.groups if recipe is None or sound else recipe.chosen | chosen.groups
    texts = [f"{group}={choice}" for group, choice in sorted(groups.items())]
    if recipe is not None and sound:
        texts.append(f"{catalogue.EXPERIMENT}={chosen.experiment}")
    place = location.find()
    try:
        base = _composed((*texts, *hydra), (place, _newest(place)))
    except ConfigError as error:
        findings.extend(FILES, error.problems)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        findings.add(FILES, f"{' '.join((*texts, *hydra))}: this cannot be composed: {reason}")
    else:
        if recipe is None or sound:
            return base
        return Base(catalogue.merge(base.tree, recipe.content()), base.chosen, base.hydra)
    return None


@lru_cache(maxsize=512)
def _composed(texts: tuple[str, ...], _place: object) -> Base:
    config = loader().load_configuration("config", list(texts), RunMode.RUN)
    chosen = {str(group): choice for group, choice in config.hydra.runtime.choices.items()}
    hydra = {
        "mode": config.hydra.mode,
        "sweeper": OmegaConf.to_container(config.hydra.sweeper, resolve=False),
    }
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    tree = OmegaConf.to_container(config, resolve=False)
    if not isinstance(tree, dict):
        raise ConfigError(["conf/config.yaml is not a mapping"])
    groups = {group: chosen.get(group) for group in schema.groups()}
    return Base({str(key): value for key, value in tree.items()}, groups, hydra)


def _newest(place: location.Location) -> tuple[int, ...]:
    """Changes when a file of a recipe folder does, so that a long-lived process sees an edit."""
    folders = place.experiment_folders()
    return tuple(path.stat().st_mtime_ns for folder in folders for path in sorted(folder.glob("*.yaml")))


def _fill(
    base: Base, placed: Placed, unclear: set[str], recipe: experiment.Recipe | None, findings: Findings
) -> dict[str, Any]:
    """Put the settings of the command into the base, resolve, check and convert."""
    options = schema_for(base)
    facts = catalogue.facts(base.chosen, options)
    elsewhere = catalogue.schema_for({**base.chosen, **dict.fromkeys(unclear)}) if unclear else {}
    legal = assign.Legal(options, elsewhere, facts, schema.sections({**elsewhere, **options}))
    settings = [(order, word) for order, word in placed if not word.is_hydra and choices.group_of(word) is None]
    below = dict(base.tree) if recipe is None else experiment.without_aliases(base.tree, recipe, options, findings)
    tree, origin = assign.assign(below, settings, legal, findings)
    if recipe is not None:
        findings.extend(FILES, experiment.stated(recipe, facts))
    places = {word.text: order for order, word in settings}

    def label(key: str) -> tuple[int, str]:
        word = origin.get(key)
        return (FILES, _source(key, recipe, base)) if word is None else (places[word.text], word.text)

    tree = _resolve(tree, label, findings)
    converted, mistakes = validate.tree(tree, options, facts)
    for key, text in mistakes:
        if key not in findings.bad and key.split(".")[0] not in unclear:
            findings.add(label(key)[0], f"{label(key)[1]}: {text}", key if key in {*options, *legal.sections} else None)
    explicit = frozenset(origin)
    findings.extend(COMBINATIONS, rules.broken(converted, explicit, findings))
    findings.extend(COMBINATIONS, conditions.broken(converted, options, explicit, findings))
    return converted


def _check_words_alone(placed: Placed, findings: Findings) -> None:
    """What can be said of the settings when the files cannot be composed."""
    everything = _readable_schema()
    legal = assign.Legal(schema.core(), everything, set(), schema.sections(everything))
    settings = [(order, word) for order, word in placed if not word.is_hydra and choices.group_of(word) is None]
    assign.assign(schema.core_defaults(), settings, legal, findings)


def _readable_schema() -> dict[str, schema.Option]:
    """The options of every file of every group, but for the files that are in error."""
    options = dict(schema.core())
    for group in schema.groups():
        for choice in catalogue.choices(group):
            with contextlib.suppress(ConfigError):  # it has been reported where it matters
                options.update(catalogue.schema_for({group: choice}))
    return options


def schema_for(base: Base) -> dict[str, schema.Option]:
    """The options of what was chosen; a group that nobody chooses for has none."""
    return catalogue.schema_for({group: choice for group, choice in base.chosen.items() if choice is not None})


def _source(key: str, recipe: experiment.Recipe | None, base: Base) -> str:
    """The file that set a key, the last one in the order of merging."""
    files = [] if recipe is None else list(recipe.files)
    below = [file for group, choice in base.chosen.items() if choice for file in catalogue.chain(f"{group}/{choice}")]
    for file in [*reversed(files), *reversed(below)]:
        if any(set_key == key or set_key.startswith(f"{key}.") for set_key in experiment.dotted(file.tree)):
            return catalogue.shown(file.path)
    return catalogue.shown(location.find().conf / "config.yaml")


def _resolve(tree: dict[str, Any], label: Callable[[str], tuple[int, str]], findings: Findings) -> dict[str, Any]:
    """Fill in ``${other.key}``; functions (``${oc.env:NAME}``) are refused, so that no secret enters a record."""
    references = {key: text for key, text in _texts(tree, "") if "${" in text}
    if not references:
        return tree
    for key, text in references.items():
        if _RESOLVER.search(text):
            order, where = label(key)
            findings.add(order, f"{where}: a value may refer to another key, ${{other.key}}, not to a function.", key)
    if any(findings.is_bad(key) for key in references):
        findings.bad.update(references)
        return tree
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        broken = str(getattr(error, "full_key", None) or next(iter(references)))
        order, where = label(broken)
        findings.add(order, f"{where}: {str(error).splitlines()[0]}.", broken)
        findings.bad.update(references)
        return tree
    return {str(key): value for key, value in resolved.items()} if isinstance(resolved, dict) else tree


def _texts(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield prefix.removesuffix("."), node
    elif isinstance(node, Mapping):
        for name, below in node.items():
            yield from _texts(below, f"{prefix}{name}.")
    elif isinstance(node, list):
        for below in node:
            yield from _texts(below, prefix)
