"""What ``seqc.check`` returns, read off the plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqc.diagnostics import Diagnostic
from seqc.ir.graph import Graph, users
from seqc.ir.kernel import Kernel
from seqc.ir.plan import ArrayStage, KernelStage, LoopStage, MapPart, MapStage, Plan, Stratum
from seqc.ir.recurrence import Recurrence
from seqc.ir.report import LawReport, LayerReport, Report, StratumReport
from seqc.ir.solving import Newton
from seqc.report.costs import kernel_cost
from seqc.report.plain import Formulas, formulas
from seqc.symbolic.algebra import prove


def report(plans: Sequence[Plan], diagnostics: tuple[Diagnostic, ...]) -> Report:
    """What there is to say of some layers."""
    return Report(tuple(layer_report(p) for p in plans), diagnostics)


def layer_report(plan: Plan) -> LayerReport:
    """One layer: its equations as rewritten, its strata, its stages."""
    r = plan.recurrence
    text = formulas(r)
    equations = []
    for e in r.equations:
        time = "" if e.constant else "[t]"
        equations.append(f"{e.name}{time} = {text.definition(e.node)}")
    return LayerReport(
        name=r.name,
        strata=tuple(stratum_report(plan, s) for s in plan.analysis.strata),
        plan=plan,
        equations=tuple(equations),
        stages=tuple(stages(plan)),
        diagnostics=plan.analysis.diagnostics,
        costs=tuple(kernel_cost(k) for k in plan.stages if isinstance(k, KernelStage)),
    )


def stratum_report(plan: Plan, s: Stratum) -> StratumReport:
    """One stratum, its derived forms printed."""
    text = formulas(plan.recurrence)

    def shown(n: int | None) -> str:
        return "" if n is None else text.definition(n)

    laws: tuple[LawReport, ...] = ()
    parts: tuple[str, ...] = ()
    if s.law is not None:
        laws = prove(s.law)
        named = zip(s.law.parts, s.parts, strict=True)
        parts = tuple(f"{name} = {shown(n)}" for name, n in named)
    return StratumReport(
        states=s.states,
        algebra=s.algebra,
        verdict=s.verdict,
        method=s.method,
        jacobian=s.jacobian,
        domain=s.domain,
        domain_reason=s.domain_reason,
        coefficient_range=s.coefficient_range,
        reason=s.reason,
        coefficient=", ".join(shown(n) for n in s.coefficient),
        offset=", ".join(shown(n) for n in s.offset),
        log_coefficient=shown(s.log_coefficient),
        log_offset=shown(s.log_offset),
        adjoint=adjoint_lines(plan, s),
        laws=laws,
        carries=tuple(f"{state}[t-{lag}]" for state, lag in s.carries),
        parts=parts,
        gradient=str(s.feedback),
        newton=newton_of(plan, s),
    )


def newton_of(plan: Plan, s: Stratum) -> Newton | None:
    """A stratum's Newton iterations, with the Jacobian that they go by."""
    found = (x for x in plan.stages if isinstance(x, LoopStage) and x.states == s.states)
    return next((x.iterated for x in found), None)


def adjoint_lines(plan: Plan, s: Stratum) -> tuple[str, ...]:
    """The reverse recurrence of what runs in a kernel, and the gradients it gives."""
    lines: list[str] = []
    for stage in plan.stages:
        if not isinstance(stage, KernelStage) or not set(stage.states) & set(s.states):
            continue
        kernel, adjoint = stage.kernel, stage.adjoint
        constants = constant_names(plan, stage)
        layer = formulas(plan.recurrence)
        names = shared_names(adjoint) if kernel.stepped else {}
        text = formulas_of(adjoint.body, stage, constants, names)
        lines += [
            f"{name} = {layer.definition(n)}"
            for name, n, c in zip(constants, stage.constants, kernel.constants, strict=True)
            if name == c.name and isinstance(n, int)
        ]
        lines += [f"{name} = {text(n)}" for n, name in names.items()]
        for carry, back in zip(kernel.carries, adjoint.carries, strict=True):
            if carry.state in s.states:
                lines.append(f"adj_{carry.name}[t-1] = {text(back.after)}")
        lines += [f"{o.name}[t] = {text(o.node)}" for o in adjoint.outputs]
        called = {f"d_{c.name}": f"d_{n}" for c, n in zip(kernel.constants, constants, strict=True)}
        lines += [f"{called[t.name]} = sum over t: {text(t.node)}" for t in adjoint.totals]
        lines += [
            f"{called[o.name]} = sum over t: outer({text(o.left)}, {text(o.right)})"
            for o in adjoint.outers
        ]
    return tuple(lines)


def constant_names(plan: Plan, stage: KernelStage) -> tuple[str, ...]:
    """What the spec calls what a kernel reads once (a param, an equation without time); where it
    has no name there, the kernel's own."""
    r = plan.recurrence
    known = {e.node: e.name for e in reversed(r.equations) if e.constant}
    known |= {n: str(node.attrs[0]) for n, node in enumerate(r.nodes) if node.op == "param"}
    named = zip(stage.constants, stage.kernel.constants, strict=True)
    return tuple(n.called(r) if isinstance(n, MapPart) else known.get(n, c.name) for n, c in named)


def formulas_of(
    body: Graph, stage: KernelStage, constants: Sequence[str], names: dict[int, str],
    there: bool = False,
) -> Callable[[int], str]:  # fmt: skip
    """A printer of a kernel's (``there``) or adjoint's body, its leaves by name.

    ``names`` are those of other nodes.
    """
    k = stage.kernel

    def leaf(n: int) -> str | None:
        node = body[n]
        first = node.attrs[0] if node.attrs else 0
        index = first if isinstance(first, int) else 0
        match node.op:
            case "const":
                return f"{float(node.attrs[0]):g}"
            case "load":
                return f"{stage.adjoint.streams[index].name}[t]"
            case "constant" | "matrix":
                return constants[index]
            case "held":
                product = formulas_of(k.body, stage, constants, {}, True)
                return f"({product(stage.adjoint.held[index].node)})"
            case "prev" if there:
                return f"{k.carries[index].state}[t-{k.carries[index].lag}]"
            case "scalar":
                return k.scalars[index]
            case "keep":
                return f"{k.masks[index].name}[t]"
            case "before":
                carry = k.carries[stage.adjoint.befores[index].carry]
                return f"{carry.state}[t-{carry.lag}]"
            case "prev":
                return f"adj_{k.carries[index].name}[t]"
        return None

    return Formulas(body, leaf, names).definition


def shared_names(kernel: Kernel) -> dict[int, str]:
    """Names for what several of a kernel's values are made of, so that it is written once."""
    found = [
        n for n, readers in enumerate(users(kernel.body))
        if len(readers) > 1 and kernel.body[n].args and kernel.body[n].op not in ("neg", "stop")
    ]  # fmt: skip
    return {n: f"e{i}[t]" for i, n in enumerate(found, 1)}


def stages(plan: Plan) -> list[str]:
    """A line for each stage of the plan."""
    r = plan.recurrence
    if not plan.stages:
        return ["step by step on the reference backend"]
    out = []
    for stage in plan.stages:
        match stage:
            case MapStage():
                maps = ", ".join(r.maps[i].label for i in stage.maps)
                kind = r.maps[stage.maps[0]].kind
                out.append(f"{stage.name}: {kind} maps {maps} as one GEMM")
            case ArrayStage():
                out.append(f"{r.nodes[stage.node].op} over the whole sequence")
            case LoopStage():
                out.append(loop_line(r, stage))
            case KernelStage():
                k = stage.kernel
                marching = {x for s in plan.analysis.strata if s.law is None for x in s.states}
                verbs = {"scans": [s for s in stage.states if s not in marching]}
                verbs["marches"] = [s for s in stage.states if s in marching]
                if k.stepped:
                    verbs = {"steps": list(stage.states)}
                taken = [f"{verb} {', '.join(s)}" for verb, s in verbs.items() if s]
                out.append(
                    f"{k.name}: fused kernel over ({', '.join(k.axes) or '1'}): reads "
                    f"{', '.join(s.name for s in k.streams) or 'nothing'}; "
                    f"{'; '.join(taken) or 'scans no state'}; "
                    f"writes {', '.join(o.name for o in k.outputs) or 'final states alone'}"
                )
    return out


def loop_line(r: Recurrence, stage: LoopStage) -> str:
    """What a loop in torch does at each step."""
    how = "step by step in PyTorch"
    if stage.iterated is not None:
        how = f"Newton iterations ({stage.iterated.jacobian} Jacobian) in PyTorch"
    parts = [f"{stage.name}: {how}: {', '.join(stage.states)}"]
    if stage.feedback.kind != "exact":
        parts.append(f"gradients {stage.feedback}")
    for pack in stage.packs:
        maps = [r.maps[int(r.nodes[n].attrs[0])].label for n in pack]
        parts.append(f"map{'s' if len(maps) > 1 else ''} {', '.join(maps)} as one product a step")
    kept = [r.value_name(n) or f"value{n}" for n in stage.outputs]
    return "; ".join([*parts, f"writes {', '.join(kept) or 'final states alone'}"])
