"""The random states of this process, as plain types and tensors that a safe checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def host_state() -> dict[str, Any]:
    """State of Python's, NumPy's and torch's host generators; loads with ``weights_only=True``."""
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)
    version, numbers, gauss = random.getstate()
    return {
        "python": {"version": version, "numbers": torch.tensor(numbers, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }


def set_host_state(state: dict[str, Any]) -> None:
    """Put back what ``host_state`` returned."""
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))
    key = numpy_state["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy_state["pos"], numpy_state["has_gauss"], numpy_state["gauss"]))
    torch.set_rng_state(state["torch"].cpu())
