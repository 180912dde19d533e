"""Wrapped statements mean what they meant on one line."""

from __future__ import annotations

import ast
from random import Random

import pytest

from seqc.codegen.statements import WIDTH, wrap
from seqc.passes.driver import build
from tests.passes.generate import random_spec
from tests.passes.support import HEAD
from tests.passes.test_staging import SPECS

LONG = "x" * 40


@pytest.mark.parametrize(
    "line",
    [
        f"y = a + ({LONG} + {LONG} * {LONG})",
        f"y = a * ({LONG} if {LONG} else {LONG})",
        f"y = ({LONG} + {LONG}) * ({LONG} - {LONG} - {LONG})",
        f"y = f({LONG}, ({LONG} + {LONG} + {LONG}), {LONG})",
        f"y = f({LONG} + {LONG})[..., None] + g({LONG}, ({LONG}, {LONG}, {LONG},))",
        f"y = ({LONG}, {LONG}, {LONG})",
        f"y = ({LONG} + {LONG} + {LONG},)",
        f"    return f({LONG}, {LONG}), h({LONG}, {LONG}, {LONG})(({LONG} + {LONG} + {LONG}))",
        f"y = -({LONG} + {LONG} + {LONG})",
    ],
)
def test_a_wrapped_line_is_the_same_statement(line: str) -> None:
    wrapped = wrap(line)
    assert len(wrapped) > 1
    indent = len(line) - len(line.lstrip())
    assert all(w.startswith(" " * indent) for w in wrapped)
    joined = "\n".join(w[indent:] for w in wrapped)
    assert ast.dump(ast.parse(joined)) == ast.dump(ast.parse(line.lstrip()))


def test_short_lines_and_comments_stay() -> None:
    for line in ("y = f(a)", "# " + "word " * 40):
        assert wrap(line) == [line]


@pytest.mark.slow
def test_whole_modules_mean_the_same_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [HEAD + s for s in SPECS.values()] + [random_spec(Random(i)) for i in range(20)]
    wrapped = [ast.dump(ast.parse(build(s))) for s in specs]
    monkeypatch.setattr("seqc.codegen.statements.WIDTH", 10**6)
    monkeypatch.setattr(wrap, "__defaults__", (10**6,))
    plain = [ast.dump(ast.parse(build(s))) for s in specs]
    assert WIDTH < 100
    assert wrapped == plain
