"""The compiler's verdicts against the table of tests/zoo/expected.py."""

from __future__ import annotations

import functools

import pytest

import seqc
from seqc import zoo
from seqc.ir.report import LayerReport
from tests.zoo.expected import COEFFICIENTS, TABLE, Row, rows


@functools.cache
def report(name: str) -> LayerReport:
    return seqc.check(zoo.path(name))[name]


def test_the_table_covers_the_zoo() -> None:
    assert {r.layer for r in TABLE} == set(zoo.names())


@pytest.mark.parametrize("name", zoo.names())
def test_strata(name: str) -> None:
    found = tuple(Row(name, s.states, s.algebra, s.jacobian, s.method) for s in report(name).strata)
    assert found == rows(name)
    for stratum in report(name).strata:
        # Of a nonlinear one there is nothing to prove.
        want = "unknown" if stratum.algebra == "nonlinear" else "proved"
        assert stratum.verdict == want, stratum.states


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_coefficients(name: str) -> None:
    (stratum,) = report(name).strata
    assert str(stratum.coefficient_range) == COEFFICIENTS[name]
    assert stratum.domain == "linear"
