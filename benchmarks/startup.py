"""How long until something runs: the import, a cold start, a cached start. New processes each.

The clock is CLOCK_MONOTONIC, which all processes of a Linux machine share: the parent notes when it
spawns, the child when each step is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract import Startup

SPEC = """\
def g(u) = where(u >= 0, u + 0.5, sigmoid(u))

layer MinGRU
size   input, hidden
input  x[t]: input
state  h[t]: hidden

z[t]: hidden = sigmoid(linear(x[t]))
v[t]: hidden = g(linear(x[t]))
h[t] = (1 - z[t]) * h[t-1] + z[t] * v[t]

output h[t]
"""

_CHILD = """\
import sys, time
clock = [time.monotonic()]
import torch
clock.append(time.monotonic())
{imports}
clock.append(time.monotonic())
spec = {spec!r}
{build}
clock.append(time.monotonic())
{call}
clock.append(time.monotonic())
import json
heavy = [name for name in ("sympy", "lark", "jinja2") if name in sys.modules]
print(json.dumps(dict(clock=clock, heavy=heavy)))
"""

# torch's own first output: thread pools and MKL start with it, whatever layer calls.
_TORCH = Startup(
    imports="",
    build="layer = torch.nn.Linear(64, 128)",
    call="layer(torch.ones(4, 64, 64)).sigmoid()",
    cache_variable="",
)


@dataclass(frozen=True)
class Start:
    """Seconds. ``total`` runs from the spawn to the first output, ``import torch`` taken out."""

    total: float
    imports: float
    build: float
    call: float
    heavy: tuple[str, ...]  # of sympy, lark, jinja2: what this start had to load


def torch_only() -> Start:
    """What is torch's own."""
    with tempfile.TemporaryDirectory() as folder:
        return _start(_TORCH, Path(folder), Path(folder))


def cold(startup: Startup) -> Start:
    """With an empty cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return _start(startup, _spec(Path(folder)), Path(folder) / "cache")


def cached(startup: Startup, count: int) -> list[Start]:
    """``count`` processes, after one that fills the cache."""
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(Path(folder))
        _start(startup, spec, Path(folder) / "cache")
        return [_start(startup, spec, Path(folder) / "cache") for _ in range(count)]


def import_only(startup: Startup) -> Start:
    """``import torch``, then the import, and nothing else."""
    bare = Startup(startup.imports, "", "", startup.cache_variable)
    with tempfile.TemporaryDirectory() as folder:
        return _start(bare, Path(folder), Path(folder))


def _spec(folder: Path) -> Path:
    path = folder / "mingru.seq"
    path.write_text(SPEC)
    return path


def _start(startup: Startup, spec: Path, cache: Path) -> Start:
    program = _CHILD.format(
        imports=startup.imports, build=startup.build, call=startup.call, spec=str(spec)
    )
    environment = dict(os.environ)
    if startup.cache_variable:
        environment[startup.cache_variable] = str(cache)
    spawned = time.monotonic()
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the starting process ended with {done.returncode}: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    begun, torch_in, imported, built, called = answer["clock"]
    return Start(
        total=(begun - spawned) + (called - torch_in),
        imports=imported - torch_in,
        build=built - imported,
        call=called - built,
        heavy=tuple(answer["heavy"]),
    )
