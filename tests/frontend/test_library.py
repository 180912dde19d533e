"""The prelude, the algebras, the reserved names."""

from __future__ import annotations

import ast
import importlib
import keyword
import pkgutil
import subprocess
import sys

import pytest

import seqc.frontend
from seqc.diagnostics import Source
from seqc.frontend import parse_algebras, parse_spec, prelude
from seqc.frontend.declarations.functions import BUILTIN
from seqc.frontend.declarations.reserved import (
    CPP_KEYWORDS,
    LAYER_ATTRIBUTES,
    MODULE_ATTRIBUTES,
    PYTHON_KEYWORDS,
    refusal,
)
from seqc.frontend.messages.codes import CODES
from seqc.ir.graph import verify_graph

CALLS = {
    "relu": "u", "silu": "u", "gelu": "u", "elu": "u", "logsigmoid": "u", "leaky_relu": "u, 0.01",
    "hardsigmoid": "u", "finite": "u",
    "clamp": "u, 0, 1", "logsumexp": "u, a", "softmax": "u, a", "logsoftmax": "u, a",
    "norm": "u, a", "variance": "u, a", "normalize": "u, a, 1e-5",
    "shifted_logsumexp": "u, 1, a", "grown": "u, 1", "log_or_none": "u",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_librarys_defs_can_be_called(name: str) -> None:
    call = f"{name}({CALLS[name].replace('u', 'h[t-1]', 1)})"
    text = f"layer L\nsize a\nstate h[t]: a\nh[t] = h[t-1] + {call}\noutput h[t]"
    (layer,), warnings = parse_spec(Source(text))
    assert list(layer.problems()) == []
    assert not warnings


def test_every_def_of_the_library_is_called_above() -> None:
    heads = [line for line in prelude().text.splitlines() if line.startswith("def ")]
    assert {h.split("(")[0].removeprefix("def ") for h in heads} == set(CALLS)


def test_affine() -> None:
    affine = next(a for a in parse_algebras(prelude()) if a.name == "affine")
    assert (affine.parts, affine.later, affine.earlier) == (("a", "b"), ("a2", "b2"), ("a1", "b1"))
    assert affine.arguments == ("h",)
    text = [str(n) for n in affine.nodes]
    assert list(verify_graph(affine.nodes, ())) == []
    assert [text[i] for i in affine.identity] == ["const(1.0)", "const(0.0)"]
    assert affine.nodes[affine.compose[0]].op == "mul"
    assert affine.nodes[affine.compose[1]].op == "add"
    assert affine.nodes[affine.applied[0]].op == "add"


def test_an_algebra_of_one_part_needs_no_brackets() -> None:
    text = "algebra plus(a)\nidentity 0\ncompose a2 after a1 = a2 + a1\napply h -> logaddexp(h, a)"
    (plus,) = parse_algebras(Source(text))
    assert (plus.name, plus.later, plus.earlier) == ("plus", ("a2",), ("a1",))
    assert plus.nodes[plus.applied[0]].op == "logaddexp"


def test_an_algebra_may_use_infinity_and_defs() -> None:
    text = (
        "def twice(u) = u + u\nalgebra maxplus(a, b)\nidentity (0, -inf)\n"
        "compose (a2, b2) after (a1, b1) = (a2 + a1, max(a2 + b1, b2))\n"
        "apply h -> max(a + h, b) + twice(0)"
    )
    (found,) = parse_algebras(Source(text))
    assert [str(found.nodes[i]) for i in found.identity] == ["const(0.0)", "const(-inf)"]


def test_the_module_attributes_are_torchs() -> None:
    nn = pytest.importorskip("torch").nn
    own = {n for n in {*dir(nn.Module), *vars(nn.Module())} if not n.startswith("_")}
    assert own <= MODULE_ATTRIBUTES, "torch.nn.Module has new attributes: add them"


def test_keywords() -> None:
    assert set(keyword.kwlist) == PYTHON_KEYWORDS
    for name in ("step", "state", "forward", "training", "parameters", "reset", "to", "t"):
        assert refusal(name, "state") is not None
    assert {"template", "namespace", "register", "int"} <= CPP_KEYWORDS
    assert {"state", "step", "reset"} <= LAYER_ATTRIBUTES


@pytest.mark.parametrize("name", ["input", "output", "hidden", "x", "h", "key", "lambda_"])
def test_names_that_sizes_may_have(name: str) -> None:
    assert refusal(name, "size") is None


def test_codes_are_used_and_known() -> None:
    used: set[str] = set()
    for module in pkgutil.walk_packages(seqc.frontend.__path__, "seqc.frontend."):
        if module.name.endswith(".codes"):
            continue
        loaded = importlib.import_module(module.name)
        assert loaded.__file__ is not None
        with open(loaded.__file__, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        used |= {s for s in strings if isinstance(s, str) and s[:1] in "EW" and s[1:].isdigit()}
    assert used == set(CODES)


def test_builtins_have_no_def_in_the_library() -> None:
    assert not BUILTIN & set(CALLS)


def test_importing_the_frontend_is_cheap() -> None:
    code = (
        "import sys, seqc.frontend; "
        "print(sorted({'lark', 'sympy', 'torch', 'numpy', 'jinja2'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_nothing_of_a_spec_is_evaluated() -> None:
    text = "layer L\nstate h[t]: 1\nh[t] = __import__(os)\noutput h[t]"
    with pytest.raises(seqc.diagnostics.SeqcError, match="E024"):
        parse_spec(Source(text))


def test_an_algebra_named_in_an_update() -> None:
    text = (
        "layer L\nsize a\ninput x[t]: a\nstate g[t]: a, h[t]: a\n"
        "g[t] = rotation(0.6, x[t], 1, 0)(g[t-1], h[t-1])\n"
        "h[t] = rotation(0.6, x[t], 1, 0)(g[t-1], h[t-1])\noutput h[t]"
    )
    ((layer,), warnings) = parse_spec(Source(text))
    assert not warnings
    assert list(layer.problems()) == []
    assert [(a.state, a.algebra.name, a.states) for a in layer.applied] == [
        ("g", "rotation", ("g", "h")),
        ("h", "rotation", ("g", "h")),
    ]
    assert layer.applied[0].parts == layer.applied[1].parts
    ops = [layer.nodes[layer.state(s).update].op for s in "gh"]
    assert ops == ["add", "add"]  # apply's expressions, each state's own
    assert layer.state("g").update != layer.state("h").update
    assert "g h by rotation(" in str(layer)


def test_a_file_that_never_names_its_algebra() -> None:
    text = (
        "layer L\nsize a\nstate h[t]: a\nh[t] = h[t-1]\noutput h[t]\n"
        "algebra plus(a)\nidentity 0\ncompose b after c = b + c\napply h -> h + a"
    )
    _, warnings = parse_spec(Source(text))
    assert [(d.code, d.span.line if d.span else 0) for d in warnings] == [("W001", 6)]
