"""Writes what happens inside of single updates: batches, modules' inputs and outputs, loss, parameters, gradients."""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from recexp.problems.watch import WatchedUpdate
from recexp.storage.atomic import atomic_file, remove

_log = logging.getLogger(__name__)
STATISTICS = "statistics.csv"
COLUMNS = ("name", "kind", "shape", "dtype", "min", "max", "mean", "norm", "nan", "inf", "file", "stored")


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors in a value, with the path to each: in dataclasses, mappings, lists and tuples."""
    if isinstance(value, Tensor):
        yield name, value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from tensors(part, f"{name}.{number}")


def statistics(value: Tensor) -> dict[str, Any]:
    """Minimum, maximum, mean and Euclidean norm of the finite elements, and how many are not; in double precision."""
    values = value.to(torch.float64).flatten()
    finite = values[values.isfinite()]
    found: dict[str, Any] = {"nan": int(values.isnan().sum()), "inf": int(values.isinf().sum())}
    if finite.numel():
        found |= {"min": finite.min().item(), "max": finite.max().item()}
        found |= {"mean": finite.mean().item(), "norm": finite.norm().item()}
    return found


class _Folder:
    """The dump of one update by one process: a line in a table for each tensor, and its values where asked for."""

    def __init__(self, path: Path, *, values: bool, scope: Sequence[str]) -> None:
        self.path, self.values, self.scope = path, values, scope
        self.rows: list[dict[str, Any]] = []
        # What an interrupted start of the run has left there is of the same update: it is written anew.
        remove(path)
        path.mkdir(parents=True)

    def add(self, name: str, kind: str, value: Tensor, *, of: str | None = None, scale: float = 1.0) -> None:
        """Take a tensor.

        Args:
            name: Its own.
            kind: input, output, gradient or parameter.
            value: Copied, or looked at, at once.
            of: The module or parameter that the patterns of the scope are compared with; None for ``name``.
            scale: Divides the values: gradients are written without the loss scale.
        """
        if self.scope and not any(fnmatchcase(of or name, pattern) for pattern in self.scope):
            return
        host = value.detach()
        host = (host.to_dense() if host.is_sparse else host).cpu()
        if scale != 1.0:
            host = host.float() / scale
        row = {"name": name, "kind": kind, "shape": "x".join(map(str, host.shape)) or "scalar"}
        row |= {"dtype": str(value.dtype).removeprefix("torch."), **statistics(host)}
        if self.values:
            # numpy has no bfloat16.
            array = (host.float() if host.dtype == torch.bfloat16 else host).numpy()
            file = f"{len(self.rows):04d}.{kind}.{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.npy"
            np.save(self.path / file, array)
            row |= {"file": file, "stored": str(array.dtype)}
        self.rows.append(row)

    def close(self) -> None:
        """Write the table; a folder without one was interrupted."""
        with atomic_file(self.path / STATISTICS, "w") as stream:
            writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


class OfChosenUpdates(Callback, ABC):
    """A dump of chosen updates: knows when it is due in this process, and says which updates never came."""

    def __init__(self, steps: Sequence[int], ranks: Sequence[int]) -> None:
        self.steps, self.ranks = sorted(set(steps)), frozenset(ranks)
        self.rank = 0
        self._seen: set[int] = set()

    @abstractmethod
    def close(self) -> None:
        """Write what was collected of an update, where one is open."""

    def is_due(self, number: int) -> bool:
        """Whether an update is to be dumped here."""
        if number not in self.steps:
            return False
        self._seen.add(number)
        return not self.ranks or self.rank in self.ranks

    def after(self, update: WatchedUpdate) -> None:
        """Nothing to do."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn which process this is."""
        self.rank = trainer.global_rank

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which updates never came."""
        missing = [str(step) for step in self.steps if step not in self._seen]
        if missing and self.rank == 0:
            _log.warning("debug.dump: this training had no update %s", ", ".join(missing))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep what was written of an update that failed."""
        self.close()


class Dump(OfChosenUpdates):
    """Writes ``step{N}/rank{R}/`` for the chosen updates. Changes nothing: it only reads, between the operations."""

    def __init__(
        self, folder: Path, steps: Sequence[int], *, values: bool, ranks: Sequence[int] = (), scope: Sequence[str] = ()
    ) -> None:
        """Choose.

        Args:
            folder: Of the dumps of a run.
            steps: Numbers of updates, from 1.
            values: Write all values as ``.npy``, beside the table of statistics.
            ranks: Processes that write; none for all.
            scope: Patterns of names; none for all.
        """
        super().__init__(steps, ranks)
        self.folder, self.values, self.scope = folder, values, list(scope)
        self._open: _Folder | None = None
        self._hooks: list[RemovableHandle] = []
        self._scale = 1.0

    def before(self, update: WatchedUpdate) -> None:
        """Write the parameters and the batches, and listen to the modules."""
        if not self.is_due(update.number):
            return
        path = self.folder / f"step{update.number}" / f"rank{self.rank}"
        self._open = folder = _Folder(path, values=self.values, scope=self.scope)
        self._scale = 1.0 if update.scaler is None else float(update.scaler.get_scale())
        for name, parameter in update.parameters():
            folder.add(name, "parameter", parameter)
        for number, batch in enumerate(update.update.batches):
            for name, value in tensors(batch, f"batch{number}"):
                folder.add(name, "input", value)
        for name, module in update.module.named_modules():
            if name:
                self._hooks.append(module.register_forward_hook(self._listener(folder, name), with_kwargs=True))

    def _listener(self, folder: _Folder, module_name: str) -> Callable[..., None]:
        calls = 0

        def listen(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            nonlocal calls
            place = f"{module_name}.call{calls}"
            calls += 1
            for name, value in [*tensors(args, f"{place}.input"), *tensors(kwargs, f"{place}.input")]:
                folder.add(name, "input", value, of=module_name)
            for name, value in tensors(output, f"{place}.output"):
                folder.add(name, "output", value, of=module_name)
                if value.requires_grad:
                    self._hooks.append(value.register_hook(self._gradient_listener(folder, name, module_name)))

        return listen

    def _gradient_listener(self, folder: _Folder, name: str, module_name: str) -> Callable[[Tensor], None]:
        def listen(gradient: Tensor) -> None:
            folder.add(name, "gradient", gradient, of=module_name, scale=self._scale)

        return listen

    def after_backward(self, update: WatchedUpdate, loss: Tensor) -> None:
        """Write the loss and the parameters' gradients, before anybody clips them or stops because of them."""
        if self._open is None:
            return
        self._open.add("loss", "output", loss)
        for name, parameter in update.parameters():
            if parameter.grad is not None:
                self._open.add(name, "gradient", parameter.grad, scale=self._scale)
        self.close()

    def close(self) -> None:
        """Write the table, and listen no longer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        folder, self._open = self._open, None
        if folder is not None:
            folder.close()
