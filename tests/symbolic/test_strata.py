"""Strongly connected components through time, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seqc.symbolic.strata import components, strongly_connected
from tests.symbolic.specs import HEAD, recurrence


def names(text: str) -> list[tuple[str, ...]]:
    return [(*c.states, *c.others) for c in components(recurrence(text))]


def test_one_state() -> None:
    assert names("h[t] = 0.5 * h[t-1] + x[t]") == [("h",)]


def test_a_state_without_a_past_is_a_stratum() -> None:
    found = components(recurrence("h[t] = x[t]"))
    assert [c.states for c in found] == [("h",)]
    assert found[0].reads == ()


def test_order_follows_dependence_not_the_text() -> None:
    text = HEAD + "state c[t]: hidden\nstate b[t]: hidden\n"
    text += "h[t] = 0.5 * h[t-1] + c[t]\nc[t] = 0.5 * c[t-1] + b[t-1]\nb[t] = 0.5 * b[t-1] + x[t]\n"
    assert names(text + "output h[t]\n") == [("b",), ("c",), ("h",)]


def test_coupled_through_lag_and_within_the_step() -> None:
    text = HEAD + "state c[t]: hidden\nc[t] = 0.9 * c[t-1] + h[t-1]\nh[t] = c[t]\noutput h[t]\n"
    assert names(text) == [("h", "c")]


def test_a_state_that_only_copies_comes_after() -> None:
    text = HEAD + "state c[t]: hidden\nh[t] = 0.9 * h[t-1] + x[t]\nc[t] = h[t]\noutput h[t], c[t]\n"
    found = components(recurrence(text))
    assert [c.states for c in found] == [("h",), ("c",)]
    assert found[1].reads == ()


def test_an_input_with_a_lag_makes_no_cycle() -> None:
    assert names("h[t] = x[t-1] + x[t-2]") == [("h",)]


def reaches(edges: list[list[int]], a: int, b: int) -> bool:
    seen, stack = set(), [a]
    while stack:
        n = stack.pop()
        if n == b:
            return True
        if n not in seen:
            seen.add(n)
            stack.extend(edges[n])
    return False


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n)
    )
)
def test_components_by_definition(edges: list[list[int]]) -> None:
    found = strongly_connected(edges)
    place = {n: i for i, group in enumerate(found) for n in group}
    assert sorted(place) == list(range(len(edges)))
    for a in range(len(edges)):
        for b in range(len(edges)):
            together = reaches(edges, a, b) and reaches(edges, b, a)
            assert together == (place[a] == place[b])
            if reaches(edges, a, b):
                assert place[b] <= place[a]


def test_deep() -> None:
    n = 200_000
    edges = [[i + 1] if i + 1 < n else [0] for i in range(n)]
    assert len(strongly_connected(edges)) == 1
