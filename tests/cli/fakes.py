"""Layers and a compiler that stand in for the real ones, with faults to order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from seqc.diagnostics import Diagnostic
from seqc.ir.report import LawReport, LayerReport, Report, StratumReport
from seqc.ir.verdict import Interval, Verdict


class FakeState(NamedTuple):
    h: Tensor


class FakeLayer(nn.Module):
    """A leaky average, h[t] = z h[t-1] + (1 - z) v; ``fault`` breaks its "cpp" backend."""

    SIZES: ClassVar[dict[str, int | None]] = {"input": None, "hidden": None}
    HYPERS: ClassVar[dict[str, float]] = {}
    INPUTS: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("input",)}
    STATES: ClassVar[dict[str, tuple[str, ...]]] = {"h": ("hidden",)}
    OUTPUTS: ClassVar[dict[str, tuple[str, ...]]] = {"h": ("hidden",)}
    fault: ClassVar[str] = ""

    def __init__(self, input: int, hidden: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.backend = "auto"
        self.hidden = hidden
        self.z = nn.Linear(input, hidden, device=device, dtype=dtype)
        self.v = nn.Linear(input, hidden, device=device, dtype=dtype)

    def forward(self, x: Tensor, state: FakeState | None = None) -> tuple[Tensor, FakeState]:
        broken = self.fault if self.backend == "cpp" else ""
        if broken == "absent":
            raise NotImplementedError("no kernel for this layer")
        wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        pre_z, v = self.z(x).to(wide), self.v(x).to(wide)
        z = torch.sigmoid(pre_z)
        if broken == "overflow":
            z = pre_z.exp() / (1 + pre_z.exp())
        h = x.new_zeros(x.shape[0], self.hidden, dtype=wide) if state is None else state.h
        if broken == "detached state":
            h = h.detach()
        if broken == "zero second derivatives":
            z, v = _FlatGate.apply(pre_z), v
        out = []
        for t in range(x.shape[1]):
            h = z[:, t] * h + (1 - z[:, t]) * v[:, t]
            out.append(h)
        y = torch.stack(out, 1) if out else x.new_zeros(x.shape[0], 0, self.hidden, dtype=wide)
        if broken == "outputs" and x.shape[1] > 10:
            y = torch.cat([y[:, :-1], y[:, -1:] * 1.001], dim=1)
        if broken == "float32 outputs" and x.dtype == torch.float32:
            y = y * 1.00002
        if broken == "NaN":
            y = torch.where(y > 0, y, torch.nan)
        if broken == "gradients":
            y = y.detach() + (y - y.detach()) * 1.01
        if broken == "crash":
            raise RuntimeError("illegal memory access")
        if broken == "no steps" and x.shape[1] == 0:
            h = torch.zeros_like(h)
        return y.to(x.dtype), FakeState(h)

    def step(self, x: Tensor, state: FakeState | None = None) -> tuple[Tensor, FakeState]:
        y, state = self(x.unsqueeze(1), state)
        if self.fault == "step" and self.backend == "cpp":
            y = y + 1e-6
        return y[:, 0], state


class FakeChaos(FakeLayer):
    """h[t] = sin(v + gain h[t-1]): roundings may grow; "cpp" computes it another way, as well."""

    gain: ClassVar[float] = 2.0

    def forward(self, x: Tensor, state: FakeState | None = None) -> tuple[Tensor, FakeState]:
        wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        v = self.v(x).to(wide)
        h = x.new_zeros(x.shape[0], self.hidden, dtype=wide) if state is None else state.h
        out = []
        for t in range(x.shape[1]):
            if self.backend == "cpp":
                h = h * 1.001 if self.fault else h
                half = (v[:, t] / self.gain + h) * (0.5 * self.gain)
                h = 2 * torch.sin(half) * torch.cos(half)
            else:
                h = torch.sin(v[:, t] + self.gain * h)
            out.append(h)
        y = torch.stack(out, 1) if out else x.new_zeros(x.shape[0], 0, self.hidden, dtype=wide)
        return y.to(x.dtype), FakeState(h)


class FakeOverflow(FakeLayer):
    """Sound, but no float32 holds what its outputs are computed from."""

    def forward(self, x: Tensor, state: FakeState | None = None) -> tuple[Tensor, FakeState]:
        y, state = super().forward(x, state)
        large = y * 1e30 * 1e30
        return y + (large - large), state


class _FlatGate(torch.autograd.Function):
    """A sigmoid whose backward is right once, and silently a constant when differentiated."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        z = torch.sigmoid(u)
        ctx.slope = (z * (1 - z)).detach()
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.slope


class PairState(NamedTuple):
    S: Tensor
    n: Tensor


class FakeMemory(nn.Module):
    """Two inputs, two outputs, a state with two axes, a size with a default, a scalar input."""

    SIZES: ClassVar[dict[str, int | None]] = {"key": None, "value": 4}
    HYPERS: ClassVar[dict[str, float]] = {"decay": 0.9}
    INPUTS: ClassVar[dict[str, tuple[str, ...]]] = {"k": ("key",), "v": ("value",), "f": ()}
    STATES: ClassVar[dict[str, tuple[str, ...]]] = {"S": ("key", "value"), "n": ("key",)}
    OUTPUTS: ClassVar[dict[str, tuple[str, ...]]] = {"y": ("value",), "n": ("key",)}

    def __init__(
        self, key: int, value: int = 4, decay: float = 0.9, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.backend, self.key, self.value, self.decay = "auto", key, value, decay
        self.scale = nn.Parameter(torch.ones(key, device=device, dtype=dtype))

    def forward(
        self, k: Tensor, v: Tensor, f: Tensor, state: PairState | None = None
    ) -> tuple[tuple[Tensor, Tensor], PairState]:
        wide = torch.float32 if k.dtype in (torch.bfloat16, torch.float16) else k.dtype
        batch, time = k.shape[:2]
        if state is None:
            state = PairState(
                k.new_zeros(batch, self.key, self.value, dtype=wide),
                k.new_zeros(batch, self.key, dtype=wide),
            )
        S, n = state
        ys, ns = [], []
        for t in range(time):
            kt, vt, ft = k[:, t].to(wide), v[:, t].to(wide), torch.sigmoid(f[:, t].to(wide))
            S = self.decay * ft.unsqueeze(-1) * S + kt.unsqueeze(-1) * vt.unsqueeze(-2)
            n = self.decay * n + kt * self.scale
            ys.append((S * kt.unsqueeze(-1)).sum(-2))
            ns.append(n)
        y = torch.stack(ys, 1) if ys else k.new_zeros(batch, 0, self.value)
        m = torch.stack(ns, 1) if ns else k.new_zeros(batch, 0, self.key)
        return (y.to(k.dtype), m.to(k.dtype)), PairState(S, n)

    def step(
        self, k: Tensor, v: Tensor, f: Tensor, state: PairState | None = None
    ) -> tuple[tuple[Tensor, Tensor], PairState]:
        (y, n), state = self(k.unsqueeze(1), v.unsqueeze(1), f.unsqueeze(1), state)
        return (y[:, 0], n[:, 0]), state


SPEC = """\
# Fake GRU (Nobody et al., 2024)
layer FakeGRU
size   input, hidden
"""


def stratum(**changes: Any) -> StratumReport:
    """The report of a proved affine stratum, with changes."""
    facts: dict[str, Any] = {
        "states": ("h",),
        "algebra": "affine",
        "verdict": Verdict("proved", "h[t-1] enters linearly"),
        "method": "scan",
        "jacobian": "diagonal",
        "domain": "linear",
        "domain_reason": "every coefficient is below 1",
        "coefficient_range": Interval(0.0, 1.0),
        "coefficient": "1 - z[t]",
        "offset": "z[t] * v[t]",
        "log_coefficient": "logsigmoid(-pre[t])",
        "log_offset": "logsigmoid(pre[t]) + log(v[t])",
        "adjoint": ("g[t] = dh[t] + (1 - z[t+1]) * g[t+1]",),
        "laws": (LawReport("associative", Verdict("proved")),),
    }
    return StratumReport(**{**facts, **changes})


def report(*diagnostics: Diagnostic, **changes: Any) -> Report:
    """A report of one layer, FakeGRU, with changes to its stratum."""
    plan: Any = None
    layer = LayerReport(
        "FakeGRU",
        (stratum(**changes),),
        plan,
        equations=("z[t] = sigmoid(pre[t])", "h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]"),
        stages=("map x: z, v", "kernel h: affine scan"),
    )
    return Report((layer,), tuple(diagnostics))


class Compiler:
    """What the fakes of ``seqc.check`` and its fellows were called with, and what they return."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def face(self, name: str) -> Callable[..., Any]:
        """A stand-in for one function of ``seqc``."""

        def called(where: Any, **options: Any) -> Any:
            self.calls.append((name, where, options))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return called
