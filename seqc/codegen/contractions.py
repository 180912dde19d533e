"""Sums of products as matrix products in PyTorch, and axes called otherwise."""

from __future__ import annotations

from string import ascii_letters

from seqc.codegen.torch_printer import Text, TorchPrinter, align, wrap
from seqc.ir.contraction import Contraction
from seqc.ir.graph import Node


def contract(printer: TorchPrinter, found: Contraction, node: Node) -> Text:
    """A sum of products whose terms are never written down, its factors having been printed."""
    groups = [product(printer, group) for group in found.inside]
    # In the layer's order, which axes that no factor has both of do not tell.
    inner = tuple(a for a in node.axes if any(a in g.axes for g in groups))
    lead = any(g.lead for g in groups)
    if len(groups) == 1:
        (group,) = groups
        dims = ", ".join(str(i - len(group.axes)) for i in summed(group, found))
        result = Text(f"{wrap(group, 9)}.sum(({dims},))", axes=inner, lead=lead)
    else:
        named = [*inner, *sorted(found.axes)]
        letters = dict(zip(named, ascii_letters, strict=False))
        terms = [subscript(g.axes, letters, g.lead) for g in groups]
        equation = f"{' '.join(terms)} -> {subscript(inner, letters, lead)}"
        operands = ", ".join(g.code for g in groups)
        result = Text(f'contract("{equation}", {operands})', axes=inner, lead=lead)
    if found.outside:
        result = multiplied([*(printer.values[f] for f in found.outside), result], node.axes)
    for f in found.divisors:
        divisor = printer.values[f]
        code = f"{wrap(align(result, node.axes), 6)} / {wrap(align(divisor, node.axes), 7)}"
        lead = result.lead or (divisor.lead and not divisor.number)
        result = Text(code, 6, node.axes, False, lead)
    if not found.negative:
        return result
    return Text(f"-{wrap(result, 7)}", 7, node.axes, False, result.lead)


def product(printer: TorchPrinter, group: tuple[int, ...]) -> Text:
    """Factors multiplied element by element; the first has all the axes."""
    axes = printer.graph[group[0]].axes
    values = [printer.values[f] for f in group]
    return values[0] if len(values) == 1 else multiplied(values, axes)


def multiplied(values: list[Text], axes: tuple[str, ...]) -> Text:
    """The product of some values over these axes."""
    code = " * ".join(wrap(align(v, axes), 6 if i == 0 else 7) for i, v in enumerate(values))
    lead = any(v.lead and not v.number for v in values)
    return Text(code, 6, axes, False, lead)


def summed(group: Text, found: Contraction) -> list[int]:
    """Where the axes of the sum stand."""
    return [i for i, a in enumerate(group.axes) if a in found.axes]


def subscript(axes: tuple[str, ...], letters: dict[str, str], lead: bool) -> str:
    """A value's axes in the notation of torch.einsum, batch and time as dots."""
    return ("..." if lead else "") + "".join(letters[a] for a in axes)


def renamed(code: str, inner: tuple[str, ...], node: Node) -> str:
    """A value whose axes are called otherwise, its dimensions in the order of the new names."""
    names = dict(zip(map(str, node.attrs[::2]), map(str, node.attrs[1::2]), strict=True))
    return reordered(code, tuple(names.get(a, a) for a in inner), node.axes)


def reordered(code: str, called: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """A value's last dimensions, called so, in the wanted order: a view."""
    moved = [(called.index(a), i) for i, a in enumerate(wanted) if called.index(a) != i]
    if not moved:
        return code
    count = len(called)
    source, target = ([pair[k] - count for pair in moved] for k in (0, 1))
    if len(moved) == 2:
        return f"{code}.transpose({target[0]}, {target[1]})"
    return f"{code}.movedim({tuple(source)}, {tuple(target)})"
