"""The settings that every run has, typed. What a model, dataset or device adds stands in its own file under conf/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def option(
    default: Any,
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    choices: tuple[Any, ...] | None = None,
    identity: bool = True,
) -> Any:
    """A dataclass field with its one-line help, its legal values, and whether it can change a result.

    Args:
        default: Value when nothing is said; a list or dict is copied for each instance.
        help: One line for ``--help`` and the reference table.
        min: Smallest legal value, included.
        max: Largest legal value, included.
        choices: All legal values, where they can be listed.
        identity: False for what cannot change a result (paths, logging, worker counts).
    """
    metadata = {"help": help, "min": min, "max": max, "choices": choices, "identity": identity}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class TrainerSettings:
    """The loop: how long, how much of the data, what is watched."""

    max_epochs: int | None = option(None, min=1, help="passes over the training data")
    max_steps: int | None = option(None, min=1, help="stop after this many updates, whatever max_epochs says")
    limit_train_batches: float | None = option(
        None, min=0, help="batches of an epoch to train on: a whole number counts them, a fraction below 1 is a share"
    )
    limit_eval_users: int | None = option(
        None, min=1, help="evaluate on the first so many users, sessions or impressions only (smoke tests)"
    )
    accumulate_grad_batches: int = option(1, min=1, help="batches whose gradients make one update")
    gradient_clip_val: float | None = option(None, min=0, help="clip gradients to this norm or value")
    gradient_clip_algorithm: str = option(
        "norm", choices=("norm", "value", "norm_per_tensor"), help="what gradient_clip_val bounds"
    )
    eval_every_n_epochs: int = option(1, min=1, help="validate after every so many epochs")
    early_stop_patience: int | None = option(
        None, min=1, help="stop after so many validations without improvement of the monitored metric"
    )
    early_stop_min_delta: float = option(0.0, min=0, help="what counts as an improvement")
    monitor: str | None = option(None, help="metric that picks the best checkpoint (default: the problem's headline)")
    log_every_n_steps: int = option(50, min=1, help="updates between two logged training losses")
    updates_per_block: int = option(
        16, min=1, identity=False, help="updates that run inside one Lightning step (amortises the loop's overhead)"
    )
    checkpoint_every_n_steps: int | None = option(
        None, min=1, identity=False, help="also save last.ckpt after so many updates, not only after each epoch"
    )
    kernels: str = option(
        "auto",
        choices=("auto", "plain"),
        help="auto: hand-written forms where they are faster; plain: torch's operators, the same on every device",
    )
    deterministic: bool = option(False, help="refuse operators that are not deterministic on this device")
    progress: str = option(
        "auto", choices=("auto", "bar", "lines", "off"), identity=False, help="bar on a terminal, plain lines elsewhere"
    )


@dataclass
class ScheduleSettings:
    """How the learning rate changes with the updates."""

    name: str = option(
        "constant",
        choices=("constant", "linear", "cosine", "step", "exponential", "dlrm_policy"),
        help="shape of the learning rate after the warm-up; dlrm_policy: a plateau, then quadratic decay that stops",
    )
    warmup_steps: int = option(0, min=0, help="updates over which the rate rises linearly from 0")
    step_size: int | None = option(None, min=1, help="updates between two decays (step, exponential)")
    gamma: float | None = option(None, min=0, max=1, help="factor of one decay (step, exponential)")
    min_lr: float = option(0.0, min=0, help="floor of the rate")
    decay_start: int | None = option(
        None, min=0, help="update, counted from 1, from which the rate decays (dlrm_policy)"
    )
    decay_steps: int | None = option(
        None, min=0, help="updates of the decay, whose last rate stays; 0: none (dlrm_policy)"
    )
    semantics: str | None = option(
        None,
        choices=("clean", "reference"),
        help="plateau of dlrm_policy: optim.lr (clean, null), or the last rate of the warm-up, which is lower (the "
        "authors' code)",
    )


@dataclass
class OptimSettings:
    """The optimiser. An option that the chosen one does not have is refused, not ignored."""

    name: str = option(
        "adam",
        choices=("adam", "lazy_adam", "adagrad", "rowwise_adagrad", "adagrad_momentum", "sgd", "rmsprop", "rmsprop_tf"),
        help="optimiser; lazy_adam: Adam whose moments of a table's row rest while it is not looked up; "
        "rowwise_adagrad: one sum of squares for each row of a table; adagrad_momentum: GRU4Rec's Adagrad, with "
        "momentum on the scaled step; rmsprop_tf: TensorFlow's RMSProp, whose mean square starts at 1, with eps "
        "in the root",
    )
    lr: float = option(0.001, min=0, help="learning rate")
    weight_decay: float = option(0.0, min=0, help="decay on every parameter, added to the gradient (L2, factor 1/2)")
    momentum: float | None = option(None, min=0, max=1, help="sgd, rmsprop, rmsprop_tf, adagrad_momentum")
    nesterov: bool | None = option(None, help="sgd")
    beta1: float | None = option(None, min=0, max=1, help="adam, lazy_adam: decay of the first moment")
    beta2: float | None = option(None, min=0, max=1, help="adam, lazy_adam: decay of the second moment")
    alpha: float | None = option(None, min=0, max=1, help="rmsprop, rmsprop_tf: decay of the mean square")
    initial_accumulator: float | None = option(
        None, min=0, help="adagrad, rowwise_adagrad, adagrad_momentum: start of the sum of squares"
    )
    eps: float | None = option(None, min=0, help="all but sgd: added to the denominator")
    rows: str = option(
        "all",
        choices=("all", "touched"),
        help="all: every row of an embedding table at every update; touched: only the rows that the batch looked up "
        "(sgd, rmsprop and rmsprop_tf without momentum, adagrad, rowwise_adagrad, lazy_adam, adagrad_momentum)",
    )
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)


@dataclass
class ProfilerSettings:
    """Which updates are profiled, counted from the first one of this start of the run, and what is looked at."""

    enabled: bool = option(False, identity=False, help="profile some updates; traces go to the run's folder profile/")
    skip_first: int = option(0, min=0, identity=False, help="updates before the first cycle")
    wait: int = option(5, min=0, identity=False, help="updates of a cycle that are left alone")
    warmup: int = option(2, min=0, identity=False, help="updates of a cycle that are profiled, but not kept")
    active: int = option(3, min=1, identity=False, help="updates of a cycle that are kept")
    repeat: int = option(1, min=1, identity=False, help="cycles of wait, warmup and active")
    shapes: bool = option(False, identity=False, help="keep the shapes of the operators' inputs")
    memory: bool = option(False, identity=False, help="keep what is allocated and freed")
    stack: bool = option(False, identity=False, help="keep the lines of source code")
    flops: bool = option(False, identity=False, help="estimate the operators' floating-point operations")
    level: str | None = option(
        None, choices=("none", "0", "1", "2"), identity=False, help="npu: how much of the device is collected"
    )
    aic_metrics: str | None = option(
        None,
        choices=(
            "none",
            "pipe_utilization",
            "arithmetic_utilization",
            "memory",
            "memory_l0",
            "memory_ub",
            "memory_access",
            "l2_cache",
            "resource_conflict_ratio",
        ),
        identity=False,
        help="npu: counters of the AI cores, from level 1 on",
    )
    l2_cache: bool | None = option(None, identity=False, help="npu: hits and misses of the L2 cache")
    mstx: bool | None = option(None, identity=False, help="npu: ranges that the code marks")
    export: str | None = option(None, choices=("text", "db"), identity=False, help="npu: format of the profile")


@dataclass
class OverflowSettings:
    """What happens at an update whose gradients are infinite or undefined."""

    action: str = option(
        "off",
        choices=("off", "warn", "skip", "stop"),
        help="at gradients that are not finite: nothing (a loss scale still skips), a warning, no update, an error",
    )


@dataclass
class DumpSettings:
    """Values inside of single updates, written to the run's folder dump/."""

    steps: list[int] = option([], min=1, identity=False, help="numbers of the updates, from 1; empty: none")
    mode: str = option(
        "statistics", choices=("statistics", "tensor"), identity=False, help="a line for each tensor, or all its values"
    )
    level: str = option(
        "L0", choices=("L0", "L1", "mix"), identity=False, help="modules, calls of torch (msprobe only), or both"
    )
    ranks: list[int] = option([], min=0, identity=False, help="processes that write; empty: all")
    scope: list[str] = option(
        [], identity=False, help="patterns of module and parameter names, as network.*_long; empty: all (own only)"
    )
    backend: str = option(
        "auto",
        choices=("auto", "own", "msprobe"),
        identity=False,
        help="who writes: recexp, or mindstudio-probe; auto takes the latter where it is installed and can do it",
    )


@dataclass
class DebugSettings:
    """Looking into a training."""

    profiler: ProfilerSettings = field(default_factory=ProfilerSettings)
    overflow: OverflowSettings = field(default_factory=OverflowSettings)
    dump: DumpSettings = field(default_factory=DumpSettings)


@dataclass
class TrackingSettings:
    """Where runs are recorded."""

    backend: str = option("mlflow", choices=("mlflow", "off"), identity=False, help="mlflow, or off")
    uri: str | None = option(
        None, identity=False, help="tracking server or store (default: MLFLOW_TRACKING_URI, else sqlite in paths.root)"
    )
    experiment: str = option("recexp", identity=False, help="MLflow experiment that the run belongs to")
    run_name: str | None = option(None, identity=False, help="name shown in MLflow (default: model-dataset-seed-id)")
    drain_timeout: float = option(
        20.0, min=0, identity=False, help="seconds to wait at the end for a slow server; what is left stays spooled"
    )


@dataclass
class PathSettings:
    """Folders. None of them can change a result."""

    root: str = option(".", identity=False, help="folder of runs/, mlflow.db and mlartifacts/")
    data: str | None = option(None, identity=False, help="folder with your copies of datasets (default: RECEXP_DATA)")
    cache: str | None = option(
        None, identity=False, help="folder of downloads and prepared arrays (default: RECEXP_CACHE, ~/.cache/recexp)"
    )


@dataclass
class Settings:
    """A whole run. The groups' own keys are checked against the ``_schema_`` of their files."""

    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    precision: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    debug: DebugSettings = field(default_factory=DebugSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    seed: int = option(1, min=0, max=2**32 - 1, help="seed of weights, shuffles and negatives")
    resume: str = option(
        "false",
        identity=False,
        help="true: continue the latest unfinished run of this very configuration; or a run's directory or MLflow id",
    )
    resume_elsewhere: bool = option(
        False, identity=False, help="with resume: also go on with a run of another device or precision; it is marked so"
    )
    ckpt: str = option("best", identity=False, help="task=evaluate: best, last, a file, a run's directory or MLflow id")
    log_level: str = option(
        "info", choices=("debug", "info", "warning", "error"), identity=False, help="how much is said on the console"
    )
