"""Modules in memory and on disk: the cache between processes, pickles, warnings, errors."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import seqc
from seqc.diagnostics import Diagnostic
from seqc.passes import pipeline
from seqc.runtime import load

SCAN = """\
layer Leaky
size   input, hidden
input  x[t]: input
state  h[t]: hidden

g[t]: hidden = sigmoid(linear(x[t]))
h[t] = g[t] * h[t-1] + (1 - g[t]) * tanh(g[t])

output h[t]
"""

NONLINEAR = """\
layer Elman
size   hidden
input  x[t]: hidden
state  h[t]: hidden

h[t] = tanh(x[t] + 2 * h[t-1])

output h[t]
"""


def run(code: str, *args: str, cache: Path | None = None) -> str:
    """What another process prints."""
    env = dict(os.environ)
    if cache is not None:
        env["SEQC_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the cache ----------------------------------------------------------------------------------

SECOND = f"""
import sys, torch, seqc
seqc.compile({SCAN!r}, backend="reference")(input=3, hidden=4)(torch.ones(1, 2, 3))
print(*(m for m in ("lark", "sympy", "jinja2", "torch._dynamo") if m in sys.modules))
compiler = ("seqc.frontend", "seqc.symbolic", "seqc.codegen", "seqc.lower")
print(*(m for m in sys.modules if m.startswith(compiler)))
"""


def test_a_second_process_compiles_nothing(fresh_cache: Path) -> None:
    seqc.compile(SCAN, backend="reference")
    assert run(SECOND).split() == []


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_damaged_text_is_compiled_anew(
    fresh_cache: Path, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = seqc.compile(SCAN, backend="reference")
    files = [p for p in fresh_cache.rglob("text/*") if p.is_file()]
    assert len(files) == 2  # which module a spec comes to, and the module
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-10] if damage is None else damage)
        monkeypatch.setattr(load, "_texts", {})  # as in a new process
        assert seqc.compile(SCAN, backend="reference") is kind
        assert file.read_bytes() == whole


def test_whole_text_that_is_no_module_is_compiled_anew(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = seqc.compile(SCAN, backend="reference")
    for text in "1 / 0", "x = 1", "(":
        digest = load.keep_text(text)
        monkeypatch.setattr(
            "seqc.passes.driver.text_cache_read", lambda key, digest=digest: f"Leaky {digest}"
        )
        assert seqc.compile(SCAN, backend="reference") is kind


def test_threads_share_one_class(fresh_cache: Path) -> None:
    text = seqc.build(SCAN).replace("Leaky", "Threaded")
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(load.load_module(text))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(module) for module in found}) == 1


# --- pickles ------------------------------------------------------------------------------------

UNPICKLE = """
import io, pickle, sys, torch
with open(sys.argv[1], "rb") as file:
    layer, state, x, wanted = (torch.load if sys.argv[2] == "torch" else pickle.load)(
        file, **({"weights_only": False} if sys.argv[2] == "torch" else {})
    )
y, after = layer(x, state)
assert y.equal(wanted)
assert type(state) is type(after) is layer.State
assert state._fields == ("h",)
import seqc
kind = pickle.loads(pickle.dumps(type(layer)))  # by name, once the text has come
assert kind is type(layer)
print("fine")
"""


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_layer_and_a_state_revive_in_another_process(
    fresh_cache: Path, tmp_path: Path, how: str
) -> None:
    layer = seqc.compile(SCAN, backend="reference")(input=3, hidden=4)
    x = torch.randn(2, 3, 3)
    _, state = layer(x)
    state = type(state)(*(v.detach() for v in state))
    with torch.no_grad():
        record = (layer, state, x, layer(x, state)[0])
    file = tmp_path / "record"
    if how == "torch":
        torch.save(record, file)
    else:
        file.write_bytes(pickle.dumps(record))
        assert file.read_bytes().count(load._packed(type(layer).__module__)) == 1
    code = UNPICKLE.replace("y, after", "torch.set_grad_enabled(False)\ny, after")
    assert run(code, str(file), how) == "fine\n"
    assert run(code, str(file), how, cache=tmp_path / "empty") == "fine\n"


def test_a_class_is_found_by_its_name(fresh_cache: Path, tmp_path: Path) -> None:
    kind = seqc.compile(SCAN, backend="reference")
    file = tmp_path / "classes"
    file.write_bytes(pickle.dumps((kind, kind.State)))
    code = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    try:
        kind, state = pickle.load(file)
    except ModuleNotFoundError as error:
        print(error)
    else:
        print(kind(input=3, hidden=4), kind.State is state)
"""
    assert "Leaky(" in run(code, str(file))
    assert "compile the spec here" in run(code, str(file), cache=tmp_path / "empty")


def test_copies(fresh_cache: Path) -> None:
    kind = seqc.compile(SCAN, backend="reference")
    layer = kind(input=3, hidden=4)
    x = torch.randn(2, 3, 3)
    y, state = layer(x)
    assert type(copy.copy(state)) is kind.State
    detached = kind.State(*(v.detach() for v in state))
    assert type(copy.deepcopy(detached)) is kind.State
    for other in copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
        assert type(other) is kind
        assert other(x)[0].equal(y)
        assert other.g.weight is not layer.g.weight


def test_a_persons_subclass_is_pickled_as_theirs(fresh_cache: Path) -> None:
    class Mine(seqc.compile(SCAN, backend="reference")):  # type: ignore[misc]
        pass

    function, args, *_ = Mine(input=3, hidden=4).__reduce_ex__(2)
    assert function is not load.revive
    assert args[0] is Mine


BUILT = """
import sys
sys.path.insert(0, sys.argv[1])
import copy, io, pickle, torch
import leaky
layer = leaky.Leaky(input=3, hidden=4, backend="reference")
x = torch.randn(2, 3, 3)
y, state = layer(x)
state = leaky.LeakyState(*(v.detach() for v in state))
for other in copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
    assert type(other) is leaky.Leaky and other(x)[0].equal(y)
for other in copy.deepcopy(state), pickle.loads(pickle.dumps(state)):
    assert type(other) is leaky.LeakyState and other.h.equal(state.h)
file = io.BytesIO()
torch.save((layer, state), file)
file.seek(0)
other, after = torch.load(file, weights_only=False)
assert type(other) is leaky.Leaky and other(x)[0].equal(y) and type(after) is leaky.LeakyState
file = io.BytesIO()
torch.save(layer.state_dict(), file)
file.seek(0)
fresh = leaky.Leaky(input=3, hidden=4, backend="reference")
fresh.load_state_dict(torch.load(file))
assert fresh(x)[0].equal(y)
assert not [m for m in sys.modules if m.startswith("seqc") and not m.startswith("seqc.runtime")
            and m != "seqc"]
print("fine")
"""


def test_a_built_module_works_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(seqc.build(SCAN), encoding="utf-8")
    assert run(BUILT, str(tmp_path)) == "fine\n"


def test_the_text_is_there_for_tracebacks_and_inspect(fresh_cache: Path) -> None:
    import inspect

    kind = seqc.compile(SCAN, backend="reference")
    assert inspect.getsource(kind).startswith("class Leaky(Layer):")
    assert "class LeakyState" in inspect.getsource(sys.modules[kind.__module__])


# --- warnings and errors ------------------------------------------------------------------------


def test_a_nonlinear_recurrence_warns_once_a_compile(fresh_cache: Path) -> None:
    for _ in "cold", "cached":
        with pytest.warns(seqc.SeqcWarning, match="step by step") as caught:
            kind = seqc.compile(NONLINEAR)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layer = kind(hidden=3)
            for _ in range(2):
                layer(torch.randn(1, 2, 3))
    code = f"import seqc, sys; seqc.compile({NONLINEAR!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.count("SeqcWarning") == 1


def test_errors_of_the_mathematics_are_raised_all_at_once(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def analyse(recurrence: Any) -> Any:
        seen.append(recurrence.name)
        analysis = pipeline.recurrence_to_analysis(recurrence)
        told = Diagnostic("E301", f"{recurrence.name} is refuted")
        shared = Diagnostic("E301", "algebra affine is refuted")
        return replace(analysis, diagnostics=(*analysis.diagnostics, told, shared))

    passes = (("analysis", analyse), *pipeline.PASSES[1:])
    monkeypatch.setattr(pipeline, "PASSES", passes)
    spec = SCAN + NONLINEAR
    for entry in seqc.check, seqc.build, lambda s: seqc.compile(s, layer="Leaky"):
        seen.clear()
        with pytest.raises(seqc.SeqcError) as caught:
            entry(spec)
        assert seen == ["Leaky", "Elman"]
        assert [d.message for d in caught.value.diagnostics] == [
            "Leaky is refuted",
            "algebra affine is refuted",
            "Elman is refuted",
        ]


def test_a_layer_of_two_is_told_its_own_warnings_only(fresh_cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqc.compile(SCAN + NONLINEAR, layer="Leaky")
    with pytest.warns(seqc.SeqcWarning):
        seqc.compile(SCAN + NONLINEAR, layer="Elman")
