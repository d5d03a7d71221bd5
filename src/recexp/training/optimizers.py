"""Optimisers and learning-rate schedules from their settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from recexp.config.settings import OptimSettings, ScheduleSettings
from recexp.errors import ConfigError
from recexp.problems.module import MakeOptimizer
from recexp.training import row_rules
from recexp.training.row_optimizer import RowOptimizer


def make_optimizer(settings: OptimSettings, total_updates: int | None, *, kernels: str) -> MakeOptimizer:
    """A function from parameter groups to the optimiser and its schedule.

    A group's ``l2``, the factor of a penalty l2 * sum(w^2), becomes the decay 2 * l2: the same gradient,
    without computing the penalty.

    Args:
        settings: What was configured.
        total_updates: Length of the training, for the schedules that end with it.
        kernels: ``fused`` uses torch's fused kernels where the optimiser has them (they unscale gradients themselves,
            which excludes clipping them under a loss scale); ``foreach`` lists of tensors; ``plain`` one by one.
    """
    ways = {"fused": kernels == "fused", "foreach": kernels == "foreach"}

    def make(groups: list[dict[str, Any]]) -> tuple[Optimizer, LambdaLR | None]:
        prepared = [
            {"params": group["params"], "weight_decay": settings.weight_decay + 2 * group.get("l2", 0.0)}
            for group in groups
        ]
        optimizer = _optimizer(prepared, settings, ways)
        factor = schedule_factor(settings.schedule, settings.lr, total_updates)
        return optimizer, LambdaLR(optimizer, factor) if factor else None

    return make


def _optimizer(groups: list[dict[str, Any]], settings: OptimSettings, ways: dict[str, bool]) -> Optimizer:
    touched = settings.rows == "touched"
    penalty = max((group["weight_decay"] for group in groups), default=0.0)
    if touched and penalty:
        raise ConfigError(
            [
                f"optim.rows=touched: the model's penalty (l2, here {penalty / 2:g}) moves every row at every update. "
                "Set the model's l2 options to 0, or optim.rows=all."
            ]
        )
    if touched or settings.name not in _BUILDERS:
        return RowOptimizer(groups, _RULES[settings.name](settings), lr=settings.lr, touched=touched)
    return _BUILDERS[settings.name](groups, settings, ways)


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


_RULES: dict[str, Callable[[OptimSettings], row_rules.Rule]] = {
    "adagrad_momentum": lambda s: row_rules.AdagradMomentum(
        **_given(momentum=s.momentum, eps=s.eps, initial_accumulator=s.initial_accumulator)
    ),
    "adagrad": lambda s: row_rules.Adagrad(**_given(eps=s.eps, initial_accumulator=s.initial_accumulator)),
    "adam": lambda s: row_rules.Adam(**_given(beta1=s.beta1, beta2=s.beta2, eps=s.eps)),
    "sgd": lambda s: row_rules.SGD(**_given(momentum=s.momentum, nesterov=s.nesterov)),
    "rmsprop": lambda s: row_rules.RMSprop(**_given(alpha=s.alpha, eps=s.eps, momentum=s.momentum)),
}


def schedule_factor(s: ScheduleSettings, lr: float, total_updates: int | None) -> Callable[[int], float] | None:
    """The factor on the learning rate before update 0, 1, ...; None where it never changes.

    Raises:
        ValueError: ``linear`` and ``cosine`` without an end of the training.
    """
    if s.name == "constant" and not s.warmup_steps:
        return None
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
