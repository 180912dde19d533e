"""Graphs as MathML: every operation's own notation, and names for what stands in several places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from seqc.ir.graph import Graph, Node, reachable
from seqc.ir.maps import LearnedMap
from seqc.ir.recurrence import Recurrence
from seqc.report.mathml import (
    ADDS,
    ATOM,
    COMPARES,
    ELLIPSIS,
    FRACTION,
    GREEK,
    NEGATED,
    OPEN,
    POWER,
    TIMES,
    Piece,
    apply,
    atom,
    brackets,
    cases,
    group,
    indexed,
    math,
    number,
    operator,
    row,
    total,
    upright,
    value,
    word,
    wrapped,
)

Leaf = Callable[[int], Piece | None]
_COMPARED = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠"}
#: A product of at most so many letters and signs is kept on one line.
_SHORT = 30
_MINUS = operator("−", "prefix")
#: A formula with more markup than this is cut: a page is read by a person.
_LIMIT = 60_000


@dataclass(frozen=True)
class Line:
    """``left = right``; the right side in chunks that a line may break between."""

    left: str
    right: tuple[str, ...]
    note: str = ""

    @property
    def sides(self) -> tuple[Markup, Markup]:
        """Both sides as elements of a page."""
        return math(self.left), math(*self.right)


class Printer:
    """Prints nodes; ``leaf`` prints leaves, ``names`` are the nodes that have names."""

    def __init__(self, graph: Graph, leaf: Leaf, names: Mapping[int, str]) -> None:
        self.graph = graph
        self.leaf = leaf
        self.names = dict(names)
        self.timed = moving(graph)
        self._drawn: dict[int, list[tuple[str, str]]] = {}

    def definition(self, root: int) -> tuple[str, ...]:
        """The formula of a node, named values standing for themselves except the node itself."""
        pieces: dict[int, Piece] = {}
        for n in self._below([root]):
            if n != root and n in self.names:
                pieces[n] = atom(self.names[n])
                continue
            known = self.leaf(n)
            if known is None:
                known = self._join(n, pieces)
            # Cut before it is copied into whatever it stands in.
            size = sum(len(chunk) for chunk in known.chunks)
            pieces[n] = known if size <= _LIMIT else atom(ELLIPSIS)
        return pieces[root].chunks

    def share(
        self, roots: Iterable[int], letter: str, least: int, *, whole: bool = False
    ) -> list[Line]:
        """Give names to unnamed terms of ``least`` operations or more that stand twice.

        With ``whole`` a root that stands in another gets one too.  The definitions of the new
        names, in order.
        """
        roots = dict.fromkeys(roots)
        order = self._below(roots)
        uses = dict.fromkeys(order, 0)
        for n in order:
            if n in roots or not self._closed(n):
                for a in self.graph[n].args:
                    if a in uses:
                        uses[a] += 1
        weights: dict[int, int] = {}
        found: list[int] = []
        for n in order:
            weights[n] = 1
            if self._closed(n):
                continue
            weights[n] += sum(weights[a] for a in self.graph[n].args)
            if (
                uses[n] + (whole and n in roots) > 1
                and weights[n] >= least
                and (whole or n not in roots)
            ):
                found.append(n)
                weights[n] = 1
        for i, n in enumerate(found, 1):
            number = str(i) if len(found) > 1 else ""
            self.names[n] = indexed(letter, number, 0 if self.timed[n] else None)
        return [Line(self.names[n], self.definition(n)) for n in found]

    def shown(self, n: int) -> tuple[str, ...]:
        """A node by its name; its formula where it has none."""
        return (self.names[n],) if n in self.names else self.definition(n)

    def value_of(self, name: str, constant: bool) -> str:
        """An equation's left side."""
        return value(name, None if constant else 0)

    def _closed(self, n: int) -> bool:
        return n in self.names or self.leaf(n) is not None

    def _below(self, roots: Iterable[int]) -> list[int]:
        """What the roots need, arguments first; not looked into: what has a name."""
        roots = dict.fromkeys(roots)
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in seen:
                seen.add(n)
                if self.leaf(n) is None and (n not in self.names or n in roots):
                    stack.extend(self.graph[n].args)
        return sorted(seen)

    def _join(self, n: int, pieces: dict[int, Piece]) -> Piece:
        """One operation, with the brackets that its arguments need."""
        node = self.graph[n]
        args = [pieces[a] for a in node.args]
        inner = [a.markup for a in args]
        match node.op:
            case "add" | "sub":
                return _sum(node.op, *args)
            case "mul":
                return self._product(node, pieces)
            case "div":
                return Piece((f"<mfrac>{group(inner[0])}{group(inner[1])}</mfrac>",), FRACTION)
            case "pow":
                base = wrapped(args[0], POWER + 1).markup
                return Piece((f"<msup>{group(base)}{group(inner[1])}</msup>",), POWER)
            case "neg":
                first, *rest = wrapped(args[0], TIMES).chunks
                return Piece((_MINUS + first, *rest), NEGATED)
            case "sqrt":
                return atom(f"<msqrt>{inner[0]}</msqrt>")
            case "abs":
                return atom(brackets(inner[0], "|", "|"))
            case "where":
                return self._cases(n, pieces)
            case "isset":
                shown = wrapped(args[0], ADDS).markup
                return Piece((shown + operator("≠") + "<mn>0</mn>",), COMPARES)
            case "product":
                matrix = args[1].markup
                if node.attrs[0]:
                    matrix = f"<msup>{group(matrix)}<mi>⊤</mi></msup>"
                first, *rest = wrapped(args[0], TIMES).chunks
                return Piece((matrix + operator("\u2062") + first, *rest), TIMES)
            case "reduce":
                return _reduction(str(node.attrs[0]), str(node.attrs[1]), args[0])
            case "cumsum" | "shift":
                under = [word(str(a)) if i == 0 else f"<mn>{a}</mn>" for i, a in
                         enumerate(node.attrs)]  # fmt: skip
                return atom(
                    apply(
                        f"<msub>{upright(node.op)}{group(operator(',').join(under))}</msub>", *inner
                    )
                )
            case "keep":
                return atom(
                    apply(f"<msub>{upright('keep')}{word(str(node.attrs[0]))}</msub>", *inner)
                )
        if node.op in _COMPARED:
            left, right = (wrapped(a, ADDS).markup for a in args)
            return Piece((left + operator(_COMPARED[node.op]) + right,), COMPARES)
        return atom(apply(upright(node.op), *inner))

    def _product(self, node: Node, pieces: dict[int, Piece]) -> Piece:
        # Numbers first and the past last, as papers have it; the graph sorts arguments its own way.
        rank = {"number": 0, "past": 2}
        a, b = sorted(node.args, key=lambda n: rank.get(pieces[n].kind, 1))
        left = wrapped(pieces[a], NEGATED)
        right = wrapped(pieces[b], TIMES)
        axes = (self.graph[a].axes, self.graph[b].axes)
        if pieces[a].kind == "number" and right.kind != "number":
            sign = operator("\u2062")
        else:
            sign = operator("⊙" if axes[0] and axes[0] == axes[1] else "·")
        if a == b and right.binds == ATOM:
            return Piece((f"<msup>{group(right.markup)}{group('<mn>2</mn>')}</msup>",), POWER)
        first, *rest = right.chunks
        kind = "past" if "past" in (left.kind, right.kind) else ""
        return Piece((*left.chunks, sign + first, *rest), min(left.binds, TIMES), kind)

    def _cases(self, n: int, pieces: dict[int, Piece]) -> Piece:
        condition, then, otherwise = self.graph[n].args
        rows = [(pieces[then].markup, pieces[condition].markup)]
        # A choice within the last branch is one more case of this one.
        inner = self._drawn.get(otherwise) if otherwise not in self.names else None
        rows += inner or [(pieces[otherwise].markup, "")]
        self._drawn[n] = rows
        return Piece((cases(rows),), OPEN)


def _sum(op: str, left: Piece, right: Piece) -> Piece:
    if op == "add" and left.kind == "number" and right.kind != "number":
        left, right = right, left
    if op == "add" and left.binds == OPEN and right.binds != OPEN:
        left, right = right, left  # needs no brackets at the end
    sign = "+" if op == "add" else "−"
    bare = op == "add" and right.binds == ADDS and not right.chunks[0].startswith(_MINUS)
    # What is open to the right may stand last; more may not follow it then.
    bare |= right.binds == OPEN
    first, *rest = _kept(right if bare else wrapped(right, TIMES))
    chunks = (*_kept(wrapped(left, ADDS)), operator(sign) + first, *rest)
    return Piece(chunks, OPEN if right.binds == OPEN else ADDS)


def _kept(piece: Piece) -> tuple[str, ...]:
    """A term's chunks; a short product in one, so that a line breaks at the sum around it."""
    if piece.binds < TIMES or len(re.sub("<[^>]*>", "", piece.markup)) > _SHORT:
        return piece.chunks
    return (piece.markup,)


def _reduction(kind: str, axis: str, arg: Piece) -> Piece:
    if kind == "sum":
        sign = total(word(axis))
        first, *rest = wrapped(arg, TIMES).chunks
        return Piece((sign + first, *rest), OPEN)
    under = f"<munder>{upright(kind)}{word(axis)}</munder>"
    return atom(apply(under, arg.markup))


# --- a layer's own graph


def equation_names(r: Recurrence) -> dict[int, str]:
    """The nodes that the spec names, as they are written."""
    names: dict[int, str] = {}
    for e in r.equations:
        names.setdefault(e.node, value(e.name, None if e.constant else 0))
    for s in r.states:
        names.setdefault(s.update, value(s.name))
    return names


def layer_printer(r: Recurrence, extra: Iterable[int] = ()) -> tuple[Printer, list[Line]]:
    """The printer of a layer's graph, and the definitions of what it gives names of its own.

    These are learned maps that several formulas use, and terms that stand in several places.
    ``extra`` are roots besides the equations.
    """
    names = equation_names(r)

    def leaf(n: int) -> Piece | None:
        node = r.nodes[n]
        match node.op:
            case "const":
                return number(float(node.attrs[0]))
            case "size" | "hyper" | "param":
                return atom(value(str(node.attrs[0]), None))
            case "symbol":
                return atom(word(str(node.attrs[0])))
            case "index":
                return atom(apply(upright("index"), word(node.axes[0])))
            case "read":
                lag = node.attrs[1]
                assert isinstance(lag, int | str)
                lag = r.shown_lag(lag)
                return atom(value(str(node.attrs[0]), lag), "" if lag == 0 else "past")
        return None

    printer = _LayerPrinter(r, leaf, names)
    roots = [
        *dict.fromkeys([*(e.node for e in r.equations), *(s.update for s in r.states), *extra])
    ]
    shown = reachable(r.nodes, roots)
    uses = dict.fromkeys(sorted(shown), 0)
    for n in shown:
        for a in r.nodes[n].args:
            uses[a] += 1
    lines: list[Line] = []
    for n, count in uses.items():
        if r.nodes[n].op == "map" and count > 1 and n not in printer.names:
            name = value(r.map_of(r.nodes[n]).label, 0, "^")
            lines.append(Line(name, printer.definition(n)))
            printer.names[n] = name
    return printer, lines + printer.share(roots, free("uqsw", r), 4)


def moving(graph: Graph) -> list[bool]:
    """For each node of a layer's graph or a kernel's body, whether its value moves with time."""
    leaves = ("read", "load", "keep", "prev", "grad", "adjoint")
    out: list[bool] = []
    for node in graph:
        out.append(node.op in leaves or any(out[a] for a in node.args))
    return out


def free(letters: str, r: Recurrence) -> str:
    """The first of the letters that no name of the layer's looks like."""
    taken = {*(e.name for e in r.equations), *(i.name for i in r.inputs)}
    taken |= {*(s.name for s in r.states), *(p.name for p in r.params)}
    taken |= {*(h.name for h in r.hypers), *(s.name for s in r.sizes)}
    looks = {GREEK.get(name, name) for name in taken}
    return next((x for x in letters if x not in looks), letters[-1] + "′")


class _LayerPrinter(Printer):
    """A printer that knows a layer's learned maps."""

    def __init__(self, r: Recurrence, leaf: Leaf, names: Mapping[int, str]) -> None:
        super().__init__(r.nodes, leaf, names)
        self.r = r

    def _join(self, n: int, pieces: dict[int, Piece]) -> Piece:
        node = self.graph[n]
        if node.op != "map":
            return super()._join(n, pieces)
        return learned(self.r.map_of(node), [pieces[a] for a in node.args])


def learned(m: LearnedMap, args: list[Piece]) -> Piece:
    """W x + b, or W ∗ x + b for a convolution, of stacked arguments where there are several."""
    weight = f"<msub><mi>W</mi>{_label(m.label)}</msub>"
    if len(args) == 1:
        source = wrapped(args[0], FRACTION).markup
    else:
        source = brackets(operator(",").join(a.markup for a in args), "[", "]")
    sign = operator(m.sign or "\u2062")
    if m.window is not None:
        width = m.window.width
        below = f"<mn>{width}</mn>" if isinstance(width, int) else word(width)
        sign = f"<msub>{sign}{below}</msub>"
    product = weight + sign + source
    if not m.bias:
        return Piece((product,), TIMES)
    bias = f"<msub><mi>b</mi>{_label(m.label)}</msub>"
    return Piece((product, operator("+") + bias), ADDS)


def _label(prefix: str) -> str:
    first, *rest = prefix.split(".")
    return row(
        *[
            part
            for i, name in enumerate([first, *rest])
            for part in ([operator(",")] if i else []) + [word(name)]
        ]
    )
