"""Sums of products over named axes, in plain torch: what a spec's matrix products run as."""

from __future__ import annotations

import torch
from torch import Tensor


def contract(equation: str, *operands: Tensor) -> Tensor:
    """``torch.einsum`` of operands of any dtypes, as a product and a sum would have it.

    The equation separates its terms by spaces, as in ``"ab ...b -> ...a"``.
    """
    dtype = operands[0].dtype
    for operand in operands[1:]:
        dtype = torch.promote_types(dtype, operand.dtype)
    terms, _, result = equation.partition(" -> ")
    joined = f"{terms.replace(' ', ',')}->{result}"
    return torch.einsum(joined, *(x.to(dtype) for x in operands)).to(dtype)
