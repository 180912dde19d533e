"""Graphs run in torch, and derivatives run in floats: what the tests of derivatives compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from seqc.runtime.graft import graft
from seqc.symbolic.differentiate import pull_back
from seqc.symbolic.evaluate import evaluate
from seqc.symbolic.patterns import Expr
from seqc.symbolic.rewrite import StableBuilder
from tests.symbolic.expressions import Built

TORCH: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "pow": torch.pow,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "logaddexp": torch.logaddexp,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "min": torch.minimum,
    "max": torch.maximum,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "normcdf": torch.special.ndtr,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "isset": lambda x: x != 0,
    "where": torch.where,
    "stop": torch.detach,
    "graft": graft,
}


def run_torch(built: Built, leaves: Mapping[str, torch.Tensor], root: int) -> torch.Tensor:
    """The node in torch (constants as tensors of one number)."""
    held = {built.variables[k]: v for k, v in leaves.items() if k in built.variables}
    out: list[Any] = []
    for i, node in enumerate(built.builder.graph):
        if i in held:
            out.append(held[i])
        elif node.op == "const":
            out.append(torch.tensor(node.attrs[0], dtype=torch.float64))
        elif node.op in ("index", "size"):
            count = 4
            out.append(torch.arange(count).double() if node.op == "index" else torch.tensor(4.0))
        else:
            out.append(TORCH[node.op](*(out[a] for a in node.args)))
    return out[root]


def plainly(text: str | Expr) -> Built:
    """The expression in a StableBuilder as it stands: no rule rewrites what is differentiated."""
    plain = Built(text, stable=False)
    stable = Built("x")
    stable.builder = StableBuilder((), plain.builder.graph)
    stable.variables, stable.root = plain.variables, plain.root
    return stable


def gradients(built: Built, leaves: Mapping[str, float], seed: float = 1.0) -> dict[str, float]:
    """d root / d each variable at those values, by pull_back."""
    b = built.builder
    found = pull_back(b, {built.root: b.const(seed)}, list(built.variables.values()))
    values = built.values(leaves)
    held = {n: values[n] for n in built.variables.values()}
    after = evaluate(b.graph, held)
    return {
        name: 0.0 if found[n] is None else after[found[n]]  # type: ignore[index]
        for name, n in built.variables.items()
    }
