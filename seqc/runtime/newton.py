"""Newton's method for a whole sequence of states, each iteration an affine scan.

From a guess y of y[t] = f(y[t-1]), the step is linearised at every t at once: with J[t] the
Jacobian of f at y[t-1], y moves by d[t] = J[t] d[t-1] + (f(y[t-1]) - y[t]). With the whole Jacobian
the first k steps are right after k iterations, and convergence is quadratic; with a part of it,
linear.
Gradients do not go through iterations: at the solution, whatever found it, they come back by one
scan with the whole Jacobian.

Source: Lim, Zhu, Selfridge, Kasim, "Parallelizing non-linear sequential models over the sequence
length" (arXiv 2309.12252); Gonzalez et al. (arXiv 2407.19115) for parts of the Jacobian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqc.runtime.backends import warn_once
from seqc.runtime.certificates import Solution
from seqc.runtime.jacobians import Form, flat_of
from seqc.runtime.recurrences import adjoint_scan, affine_scan
from seqc.runtime.solving import SolvedBySteps, States, Way, fed_back
from seqc.runtime.tracing import transforming

#: What the last iteration may move a state by, absolute and relative, unless a spec says.
TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.float64: (1e-6, 1e-4)}


@dataclass(frozen=True)
class SolvedByNewton(SolvedBySteps):
    """Steps that are solved by iterations: see :class:`seqc.ir.solving.Newton`.

    ``structure`` is how the channels of a step meet, ``jacobian`` the part of it that iterations go
    by; ``layer`` is where the certificate is left, under each of ``names``.
    """

    layer: Any
    names: tuple[str, ...]
    structure: str
    jacobian: str
    tolerance: float | None
    iterations: int
    damping: float
    guess: str

    def solve(self) -> States:
        """The states; those of sequences that do not converge are taken step by step."""
        y, solution = self._iterated()
        if not solution.converged.all():
            kind = type(self.layer).__name__
            warn_once(
                f"{kind}: Newton's iterations for {', '.join(self.names)} did not converge for "
                f"some sequences (at most {self.iterations} were asked for), which are taken step "
                "by step; layer.solution tells which"
            )
            stepped = self.march()
            y = tuple(torch.where(_over(solution.converged, a), a, b)
                      for a, b in zip(y, stepped, strict=True))  # fmt: skip
        for name in self.names:
            self.layer.solution[name] = solution
        if self.guess == "previous":
            self.layer.__dict__.setdefault("_previous", {})[self.names] = y
        return y

    def form(self, kind: str, y: States) -> Form:
        """The Jacobian of these states, or a part of it."""
        shapes = tuple(v.shape[2:] for v in y)
        return Form(kind, "full" not in (kind, self.structure), self.reads, shapes)

    def _iterated(self) -> tuple[States, Solution]:
        y = self._guessed()
        form = self.form(self.jacobian, y)
        absolute, relative = TOLERANCES[y[0].dtype]
        if self.tolerance is not None:
            absolute = relative = self.tolerance

        def small(moved: Sequence[Tensor], at: Sequence[Tensor]) -> Tensor:
            return _all(
                [d.abs() <= absolute + relative * v.abs() for d, v in zip(moved, at, strict=True)]
            )

        batch, device = y[0].shape[0], y[0].device
        active = torch.ones(batch, dtype=torch.bool, device=device)
        converged, count = ~active, active.to(torch.int64) * 0
        for _ in range(self.iterations):
            moved = self._moved(form, y)
            new = tuple(a + d for a, d in zip(y, moved, strict=True))
            fine = active & _all([v.isfinite() for v in new])
            y = tuple(torch.where(_over(fine, a), a, b) for a, b in zip(new, y, strict=True))
            count += active
            done = fine & small(moved, y)
            converged = converged | done
            active = fine & ~done
            if not active.any():
                break
        with torch.no_grad():
            after = self.step(*self.lags(y, self.pasts, self.fresh))
            left = [b - a for a, b in zip(y, after, strict=True)]
        # Where iterations move states by little that are no solution, they have not converged.
        converged = converged & small(left, y)
        residual = torch.stack([flat_of(d).abs().amax((1, 2)) for d in left]).amax(0)
        return y, Solution(converged, count, residual)

    def _moved(self, form: Form, y: States) -> States:
        """By how much an iteration moves the states."""
        lags = [v.detach().requires_grad_() for v in self.lags(y, self.pasts, self.fresh)]
        with torch.enable_grad():
            after = self.step(*lags)
        slopes = form.jacobian(after, lags, self.resets)
        if self.damping:
            slopes = slopes * (1 - self.damping)
        left = [a.detach() - b for a, b in zip(after, y, strict=True)]
        return form.unpack(affine_scan(slopes, form.pack(left)))

    def _guessed(self) -> States:
        zeros = tuple(
            p.new_zeros(p.shape[0], self.length, *p.shape[2:]) for p in self.pasts
        )  # fmt: skip
        if self.guess == "input":
            return self.step(*(zeros[i] for i, _ in self.reads))
        known = self.layer.__dict__.get("_previous", {}).get(self.names, ())
        same = len(known) == len(zeros) and all(
            a.shape == b.shape and a.dtype is b.dtype and a.device == b.device
            and bool(a.isfinite().all())
            for a, b in zip(known, zeros, strict=True)
        )  # fmt: skip
        return known if same else zeros


def fed_exact(steps: SolvedByNewton) -> States:
    """The states, with exact gradients."""
    if transforming() or torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        # One after another they are differentiated to any order, and in any mode.
        return steps.march()
    return fed_back(steps, lambda values: _Exact(steps, values))


class _Exact(Way):
    """g[t] = e[t] + J[t+1]' g[t+1], J being the whole Jacobian at the solution."""

    def __init__(self, steps: SolvedByNewton, values: States) -> None:
        self.steps, self.values = steps, values
        self.starts = [
            None if x is None else x.detach().requires_grad_() for x in (*steps.pasts, *steps.fresh)
        ]
        n = len(values)
        lags = steps.lags(values, self.starts[:n], self.starts[n:])  # type: ignore[arg-type]
        self.lags = [v if v.requires_grad else v.requires_grad_() for v in lags]
        self.local = steps.step(*self.lags)

    def back(self, grads: States) -> tuple[Sequence[Tensor | None], ...]:
        kind = "full" if self.steps.structure == "full" else "block"
        form = self.steps.form(kind, self.values)
        slopes = form.jacobian(self.local, self.lags, self.steps.resets)
        found = form.unpack(adjoint_scan(slopes, form.pack(grads)))
        there = [x for x in self.starts if x is not None]
        pairs = [(v, g) for v, g in zip(self.local, found, strict=True) if v.requires_grad]
        taken = iter(torch.autograd.grad(
            [v for v, _ in pairs], there, [g for _, g in pairs], retain_graph=True,
            allow_unused=True,
        ))  # fmt: skip
        back = [None if x is None else next(taken) for x in self.starts]
        return found, back


def _over(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.dim() - 1))


def _all(masks: Sequence[Tensor]) -> Tensor:
    """A sequence each: whether all of its entries are true."""
    return torch.stack([flat_of(m).all(2).all(1) for m in masks]).all(0)
