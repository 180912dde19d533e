"""The operations that a graph may hold, read by every stage.

A node is a *leaf* (a number, a parameter, a read of the past), a *pointwise*
operation (broadcast by axis name; each is a record of seqc/ir/operations/), or one of
the few *structural* operations that look across an axis or across time.
"""

from __future__ import annotations

from seqc.ir.operations import OPERATIONS

#: What acts element by element: name -> number of arguments.  The rest is in the records.
POINTWISE: dict[str, int] = {o.name: o.arity for o in OPERATIONS.values()}

#: Operations whose value is a truth value.  ``isset`` turns a number into one (x != 0).
CONDITIONS = frozenset(o.name for o in OPERATIONS.values() if o.truth)

#: Operations whose derivative is zero wherever it exists.
FLAT = frozenset(o.name for o in OPERATIONS.values() if o.flat)

#: Signs between two arguments, and how tightly they bind, as a spec, Python and C have them.
INFIX: dict[str, tuple[str, int]] = {
    o.name: (o.sign, o.binds) for o in OPERATIONS.values() if o.sign
}

#: What operations are printed as for PyTorch, if not PyTorch's own: functions of
#: seqc.runtime.pointwise, and ``graft``, which has a file to itself.
TORCH_HELPERS = frozenset(o.torch for o in OPERATIONS.values() if "." not in o.torch)

#: The operation that a sign of the language stands for.
OF_SIGN: dict[str, str] = {sign: name for name, (sign, _) in INFIX.items()}

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
#   matrix    a constant that is a matrix (its node is over no axes: only products read it)
#   held      a node of another kernel's body at this step, which that kernel kept
# and, with the axis' name in the place of the position,
#   size      the extent of an axis             index     0, 1, … along it
KERNEL_LEAVES = frozenset(
    {"const", "load", "constant", "scalar", "keep", "prev", "before", "element", "matrix", "held"}
)

# What a kernel does with matrices (ir/kernel.py).
#   product (turned, axis, …)  args: values, a matrix.  The matrix (turned: transposed) times the
#                              values, taken over these axes
#   outer                      args: values over a matrix's rows, and over its columns.  Their outer
#                              product, summed over time and the batch: a gradient of the matrix
MATRIX_OPS = frozenset({"product", "outer"})

#: What a kernel does across its inner axes, each the end of a loop along them.
GATHERED = frozenset({"reduce", "rename"})

#: Arguments may be swapped without changing the value (used for value numbering).
COMMUTATIVE = frozenset(o.name for o in OPERATIONS.values() if o.commutative)
