"""Child: runs a whole command and writes down every operator that touches an NPU tensor, with its operands' types.

Usage: record.py WAYS RECORD WORD... . WAYS is what kernels.py printed. An operator that the real torch_npu has no
kernel for, but the framework composes of others, is taken apart here in the same way, so that those are recorded, too.

torch_npu differentiates some operators by formulas of its own ("formulas" in WAYS; matmul is the one that counts). They
stand above this recorder: it sees the framework's own decomposition of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

# The command itself imports torch_npu, after it has set the variables that torch_npu reads when it is loaded.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorder(TorchDispatchMode):
    """Sees what is below autograd and autocast: what a device is asked for, backward passes included."""

    def __init__(self, ways: dict[str, str]) -> None:
        super().__init__()
        self.ways = ways
        self.operands: dict[str, set[tuple[tuple[str, str], ...]]] = defaultdict(set)
        self.inner: dict[str, set[str]] = defaultdict(set)
        self._inside: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not _touches_npu((args, kwargs)):
            return func(*args, **kwargs)
        name, way = func.name(), self.ways.get(func.name(), "none")
        self.operands[name].add(tuple(_operands(func, args, kwargs)))
        if self._inside and self._inside[-1] != name:
            self.inner[self._inside[-1]].add(name)
        # detach, for one, is composed of itself.
        if not way.startswith("Composite") or name in self._inside:
            return func(*args, **kwargs)
        self._inside.append(name)
        try:
            with self:
                return func._op_dk(getattr(torch._C.DispatchKey, way), *args, **kwargs)
        finally:
            self._inside.pop()

    def record(self) -> dict[str, Any]:
        """{operator: {"operands": [[[argument, dtype], ...], ...], "inner": [operator, ...]}}."""
        return {
            name: {"operands": sorted(map(list, seen)), "inner": sorted(self.inner[name])}
            for name, seen in sorted(self.operands.items())
        }


def _touches_npu(given: Any) -> bool:
    for leaf in tree_leaves(given):
        if isinstance(leaf, torch.Tensor):
            leaf = leaf.device
        if isinstance(leaf, torch.device) and leaf.type == "npu":
            return True
    return False


def _operands(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, str]]:
    """(argument, dtype) of the NPU tensors; of a list of tensors each dtype once."""
    named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    found = []
    for argument, value in named.items():
        tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor) and leaf.device.type == "npu"]
        found += sorted({(argument, str(tensor.dtype).removeprefix("torch.")) for tensor in tensors})
    if kwargs.get("device") is not None and kwargs.get("dtype") is not None:
        found.append(("dtype", str(kwargs["dtype"]).removeprefix("torch.")))
    return found


def main() -> int:
    """Run the command; its exit code."""
    ways, record, words = sys.argv[1], sys.argv[2], sys.argv[3:]
    from recexp import cli

    recorder = Recorder(json.loads(Path(ways).read_text())["ways"])
    with recorder:
        code = cli.main(words)
    Path(record).write_text(json.dumps(recorder.record(), indent=1))
    return code


if __name__ == "__main__":
    sys.exit(main())
