"""A spec's names are its own: words of the schedules' headers as names, on both targets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.cuda.support import Emulate
from tests.layer.support import build
from tests.runtime.test_kernels import everything, fields_of, inputs_of, same, some_resets

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
#: Of every kind a name that the headers have for something of theirs.
BY_NAME = """layer L
size lane, inner
hyper j = 0.7, steps = 0.3
input i[t]: lane, r[t]: inner
param s: lane = 0.4
state c[t]: (lane, inner), run[t]: lane
backward_step[t]: lane = sigmoid(s * i[t])
count = s * j
c[t] = backward_step[t] * c[t-1] + steps * i[t] * r[t]
run[t] = j * run[t-1] + sum(c[t] * r[t], inner) * count
output run[t], backward_step[t]
"""
COUPLED = """layer L
size hidden
input u[t]: hidden
state a[t]: hidden, b[t]: hidden, z[t]: hidden
a[t] = 0.4 * a[t-1] + 0.3 * sin(u[t]) * b[t-1] + 1
b[t] = 0.3 * a[t-1] - 0.2 * b[t-1] + u[t]
z[t] = 0.5 * z[t-1] + u[t]
output a[t], b[t], z[t]
"""


def test_the_words_are_those_of_the_headers() -> None:
    files = [p for p in TEMPLATES.rglob("*") if p.suffix in (".h", ".cuh")]
    words = {w for p in files for w in re.findall(r"\b[a-z]\w*\b", p.read_text())}
    assert words >= {"lane", "inner", "j", "steps", "i", "r", "s", "c", "run", "count"}


@pytest.mark.parametrize("steps", [3, 150])
@pytest.mark.parametrize("spec", [BY_NAME, COUPLED], ids=["names", "coupled"])
def test_both_targets(spec: str, steps: int, emulated: Emulate, short_look: None) -> None:
    """Few steps march, many look back; several laws share a block's memory."""
    sizes = {"lane": 3, "inner": 5} if spec is BY_NAME else {"hidden": 3}
    layer = build(spec, "reference", torch.float64, **sizes)
    inputs, state = inputs_of(layer, 1, steps), fields_of(layer, 1)
    mask = some_resets(1, steps, 0.05)
    want = everything(layer, inputs, state, mask)
    layer.backend = "cpp"
    same(everything(layer, inputs, state, mask), want)
    kernels = emulated(layer)
    same(everything(layer, inputs, state, mask), want)
    assert {k.launched[0] for k in kernels} == {"march_forward" if steps < 20 else "scan_forward"}
