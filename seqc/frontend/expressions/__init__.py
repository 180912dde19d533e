"""Expressions to nodes of a graph: operations, calls, what looks along an axis, learned maps."""
