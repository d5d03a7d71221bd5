"""Child: says to the real torch.npu, on no device, what it is given; answers what torch-npu says to each."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch
import torch_npu  # noqa: F401  the real one, under link-only libraries


def say(one: dict[str, Any]) -> str:
    """Empty where torch-npu accepts it, else its error."""
    *path, last = one["name"].split(".")
    found = torch.npu
    for part in path:
        found = getattr(found, part)
    try:
        if "value" in one:
            setattr(found, last, one["value"])
        else:
            getattr(found, last)(*one["arguments"], **one["keywords"])
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def main() -> None:
    """Say all on the input."""
    warnings.simplefilter("ignore")
    print(json.dumps([say(one) for one in json.load(sys.stdin)]))  # noqa: T201


if __name__ == "__main__":
    main()
