"""The compiler's verdicts against the table of tests/zoo/expected.py."""

from __future__ import annotations

import functools

import pytest

import seqc
from seqc import zoo
from seqc.ir.report import LayerReport
from tests.zoo.expected import TABLE, Row, rows

#: Layers of which the compiler says less than the table, and which run step by step for it. To be
#: emptied: a layer that is taken out has to agree with the table from then on.
PENDING = (
    "HGRN",
    "S4D",
    "S5",
    "LRU",
    "WKV4",
    "RWKV4",
    "MLSTM",
    "SLSTM",
    "DeltaNet",
    "RunningMax",
    "Biquad",
    "KalmanFilter",
    "HMMForward",
)


@functools.cache
def report(name: str) -> LayerReport:
    return seqc.check(zoo.path(name))[name]


def test_the_table_covers_the_zoo() -> None:
    assert {r.layer for r in TABLE} == set(zoo.names())
    assert set(PENDING) <= set(zoo.names())
    assert len(set(PENDING)) == len(PENDING)


@pytest.mark.parametrize("name", [n for n in zoo.names() if n not in PENDING])
def test_strata(name: str) -> None:
    found = tuple(Row(name, s.states, s.algebra, s.jacobian, s.method) for s in report(name).strata)
    assert found == rows(name)
    for stratum in report(name).strata:
        assert stratum.verdict == "proved", stratum.states


@pytest.mark.parametrize("name", PENDING)
def test_the_order_of_what_is_pending(name: str) -> None:
    """Which states belong together, and which come first, holds already."""
    assert [s.states for s in report(name).strata] == [r.states for r in rows(name)]
