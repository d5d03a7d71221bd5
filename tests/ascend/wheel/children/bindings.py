"""Child: which names of torch-npu are really there, and which calls fit their real signatures."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import torch
import torch_npu

ROOTS = {"torch.npu": torch.npu, "torch_npu": torch_npu}


def look(use: dict[str, Any]) -> dict[str, Any]:
    """The use with ``verdict``: ``bound``, ``there`` (no signature, or no call) or what is wrong."""
    name = use["name"]
    root = next(root for root in ROOTS if name == root or name.startswith(f"{root}."))
    found, parts = ROOTS[root], name.removeprefix(root).strip(".").split(".")
    for i, part in enumerate(parts):
        if not _has(found, part, "set" if use["kind"] == "set" and i == len(parts) - 1 else "get"):
            return {**use, "verdict": f"{root} has no {'.'.join(parts[: i + 1])}"}
        found = getattr(found, part, None)
    return {**use, "verdict": _bind(found, use) if use["kind"] == "call" else "there"}


def _has(found: Any, part: str, how: str) -> bool:
    """Whether ``found`` has the attribute.

    The classes behind torch.npu.matmul and its like take and give any name without a word: there a name counts that
    their own method compares with.
    """
    hook = vars(type(found)).get(f"__{how}attr__")
    if isinstance(hook, classmethod):
        return f'"{part}"' in inspect.getsource(hook.__func__)
    return hasattr(found, part)


def _bind(found: Any, use: dict[str, Any]) -> str:
    if not callable(found):
        return f"{use['name']} cannot be called"
    try:
        signature = inspect.signature(found)
    except ValueError:
        return "there"
    try:
        signature.bind(*[None] * use["positional"], **dict.fromkeys(use["keywords"]))
    except TypeError as error:
        return f"{use['name']}{signature}: {error}"
    return "bound"


def main() -> None:
    """Judge all uses on the input."""
    print(json.dumps([look(use) for use in json.load(sys.stdin)]))  # noqa: T201


if __name__ == "__main__":
    main()
