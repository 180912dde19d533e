"""Any name that a spec may give works in the generated Python, or is refused with a hint.

Tried as the name of an input, state, equation, parameter, hyper and size: Python's keywords and
builtins, the attributes of a module and of a built layer, all words of a generated module and of
the runtime. The layer must be, number for number, the one with names that mean nothing anywhere.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import pkgutil
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
import seqc.runtime
from seqc.diagnostics import Source
from seqc.frontend import parse_spec
from seqc.frontend.declarations.reserved import refusal
from seqc.runtime.layer import Layer
from tests.layer.support import HAVE_CXX, randn

KINDS = ("input", "state", "equation", "param", "hyper", "size")
#: So many of each kind in one spec.
COUNT = 24


def spec_of(names: dict[str, list[str]]) -> str:
    """A layer with names of every kind, each of which its outputs depend on."""
    # Over several axes, so that no kernel has more tensors than an operator of torch's may.
    lines = ["layer Named", *(f"size zqwidth{a} = 2" for a in range(COUNT // 6))]
    for k, (x, s, e, p, h, z) in enumerate(zip(*(names[kind] for kind in KINDS), strict=True)):
        w = f"zqwidth{k // 6}"
        lines += [
            f"size {z} = {2 + k % 3}",
            f"hyper {h} = {0.5 + k / 64}",
            f"input {x}[t]: {w}",
            f"param {p}: {z} = normal(0, 1)",
            f"state {s}[t]: {w} = {'learned' if k % 3 == 0 else 0}",
            f"{e}[t]: {w} = {f'sigmoid(linear({x}[t]))' if k % 3 else f'tanh({x}[t])'} * {h}",
            f"{s}[t] = {e}[t] * {s}[t-1] + {x}[t] * sum({p} * index({z}), {z})"
            + (f" + {x}[t-1] + max({e}[t-1], {w})" if k % 4 == 0 else ""),
        ]
    lines.append("output " + ", ".join(f"{s}[t]" for s in names["state"]))
    return "\n".join(lines) + "\n"


PLAIN = {kind: [f"zq{kind}zq{k}" for k in range(COUNT)] for kind in KINDS}


def words_of(text: str) -> set[str]:
    """All identifiers of a Python text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                found.update(word.split("."))
    return found


def every_word() -> list[str]:
    """What might mean something where a generated layer lives."""
    words = set(keyword.kwlist) | set(keyword.softkwlist) | set(dir(builtins)) | set(dir(nn.Module))
    words |= words_of(seqc.build(spec_of(PLAIN)))
    for room in pkgutil.iter_modules(seqc.runtime.__path__):
        public = vars(import_module(f"seqc.runtime.{room.name}"))
        words |= {room.name, *(w for w in public if not w.startswith("_"))}
    words |= set(dir(Layer))
    # Names of the spec's own are no words of the compiler's; what no spec can say is no name.
    return sorted(w for w in words if w.isidentifier() and not w.startswith("zq"))


def run(layer: Any, names: dict[str, list[str]], like: Any | None, plain: dict[str, str]) -> Any:
    """Outputs at once, by steps and through the kernels' mirrors; the parameters set alike."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            head, _, tail = name.partition(".")
            known = ".".join([plain.get(head, head), tail]) if tail else plain.get(head, head)
            p.copy_(randn(*p.shape, seed=sum(known.encode())) if like is None
                    else like.get_parameter(known))  # fmt: skip
    xs = [randn(2, 3, 2, seed=k) for k in range(COUNT)]
    layer.backend = "reference"
    y, state = layer(*xs)
    step, after = layer.step(*(x[:, 0] for x in xs), state)
    found: list[Tensor] = [*y, *state, *step, *after]
    if HAVE_CXX:  # a transform runs the text around the kernels, and of those the mirrors
        layer.backend = "cpp"
        for kernel in layer.KERNELS:
            kernel._tangent = None  # with one the kernels would run, which take long to compile
        found += torch.func.vmap(lambda *x: layer(*x)[0])(*(x.unsqueeze(0) for x in xs))
    return found


def test_every_word_works_or_is_refused() -> None:
    words = every_word()
    assert {
        "for",
        "len",
        "forward",
        "torch",
        "Shell",
        "select",
        "kernels",
        "state",
        "kernel_calls",
    } <= set(words)
    allowed = {kind: [w for w in words if refusal(w, kind) is None] for kind in KINDS}
    like = seqc.compile(spec_of(PLAIN))(dtype=torch.float64)
    want = run(like, PLAIN, None, {})
    everywhere = [w for w in words if all(w in allowed[kind] for kind in KINDS)]
    everywhere += [f"spare{k}" for k in range(-len(everywhere) % (COUNT * len(KINDS)))]
    parts = [everywhere[i : i + COUNT] for i in range(0, len(everywhere), COUNT)]
    for turn in range(len(KINDS)):
        for first in range(0, len(parts), len(KINDS)):
            mine = parts[first : first + len(KINDS)]
            names = {kind: mine[(k + turn) % len(KINDS)] for k, kind in enumerate(KINDS)}
            hold(names, like, want)
    # What may be the name of some kinds alone, of sizes for example.
    for k, kind in enumerate(KINDS):
        rest = [w for w in allowed[kind] if w not in everywhere]
        rest += [f"spare{k}" for k in range(-len(rest) % COUNT)]
        for i in range(0, len(rest), COUNT):
            others = {other: [f"{other}{j}" for j in range(COUNT)] for other in KINDS}
            hold({**others, kind: rest[i : i + COUNT]}, like, want)


def hold(names: dict[str, list[str]], like: Any, want: list[Tensor]) -> None:
    """The layer with these names is the plain one."""
    plain = {w: p for kind in KINDS for w, p in zip(names[kind], PLAIN[kind], strict=True)}
    layer = seqc.compile(spec_of(names))(dtype=torch.float64)
    got = run(layer, names, like, plain)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b), names


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_says_what_to_do(kind: str) -> None:
    for word in ("forward", "for", "step", "_single", "__init__", "cuda"):
        names = {**PLAIN, kind: [word, *PLAIN[kind][1:]]}
        with pytest.raises(seqc.SeqcError) as caught:
            parse_spec(Source(spec_of(names)))
        found = [d for d in caught.value.diagnostics if d.code == "E023"]
        assert [bool(d.hint) for d in found] == [True]
