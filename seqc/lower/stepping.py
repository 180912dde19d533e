"""A stratum whose steps have products with matrices, as a kernel that steps.

Its update is nonlinear, so that its steps are taken one after another; what makes them more than a
march are recurrent weights: each of their products needs all of its argument.  What is free of the
stratum's carries is there beforehand, of a learned map of several arguments the columns of those
that are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from seqc.ir.contraction import Contraction
from seqc.ir.kernel import Carry, Constant, Kernel, Mask, Output, Scan
from seqc.ir.maps import Linear
from seqc.ir.ops import POINTWISE
from seqc.ir.plan import FusedStage, MapPart, MapStage
from seqc.ir.recurrence import Recurrence
from seqc.lower.fusion import Fusion
from seqc.lower.layout import Layout
from seqc.lower.loops import Loop


@dataclass(frozen=True)
class MatrixProduct:
    """A sum of products as a matrix, constant in time, times the values of a step.

    ``values`` is the node of those, ``matrix`` that of the matrix; ``rows``, axes of the result,
    begin with the ``shared`` that the values have too; ``columns`` are the values' other axes;
    ``turned``: the matrix has its columns before its rows.
    """

    values: int
    matrix: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    shared: int
    turned: bool


def matrix_product(
    recurrence: Recurrence, product: Contraction, moving: Callable[[int], bool]
) -> MatrixProduct | None:
    """A sum of products as one of a matrix and values; None where it is none."""
    nodes = recurrence.nodes
    if len(product.inside) != 2 or any(len(group) != 1 for group in product.inside):
        return None
    pair = [group[0] for group in product.inside]
    values = [f for f in pair if moving(f)]
    if len(values) != 1:
        return None
    (value,) = values
    matrix = pair[0] if pair[1] == value else pair[1]
    own = nodes[matrix].axes
    # Values may be called otherwise here: a step has them under their own names.
    taken = called = nodes[value].axes
    if nodes[value].op == "rename":
        names = dict(zip(*(iter(map(str, nodes[value].attrs[i::2])) for i in (0, 1)), strict=True))
        value = nodes[value].args[0]
        taken = nodes[value].axes
        if tuple(names.get(a, a) for a in taken) != called:
            return None
    shared = sum(a not in product.axes for a in called)
    common, columns = called[:shared], called[shared:]
    rest = tuple(a for a in own if a not in called)
    if taken[:shared] != common or set(columns) != product.axes:
        return None
    if shared and not (rest and columns):  # no matrix, but products element by element
        return None
    plain, turned = (*common, *rest, *columns), (*common, *columns, *rest)
    if own not in (plain, turned):
        return None
    return MatrixProduct(
        value, matrix, (*common, *rest), taken[shared:], shared, turned=own != plain
    )


def steps(recurrence: Recurrence, loop: Loop, products: Mapping[int, Contraction]) -> bool:
    """Whether a kernel takes the steps of a loop: it knows all that they are made of."""
    nodes = recurrence.nodes
    if not set(loop.states) <= {s.name for s in recurrence.states}:
        return False
    moving = _moving(recurrence, loop)
    if any(
        moving(n) and not isinstance(node.attrs[1], int)
        for n, node in enumerate(nodes) if node.op == "read"
    ):  # fmt: skip
        return False
    called = {n for n in loop.within if nodes[n].op == "rename"}
    across = False
    for n in loop.within:
        node = nodes[n]
        if node.op in POINTWISE or n in called:
            if called & set(node.args):
                return False
            continue
        across = True
        if node.op == "map" and _is_matrix(recurrence, n, moving):
            continue
        if node.op != "reduce":
            return False
        found = n not in products or matrix_product(recurrence, products[n], moving)
        if not found or (n not in products and node.args[0] in called):
            return False
    return across


def _moving(recurrence: Recurrence, loop: Loop) -> Callable[[int], bool]:
    """Whether a node is known in its step alone."""
    within = set(loop.within)

    def moving(n: int) -> bool:
        node = recurrence.nodes[n]
        carried = node.op == "read" and node.attrs[1] != 0 and node.attrs[0] in loop.states
        return n in within or carried

    return moving


def _is_matrix(recurrence: Recurrence, n: int, moving: Callable[[int], bool]) -> bool:
    """Whether a learned map is a matrix times what a step has, and lies as the step has it."""
    node = recurrence.nodes[n]
    m = recurrence.map_of(node)
    still = [i for i, a in enumerate(node.args) if not moving(a)]
    if still and still[-1] - still[0] >= len(still):
        return False  # its columns lie apart
    return isinstance(m, Linear) and not m.order and all(
        recurrence.nodes[a].axes == axes
        for a, axes in zip(node.args, m.sources, strict=True) if moving(a)
    )  # fmt: skip


class _Stepping(Fusion):
    """Translates what a loop computes into a kernel's body."""

    def __init__(
        self, layout: Layout, axes: tuple[str, ...], loop: Loop, packed: dict[int, tuple[str, int]]
    ) -> None:
        super().__init__(layout, axes, [], [], packed)
        self.loop, self.within = loop, set(loop.within)
        self.moving = _moving(layout.recurrence, loop)
        #: the position of each carry
        self.places: dict[tuple[str, int], int] = {}
        for name in loop.states:
            lags = [
                int(n.attrs[1]) for n in self.nodes if n.op == "read" and n.attrs[0] == name
                and n.attrs[1] != 0
            ]  # fmt: skip
            for lag in range(1, max(lags, default=1) + 1):
                self.places[name, lag] = len(self.places)
        self.tables: list[Constant] = []

    def leaf(self, n: int) -> int | None:
        node = self.nodes[n]
        if n in self.within:
            return None
        if self.moving(n):
            return self.before(str(node.attrs[0]), int(node.attrs[1]))
        if not self.layout.timed[n]:
            return self.constant(n)
        if node.op == "keep":
            return super().leaf(n)
        return self.stream(n)

    def before(self, name: str, lag: int) -> int:
        """The leaf of a carry before the step."""
        axes = self.layout.recurrence.state(name).axes
        return self.body.add("prev", axes=axes, attrs=(self.places[name, lag],))

    def entry(self, key: int | MapPart, constant: Constant) -> int:
        """The position of a constant."""
        # A matrix and its transpose, or a matrix and the tensor, are two constants of one value.
        for place, (k, c) in enumerate(zip(self.constants, self.tables, strict=True)):
            if k == key and replace(c, name=constant.name) == constant:
                return place
        self.constants.append(key)
        self.tables.append(constant)
        return len(self.constants) - 1

    def tensor(self, n: int) -> int:
        name = f"c{len(self.constants)}_{self.describe(n)}"
        place = self.entry(n, Constant(name, self.nodes[n].axes))
        return self.body.add("constant", axes=self.nodes[n].axes, attrs=(place,))

    def needs(self, n: int) -> tuple[int, ...]:
        node, product = self.nodes[n], self.layout.products.get(n)
        if node.op == "map":
            return tuple(a for a in node.args if self.moving(a))
        if product is None or n not in self.within:
            return node.args
        found = matrix_product(self.layout.recurrence, product, self.moving)
        assert found is not None
        return (found.values, *product.outside, *product.divisors)

    def compute(self, n: int) -> int:
        node, product = self.nodes[n], self.layout.products.get(n)
        if node.op == "map":
            return self.learned(n)
        if product is not None and n in self.within:
            return self.contracted(n, product)
        return super().compute(n)

    def times(self, key: int | MapPart, matrix: Constant, values: int) -> int:
        """A product with a matrix, of the body's values."""
        leaf = self.body.add("matrix", axes=(), attrs=(self.entry(key, matrix),))
        return self.body.add(
            "product", self.done[values], leaf, axes=self.body.union(matrix.axes),
            attrs=(False, *matrix.across),
        )  # fmt: skip

    def learned(self, n: int) -> int:
        """A learned map: the products of what moves, and what there is beforehand."""
        node = self.nodes[n]
        index = int(node.attrs[0])
        m = self.layout.recurrence.map_of(node)
        label = m.label.replace(".", "_")
        terms = []
        for i, (a, axes) in enumerate(zip(node.args, m.sources, strict=True)):
            if self.moving(a):
                matrix = Constant(f"{label}_weight{i}", m.axes, columns=axes)
                terms.append(self.times(MapPart(index, i), matrix, a))
        if n in self.packed:
            terms.append(self.stream(n))
        elif m.bias:
            place = self.entry(MapPart(index), Constant(f"{label}_bias", m.axes))
            terms.append(self.body.add("constant", axes=m.axes, attrs=(place,)))
        total = terms[0]
        for term in terms[1:]:
            total = self.body.add("add", total, term, span=node.span)
        return total

    def contracted(self, n: int, product: Contraction) -> int:
        """A sum of products as a product with a matrix."""
        found = matrix_product(self.layout.recurrence, product, self.moving)
        assert found is not None
        name = f"c{len(self.constants)}_{self.describe(found.matrix)}"
        matrix = Constant(name, found.rows, found.columns, found.shared, found.turned)
        total = self.times(found.matrix, matrix, found.values)
        span = self.nodes[n].span
        for f in product.outside:
            total = self.body.add("mul", total, self.done[f], span=span)
        for f in product.divisors:
            total = self.body.add("div", total, self.done[f], span=span)
        return self.body.add("neg", total, span=span) if product.negative else total


def step_stages(
    layout: Layout, name: str, loop: Loop, outputs: tuple[int, ...],
    packed: dict[int, tuple[str, int]], names: Iterator[str],
) -> Iterator[MapStage | FusedStage]:  # fmt: skip
    """What maps there is to do beforehand, and the kernel."""
    known = dict(packed)
    for maps in _beforehand(layout, loop, names):
        known |= {m: (maps.name, i) for i, m in enumerate(maps.nodes)}
        yield maps
    recurrence = layout.recurrence
    made = _Stepping(layout, recurrence.axes, loop, known)
    carries = []
    for (state, lag), _ in made.places.items():
        if lag > 1:
            after = made.before(state, lag - 1)
        else:
            update = recurrence.definition(state)
            assert update is not None
            after = made.visit(update)
        label = state if lag == 1 else f"{state}_lag{lag}"
        carries.append(Carry(label, state, lag, recurrence.state(state).axes, after))
    updates: dict[int | None, tuple[str, ...]] = {
        recurrence.definition(s): recurrence.state(s).axes for s in loop.states
    }
    written = tuple(
        Output(made.describe(n), made.visit(n), updates.get(n, recurrence.nodes[n].axes))
        for n in outputs
    )
    masks = tuple(Mask(f"keep_{made.nodes[n].attrs[0]}", made.nodes[n].axes) for n in made.masks)
    spans = {a for n in made.body.nodes for a in n.axes} | {a for c in carries for a in c.axes}
    axes = tuple(a for a in recurrence.axes if a in spans)
    kernel = Kernel(
        name=name,
        axes=axes,
        streams=tuple(made.streams),
        constants=tuple(made.tables),
        scalars=tuple(made.scalars),
        masks=masks,
        carries=tuple(carries),
        scans=(Scan(tuple(range(len(carries)))),),
        outputs=written,
        body=made.body.graph,
        inner=axes,
        stepped=True,
    )
    yield FusedStage(
        kernel, tuple(made.operands), tuple(made.sources), tuple(made.constants),
        tuple(made.masks), outputs,
    )  # fmt: skip


def _beforehand(layout: Layout, loop: Loop, names: Iterator[str]) -> Iterator[MapStage]:
    """Products of learned maps' columns with what is there for the whole sequence."""
    recurrence, moving = layout.recurrence, _moving(layout.recurrence, loop)
    groups: dict[tuple[tuple[int, ...], tuple[int, ...], object], list[int]] = {}
    for n in loop.within:
        node = recurrence.nodes[n]
        still = tuple(i for i, a in enumerate(node.args) if not moving(a))
        if node.op == "map" and still:
            m = recurrence.map_of(node)
            sources = tuple(node.args[i] for i in still)
            groups.setdefault((sources, still, m.sources), []).append(n)
    for (sources, still, _), nodes in groups.items():
        maps = tuple(int(recurrence.nodes[n].attrs[0]) for n in nodes)
        yield MapStage(next(names), maps, tuple(nodes), sources, still)
