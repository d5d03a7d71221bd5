"""Combinations of options that cannot work, each rule a small function; an option without effect is refused too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recexp.config import catalogue, schema
from recexp.config.conditions import users_own, usual
from recexp.config.findings import Findings
from recexp.config.suggest import closest, did_you_mean
from recexp.config.values import show

Config = Mapping[str, Any]
Check = Callable[[Config, frozenset[str]], Iterator[str]]

OPTIMISER_OPTIONS = {
    "adam": {"beta1", "beta2", "eps"},
    "lazy_adam": {"beta1", "beta2", "eps"},
    "adagrad": {"initial_accumulator", "eps"},
    "rowwise_adagrad": {"initial_accumulator", "eps"},
    "sgd": {"momentum", "nesterov"},
    "rmsprop": {"alpha", "eps", "momentum"},
    "rmsprop_tf": {"alpha", "eps", "momentum"},
    "adagrad_momentum": {"momentum", "eps", "initial_accumulator"},
}
#: Options of Ascend's own profiler; null leaves them to it.
ASCEND_PROFILER = ("level", "aic_metrics", "l2_cache", "mstx", "export")
SCHEDULE_NEEDS = {
    "step": {"step_size", "gamma"},
    "exponential": {"step_size", "gamma"},
    "dlrm_policy": {"decay_start", "decay_steps"},
}
#: Options that a schedule has, but can do without.
SCHEDULE_TAKES = {"dlrm_policy": {"semantics"}}


@dataclass(frozen=True)
class Rule:
    """``check`` yields sentences; it is skipped when something that it reads is known to be wrong already."""

    reads: tuple[str, ...]
    check: Check


RULES: list[Rule] = []


def broken(config: Config, explicit: frozenset[str], findings: Findings) -> list[str]:
    """What the rules have to say. ``explicit`` are the keys of the command line."""
    texts: list[str] = []
    for rule in RULES:
        if not any(findings.is_bad(key) for key in rule.reads):
            texts.extend(rule.check(config, explicit))
    return texts


def _rule(*reads: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(reads, check))
        return check

    return register


@_rule("model", "dataset")
def _pair(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    if config["task"].get("uses_model") is False and "model" not in explicit:
        return
    model, dataset = config["model"], config["dataset"]
    solves, poses = model.get("problems") or [], dataset.get("poses") or []
    if not set(solves) & set(poses):
        datasets = _that("dataset", "poses", solves)
        models = _that("model", "problems", poses)
        yield (
            f"model={model.get('name')} with dataset={dataset.get('name')}: the model solves "
            f"{', '.join(solves) or 'nothing'}, the dataset poses {', '.join(poses) or 'nothing'}. "
            f"Datasets for this model: {', '.join(datasets) or 'none'}. "
            f"Models for this dataset: {', '.join(models) or 'none'}."
        )


@_rule("model", "dataset", "problem")
def _problem(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    model, dataset, problem = config["model"], config["dataset"], config["problem"].get("name")
    solves, poses = model.get("problems") or [], dataset.get("poses") or []
    both = [word for word in solves if word in poses]
    if not both or problem in both:
        return
    if problem not in solves:
        others = _that("model", "problems", [problem])
        said = f"model={model.get('name')}: the model does not solve it. Models that do: {', '.join(others) or 'none'}."
    else:
        others = _that("dataset", "poses", [problem])
        said = f"dataset={dataset.get('name')}: the dataset does not pose it. "
        said += f"Datasets that do: {', '.join(others) or 'none'}."
    yield f"problem={problem} with {said} Problems of this model and dataset: {', '.join(both)}."


def _that(group: str, key: str, wanted: Sequence[str]) -> list[str]:
    """The choices of a group that state one of the wanted words under a key."""
    return [word for word in catalogue.choices(group) if set(catalogue.stated(group, word, key) or []) & set(wanted)]


@_rule("device", "precision")
def _precision(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    precision, device = config["precision"].get("name"), config["device"].get("name")
    legal = config["device"].get("precisions") or []
    if precision not in legal:
        yield (
            f"precision={precision} with device={device}: cannot work there. "
            f"Precisions of {device}: {', '.join(legal) or 'none'}."
        )


@_rule("model", "precision")
def _fp32_blocks(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    legal = config["model"].get("blocks") or []
    for name in config["precision"].get("fp32_blocks") or []:
        if name not in legal:
            model = config["model"].get("name")
            yield (
                f"precision.fp32_blocks: {name} is no part of {model}.{did_you_mean(closest(name, legal))} "
                f"Parts of {model}: {', '.join(legal) or 'none'}."
            )


@_rule("resume", "resume_elsewhere")
def _elsewhere(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    if config["resume_elsewhere"] and str(config["resume"]).lower() == "false":
        yield "resume_elsewhere=true has no effect without resume: say resume=true, or name a run."


@_rule("task", "resume", "ckpt")
def _task_options(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    task = config["task"]
    for key in sorted({"resume", "resume_elsewhere", "ckpt"} & explicit - set(task.get("options") or [])):
        users = [word for word in catalogue.choices("task") if key in catalogue.stated("task", word, "options", [])]
        yield f"{key}={show(config[key])}: task={task.get('name')} does not use it; task={' or '.join(users)} does."


@_rule("trainer.max_epochs", "trainer.max_steps")
def _length(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    if config["trainer"]["max_epochs"] is None and config["trainer"]["max_steps"] is None:
        yield "trainer.max_epochs and trainer.max_steps are both null: training would never end. Set one of them."


@_rule("trainer.limit_train_batches")
def _limit(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    limit = config["trainer"]["limit_train_batches"]
    if limit is not None and not (0 < limit < 1 or (limit >= 1 and float(limit).is_integer())):
        yield (
            f"trainer.limit_train_batches={show(limit)}: write a whole number of batches from 1, "
            "or a share of the epoch between 0 and 1."
        )


@_rule("trainer")
def _without_effect(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    trainer = config["trainer"]
    if trainer["early_stop_min_delta"] and trainer["early_stop_patience"] is None:
        yield (
            f"trainer.early_stop_min_delta={show(trainer['early_stop_min_delta'])} has no effect "
            "without trainer.early_stop_patience: set that too."
        )
    if trainer["gradient_clip_algorithm"] != "norm" and trainer["gradient_clip_val"] is None:
        yield (
            f"trainer.gradient_clip_algorithm={trainer['gradient_clip_algorithm']} has no effect "
            "without trainer.gradient_clip_val: set that too."
        )


@_rule("optim")
def _optimiser(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    optim, defaults = config["optim"], usual(config)
    has = OPTIMISER_OPTIONS[optim["name"]]
    for option in sorted(set().union(*OPTIMISER_OPTIONS.values()) - has):
        key = f"optim.{option}"
        # What the model's file states for its own optimiser is no mistake of the one who chooses another.
        is_users = key in explicit or users_own(config, key, defaults, schema.core()[key])
        if optim[option] is not None and is_users:
            users = [name for name, options in OPTIMISER_OPTIONS.items() if option in options]
            yield (
                f"{key}={show(optim[option])} is an option of {_listed(users)}, not of {optim['name']}, "
                f"which has {', '.join(sorted(has))}. Set {key}=null or another optim.name."
            )
    if optim["nesterov"] and not optim["momentum"] and "nesterov" in has:
        yield "optim.nesterov=true needs optim.momentum above 0."
    if optim["rows"] == "touched":
        momentum = optim["momentum"] if "momentum" in has else None
        if problem := rows_problem(optim["name"], momentum):
            yield problem
    elif optim["name"] == "lazy_adam":
        yield (
            "optim.name=lazy_adam with optim.rows=all: what it is for is that rows rest. Set optim.rows=touched, or "
            "optim.name=adam."
        )
    if optim["rows"] == "touched" and optim["weight_decay"]:
        yield (
            f"optim.weight_decay={show(optim['weight_decay'])} with optim.rows=touched: the decay moves every row at "
            "every update. Set optim.rows=all or optim.weight_decay=0."
        )


def rows_problem(name: str, momentum: float | None) -> str | None:
    """Why an optimiser cannot visit looked-up rows alone; None where it can."""
    if name == "adam":
        return (
            "optim.name=adam with optim.rows=touched: the moments of a row that is not looked up would rest, which is "
            "another optimiser. Set optim.name=lazy_adam to have that one, or optim.rows=all."
        )
    if momentum and name in ("sgd", "rmsprop", "rmsprop_tf"):
        return (
            f"optim.name={name} with momentum with optim.rows=touched: what a row remembers of earlier steps moves it "
            "at updates that do not look it up, too. Set optim.momentum=0, or optim.rows=all."
        )
    return None


@_rule("optim.schedule", "optim.lr")
def _schedule(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    schedule = config["optim"]["schedule"]
    name = schedule["name"]
    needs = SCHEDULE_NEEDS.get(name, set())
    has = needs | SCHEDULE_TAKES.get(name, set())
    for option in ("step_size", "gamma", "decay_start", "decay_steps", "semantics"):
        if schedule[option] is None and option in needs:
            yield f"optim.schedule.{option} is needed by optim.schedule.name={name}: set it."
        if schedule[option] is not None and option not in has:
            users = [user for table in (SCHEDULE_NEEDS, SCHEDULE_TAKES) for user in table if option in table[user]]
            yield (
                f"optim.schedule.{option}={show(schedule[option])} is an option of {_listed(users)}, "
                f"not of {name}. Set optim.schedule.{option}=null or another optim.schedule.name."
            )
    if name == "constant" and schedule["min_lr"]:
        yield f"optim.schedule.min_lr={show(schedule['min_lr'])} has no effect with optim.schedule.name=constant."
    if name == "dlrm_policy":
        yield from _dlrm_policy(schedule)


def _dlrm_policy(schedule: Config) -> Iterator[str]:
    warmup, start, steps = (schedule[option] or 0 for option in ("warmup_steps", "decay_start", "decay_steps"))
    if schedule["min_lr"]:
        yield (
            f"optim.schedule.min_lr={show(schedule['min_lr'])} has no effect with optim.schedule.name=dlrm_policy, "
            "whose floor is 1e-7. Set optim.schedule.min_lr=0."
        )
    if not steps:
        return
    if schedule["semantics"] == "reference" and warmup < 2:
        # It counts from 1: a warm-up of one update has none, either.
        yield (
            f"optim.schedule.semantics=reference with optim.schedule.warmup_steps={warmup} and "
            f"optim.schedule.decay_steps={steps}: the authors' code holds the last rate of the warm-up until the decay "
            "begins, and fails where there was none. Set optim.schedule.warmup_steps from 2, or "
            "optim.schedule.semantics=clean."
        )
    elif start < warmup:
        yield (
            f"optim.schedule.decay_start={start} is before the end of the warm-up (optim.schedule.warmup_steps="
            f"{warmup}): set it to {warmup} or more."
        )


@_rule("debug.profiler")
def _profiler(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    profiler = config["debug"]["profiler"]
    if not profiler["enabled"]:
        yield from _useless(config, "debug.profiler", "enabled", explicit, "debug.profiler=true")
        return
    level, counters = profiler["level"], profiler["aic_metrics"]
    if counters not in (None, "none") and level in ("none", "0"):
        yield (
            f"debug.profiler.aic_metrics={counters} needs debug.profiler.level=1 or 2: "
            f"the profiler collects no counters with level {level}."
        )
    if level == "none" and profiler["mstx"] is False:
        yield "debug.profiler.level=none with debug.profiler.mstx=false: nothing would be left to collect."


@_rule("debug.profiler", "device")
def _ascend_profiler(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    profiler, device = config["debug"]["profiler"], config["device"].get("name")
    for option in ASCEND_PROFILER if profiler["enabled"] and device != "npu" else ():
        if profiler[option] is not None:
            yield (
                f"debug.profiler.{option}={show(profiler[option])} is an option of device=npu, not of {device}: "
                f"choose device=npu, or set debug.profiler.{option}=null."
            )


@_rule("debug.dump")
def _dump(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    dump = config["debug"]["dump"]
    if not dump["steps"]:
        yield from _useless(config, "debug.dump", "steps", explicit, "debug.dump=[10]")
        return
    needs_msprobe = dump["level"] != "L0"
    if needs_msprobe and dump["backend"] == "own":
        yield (
            f"debug.dump.level={dump['level']} with debug.dump.backend=own: only msprobe sees the calls of torch. "
            "Use debug.dump.backend=msprobe or debug.dump.level=L0."
        )
    elif dump["scope"] and (needs_msprobe or dump["backend"] == "msprobe"):
        yield (
            f"debug.dump.scope={show(dump['scope'])} is an option of recexp's own dump, not of msprobe: "
            "use debug.dump.backend=own with debug.dump.level=L0, or set debug.dump.scope=[]."
        )


@_rule("debug.profiler", "debug.dump", "task")
def _debugged_task(config: Config, explicit: frozenset[str]) -> Iterator[str]:
    task = config["task"]
    # Only a task that trains can be resumed.
    for key in () if "resume" in (task.get("options") or []) else ("debug.profiler.enabled", "debug.dump.steps"):
        if key in explicit and (value := catalogue.value_at(config, key)):
            yield f"{key}={show(value)} looks into a training: task={task.get('name')} has none."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _useless(config: Config, section: str, switch: str, explicit: frozenset[str], remedy: str) -> Iterator[str]:
    """Options of a section whose switch is off, where they were typed or are not what they are by default."""
    options = catalogue.value_at(config, section)
    defaults = catalogue.value_at(schema.core_defaults(), section)
    for name, value in options.items():
        if name != switch and (value != defaults[name] or f"{section}.{name}" in explicit):
            yield f"{section}.{name}={show(value)} has no effect without {remedy}."
