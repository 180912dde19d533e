"""templates/cpp/math.h against exact references: every function, both precisions, as vector code."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

HEADER = Path(__file__).parents[2] / "templates" / "cpp" / "math.h"
FLAGS = "-O3 -march=native -std=c++17 -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=fast -fPIC -shared"

inf, nan = float("inf"), float("nan")
tiny = {np.float32: 2.0**-149, np.float64: 2.0**-1074}
FLOATS = [pytest.param(np.float32, id="float"), pytest.param(np.float64, id="double")]

# name: (exact reference, the range to cover densely, ulp allowed for float, for double)
UNARY = {
    "exp": (mpmath.exp, (-110, 90), 1.0, 1.0),
    "expm1": (mpmath.expm1, (-20, 90), 2.0, 2.0),
    "log": (mpmath.log, (1e-3, 4), 1.0, 1.0),
    "log1p": (mpmath.log1p, (-0.999, 4), 1.0, 1.0),
    "tanh": (mpmath.tanh, (-10, 10), 1.5, 1.5),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), (-105, 20), 2.75, 2.75),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), (-105, 40), 2.0, 2.0),
    "sin": (mpmath.sin, (-100, 100), 2.0, 2.0),
    "cos": (mpmath.cos, (-100, 100), 2.0, 2.0),
    "normcdf": (mpmath.ncdf, (-14.5, 6), 5.5, 5.0),
    "erf": (mpmath.erf, (-4, 4), 1.6, 1.25),
    "sqrt": (mpmath.sqrt, (0, 10), 0.5, 0.5),
    "abs": (abs, (-10, 10), 0.0, 0.0),
    "floor": (mpmath.floor, (-10, 10), 0.0, 0.0),
    "sign": (mpmath.sign, (-2, 2), 0.0, 0.0),
}
BINARY = ["min", "max", "logaddexp", "pow"]

# The same references in float64, for the many points of float.
FAST = {
    "sigmoid": lambda x: np.where(
        x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(x) / (1 + np.exp(x))
    ),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": lambda x: torch.special.erf(torch.from_numpy(x)).numpy(),
    "normcdf": lambda x: torch.special.erfc(torch.from_numpy(-x / np.sqrt(2.0))).numpy() / 2,
}


@pytest.fixture(scope="module")
def compiler():
    names = [os.environ.get("SEQC_CXX"), os.environ.get("CXX"), "c++", "g++", "clang++"]
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    return compiler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    loops = []

    def loop(name, parameters, body):
        loops.append(
            f'extern "C" void {name}({parameters}, long n) {{\n'
            f"#pragma omp simd\n  for (long i = 0; i < n; ++i) {body};\n}}\n"
        )

    for t in "float", "double":
        for name in UNARY:
            loop(f"{name}_{t}", f"const {t}* x, {t}* y", f"y[i] = seqc::{name}(x[i])")
        for name in BINARY:
            loop(
                f"{name}_{t}",
                f"const {t}* a, const {t}* b, {t}* y",
                f"y[i] = seqc::{name}(a[i], b[i])",
            )
        loop(
            f"where_{t}",
            f"const {t}* a, const {t}* b, {t}* y",
            "y[i] = seqc::where(a[i] > 0, a[i], b[i])",
        )
    for t in "bfloat16", "float16":
        loop(f"load_{t}", f"const seqc::{t}* x, float* y", "y[i] = seqc::load(x + i)")
        loop(f"store_{t}", f"const float* x, seqc::{t}* y", "seqc::store(y + i, x[i])")
    folder = tmp_path_factory.mktemp("math")
    (folder / "math.cc").write_text(HEADER.read_text() + "\n" + "\n".join(loops))
    return folder


@pytest.fixture(scope="module")
def library(compiler, folder):
    command = [compiler, *FLAGS.split(), "-Wall", "-Wextra", "-Werror", "math.cc", "-o", "math.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "math.so"))


def test_every_loop_is_vectorised(compiler, folder):
    report = subprocess.run(
        [compiler, *FLAGS.split(), "-fopt-info-vec-optimized", "math.cc", "-o", "report.so"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if report.returncode != 0:
        pytest.skip("the compiler is not GCC")
    vectorised = {
        int(line)
        for line in re.findall(r"math\.cc:(\d+):\d+: optimized: loop vectorized", report.stderr)
    }
    name = None
    for number, line in enumerate((folder / "math.cc").read_text().splitlines(), 1):
        if found := re.match(r'extern "C" void (\w+)', line):
            name = found[1]
        if line.startswith("  for (") and name and not name.startswith("pow"):
            assert number in vectorised, name


def call(library, name, *arguments, out=None):
    arguments = [np.ascontiguousarray(a) for a in arguments]
    y = np.empty(arguments[0].shape, out or arguments[0].dtype)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arguments, y)]
    library[name](*pointers, ctypes.c_long(y.size))
    return y


def run(library, name, dtype, *arguments):
    suffix = "float" if dtype is np.float32 else "double"
    return call(library, f"{name}_{suffix}", *(np.array(a, dtype, ndmin=1) for a in arguments))


def points(dtype, low, high, dense, sparse):
    """Dense over the range, and random bit patterns: every exponent, denormals, both signs."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * dtype().itemsize), sparse, dtype=f"u{dtype().itemsize}")
    x = np.concatenate([np.linspace(low, high, dense), rng.normal(size=dense)]).astype(dtype)
    return np.concatenate([x, bits.view(dtype)])


def exact(function, x):
    """A reference as the sum of two float64s."""
    with mpmath.workdps(40):
        values = [function(mpmath.mpf(float(v))) for v in x]
        high = np.array([float(v) for v in values])
        return high, np.array(
            [float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(values, high, strict=True)]
        )


def ulps(y, high, low, dtype):
    """Errors in units in the last place of the exact result; of the least normal number below it."""
    info = np.finfo(dtype)
    rounded = high.astype(dtype)
    finite = np.isfinite(rounded) & np.isfinite(y)
    assert np.array_equal(y[~finite], rounded[~finite]), "overflow"
    unit = np.spacing(np.clip(np.abs(rounded[finite]), info.tiny, info.max)).astype(np.float64)
    error = np.abs((y[finite].astype(np.float64) - high[finite]) - low[finite]) / unit
    return float(error.max())


def domain(name, x):
    x = x[np.isfinite(x)]
    if name in ("log", "sqrt"):
        return x[x >= tiny[x.dtype.type]]
    if name == "log1p":
        return x[x > -1]
    if name in ("sin", "cos"):
        return x[np.abs(x) <= (1e8 if x.dtype == np.float32 else 1.6e6)]
    return x


@pytest.mark.parametrize("name", UNARY)
def test_float(library, name):
    _, span, bound, _ = UNARY[name]
    x = domain(name, points(np.float32, *span, dense=200_000, sparse=200_000))
    with np.errstate(all="ignore"):
        high = FAST.get(name, getattr(np, name, None))(x.astype(np.float64))
        assert (
            ulps(run(library, name, np.float32, x), high, np.zeros_like(high), np.float32) <= bound
        )


@pytest.mark.parametrize("name", UNARY)
def test_double(library, name):
    function, span, _, bound = UNARY[name]
    wide = {
        "exp": (-750, 712),
        "sigmoid": (-750, 40),
        "softplus": (-750, 40),
        "normcdf": (-39, 9),
        "tanh": (-20, 20),
    }
    x = domain(name, points(np.float64, *wide.get(name, span), dense=1500, sparse=1500))
    if name not in ("log", "log1p", "sqrt"):  # mpmath takes no huge arguments
        x = np.clip(x, -1e6, 1e6)
    assert ulps(run(library, name, np.float64, x), *exact(function, x), np.float64) <= bound


EDGES = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0), (1e30, inf), (-1e30, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1.0), (1e30, inf), (-1e30, -1.0), (1e-40, 1e-40)],
    "log": [(1.0, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1.0, nan), (-inf, nan)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -inf), (inf, inf), (-2.0, nan), (-inf, nan), (1e-40, 1e-40)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0), (1e30, 1.0), (-1e30, -1.0), (1e-40, 1e-40)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (inf, 1.0), (-inf, 0.0), (1e30, 1.0), (-1e30, 0.0)],
    "softplus": [(inf, inf), (-inf, 0.0), (1e30, 1e30), (-1e30, 0.0)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (1e30, nan), (1e-40, 1e-40)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (inf, nan), (-inf, nan), (1e30, nan)],
    "normcdf": [(0.0, 0.5), (-0.0, 0.5), (inf, 1.0), (-inf, 0.0), (1e30, 1.0), (-1e30, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0), (1e30, 1.0), (-1e30, -1.0)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-1.0, nan)],
    "abs": [(-0.0, 0.0), (-inf, inf)],
    "floor": [(-0.0, -0.0), (-0.5, -1.0), (inf, inf), (-inf, -inf)],
    "sign": [(0.0, 0.0), (-0.0, 0.0), (inf, 1.0), (-inf, -1.0), (1e-40, 1.0), (-1e-40, -1.0)],
    "min": [((nan, 1.0), nan), ((1.0, nan), nan), ((nan, inf), nan), ((-inf, nan), nan), ((1.0, 2.0), 1.0)],
    "max": [((nan, 1.0), nan), ((1.0, nan), nan), ((nan, inf), nan), ((-inf, nan), nan), ((1.0, 2.0), 2.0)],
    "logaddexp": [
        ((-inf, -inf), -inf), ((inf, inf), inf), ((inf, -inf), inf), ((-inf, 3.0), 3.0), ((3.0, -inf), 3.0),
        ((nan, 0.0), nan), ((0.0, nan), nan), ((nan, inf), nan), ((inf, nan), nan), ((nan, -inf), nan),
    ],
    "pow": [((2.0, 10.0), 1024.0), ((0.0, 0.0), 1.0), ((-2.0, 3.0), -8.0), ((-2.0, 0.5), nan)],
    "where": [((1.0, 2.0), 1.0), ((-1.0, 2.0), 2.0), ((nan, 2.0), 2.0), ((1.0, nan), 1.0), ((-1.0, nan), nan)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EDGES)
def test_edges(library, name, dtype):
    for argument, expected in EDGES[name]:
        arguments = argument if isinstance(argument, tuple) else (argument,)
        for lanes in 1, 33:  # the tail of a loop, and its vector body
            y = run(library, name, dtype, *([a] * lanes for a in arguments))
            want = np.full(lanes, expected, dtype)
            assert np.array_equal(y, want, equal_nan=True), (name, argument, y[0])
            if expected == 0:
                assert np.array_equal(np.signbit(y), np.signbit(want)), (name, argument)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_nan(library, name, dtype):
    word = f"u{dtype().itemsize}"
    infinity = np.array(inf, dtype).view(word)
    sign = np.array(-0.0, dtype).view(word)
    payloads = np.array([infinity + 1, np.array(nan, dtype).view(word), sign - 1], word)
    x = np.tile(np.concatenate([payloads, payloads | sign]), 11).view(dtype)
    assert np.isnan(run(library, name, dtype, x)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_logaddexp(library, dtype):
    a, b = np.random.default_rng(0).normal(scale=20, size=(2, 2000)).astype(dtype)
    b[::5] = a[::5]
    y = run(library, "logaddexp", dtype, a, b)
    with mpmath.workdps(40):
        high = np.array(
            [
                float(mpmath.log(mpmath.exp(float(u)) + mpmath.exp(float(v))))
                for u, v in zip(a, b, strict=True)
            ]
        )
    # Near 0 the rounding of the larger argument is what is left; so it is in any such formula.
    scale = np.maximum(np.abs(high), np.maximum(np.abs(a), np.abs(b)).clip(max=1))
    assert (np.abs(y - high) <= 2 * np.finfo(dtype).eps * scale).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_min_max(library, dtype):
    a, b = np.random.default_rng(0).normal(size=(2, 1000)).astype(dtype)
    assert np.array_equal(run(library, "min", dtype, a, b), np.minimum(a, b))
    assert np.array_equal(run(library, "max", dtype, a, b), np.maximum(a, b))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_and_its_complement(library, dtype):
    x = np.linspace(-50, 50, 9999).astype(dtype)
    total = run(library, "sigmoid", dtype, x) + run(library, "sigmoid", dtype, -x)
    assert np.abs(total - 1).max() <= np.finfo(dtype).eps


HALVES = [("bfloat16", torch.bfloat16), ("float16", torch.float16)]
EVERY = np.arange(65536, dtype=np.uint16)


@pytest.mark.parametrize(("name", "dtype"), HALVES)
def test_every_half(library, name, dtype):
    wide = call(library, f"load_{name}", EVERY, out=np.float32)
    want = torch.from_numpy(EVERY.view(np.int16)).view(dtype).float().numpy()
    assert np.array_equal(wide, want, equal_nan=True)
    assert np.array_equal(np.signbit(wide), np.signbit(want))
    back = call(library, f"store_{name}", wide, out=np.uint16)
    number = ~np.isnan(wide)
    assert np.array_equal(back[number], EVERY[number])
    assert np.isnan(call(library, f"load_{name}", back, out=np.float32)[~number]).all()


@pytest.mark.parametrize(("name", "dtype"), HALVES)
def test_rounding(library, name, dtype):
    """Every half, every midpoint between two, and a float on either side; and random bits."""
    exact_halves = torch.from_numpy(EVERY.view(np.int16)).view(dtype).float().numpy()
    ordered = np.sort(exact_halves[np.isfinite(exact_halves)].astype(np.float64))
    middle = ((ordered[1:] + ordered[:-1]) / 2).astype(np.float32)
    last = np.float32(2 * ordered[-1] - ordered[-3]) if name == "float16" else np.float32(3.4e38)
    bits = np.random.default_rng(0).integers(0, 2**32, 400_000, dtype=np.uint32).view(np.float32)
    edges = np.array(
        [inf, -inf, nan, 65504, 65519.99, 65520, 65536, -65520, last, 0.0, -0.0], np.float32
    )
    beside = [np.nextafter(middle, np.float32(side)) for side in (inf, -inf)]
    x = np.concatenate([middle, *beside, bits, edges])
    y = call(library, f"store_{name}", x, out=np.uint16)
    want = torch.from_numpy(x).to(dtype).view(torch.int16).numpy().view(np.uint16)
    number = ~np.isnan(x)
    assert np.array_equal(y[number], want[number])
    assert np.isnan(call(library, f"load_{name}", y[~number], out=np.float32)).all()
