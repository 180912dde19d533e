"""The emulator itself, on kernels small enough to see what must happen."""

from __future__ import annotations

import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from seqc.codegen.sources import headers
from seqc.runtime.emulator import EmulatorError, emulate_launch, emulated_library

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")

MACROS = ("SEQC_WARPS=2", "SEQC_LOOK=4")
SEEDS = range(8)


def run(body: str, out: torch.Tensor, *more: torch.Tensor, blocks: int = 1, seed: int = 0) -> None:
    """Run a kernel with a body on blocks of 64 threads; ``out`` and ``more`` are its pointers."""
    names = ("out", "a", "b")[: 1 + len(more)]
    types = {torch.float32: "float", torch.int32: "unsigned"}
    pointers = ", ".join(f"{types[t.dtype]}* {n}" for n, t in zip(names, (out, *more), strict=True))
    source = f"""{headers("CUDA")}
extern "C" __global__ void __launch_bounds__(64) kernel({pointers}) {{
{body}
}}
SEQC_EMULATOR_ENTRY(kernel)
"""
    library = emulated_library(source, "emulated", MACROS)
    words = struct.pack(f"<{len(names)}q", *(t.data_ptr() for t in (out, *more)))
    emulate_launch(library, "kernel", blocks, 64, words, seed)


def numbers(count: int = 64) -> torch.Tensor:
    return torch.zeros(count)


REVERSE = """
  SEQC_SHARED(float, row, 64);
  row[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = row[63 - threadIdx.x];
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_memory_and_a_barrier(seed):
    out = numbers()
    run(REVERSE, out, seed=seed)
    assert out.tolist() == [63.0 - i for i in range(64)]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_arena_is_used_as_one_array_and_then_another(seed):
    out = numbers()
    run(
        """
  SEQC_ARENA(all, 512);
  auto wide = seqc::view<double>(all, 0, 64);
  wide[threadIdx.x] = threadIdx.x;
  __syncthreads();
  const double before = wide[63 - threadIdx.x];
  __syncthreads();
  auto half = seqc::view<float>(all, 128, 64);
  half[threadIdx.x] = float(before);
  __syncthreads();
  out[threadIdx.x] = half[threadIdx.x ^ 1];
""",
        out,
        seed=seed,
    )
    assert out.tolist() == [63.0 - (i ^ 1) for i in range(64)]


def test_launches_from_several_threads_take_turns():
    """All kernels share one machine, of which there is one a process."""
    outs = [numbers() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(run, REVERSE, out, seed=i) for i, out in enumerate(outs)]:
            done.result()
    assert all(out.tolist() == [63.0 - i for i in range(64)] for out in outs)


def test_a_race_is_reported():
    with pytest.raises(
        EmulatorError, match=r"row .*(no barrier lies between|before it is written)"
    ):
        run(REVERSE.replace("__syncthreads();", ""), numbers())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("SEQC_SHARED(float, row, 64); out[0] = row[threadIdx.x];", "row is read at .* before"),
        ("SEQC_SHARED(float, row, 8); row[threadIdx.x] = 1;", "row of 8 is used at"),
        ("SEQC_SHARED(float, row, 8); row[int(threadIdx.x) - 1] = 1;", "row of 8 is used at"),
        ("SEQC_SHARED(float, row, 1); row[0] = 1;", "written after a write of thread"),
        (
            "SEQC_SHARED(float, row, 64); row[threadIdx.x] = 1; __syncwarp();"
            "out[threadIdx.x] = row[(threadIdx.x + 32) % 64];",
            "row .*(no barrier lies between|before it is written)",
        ),
        ("if (threadIdx.x < 60) __syncthreads();", "ends while others|deadlock"),
        (
            "if (threadIdx.x < 32) __syncthreads();\nelse\n__syncthreads();",
            "different __syncthreadss?, lines",
        ),
        (
            "SEQC_ARENA(all, 512); auto x = seqc::view<double>(all, 0, 64);"
            "x[threadIdx.x] = 1; __syncthreads(); auto y = seqc::view<float>(all, 0, 64);"
            "out[threadIdx.x] = y[threadIdx.x];",
            "all at byte .* is read, where another number was written",
        ),
        (
            "SEQC_ARENA(all, 512); auto x = seqc::view<double>(all, 0, 64);"
            "x[threadIdx.x] = 1; auto y = seqc::view<float>(all, 0, 64); y[threadIdx.x] = 1;",
            "all at byte .* is written after a write of thread",
        ),
        (
            "SEQC_ARENA(all, 512); auto x = seqc::view<double>(all, 256, 64); x[0] = 1;",
            "array of 64 at byte 256 does not lie in shared memory",
        ),
        (
            "SEQC_ARENA(all, 512); auto x = seqc::view<float>(all, 0, 8); x[threadIdx.x] = 1;",
            "shared array of 8 at byte 0 is used at",
        ),
        ("while (seqc::acquire((unsigned*)out) == 0) seqc::wait_a_little();", "deadlock"),
    ],
)
def test_what_must_not_be_is_reported(body, said):
    with pytest.raises(EmulatorError, match=said):
        run(body, numbers())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_of_a_warp_orders_its_own_threads(seed):
    out = numbers()
    run(
        """
  SEQC_SHARED(float, row, 64);
  row[threadIdx.x] = float(threadIdx.x);
  __syncwarp();
  out[threadIdx.x] = row[threadIdx.x ^ 5];
""",
        out,
        seed=seed,
    )
    assert out.tolist() == [float(i ^ 5) for i in range(64)]


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffles(seed):
    out, up, across = numbers(), numbers(), numbers()
    run(
        """
  const float mine = float(threadIdx.x);
  out[threadIdx.x] = __shfl_sync(~0u, mine, 3);
  a[threadIdx.x] = __shfl_up_sync(~0u, mine, 2);
  b[threadIdx.x] = __shfl_xor_sync(~0u, __shfl_down_sync(~0u, mine, 1), 16);
""",
        out,
        up,
        across,
        seed=seed,
    )
    lanes = [i % 32 for i in range(64)]
    first = [i - i % 32 for i in range(64)]
    assert out.tolist() == [f + 3.0 for f in first]
    assert up.tolist() == [
        float(f + (n - 2 if n >= 2 else n)) for f, n in zip(first, lanes, strict=True)
    ]
    down = [min((n ^ 16) + 1, 31) for n in lanes]
    assert across.tolist() == [float(f + d) for f, d in zip(first, down, strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_message_goes_from_block_to_block(seed):
    """Blocks in the order of their tickets, each waiting for the one before."""
    out, flags = numbers(9), torch.zeros(10, dtype=torch.int32)
    run(
        """
  SEQC_SHARED(unsigned, turn, 1);
  if (threadIdx.x == 0) turn[0] = atomicAdd(a, 1u);
  __syncthreads();
  const unsigned mine = turn[0];
  if (threadIdx.x == 0) {
    float before = 0;
    if (mine > 0) {
      while (seqc::acquire(a + mine) == 0) seqc::wait_a_little();
      before = __ldcg(out + mine - 1);
    }
    out[mine] = before + 1;
    seqc::release(a + mine + 1, 1);
  }
""",
        out,
        torch.cat([flags, flags]),
        blocks=9,
        seed=seed,
    )
    assert out.tolist() == [i + 1.0 for i in range(9)]


def test_a_wrong_number_of_arguments_is_refused():
    library = emulated_library(
        f'{headers("CUDA")}\nextern "C" __global__ void kernel(float* x) {{ x[0] = 1; }}\n'
        "SEQC_EMULATOR_ENTRY(kernel)\n",
        "emulated",
        MACROS,
    )
    with pytest.raises(EmulatorError, match="1 parameters, and was given 2"):
        emulate_launch(library, "kernel", 1, 1, bytes(16), 0)
