"""Algebras that a spec names beside complex states, and where some of the states have no past."""

from __future__ import annotations

import pytest

from tests.symbolic.specs import analysis, shown

HEAD = "layer A\nsize hidden\ninput u[t]: hidden, v[t]: hidden\n"
BESIDE = HEAD + "state s[t]: complex hidden, h[t]: hidden\ns[t] = cis(u[t]) * s[t-1] + v[t]\n"
END = "y[t] = h[t] + re(s[t])\noutput y[t]\n"


@pytest.mark.parametrize(
    ("update", "algebra", "parts"),
    [
        ("affine(sigmoid(u[t]), v[t])(h[t-1])", "affine", "sigmoid(u[t]), v[t]"),
        ("max_plus(u[t], v[t])(h[t-1])", "max-plus", "u[t], v[t]"),
        ("max_plus(u[t], im(s[t-1]))(h[t-1])", "max-plus", "u[t], s_im[t-1]"),
        ("clamped_affine(0.5, re(s[t-2]), 0, 1)(h[t-1])", "clamped-affine", None),
        ("mobius(u[t], 1, 0, 2)(h[t-1])", "mobius", "u[t], 1, 0, 2"),
    ],
)
def test_beside_complex_states(update: str, algebra: str, parts: str | None) -> None:
    """Complex states become pairs of real ones, which moves every node: parts go along."""
    found = analysis(f"{BESIDE}h[t] = {update}\n{END}")
    kinds = {s.states: (s.algebra, s.method, str(s.verdict)) for s in found.strata}
    assert kinds == {
        ("s_re", "s_im"): ("rotation", "scan", "proved"),
        ("h",): (algebra, "scan", "proved"),
    }
    assert not found.diagnostics
    (s,) = (s for s in found.strata if s.states == ("h",))
    if parts is not None:
        assert ", ".join(shown(found.recurrence.nodes, n) for n in s.parts) == parts


def test_two_states_beside_complex_ones() -> None:
    text = BESIDE.replace("h[t]: hidden\n", "h[t]: hidden, g[t]: hidden\n") + "".join(
        f"{n}[t] = block_affine(0.5, u[t], v[t], 0.2, re(s[t]), 0)(h[t-1], g[t-1])\n" for n in "hg"
    )
    found = analysis(text + END)
    assert [(s.states, s.algebra, s.method) for s in found.strata] == [
        (("s_re", "s_im"), "rotation", "scan"),
        (("h", "g"), "block-affine", "scan"),
    ]
    assert shown(found.recurrence.nodes, found.strata[1].parts[1]) == "u[t]"


@pytest.mark.parametrize(
    ("parts", "strata"),
    [
        ("0.5, 0, 0, 0, u[t], v[t]", {("h",): "scan", ("g",): "scan"}),
        ("0, 0, 0, 0.5, u[t], v[t]", {("h",): "scan", ("g",): "scan"}),
        ("0, 0, 0, 0, u[t], v[t]", {("h",): "scan", ("g",): "scan"}),
        ("0.5, 0, 0, 1, u[t], 0", {("h", "g"): "scan"}),
    ],
)
def test_states_that_the_parts_leave_without_a_past(
    parts: str, strata: dict[tuple[str, ...], str]
) -> None:
    """An update that is an input as it is does not draw that input into the states' cycle."""
    update = f"block_affine({parts})(h[t-1], g[t-1])"
    found = analysis(
        "layer A\ninput u[t]: 1, v[t]: 1\nstate h[t]: 1, g[t]: 1\n"
        f"h[t] = {update}\ng[t] = {update}\noutput h[t], g[t]\n"
    )
    assert {s.states: s.method for s in found.strata} == strata
    assert all(s.verdict == "proved" for s in found.strata)
    assert not found.diagnostics


def test_parts_that_do_depend_on_the_past_are_still_seen() -> None:
    found = analysis(
        f"{HEAD}state h[t]: hidden, g[t]: hidden\ng[t] = 0.5 * g[t-1] + h[t-1]\n"
        "h[t] = affine(0.5, g[t-1])(h[t-1])\noutput h[t], g[t]\n"
    )
    (s,) = found.strata
    assert "depend on the past" in s.reason
    assert [d.code for d in found.diagnostics] == ["W107"]
