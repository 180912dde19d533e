"""The text of a generated module: the same everywhere, and clear of the spec's names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seqc
from seqc.codegen import torch_printer
from seqc.frontend.declarations.reserved import LAYER_ATTRIBUTES, MODULE_ATTRIBUTES, MODULE_NAMES
from seqc.passes.driver import build
from seqc.runtime.layer import Layer
from tests.passes.test_staging import SPECS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "seqc/zoo").glob("*.seq"), *(ROOT / "examples").glob("*.seq")])

PRINT_ALL = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from seqc.passes.driver import build, emit
from tests.passes.test_staging import HEAD, SPECS
texts = [build(p) for p in sys.argv[2:]] + [build(HEAD + s) for s in SPECS.values()]
targets = ("cpp", "kernel", "recurrence", "reference")
texts += [emit(p, target=t) for p in sys.argv[2:] for t in targets]
for t in texts:
    print(hashlib.sha256(t.encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_text_is_the_same_in_every_process(tmp_path: Path) -> None:
    found = []
    for seed, folder in (("0", ROOT), ("1", tmp_path)):
        done = subprocess.run(
            [sys.executable, "-c", PRINT_ALL, str(ROOT), *map(str, FILES)],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert len(found[0]) == 5 * len(FILES) + len(SPECS)
    assert found[0] == found[1]


def test_the_text_does_not_tell_where_the_spec_lies(tmp_path: Path) -> None:
    for path in FILES:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        text = build(copy)
        assert text == build(path)
        assert str(tmp_path) not in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_text_is_python(path: Path) -> None:
    text = build(path)
    compile(text, path.name, "exec")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


# --- names ---------------------------------------------------------------------------------------


def top_level(text: str) -> set[str]:
    """What a module's statements bind, apart from its layers and what goes by their names."""
    names: set[str] = set()
    for statement in ast.parse(text).body:
        match statement:
            case ast.Import() | ast.ImportFrom():
                names |= {a.asname or a.name for a in statement.names}
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
    return names


def test_layers_do_not_take_the_names_that_a_module_has() -> None:
    text = build(FILES[0])
    layers = tuple(seqc.check(FILES[0]))
    own = {n for n in top_level(text) if not n.startswith(layers)}
    assert own <= MODULE_NAMES


def test_values_do_not_take_the_attributes_of_a_layer() -> None:
    own = {n for n in vars(Layer) if not n.startswith("_")} - {"forward", "extra_repr"}
    assert own <= LAYER_ATTRIBUTES | MODULE_ATTRIBUTES


def test_equations_do_not_take_the_names_that_methods_call() -> None:
    functions = {n for n in MODULE_NAMES if n.islower()} - {"annotations"}
    assert functions <= torch_printer.RESERVED


@pytest.mark.parametrize("name", ["torch", "Layer", "Tensor", "push", "WARNINGS", "Field"])
def test_such_layers_are_refused(name: str) -> None:
    with pytest.raises(seqc.SeqcError, match=name):
        seqc.check(f"""
layer {name}
size  hidden
input x[t]: hidden
y[t] = tanh(x[t])
output y[t]
""")


@pytest.mark.parametrize("name", ["SIZES", "State", "kernel_calls", "reset_parameters"])
def test_such_values_are_refused(name: str) -> None:
    for kind in ("state {}[t]: hidden", "param {}: hidden", "hyper {} = 0.5"):
        with pytest.raises(seqc.SeqcError, match=name):
            seqc.check(f"""
layer Names
size  hidden
{kind.format(name)}
input x[t]: hidden
y[t] = tanh(x[t])
output y[t]
""")


def test_the_headers_have_no_name_with_a_sigil() -> None:
    """Names of a spec's begin with `s_` in kernels, and nothing else does."""
    kernels = [p for p in (ROOT / "templates").rglob("*") if p.suffix in (".h", ".cuh")]
    assert len(kernels) > 10
    for path in [*kernels, ROOT / "templates/kernel/struct.h.jinja"]:
        assert not re.findall(r"\bs_\w*", path.read_text()), path.name
