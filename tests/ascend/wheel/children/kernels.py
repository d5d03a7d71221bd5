"""Child: for each operator that torch has, how the real torch_npu's dispatcher would run it on an NPU."""

from __future__ import annotations

import json

import torch
import torch_npu

#: Composites, in the order in which the dispatcher prefers them where there is no kernel.
COMPOSITES = ["CompositeExplicitAutogradNonFunctional", "CompositeExplicitAutograd", "CompositeImplicitAutograd"]


def way(name: str) -> str:
    """``kernel``, the composite that the framework takes instead, or ``none``."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(name, "PrivateUse1"):
        return "kernel"
    for key in COMPOSITES:
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, key):
            return key
    return "none"


def main() -> None:
    """Print {operator: way}, and the operators with a formula of torch_npu's own for their gradient."""
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(("aten::", "npu::"))}
    formulas = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutogradPrivateUse1")) & names
    found = {
        "devices": torch.npu.device_count(),
        "version": torch_npu.__version__,
        "ways": {name: way(name) for name in sorted(names)},
        "formulas": sorted(formulas),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
