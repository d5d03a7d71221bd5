"""What fp32, mixed, bf16 and fp16 mean on each kind of device: one table, and the plug-ins built from it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision

from recexp.devices.scaler import LossScaler
from recexp.errors import DeviceError

Scaling = Literal["none", "optional static", "dynamic or static"]


@dataclass(frozen=True)
class Meaning:
    """One word on one kind of device.

    Attributes:
        autocast: dtype of matrix products and the like inside the step; None leaves every operator its input's dtype.
        parameters: dtype in which parameters, gradients and the optimiser's state are kept.
        scaling: Whether the loss is scaled against underflow.
        matmul: torch's mode for float32 matrix products; "high" allows TF32.
        note: What a reader must know to choose.
        below: What happens below torch, where no tensor's type shows it.
    """

    autocast: torch.dtype | None
    parameters: torch.dtype
    scaling: Scaling
    matmul: Literal["highest", "high"]
    note: str
    below: str = ""

    @property
    def compute(self) -> torch.dtype:
        """The dtype that a matrix product inside the step must have."""
        return self.autocast or self.parameters


def _meaning(
    autocast: torch.dtype | None, scaling: Scaling, matmul: Literal["highest", "high"], note: str, below: str = ""
) -> Meaning:
    return Meaning(autocast, torch.float32, scaling, matmul, note, below)


_UNSCALED = "as mixed, but small gradients underflow to zero unless precision.loss_scale says otherwise"

TABLE: dict[str, dict[str, Meaning]] = {
    "cpu": {
        "fp32": _meaning(None, "none", "highest", "the fastest word on a CPU"),
        "mixed": _meaning(
            torch.float16, "dynamic or static", "highest", "same semantics as on cuda, to rehearse it; slower than fp32"
        ),
        "bf16": _meaning(torch.bfloat16, "none", "highest", "slower than fp32 on a CPU without AMX"),
        "fp16": _meaning(torch.float16, "optional static", "highest", f"{_UNSCALED}; slower than fp32"),
    },
    "cuda": {
        "fp32": _meaning(None, "none", "highest", "TF32 is off, also in convolutions"),
        "mixed": _meaning(torch.float16, "dynamic or static", "high", "an update with an overflow is skipped, counted"),
        "bf16": _meaning(torch.bfloat16, "none", "high", "needs compute capability 8.0 (Ampere) or newer"),
        "fp16": _meaning(torch.float16, "optional static", "high", _UNSCALED),
    },
    "mps": {
        "fp32": _meaning(None, "none", "highest", "there is no float64 on this device"),
        "mixed": _meaning(torch.float16, "dynamic or static", "highest", "an update with an overflow is skipped"),
        "bf16": _meaning(torch.bfloat16, "none", "highest", "needs macOS 14 or newer"),
        "fp16": _meaning(torch.float16, "optional static", "highest", _UNSCALED),
    },
    "npu": {
        "fp32": _meaning(None, "none", "highest", "HF32 is off unless device.hf32=true, also in convolutions"),
        "mixed": _meaning(
            torch.float16, "dynamic or static", "highest", "an update with an overflow is skipped, counted"
        ),
        "bf16": _meaning(torch.bfloat16, "none", "highest", "needs a 910B or newer"),
        "fp16": _meaning(torch.float16, "optional static", "highest", _UNSCALED),
        "allow_fp32_to_fp16": _meaning(
            None,
            "none",
            "highest",
            "CANN may run a float32 operator in float16; which ones, it does not say",
            "CANN may compute in float16",
        ),
    },
}

#: Words of the original TensorFlow and PyTorch systems: what each now is, and where that differs from what it was.
ALIASES: dict[str, tuple[str, str]] = {
    "must_keep_origin_dtype": ("fp32", "every operator in the type of its operands; HF32 off"),
    "O0": ("fp32", "AMP off"),
    "allow_mix_precision": (
        "mixed",
        "torch's list of operators decides what is computed in float16, where CANN's own list did",
    ),
    "O1": ("mixed", "operators by list, float32 parameters"),
    "O2": ("mixed", "parameters stay float32, where O2 held them in float16 with a float32 copy"),
    "force_fp16": ("fp16", "parameters stay float32, and softmax, logarithms and losses too, where all was float16"),
}


class AutocastPrecision(MixedPrecision):
    """Lightning's mixed precision, bound to a kind of device, with our scaler or none at all."""

    def __init__(self, device: str, dtype: torch.dtype, scaler: LossScaler | None) -> None:
        # The parent makes a scaler of its own for float16 where it is given none.
        placeholder = scaler or (LossScaler("cpu") if dtype == torch.float16 else None)
        super().__init__("16-mixed" if dtype == torch.float16 else "bf16-mixed", device=device, scaler=placeholder)
        self.scaler = scaler


@dataclass(frozen=True)
class Policy:
    """A precision word resolved for a kind of device, with its loss-scale options."""

    word: str
    kind: str
    meaning: Meaning
    loss_scale: float | None = None
    init_scale: float = 65536.0
    growth_interval: int = 2000
    fp32_blocks: tuple[str, ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled."""
        optional = self.meaning.scaling == "optional static" and self.loss_scale is None
        return self.meaning.scaling != "none" and not optional

    def scaler(self, make: type[LossScaler] = LossScaler) -> LossScaler | None:
        """A new loss scaler, None where the word has none."""
        if not self.scaled:
            return None
        return make(self.kind, static=self.loss_scale, init_scale=self.init_scale, growth_interval=self.growth_interval)

    def plugin(self, make: type[LossScaler] = LossScaler) -> Precision:
        """A new Lightning plug-in; the scaler, where there is one, is its ``scaler``."""
        if self.meaning.autocast is None:
            return Precision()
        return AutocastPrecision(self.kind, self.meaning.autocast, self.scaler(make))

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a step outside of the Trainer (evaluation, export, measurement)."""
        if self.meaning.autocast is None:
            return nullcontext()
        return torch.autocast(self.kind, dtype=self.meaning.autocast)

    def activate(self) -> None:
        """Set the process's float32 matrix-product mode."""
        torch.set_float32_matmul_precision(self.meaning.matmul)
        torch.backends.cudnn.allow_tf32 = self.meaning.matmul != "highest"

    def describe(self) -> str:
        """The resolved meaning in words, for the run's tags."""
        text = f"{name(self.meaning.parameters)} parameters, "
        text += f"{name(self.meaning.autocast)} autocast" if self.meaning.autocast else "no autocast"
        text += f" but in {', '.join(self.fp32_blocks)}" if self.fp32_blocks else ""
        text += f", {self.meaning.below}" if self.meaning.below else ""
        if not self.scaled:
            return text
        return f"{text}, {'dynamic' if self.loss_scale is None else f'static {self.loss_scale:g}'} loss scale"


def resolve(kind: str, options: Mapping[str, Any] | str) -> Policy:
    """What a precision word means on a kind of device.

    Args:
        kind: "cpu", "cuda", "mps", ...
        options: The composed ``precision`` group, or a bare word.

    Raises:
        DeviceError: The word has no meaning on that kind of device, or its options contradict each other.
    """
    if isinstance(options, str):
        options = {"name": options}
    word, rows = str(options["name"]), TABLE.get(kind, {})
    if word not in rows:
        legal = ", ".join(rows) or "none"
        raise DeviceError(f"precision={word} cannot work on device={kind}. Legal there: {legal}.")
    given = {
        key: options[key] for key in ("loss_scale", "init_scale", "growth_interval") if options.get(key) is not None
    }
    meaning = rows[word]
    if given and meaning.scaling == "none":
        raise DeviceError(f"precision={word} has no loss scaling: remove precision.{sorted(given)[0]}.")
    dynamic = given.keys() - {"loss_scale"}
    if dynamic and ("loss_scale" in given or meaning.scaling != "dynamic or static"):
        raise DeviceError(
            f"precision.{sorted(dynamic)[0]} belongs to a dynamic loss scale: use precision=mixed and leave"
            " precision.loss_scale unset, or remove it."
        )
    blocks = tuple(options.get("fp32_blocks") or ())
    return Policy(word=word, kind=kind, meaning=meaning, fp32_blocks=blocks, **given)


def words(kind: str) -> tuple[str, ...]:
    """The precision words that are legal on a kind of device."""
    return tuple(TABLE[kind])


def name(dtype: torch.dtype) -> str:
    """A dtype's name without torch's prefix."""
    return str(dtype).removeprefix("torch.")


_INTRODUCTION = """# What a precision word means

<!-- Written by `python -m recexp.devices.precision`; change the table in src/recexp/devices/precision.py instead. -->

`precision=` takes one of four words, and on `device=npu` a fifth. On every device, parameters (embedding tables above
all), gradients, the optimiser's state and everything in a checkpoint are float32; the word decides in which type a
training step computes.
*Autocast* is the type of matrix products and convolutions; torch keeps the operators that need it in float32.
*TF32* says whether float32 matrix products may be rounded to TF32.

A run asserts all of this after it is built and again after its first step, where it looks at the matrix products
themselves, and records what it found in the tags `precision.asked` and `precision.resolved`.

"""

_REASONS = """
Loss scaling belongs to float16, whose smallest positive number is about 6e-8. `mixed` adapts the scale
(`precision.init_scale`, `precision.growth_interval`), or keeps it at `precision.loss_scale`. An update whose gradients
overflow is skipped and counted. `fp16` scales only where `precision.loss_scale` is given.

Parameters in float16 are offered nowhere, because they do not train. An embedding table and a linear layer, 20 updates
at a small loss: Adam and Adagrad gave undefined weights (eps = 1e-8 or 1e-10 is zero in float16, so that an untouched
row divides zero by zero), and SGD changed no weight at all (each change is less than half a unit in the last place).

`precision.fp32_blocks=[...]` keeps named parts of a model in float32 inside an autocast step, in place of the operator
lists ("mixlists") of the original systems; each model's page names its blocks. Softmax, logarithms, losses and
embedding tables are float32 in any case.

The `mps` rows follow PyTorch's documentation, the `npu` rows torch-npu's; neither has been run on that hardware by us.

## Words of the original systems

| word | is here | what differs |
|---|---|---|
"""


def markdown() -> str:
    """docs/precision.md, rendered from the table."""
    head = "| device | word | autocast | parameters | loss scaling | TF32 | note |\n|---|---|---|---|---|---|---|\n"
    rows = [
        f"| `{kind}` | `{word}` | {name(row.autocast) if row.autocast else 'none'} | {name(row.parameters)} "
        f"| {row.scaling} | {'off' if row.matmul == 'highest' else 'on'} | {row.note} |\n"
        for kind, meanings in TABLE.items()
        for word, row in meanings.items()
    ]
    aliases = [f"| `{word}` | `{meaning}` | {differs} |\n" for word, (meaning, differs) in ALIASES.items()]
    return _INTRODUCTION + head + "".join(rows) + _REASONS + "".join(aliases)


if __name__ == "__main__":
    sys.stdout.write(markdown())
