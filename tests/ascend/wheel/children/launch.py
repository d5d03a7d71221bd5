"""Child: the real torch_npu on host memory, with its own kernels: it must say that none can be launched."""

from __future__ import annotations

import json

import torch


def main() -> None:
    """Allocate and copy, which works, then compute, which must not."""
    there = torch.ones(3).to("npu")
    back = there.cpu().tolist()
    try:
        result = repr((there + there).cpu().tolist())
    except RuntimeError as error:
        result = f"RuntimeError: {error}"
    print(json.dumps({"back": back, "sum": result}))  # noqa: T201


if __name__ == "__main__":
    main()
