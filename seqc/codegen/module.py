"""A whole module's text: what ``seqc build`` writes, and what compiling in memory imports."""

from __future__ import annotations

import ast

from seqc.codegen.layer import (
    LayerView,
    ParallelLines,
    ahead_lines,
    field_shape,
    has_loops,
    keep_lines,
    kernel_name,
    start_lines,
    step_lines,
    tables,
)
from seqc.codegen.mirror import print_mirror
from seqc.codegen.parameters import init_text, map_parameters, shape_text
from seqc.codegen.sources import PRELUDES, STEPPING, TITLES, print_kernels, source_texts
from seqc.codegen.statements import tidy, wrap
from seqc.codegen.templates import environment
from seqc.ir.kernel import Kernel, moving, steady, symmetric
from seqc.ir.maps import MAP_FUNCTIONS
from seqc.ir.ops import TORCH_HELPERS
from seqc.ir.plan import KernelStage, Plan
from seqc.ir.signature import Parameter, signature


def _imports() -> dict[str, list[str]]:
    """What a generated module may import, by room; it imports what it uses."""
    rooms = {
        "contract": "contract",
        "graft": "graft",
        "kernels": "FusedKernel",
        "layer": "Layer",
        "maps": "bias_of cast turn_rows weight_of",
        "pointwise": "choose guard numeric pick shift",
        "sequence": (
            "centred_windows full lagged last_step push remember split stacked started windows"
        ),
        "shell": "Field",
        "ship": "ship",
        "newton": "SolvedByNewton fed_exact",
        "solving": "SolvedBySteps fed_stationary fed_truncated",
        "spec": "KernelSpec state_dtype storage_dtype",
        "steps": "begin keep_mask multiplied spread_axes spread_to",
    }
    own = {(f, "pointwise") for f in TORCH_HELPERS - {"graft"}} | set(MAP_FUNCTIONS.items())
    runtime = {
        f"seqc.runtime.{room}": sorted([*names.split(), *(f for f, of in own if of == room)])
        for room, names in rooms.items()
    }
    return {"typing": ["NamedTuple"], "torch": ["Tensor"], **runtime}


IMPORTS = _imports()
_HERE = "<imports>"


def print_imports(text: str) -> str:
    """The imports of a module whose text is otherwise complete."""
    tree = ast.parse(text.replace(_HERE, ""))
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    groups: list[list[str]] = [[], [], []]
    if "math" in words:
        groups[0].append("import math")
    if "torch" in words:
        groups[1].append("import torch")
    for module, names in IMPORTS.items():
        used = [n for n in names if n in words]
        if used:
            group = 0 if module == "typing" else 1 if module == "torch" else 2
            groups[group] += wrap(f"from {module} import {', '.join(used)}", 96)
    return "\n\n".join("\n".join(g) for g in groups if g)


def print_module(
    plans: tuple[Plan, ...],
    *,
    version: str,
    origin: str,
    spec: str,
    warnings: tuple[str, ...] = (),
    backend: str = "auto",
    compiled: bool = False,
    tangents: bool = False,
) -> str:
    """The module's text for some layers of one spec.

    ``compiled``: it takes kernels from a folder beside its file; ``tangents``: these too.
    """
    layers = [layer_view(p, backend) for p in plans]
    shipped = [
        kernel_name(p.recurrence, s) for p in plans for s in p.stages if isinstance(s, KernelStage)
    ]
    names = ", ".join(v.name for v in layers)
    kernels = [s.kernel for p in plans for s in p.stages if isinstance(s, KernelStage)]
    preludes = PRELUDES if kernels else {}
    if any(k.stepped for k in kernels):
        preludes = PRELUDES | STEPPING
    text = environment().get_template("torch/module.py.jinja").render(
        title=f"{names}: recurrent layer{'s' if len(layers) > 1 else ''} for PyTorch.",
        version=version,
        origin=origin,
        spec=[line.rstrip() for line in spec.strip("\n").split("\n")],
        imports=_HERE,
        warnings=repr(warnings),
        preludes={k: p() for k, p in preludes.items()},
        titles=TITLES,
        layers=layers,
        shipped=shipped if compiled else [],
        tangents=tangents,
    )  # fmt: skip
    return text.replace(_HERE, print_imports(text), 1).rstrip() + "\n"


def layer_view(plan: Plan, backend: str) -> LayerView:
    """Everything that the template needs of one layer."""
    r = plan.recurrence
    parameters: list[str] = []
    used_maps = {int(n.attrs[0]) for n in r.nodes if n.op == "map"}
    # The parts of a bundle have their parameters together.
    for m in {m.prefix: m for i, m in enumerate(r.maps) if i in used_maps}.values():
        parameters += map_parameters(m)
    for p in r.params:
        init = init_text(p.init)
        parameters.append(f'self._parameter("{p.name}", {shape_text(p.declared)}, {init})')
    kernels = [s for s in plan.stages if isinstance(s, KernelStage)]
    parallel = ParallelLines(plan)
    lines = tidy(parallel.lines()) if plan.stages else []
    from_zeros = [("FROM_ZEROS", "True")] if parallel.from_zeros else []
    doc = [line for line in r.doc.strip().split("\n") if line] or [f"The layer {r.name}."]
    return LayerView(
        name=r.name,
        doc=[line.replace("\\", "\\\\").replace('"""', "'''") for line in doc],
        inputs=[i.name for i in r.inputs],
        outputs=", ".join(r.outputs),
        tables=[*tables(plan), *from_zeros, ("DEFAULT_BACKEND", repr(backend))],
        fields=[(h.name, field_shape(r, h)) for h in plan.histories],
        parameters=[part for line in parameters for part in wrap(line)],
        start=tidy(start_lines(plan)),
        keep=tidy(keep_lines(plan)),
        ahead=tidy(ahead_lines(plan)),
        single=tidy(step_lines(plan)),
        parallel=lines,
        kernels=[print_kernel(kernel_name(r, s), s) for s in kernels],
        loops=has_loops(plan),
    )


def print_kernel(name: str, stage: KernelStage) -> str:
    """A fused kernel's sources, its mirror, its tangent, and the tables that tie them together."""
    mirror = print_mirror(stage, f"{name}_mirror")
    assert stage.tangent is not None
    return "\n".join(
        [
            f'{name}_SOURCE = r"""',
            f'{print_kernels(stage)}"""',
            "",
            "# The same on dual numbers, compiled when tangents or second derivatives are wanted.",
            f'{name}_TANGENT_SOURCE = r"""',
            f'{print_kernels(stage.tangent)}"""',
            "",
            "",
            mirror,
            "",
            "",
            f"def {name}_tangent():",
            f'    """{stage.tangent.kernel.name}: what it is to the runtime."""',
            "    return (",
            *(f"        {line}" for line in kernel_tables(f"{name}_tangent", stage.tangent)),
            *(f"        {line}" for line in source_lines(stage, f"{name}_TANGENT_SOURCE")),
            f"        {symmetric(stage.kernel)},",
            "    )",
            "",
            "",
            f"{name} = FusedKernel(",
            *(f"    {line}" for line in kernel_tables(name, stage)),
            *(f"    {line}" for line in source_lines(stage, f"{name}_SOURCE")),
            f"    {name}_mirror,",
            f"    {name}_tangent,",
            ")",
        ]
    )


def source_lines(stage: KernelStage, source: str) -> list[str]:
    """A kernel's source for each target, as Python text."""
    lines = [f'    "{target}": {text},' for target, text in source_texts(stage, source).items()]
    return ["{", *lines, "},"]


def kernel_tables(name: str, stage: KernelStage) -> list[str]:
    """The KernelSpec of a stage, as Python text."""
    k, back = stage.kernel, stage.adjoint
    saved = tuple((b.carry, saved_in(k, b.carry)) for b in back.befores)
    if stage.forward.every:  # every carry, now and then
        saved = tuple((i, -1) for i in stage.forward.kept)

    def place(side: tuple[int, tuple[str, ...]]) -> int:
        """Which side it is, or (counted from -1 downwards) which output."""
        output = back.written(side)
        return back.sides.index(side) if output < 0 else -1 - output

    entries: dict[str, object] = {
        "name": name,
        "axes": k.axes,
        "others": stage.other_axes,
        "operands": tuple((o.packed, o.parts) for o in stage.operands),
        "streams": stage.sources,
        "constants": tuple(c.whole for c in k.constants),
        "masks": tuple(m.axes for m in k.masks),
        "carries": tuple(c.axes for c in k.carries),
        "scans": k.shapes,
        "outputs": tuple(o.axes for o in k.outputs),
        "saved": saved,
        "moving": moving(k, back),
        "steady": steady(k, back),
        "forward": _table(signature(stage.forward)),
        "backward": _table(signature(stage.backward, stage.forward)),
    }
    if k.stepped:
        entries["stepped"] = True
        entries["held"] = tuple(h.axes for h in stage.forward.held)
        entries["outers"] = tuple(
            (o.constant, *(place(side) for side in ((o.left, c.axes), (o.right, c.across))),
             c.shared, c.turned)
            for o in back.outers for c in (back.constants[o.constant],)
        )  # fmt: skip
    elif k.inner:
        entries["inner"] = k.inner
    if not k.stepped and (k.mixes or back.mixes):
        entries["mixes"] = True
    return ["KernelSpec(", *(f"    {key}={value!r}," for key, value in entries.items()), "),"]


def _table(parameters: tuple[Parameter, ...]) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    return tuple((p.role, p.index, p.axes) for p in parameters)


def saved_in(kernel: Kernel, carry: int) -> int:
    """The output that holds a carry's every value, or -1."""
    after = kernel.carries[carry].after
    return next((i for i, o in enumerate(kernel.outputs) if o.node == after), -1)
