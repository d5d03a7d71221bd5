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
    """

    autocast: torch.dtype | None
    parameters: torch.dtype
    scaling: Scaling
    matmul: Literal["highest", "high"]
    note: str

    @property
    def compute(self) -> torch.dtype:
        """The dtype that a matrix product inside the step must have."""
        return self.autocast or self.parameters


def _meaning(autocast: torch.dtype | None, scaling: Scaling, matmul: Literal["highest", "high"], note: str) -> Meaning:
    return Meaning(autocast=autocast, parameters=torch.float32, scaling=scaling, matmul=matmul, note=note)


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

    def scaler(self) -> LossScaler | None:
        """A new loss scaler, None where the word has none."""
        if self.meaning.scaling == "none" or (self.meaning.scaling == "optional static" and self.loss_scale is None):
            return None
        return LossScaler(
            self.kind, static=self.loss_scale, init_scale=self.init_scale, growth_interval=self.growth_interval
        )

    def plugin(self) -> Precision:
        """A new Lightning plug-in; the scaler, where there is one, is its ``scaler``."""
        if self.meaning.autocast is None:
            return Precision()
        return AutocastPrecision(self.kind, self.meaning.autocast, self.scaler())

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
        if self.meaning.scaling == "none" or (self.meaning.scaling == "optional static" and self.loss_scale is None):
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
    return Policy(word=word, kind=kind, meaning=meaning, **given)


def words(kind: str) -> tuple[str, ...]:
    """The precision words that are legal on a kind of device."""
    return tuple(TABLE[kind])


def name(dtype: torch.dtype) -> str:
    """A dtype's name without torch's prefix."""
    return str(dtype).removeprefix("torch.")


_INTRODUCTION = """# What a precision word means

<!-- Written by `python -m recexp.devices.precision`; change the table in src/recexp/devices/precision.py instead. -->

`precision=` takes one of four words. On every device, parameters (embedding tables above all), gradients, the
optimiser's state and everything in a checkpoint are float32; the word decides in which type a training step computes.
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

The `mps` rows follow PyTorch's documentation; they have not been run on that hardware by us.
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
    return _INTRODUCTION + head + "".join(rows) + _REASONS


if __name__ == "__main__":
    sys.stdout.write(markdown())
