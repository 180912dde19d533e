"""A machine with no compiler: kernels from the cache, and kernels shipped with a module."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import seqc
from seqc import cli
from seqc.runtime import backends, build, cpp, store
from seqc.runtime.build import NoCompilerError, build_library, find_compiler, ship_library

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler"),
]
FAST = ("-O0", "-fPIC", "-shared")
SPEC = """
layer Leaky
size hidden
input x[t]: hidden
state h[t]: hidden
h[t] = 0.5 * h[t-1] + tanh(x[t])
output h[t]
"""


@pytest.fixture(autouse=True)
def _own_cache(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_loaded_libraries", {})
    monkeypatch.setattr(build, "_misfits", set())
    monkeypatch.setattr(store, "_private_folders", {})
    monkeypatch.setattr(backends, "_WARNED", set())


@pytest.fixture
def lose_compiler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a process on a machine without one starts with."""

    def lose() -> None:
        build._loaded_libraries.clear()
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.delenv("SEQC_CXX", raising=False)
        monkeypatch.setenv("PATH", "")

    return lose


def source_of(number: int) -> str:
    return f'extern "C" int answer() {{ return {number}; }}\n'


def answer(number: int, **options: Any) -> int:
    return int(build_library(source_of(number), name="answer", flags=FAST, **options).answer())


# --- the cache ----------------------------------------------------------------------------------


def test_the_cache_serves_without_the_compiler(lose_compiler: Any) -> None:
    assert answer(5) == 5
    lose_compiler()
    assert answer(5) == 5
    with pytest.raises(NoCompilerError):
        answer(6)


@pytest.mark.parametrize("change", ["cpu", "cxxflags", "damage"])
def test_but_not_what_does_not_fit(
    change: str, lose_compiler: Any, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(7) == 7
    lose_compiler()
    if change == "cpu":
        monkeypatch.setattr(build, "cpu_identity", lambda: "another CPU")
    elif change == "cxxflags":
        monkeypatch.setenv("SEQC_CXXFLAGS", "-DOTHER")
    else:
        (kept,) = fresh_cache.rglob("*.so")
        data = kept.read_bytes()
        kept.unlink()
        kept.write_bytes(data[:-1])
    with pytest.raises(NoCompilerError):
        answer(7)


def test_with_a_compiler_only_its_own_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(8) == 8
    mine = find_compiler()
    assert mine is not None
    build._loaded_libraries.clear()
    calls = []
    monkeypatch.setattr(build, "find_compiler", lambda: build.Compiler(mine.command, "newer"))
    real = build._call_compiler
    monkeypatch.setattr(build, "_call_compiler", lambda *a: calls.append(a) or real(*a))
    assert answer(8) == 8
    assert len(calls) == 1


def make_layer(**more: Any) -> Any:
    return seqc.compile(SPEC)(hidden=3, **more)


def forget_entries(layer: Any) -> None:
    for kernel in layer.KERNELS:
        kernel.targets["cpu"]._entries.clear()
        kernel.targets["cpu"].forget()


def test_a_layer_runs_its_cached_kernels(lose_compiler: Any) -> None:
    x = torch.randn(2, 5, 3)
    layer = make_layer()
    want, _ = layer(x)
    forget_entries(layer)
    lose_compiler()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layer._choose("cpu", None, torch.float32) == "cpp"
        assert layer._choose("cpu", None, torch.bfloat16) == "cpp"  # computed in float32 there
        assert torch.equal(layer(x)[0], want)
    # In float64 nothing was compiled.
    with pytest.warns(seqc.SeqcWarning, match="nor are this layer's kernels in the cache"):
        got, _ = layer(x.double())
    assert got.dtype == torch.float64
    assert (got - want).abs().max() < 1e-6
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
        make_layer(backend="cpp")(x.double())


def test_under_autocast_the_kernels_of_its_dtype_are_asked_for(lose_compiler: Any) -> None:
    layer = make_layer()
    layer(torch.randn(2, 5, 3))
    forget_entries(layer)
    lose_compiler()
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(seqc.SeqcWarning):
        assert layer._choose("cpu", None, torch.float32) == "reference"


# --- shipped ------------------------------------------------------------------------------------


def test_a_shipped_library_needs_no_compiler(
    tmp_path: Path, lose_compiler: Any, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_library(source_of(9), tmp_path / "kernels", name="answer", flags=FAST)
    lose_compiler()
    monkeypatch.setenv("SEQC_CACHE_DIR", str(tmp_path / "empty"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer(9, shipped=tmp_path / "kernels") == 9


def test_a_library_loaded_from_a_cleared_cache_is_shipped_all_the_same(
    tmp_path: Path, fresh_cache: Path
) -> None:
    assert answer(10) == 10
    store.clear_cache()
    assert ship_library(source_of(10), tmp_path, name="answer", flags=FAST).is_file()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("cpu", "other features than this one, e.g. warpdrive"),
        ("source", "another module"),
        ("damage", "damaged"),
        ("gone", "not there"),
    ],
)
def test_what_does_not_fit_is_said_once_and_built_here(
    change: str, why: str, tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    made = ship_library(source_of(11), folder, name="answer", flags=FAST)
    store.clear_cache()
    build._loaded_libraries.clear()
    number = 11
    if change == "cpu":
        note = {"cpu": f"{build.cpu_identity()} warpdrive"}
        (folder / "kernels.json").write_text(json.dumps(note))
        made.parent.rename(made.parent.with_name("of-another-cpu"))
    elif change == "source":
        number = 12
    elif change == "damage":
        data = made.read_bytes()
        made.unlink()
        made.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        folder = tmp_path / "nowhere"
    with pytest.warns(RuntimeWarning, match=why):
        assert answer(number, shipped=folder) == number
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build._loaded_libraries.clear()
        assert answer(number, shipped=folder) == number
    assert change == "gone" or made.exists() or change == "cpu"  # nothing shipped is removed


RUN = """
import sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, sys.argv[1])
import torch, leaky
layer = leaky.Leaky(hidden=3)
x = torch.arange(6.0).reshape(1, 2, 3).requires_grad_()
y, _ = layer(x)
y.sum().backward()
print(type(y.grad_fn).__name__, y.flatten().tolist())
"""


@pytest.mark.parametrize("standalone", [False, True])
def test_build_compiled(
    standalone: bool, tmp_path: Path, lose_compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All dtypes are shipped; one is enough to see that it runs.
    monkeypatch.setattr(cpp, "STORAGE", {torch.float32: cpp.STORAGE[torch.float32]})
    (tmp_path / "leaky.seq").write_text(SPEC)
    target = tmp_path / "out" / "leaky.py"
    target.parent.mkdir()
    alone = ["--standalone"] if standalone else []
    call = ["build", str(tmp_path / "leaky.seq"), "-o", str(target), "--compiled", *alone]
    assert cli.main(call) == 0
    assert cli.main(call) == 0  # over its own
    assert sorted(p.name for p in target.parent.iterdir()) == ["leaky.py", "leaky_kernels"]
    lose_compiler()
    monkeypatch.setenv("SEQC_CACHE_DIR", str(tmp_path / "empty"))
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(target.parent)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    kind, _, values = result.stdout.strip().partition(" ")
    assert kind == "DirectBackward"  # the fused kernel's
    x = torch.arange(6.0).reshape(1, 2, 3)
    want = torch.stack([x[0, 0].tanh(), 0.5 * x[0, 0].tanh() + x[0, 1].tanh()]).flatten()
    assert torch.allclose(torch.tensor(json.loads(values)), want)
    assert not list((tmp_path / "empty").rglob("*.so"))


RUN_TANGENTS = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import torch, leaky
from seqc.runtime import backends
warnings.simplefilter("error", RuntimeWarning)  # what was shipped is of no use
layer = leaky.Leaky(hidden=3)
x = torch.arange(6.0).reshape(1, 2, 3) / 5
y, moved = torch.func.jvp(lambda x: layer(x)[0], (x,), (torch.ones_like(x),))
x.requires_grad_()
(first,) = torch.autograd.grad((layer(x)[0] ** 2).sum(), x, create_graph=True)
(second,) = torch.autograd.grad(first.sum(), x)
target = leaky.Leaky_k0.tangent.targets["cpu"]
said = [m for m in backends._WARNED if "--tangents" in m]
found = [*moved.flatten().tolist(), *second.flatten().tolist()]
print(target.loaded(torch.float32), len(said), found)
"""


@pytest.mark.parametrize("tangents", [False, True])
def test_tangents_are_shipped_on_request(
    tangents: bool, tmp_path: Path, lose_compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them they are right, and a warning says what runs them."""
    monkeypatch.setattr(cpp, "STORAGE", {torch.float32: cpp.STORAGE[torch.float32]})
    (tmp_path / "leaky.seq").write_text(SPEC)
    call = ["build", str(tmp_path / "leaky.seq"), "-o", str(tmp_path / "leaky.py"), "--compiled"]
    assert cli.main([*call, *(["--tangents"] if tangents else [])]) == 0
    assert len(list((tmp_path / "leaky_kernels").rglob("*.so"))) == 1 + tangents
    lose_compiler()
    monkeypatch.setenv("SEQC_CACHE_DIR", str(tmp_path / "empty"))
    result = subprocess.run(
        [sys.executable, "-c", RUN_TANGENTS, str(tmp_path)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    loaded, said, values = result.stdout.strip().split(" ", 2)
    assert (loaded, said) == (str(tangents), str(int(not tangents)))
    x = (torch.arange(6.0).reshape(1, 2, 3) / 5).requires_grad_()

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        first = x[:, 0].tanh()
        return torch.stack([first, 0.5 * first + x[:, 1].tanh()], 1)

    _, moved = torch.func.jvp(by_hand, (x.detach(),), (torch.ones_like(x),))
    (grad,) = torch.autograd.grad((by_hand(x) ** 2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    want = torch.cat([moved.flatten(), second.flatten()])
    torch.testing.assert_close(torch.tensor(json.loads(values)), want, rtol=1e-5, atol=1e-5)


def test_tangents_go_with_compiled(tmp_path: Path) -> None:
    (tmp_path / "leaky.seq").write_text(SPEC)
    call = ["build", str(tmp_path / "leaky.seq"), "-o", str(tmp_path / "leaky.py"), "--tangents"]
    assert cli.main(call) == 2
    with pytest.raises(ValueError, match="kernels="):
        seqc.build(SPEC, tangents=True)


def test_build_compiled_leaves_a_persons_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaky.seq").write_text(SPEC)
    theirs = tmp_path / "leaky_kernels"
    theirs.mkdir()
    call = ["build", str(tmp_path / "leaky.seq"), "-o", str(tmp_path / "leaky.py"), "--compiled"]
    assert cli.main(call) == 1
    assert "seqc did not make it" in capsys.readouterr().err
    assert list(theirs.iterdir()) == []
    assert not (tmp_path / "leaky.py").exists()
    assert cli.main([*call[:3], "-", "--compiled"]) == 2


def test_nothing_to_compile_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "layer Late\nsize n, k = 1\ninput x[t]: n\nstate h[t]: n\n"
    spec += "h[t] = tanh(linear(x[t], h[t-k]))\n"
    (tmp_path / "late.seq").write_text(spec + "output h[t]\n")
    call = ["build", str(tmp_path / "late.seq"), "-o", str(tmp_path / "e.py"), "--compiled"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(call) == 1
    assert "nothing to compile" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("e.")] == []


def test_a_module_on_another_cpu_says_so_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaky_kernels").mkdir()
    (tmp_path / "leaky_kernels" / "kernels.json").write_text('{"cpu": "Linux x86_64 avx99"}')
    text = seqc.build(SPEC)
    target = tmp_path / "leaky.py"
    target.write_text(text + "\n\nfrom seqc.runtime.ship import ship\nship(__file__, Leaky_k0)\n")
    spec = importlib.util.spec_from_file_location("leaky_elsewhere", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layer = module.Leaky(hidden=3)
    with pytest.warns(RuntimeWarning, match="avx99"):
        y, _ = layer(torch.zeros(1, 2, 3))
    assert torch.equal(y, torch.zeros(1, 2, 3))
