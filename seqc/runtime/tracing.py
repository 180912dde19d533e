"""Who is watching a call: are its tensors just memory, or does somebody trace or transform it?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def transforming() -> bool:
    """Whether a functorch transform or forward-mode differentiation is under way."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.autograd.forward_ad._current_level >= 0


def plain(tensors: Sequence[Tensor]) -> bool:
    """Whether the tensors are just memory: nobody is tracing, and none is of a kind of its own."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    for t in tensors:  # noqa: SIM110 (a generator takes longer than most calls have tensors)
        if type(t) is not Tensor and type(t) is not torch.nn.Parameter:
            return False
    return True
