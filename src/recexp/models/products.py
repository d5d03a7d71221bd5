"""Matrix products of float32 on a processor: oneDNN where it is the faster library, else whatever torch takes.

torch hands float32 products to MKL, which on processors of other makers takes half as long again or twice as long as
oneDNN for the shapes of a catalogue (measured on an AMD EPYC: 50 x 100 x 2100 in 487 us against 245 us on one thread).
Both compute in float32; they round differently.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recexp.models import kernels

#: Below so many multiplications, the call costs more than the product gains.
LARGE = 4_000_000
_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False, out: Tensor | None = None
) -> Tensor:
    """``x @ weight.T + bias`` without a gradient, [R, D] and [U, D] to [R, U].

    Args:
        x: Left factor.
        weight: Right factor; a transposed view is taken as it is.
        bias: Of each column, [U].
        relu: Whether negative results become 0.
        out: Where the result goes, which is also returned.
    """
    float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if _AVAILABLE and float32 and x.numel() * len(weight) >= LARGE and kernels.hand_written(x):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    elif out is not None and bias is None:
        product = torch.mm(x, weight.t(), out=out)
        return product.relu_() if relu else product
    else:
        product = functional.linear(x, weight, bias)
        if relu:
            product.relu_()
    return product if out is None else out.copy_(product)
