"""The mathematics: what a recurrence is, its stable and log-domain forms, its derivatives.

The only room where sympy is; it is imported inside the functions that prove
something, so importing this package is cheap.

    analyse      Recurrence -> Analysis: strata, algebra and proof, coefficient and offset
    rewrite      StableBuilder: a graph builder that keeps what it builds numerically stable
    rules        the rewriting rules, one table
    intervals    where each value lies
    differentiate  reverse and forward mode on a pointwise graph
    algebra      proofs of an algebra's laws, with counterexamples
"""
