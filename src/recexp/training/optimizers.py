"""Optimisers and learning-rate schedules from their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from recexp.config.rules import rows_problem
from recexp.config.settings import OptimSettings, ScheduleSettings
from recexp.errors import ConfigError
from recexp.problems.module import MakeOptimizer
from recexp.training import row_rules
from recexp.training.row_optimizer import RowOptimizer

#: Devices on which torch has a fused kernel for Adam.
FUSED_ADAM = ("cpu", "cuda")
#: Least rate that the decay of DLRM's policy reaches.
DLRM_FLOOR = 1e-7

Rules = tuple[row_rules.Rule, row_rules.Rule | None]


def make_optimizer(settings: OptimSettings, total_updates: int | None, *, kernels: str) -> MakeOptimizer:
    """A function from parameter groups to the optimiser and its schedule.

    A group's ``l2``, the factor of a penalty l2 * sum(w^2), becomes the decay 2 * l2: the same gradient,
    without computing the penalty. With ``"l2_rows": "touched"`` the penalty of a table is that of the rows that an
    update looks up, each once; what is no table is decayed whole. ``"tables": False`` says that nothing of a group is
    looked up: its penalty is whole, whatever the rows of tables that are updated.

    Args:
        settings: What was configured.
        total_updates: Length of the training, for the schedules that end with it.
        kernels: ``fused`` uses torch's fused kernels where the optimiser has them (they unscale gradients themselves,
            which excludes clipping them under a loss scale); ``foreach`` lists of tensors; ``plain`` one by one.
    """
    ways = {"fused": kernels == "fused", "foreach": kernels == "foreach"}

    def make(groups: list[dict[str, Any]]) -> tuple[Optimizer, LambdaLR | None]:
        assert_penalties(groups, settings)
        prepared = [
            {
                "params": group["params"],
                "weight_decay": settings.weight_decay + 2 * group.get("l2", 0.0),
                "tables": group.get("tables", True),
            }
            for group in groups
        ]
        optimizer = _optimizer(prepared, settings, ways)
        factor = schedule_factor(settings.schedule, settings.lr, total_updates)
        return optimizer, LambdaLR(optimizer, factor) if factor else None

    return make


def assert_penalties(groups: Sequence[Mapping[str, Any]], settings: OptimSettings) -> None:
    """Compare the penalties of parameter groups with the rows that are updated.

    Raises:
        ConfigError: they contradict each other.
    """
    problems = [text for group in groups if (text := _penalty_problem(group, settings))]
    if problems:
        raise ConfigError(sorted(set(problems)))


def _penalty_problem(group: Mapping[str, Any], settings: OptimSettings) -> str | None:
    """Why a group's penalty does not go with the rows that are updated."""
    l2, rows = group.get("l2", 0.0), group.get("l2_rows", "all")
    if rows not in ("all", "touched"):
        raise ValueError(f"l2_rows={rows!r} of a parameter group: one of all, touched")
    if not group.get("tables", True):
        return None
    if settings.rows == "touched" and ((l2 and rows == "all") or settings.weight_decay):
        return (
            f"optim.rows=touched: the model's penalty ({l2 or settings.weight_decay / 2:g} times the squares) moves "
            "every row at every update. Set the model's l2 options to 0, let the penalty be that of looked-up rows "
            "(model.l2_scope=batch, where there is such an option), or set optim.rows=all."
        )
    if settings.rows == "all" and l2 and rows == "touched":
        return (
            f"optim.rows=all: the model's penalty ({l2:g} times the squares) is that of looked-up rows alone, but "
            "every row is visited. Choose optim.rows=touched, or let the model's penalty be that of all rows."
        )
    return None


def _optimizer(groups: list[dict[str, Any]], settings: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    name, touched = settings.name, settings.rows == "touched"
    if not touched and name in _BUILDERS:
        return _BUILDERS[name](groups, settings, ways)
    problem = rows_problem(name, settings.momentum) if touched else None
    if problem or name not in _RULES:
        raise ConfigError([problem or f"optim.name={name} is not known"])
    fused = ways["fused"] and all(p.device.type in FUSED_ADAM for group in groups for p in group["params"])
    rule, table_rule = _RULES[name](settings, fused)
    return RowOptimizer(groups, rule, lr=settings.lr, touched=touched, table_rule=table_rule)


def _given(**options: Any) -> dict[str, Any]:
    """Only what was set: the rest keeps the optimiser's own default."""
    return {name: value for name, value in options.items() if value is not None}


def _adam(groups: list[dict[str, Any]], s: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    betas = (0.9 if s.beta1 is None else s.beta1, 0.999 if s.beta2 is None else s.beta2)
    return Adam(groups, lr=s.lr, betas=betas, **ways, **_given(eps=s.eps))


def _adagrad(groups: list[dict[str, Any]], s: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    # Only its CPU kernel is fused.
    on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
    options = _given(
        eps=s.eps, initial_accumulator_value=s.initial_accumulator, fused=(ways["fused"] and on_cpu) or None
    )
    return Adagrad(groups, lr=s.lr, foreach=ways["foreach"], **options)


def _sgd(groups: list[dict[str, Any]], s: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    return SGD(groups, lr=s.lr, **ways, **_given(momentum=s.momentum, nesterov=s.nesterov))


def _rmsprop(groups: list[dict[str, Any]], s: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    options = _given(alpha=s.alpha, eps=s.eps, momentum=s.momentum)
    return RMSprop(groups, lr=s.lr, foreach=ways["foreach"], **options)


_BUILDERS: dict[str, Callable[[list[dict[str, Any]], OptimSettings, dict[str, bool]], Optimizer]] = {
    "adam": _adam,
    "adagrad": _adagrad,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
}


def _plain(rule: row_rules.Rule) -> Rules:
    return rule, None


def _lazy_adam(s: OptimSettings, fused: bool) -> Rules:
    options = _given(beta1=s.beta1, beta2=s.beta2, eps=s.eps)
    return row_rules.Adam(**options, fused=fused), row_rules.LazyAdam(**options)


def _rowwise_adagrad(s: OptimSettings, fused: bool) -> Rules:
    options = _given(eps=s.eps, initial_accumulator=s.initial_accumulator)
    return row_rules.Adagrad(**options), row_rules.RowwiseAdagrad(**options)


def _rms(**defaults: Any) -> Callable[[OptimSettings, bool], Rules]:
    def make(s: OptimSettings, fused: bool) -> Rules:
        options = {**defaults, **_given(alpha=s.alpha, eps=s.eps, momentum=s.momentum)}
        return _plain(row_rules.RMSProp(**options, lazy=s.rows == "touched"))

    return make


#: The rule of all parameters, and another one of tables where that differs.
_RULES: dict[str, Callable[[OptimSettings, bool], Rules]] = {
    "adagrad_momentum": lambda s, _: _plain(
        row_rules.AdagradMomentum(**_given(momentum=s.momentum, eps=s.eps, initial_accumulator=s.initial_accumulator))
    ),
    "adagrad": lambda s, _: _plain(row_rules.Adagrad(**_given(eps=s.eps, initial_accumulator=s.initial_accumulator))),
    "rowwise_adagrad": _rowwise_adagrad,
    "lazy_adam": _lazy_adam,
    "rmsprop": _rms(),
    "rmsprop_tf": _rms(alpha=0.9, eps=1e-10, initial=1.0, eps_in_root=True),
    "sgd": lambda s, _: _plain(row_rules.SGD()),
}


def schedule_factor(s: ScheduleSettings, lr: float, total_updates: int | None) -> Callable[[int], float] | None:
    """The factor on the learning rate before update 0, 1, ...; None where it never changes.

    Raises:
        ValueError: ``linear`` and ``cosine`` without an end of the training.
    """
    if s.name == "constant" and not s.warmup_steps:
        return None
    if s.name == "dlrm_policy":
        return partial(_dlrm_policy, s, lr)
    floor = s.min_lr / lr if lr else 0.0
    if s.name in ("linear", "cosine") and total_updates is None:
        raise ValueError(f"optim.schedule.name={s.name} needs to know where the training ends")
    span = max(1, (total_updates or 0) - s.warmup_steps)

    def decayed(update: int) -> float:
        if s.name == "linear":
            return 1 - min(update / span, 1.0)
        if s.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(update / span, 1.0)))
        if s.name in ("step", "exponential"):
            times = update / (s.step_size or 1)
            return float((s.gamma if s.gamma is not None else 0.1) ** (int(times) if s.name == "step" else times))
        return 1.0

    def factor(update: int) -> float:
        if update < s.warmup_steps:
            return (update + 1) / s.warmup_steps
        return max(decayed(update - s.warmup_steps), floor)

    return factor


def _dlrm_policy(s: ScheduleSettings, lr: float, update: int) -> float:
    """The schedule of facebookresearch/dlrm: linear warm-up, plateau, quadratic decay, and its last value for ever.

    Its plateau is the last value of the warm-up, lr (w - 1) / w, where anything decays later (``reference``); meant is
    lr itself (``clean``).
    """
    count, warmup, start, steps = update + 1, s.warmup_steps, s.decay_start or 0, s.decay_steps or 0
    if count < warmup:
        return count / warmup
    if not steps or count < start:
        return (warmup - 1) / warmup if steps and s.semantics == "reference" else 1.0
    left = (steps - min(count - start, steps - 1)) / steps
    return max(left**2, DLRM_FLOOR / lr if lr else 0.0)
