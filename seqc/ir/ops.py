"""The operations that a graph may hold: one table, read by every stage.

A node is a *leaf* (a number, a parameter, a read of the past), a *pointwise*
operation (broadcast by axis name), or one of the few *structural* operations
that look across an axis or across time.
"""

from __future__ import annotations

# name -> number of arguments.  Everything here acts element by element.
POINTWISE: dict[str, int] = {
    # arithmetic
    "add": 2, "sub": 2, "mul": 2, "div": 2, "neg": 1, "pow": 2,
    # exponentials and logarithms
    "exp": 1, "expm1": 1, "log": 1, "log1p": 1, "logaddexp": 2,
    # roots and parts
    "sqrt": 1, "abs": 1, "sign": 1, "floor": 1, "min": 2, "max": 2,
    # activations that deserve a form of their own (stable at both ends)
    "tanh": 1, "sigmoid": 1, "softplus": 1, "normcdf": 1,
    "sin": 1, "cos": 1,
    # conditions (a truth value, only ever the first argument of `where`)
    "lt": 2, "le": 2, "gt": 2, "ge": 2, "eq": 2, "ne": 2, "isset": 1,
    "where": 3,
    # stated derivatives.  stop: the value, derivative 0.  graft(value, x, slope): the value, whose
    # derivative is 1 by `value`, `slope` by x and 0 by `slope`
    "stop": 1, "graft": 3,
}  # fmt: skip

#: Operations whose value is a truth value.  ``isset`` turns a number into one (x != 0).
CONDITIONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "isset"})

#: Operations whose derivative is zero wherever it exists.
FLAT = CONDITIONS | {"sign", "floor", "stop"}

# Leaves of a Recurrence's graph.  attrs in brackets.
#   const  (value,)            a number
#   size   (name,)             a size as a number
#   hyper  (name,)             a hyper-parameter, changeable on the built module
#   param  (name,)             a learned parameter, constant in time
#   read   (name, lag)         an input now (0), or a value `lag` steps ago (int or size)
RECURRENCE_LEAVES = frozenset({"const", "size", "hyper", "param", "read", "index", "symbol"})

# Structural operations of a Recurrence's graph.
#   map    (index,)            a learned map (Recurrence.maps[index]) of its arguments
#   reduce (kind, axis)        kind: sum | mean | max | min
#   cumsum (axis,)             running sum along an axis
#   shift  (axis, k)           along an axis, zeros enter
#   rename (old, new, …)       axes called otherwise, all pairs at once; node.axes in declared order
#   keep   (site,)             arg: probability.  A truth value a step, sequence and axes: false
#                              with that probability while training, true in eval.
#                              drop(e, p) is where(keep(p), e, 0)
#   index  (axis,)             0, 1, … along an axis (a leaf)
STRUCTURAL = frozenset({"map", "reduce", "cumsum", "shift", "rename", "keep"})

# Leaves of a Kernel's body (ir/kernel.py).  attrs: (position in the kernel's table,).
#   load      a stream at step t                constant  a value constant in time
#   scalar    a number known at the call        keep      a dropout mask (a truth value)
#   prev      a carry before this step          before    a carry of another kernel before this step
#   element   a part of a stretch of time as one function of a scan's carries
# and, with the axis' name in the place of the position,
#   size      the extent of an axis             index     0, 1, … along it
KERNEL_LEAVES = frozenset(
    {"const", "load", "constant", "scalar", "keep", "prev", "before", "element"}
)

#: Arguments may be swapped without changing the value (used for value numbering).
COMMUTATIVE = frozenset({"add", "mul", "min", "max", "logaddexp", "eq", "ne"})
