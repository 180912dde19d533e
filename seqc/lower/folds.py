"""Sums over a kernel's lanes: it hands them out summed, so that their terms need not be stored.

A kernel sums over its inner axes within a cell. Over the axis along which cells lie it cannot, for
its own steps; but what leaves it may be summed over its lanes on the way out, a block of them at a
time. What is computed from such a sum runs after the kernel.
"""

from __future__ import annotations

from seqc.lower.layout import Layout


def find_folds(layout: Layout) -> None:
    """Enter the sums whose terms a kernel has, along its lanes, in ``layout.folds``.

    Every node has its level and home.  The terms must be over all of the kernel's axes but those
    that it sums over: the sum of any other is no smaller a thing to store.
    """
    nodes = layout.recurrence.nodes
    for n in layout.order:
        node = nodes[n]
        if node.op != "reduce" or node.attrs[0] not in ("sum", "mean") or n in layout.absorbed:
            continue
        (terms,) = node.args
        if terms not in layout.bound or not layout.fused(terms):
            continue
        key = layout.levels[terms], layout.homes[terms]
        summed = layout.inner.get(key, frozenset())
        around = [a for a in key[1] if a not in summed]
        if summed and around[-1:] == [node.attrs[1]] and set(around) <= set(nodes[terms].axes):
            layout.folds[n] = key
