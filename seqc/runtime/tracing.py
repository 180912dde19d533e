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


def plain(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the tensors are just memory: nobody is tracing, and none is of a kind of its own."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    for t in tensors:
        kind = type(t)
        if kind is not Tensor and kind is not torch.nn.Parameter and t is not None:
            return False
    return True


def outlived(tensor: Tensor | None) -> bool:
    """Whether a tensor was wrapped by a transform that is over: operators see through that, but
    it has no memory of its own.
    """
    return tensor is not None and torch._C._functorch.is_functorch_wrapped_tensor(tensor)
