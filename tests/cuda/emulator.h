// The CUDA that generated kernels use, on a CPU: the emitted source compiles unchanged with
//   g++ -std=c++17 -include emulator.h -x c++ kernel.cu
//
// The kernels share nothing between threads within a launch (no shared memory, no barriers, no
// shuffles), so any order of the threads must give the same result: they run one after another, in
// an order drawn from a seed. A thread that read what another of the same launch writes would show
// as results that depend on the seed. Not modelled: FMA contraction, the GPU's own elementary
// functions, and memory beyond what the process itself would fault on.
#pragma once
#define SEQC_EMULATOR 1

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct Dim3 {
  unsigned x, y, z;
};
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

static inline float __uint_as_float(const unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
static inline unsigned __float_as_uint(const float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float seqc_emulator_half_to_float(const unsigned short bits) {
  _Float16 x;
  std::memcpy(&x, &bits, sizeof x);
  return static_cast<float>(x);
}
static inline unsigned short seqc_emulator_float_to_half(const float x) {
  const _Float16 half = static_cast<_Float16>(x);
  unsigned short bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

// Every parameter of a kernel is 8 bytes wide: an address, a whole number or a double.
template <class T>
T parameter(const std::uint64_t word) {
  static_assert(sizeof(T) == 8, "a parameter that is not 8 bytes wide");
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

template <class... P, std::size_t... I>
void run_thread(void (*kernel)(P...), const std::uint64_t* words, std::index_sequence<I...>) {
  kernel(parameter<P>(words[I])...);
}

// Returns how many parameters the kernel has when that is not `count`, else 0.
template <class... P>
int run_grid(void (*kernel)(P...), const Dim3 grid, const Dim3 block, const std::uint64_t* words, const int count, const std::uint64_t seed) {
  if (count != static_cast<int>(sizeof...(P))) return static_cast<int>(sizeof...(P));
  gridDim = grid;
  blockDim = block;
  std::vector<std::uint64_t> order(std::uint64_t(grid.x) * grid.y * block.x);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  for (const std::uint64_t thread : order) {
    threadIdx = {static_cast<unsigned>(thread % block.x), 0, 0};
    blockIdx = {static_cast<unsigned>(thread / block.x % grid.x), static_cast<unsigned>(thread / block.x / grid.x), 0};
    run_thread(kernel, words, std::index_sequence_for<P...>{});
  }
  return 0;
}

#define SEQC_EMULATOR_ENTRY(kernel)                                                                                  \
  extern "C" int seqc_launch_##kernel(unsigned gx, unsigned gy, unsigned bx, const std::uint64_t* words, int count, \
                                      std::uint64_t seed) {                                                         \
    return run_grid(kernel, {gx, gy, 1}, {bx, 1, 1}, words, count, seed);                                            \
  }
