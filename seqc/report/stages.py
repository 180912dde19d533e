"""The stages of a plan for a page: what each is, what it costs, and its steps in C++."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.codegen.sources import structs
from seqc.ir.costs import StepCost, traffic_text
from seqc.ir.maps import LearnedMap
from seqc.ir.plan import KernelStage, MapStage
from seqc.ir.report import LayerReport


@dataclass(frozen=True)
class CostRow:
    """One direction of a kernel."""

    name: str
    read: str
    reads: str
    written: str
    writes: str
    arithmetic: str
    transcendental: str
    selections: str


@dataclass(frozen=True)
class StageView:
    """A stage as its line in the report, with a kernel's costs and steps."""

    text: str
    note: str = ""
    name: str = ""
    axes: str = ""
    costs: tuple[CostRow, ...] = ()
    forward: str = ""
    backward: str = ""


def stage_views(layer: LayerReport) -> list[StageView]:
    """The stages in order."""
    stages = layer.plan.stages
    if len(stages) != len(layer.stages):
        return [StageView(text) for text in layer.stages]
    costs = {c.name: c for c in layer.costs}
    views = []
    for text, stage in zip(layer.stages, stages, strict=True):
        match stage:
            case MapStage():
                maps = [layer.plan.recurrence.maps[i] for i in stage.maps]
                views.append(StageView(text, note=_map_cost(maps)))
            case KernelStage():
                cost = costs[stage.kernel.name]
                forward, backward = structs(stage)
                views.append(
                    StageView(
                        text,
                        name=cost.name,
                        axes=", ".join(cost.axes) or "1",
                        costs=(_row("forward", cost.forward), _row("backward", cost.backward)),
                        forward=excerpt(forward),
                        backward=excerpt(backward),
                    )
                )
            case _:
                views.append(StageView(text))
    return views


def _row(name: str, cost: StepCost) -> CostRow:
    kept = f" ({cost.kept} B of it kept for backward)" if cost.kept else ""
    return CostRow(
        name,
        traffic_text(cost.read), ", ".join(n for t in cost.read for n in t.names),
        traffic_text(cost.written) + kept, ", ".join(n for t in cost.written for n in t.names),
        cost.counted("arithmetic"), cost.counted("transcendental"), cost.counted("selections"),
    )  # fmt: skip


def _map_cost(maps: list[LearnedMap]) -> str:
    """The operations of a matrix product, a step of one sequence, in the sizes."""
    first = maps[0]
    factors = ["2"]
    for terms in first.factors:
        inner = [" · ".join(map(str, term)) or "1" for term in terms]
        factors.append(inner[0] if len(inner) == 1 else f"({' + '.join(inner)})")
    outs: dict[str, int] = {}
    for m in maps:
        out = " · ".join(m.declared) or "1"
        outs[out] = outs.get(out, 0) + 1
    columns = [name if count == 1 else f"{count} · {name}" for name, count in outs.items()]
    factors.append(columns[0] if len(columns) == 1 else f"({' + '.join(columns)})")
    return f"{' · '.join(factors)} flops a step forward, twice that backward"


def excerpt(code: str) -> str:
    """The step of a kernel's struct, as text of its own."""
    title = code.split("\n", 1)[0]
    found = [title]
    passes = code.split("  struct Pass")[1:] or code.split("  struct Main {\n")[1:]
    for rest in passes:
        lines = rest[rest.index("    SEQC_INLINE static void run(") :].split("\n")
        found += [line.removeprefix("      ") for line in lines[1 : lines.index("    }")]]
    return "\n".join(found)
