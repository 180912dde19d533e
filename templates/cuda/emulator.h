// The CUDA that generated kernels use, on a CPU: the emitted source compiles unchanged with
//   g++ -std=c++17 -include emulator.h -x c++ kernel.cu
//
// Every CUDA thread is a fiber. Which one runs next, which blocks are resident, and in what order
// blocks start is drawn from a seed; a fiber runs until it waits, and for a while one block is
// favoured, so that some run far ahead of others. Reported, by name and place:
//   - a shared array read or written out of bounds, read before it was written, or touched by two
//     threads (one of them writing) with no barrier between;
//   - threads of a block that wait at different barriers, or leave while others wait;
//   - a deadlock: nothing can run, and not every thread has ended.
// Not modelled: weak memory (a missing release still looks ordered), races in global memory, FMA
// contraction, the GPU's own elementary functions, accesses of global memory out of bounds.
#pragma once
#define SEQC_EMULATOR 1

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

struct Dim3 {
  unsigned x, y, z;
};
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr unsigned kWarpThreads = 32;
constexpr std::size_t kStackBytes = 128 << 10;

struct SharedBase {
  virtual ~SharedBase() = default;
};

struct Block;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  Block* block = nullptr;
  unsigned thread = 0;
  bool ended = false;
  std::uint64_t slot = 0;  // what a shuffle hands over
};

// Threads that wait for one another: of a block, or of a warp.
struct Barrier {
  unsigned passed = 0;  // how often all have arrived
  int line = 0;         // where the waiting ones are
  std::vector<Fiber*> waiting;
};

struct Block {
  Dim3 index{};
  unsigned running = 0;
  Barrier whole;
  std::vector<Barrier> warps;
  std::vector<unsigned> running_in_warp;
  std::vector<Fiber*> fibers, ready;
  std::map<std::string, std::unique_ptr<SharedBase>> shared;
};

struct Machine {
  ucontext_t scheduler;
  std::mt19937_64 random;
  Fiber* now = nullptr;
  std::vector<Fiber*> polling;
  std::vector<std::unique_ptr<Fiber>> pool;
  std::vector<Fiber*> idle;
  std::string failure;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};
static Machine machine;

inline std::string here() {
  const Fiber& f = *machine.now;
  return " (block " + std::to_string(f.block->index.x) + ", thread " + std::to_string(f.thread) + ")";
}

// Give way to the scheduler; comes back when it picks this fiber again.
inline void leave() { swapcontext(&machine.now->context, &machine.scheduler); }

[[noreturn]] inline void fail(const std::string& what) {
  if (machine.failure.empty()) machine.failure = what + here();
  for (;;) leave();
}

inline void make_ready(std::vector<Fiber*>& fibers) {
  for (Fiber* const f : fibers) f->block->ready.push_back(f);
  fibers.clear();
}

inline void wake_polling() { make_ready(machine.polling); }

inline void open(Barrier& barrier) {
  ++barrier.passed;
  make_ready(barrier.waiting);
}

inline void arrive(Barrier& barrier, const unsigned threads, const int line, const char* what) {
  if (!barrier.waiting.empty() && barrier.line != line)
    fail(std::string("threads wait at different ") + what + "s, lines " + std::to_string(barrier.line) + " and " +
         std::to_string(line));
  barrier.line = line;
  barrier.waiting.push_back(machine.now);
  if (barrier.waiting.size() == threads) open(barrier);
  leave();
}

inline void sync_block(const int line) {
  Block& block = *machine.now->block;
  arrive(block.whole, block.running, line, "__syncthreads");
}

inline void sync_warp(const int line) {
  Block& block = *machine.now->block;
  const unsigned warp = machine.now->thread / kWarpThreads;
  arrive(block.warps[warp], block.running_in_warp[warp], line, "__syncwarp");
}

// What another thread of the warp handed over at the same place.
template <class T>
T shuffle(const T value, const int source, const int line) {
  Fiber& self = *machine.now;
  std::memcpy(&self.slot, &value, sizeof value);
  sync_warp(line);
  const int first = static_cast<int>(self.thread / kWarpThreads * kWarpThreads);
  T found = value;
  if (source >= 0 && source < static_cast<int>(kWarpThreads) && first + source < static_cast<int>(self.block->fibers.size()))
    std::memcpy(&found, &self.block->fibers[first + source]->slot, sizeof found);
  sync_warp(line);
  return found;
}

inline void run_fiber() {
  for (;;) {
    machine.body(machine.argument);
    Fiber& f = *machine.now;
    Block& block = *f.block;
    if (!block.whole.waiting.empty()) fail("a thread ends while others of its block wait at a barrier");
    f.ended = true;
    --block.running;
    --block.running_in_warp[f.thread / kWarpThreads];
    leave();
  }
}

inline Fiber* take_fiber() {
  if (machine.idle.empty()) {
    machine.pool.push_back(std::make_unique<Fiber>());
    machine.idle.push_back(machine.pool.back().get());
  }
  Fiber* const f = machine.idle.back();
  machine.idle.pop_back();
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack.get();
  f->context.uc_stack.ss_size = kStackBytes;
  f->context.uc_link = nullptr;
  makecontext(&f->context, run_fiber, 0);
  f->ended = false;
  return f;
}

inline std::unique_ptr<Block> start_block(const unsigned x, const unsigned y) {
  auto block = std::make_unique<Block>();
  block->index = {x, y, 0};
  block->running = blockDim.x;
  block->warps.resize((blockDim.x + kWarpThreads - 1) / kWarpThreads);
  for (unsigned w = 0; w < block->warps.size(); ++w)
    block->running_in_warp.push_back(std::min(kWarpThreads, blockDim.x - w * kWarpThreads));
  for (unsigned t = 0; t < blockDim.x; ++t) {
    Fiber* const f = take_fiber();
    f->block = block.get();
    f->thread = t;
    block->fibers.push_back(f);
    block->ready.push_back(f);
  }
  return block;
}

// Run every thread of a grid; what went wrong, or nothing.
inline std::string run(const Dim3 grid, const Dim3 block, const std::uint64_t seed) {
  gridDim = grid;
  blockDim = block;
  machine.random.seed(seed);
  machine.failure.clear();
  machine.polling.clear();
  machine.idle.clear();
  for (auto& f : machine.pool) machine.idle.push_back(f.get());
  std::vector<unsigned> order(grid.x * grid.y);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), machine.random);
  const std::size_t most_resident = 1 + machine.random() % 4;
  std::vector<std::unique_ptr<Block>> resident;
  std::size_t started = 0;
  Block* favoured = nullptr;
  for (;;) {
    while (resident.size() < most_resident && started < order.size()) {
      resident.push_back(start_block(order[started] % grid.x, order[started] / grid.x));
      ++started;
    }
    if (resident.empty()) return "";
    // One block goes on for as long as it can, or until chance turns to another.
    std::vector<Block*> able;
    for (const auto& b : resident)
      if (!b->ready.empty()) able.push_back(b.get());
    if (able.empty()) {
      std::string waits;
      for (const auto& b : resident)
        for (const Fiber* f : b->fibers)
          if (!f->ended && waits.empty())
            waits = "block " + std::to_string(b->index.x) + ", thread " + std::to_string(f->thread) +
                    (b->whole.waiting.empty() ? "" : ", a barrier at line " + std::to_string(b->whole.line));
      return "deadlock: nothing can run; one that waits is " + waits;
    }
    if (std::find(able.begin(), able.end(), favoured) == able.end() || machine.random() % 512 == 0)
      favoured = able[machine.random() % able.size()];
    std::vector<Fiber*>& ready = favoured->ready;
    std::swap(ready[machine.random() % ready.size()], ready.back());
    machine.now = ready.back();
    ready.pop_back();
    threadIdx = {machine.now->thread, 0, 0};
    blockIdx = machine.now->block->index;
    swapcontext(&machine.scheduler, &machine.now->context);
    if (!machine.failure.empty()) return machine.failure;
    if (machine.now->ended) {
      Block* const block_of = machine.now->block;
      machine.idle.push_back(machine.now);
      if (block_of->running == 0)
        resident.erase(std::find_if(resident.begin(), resident.end(), [&](const auto& b) { return b.get() == block_of; }));
    }
  }
}

// Every parameter of a kernel is 8 bytes wide: an address, a whole number or a double.
template <class T>
T parameter(const std::uint64_t word) {
  static_assert(sizeof(T) == 8, "a parameter that is not 8 bytes wide");
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// The parameters of a kernel are in one struct, of nothing but words.
template <class P>
std::string run_kernel(void (*kernel)(P), const Dim3 grid, const Dim3 block, const std::uint64_t* words, const std::uint64_t seed) {
  P parameters;
  std::memcpy(static_cast<void*>(&parameters), words, sizeof parameters);
  auto call = [&] { kernel(parameters); };
  machine.argument = &call;
  machine.body = [](void* c) { (*static_cast<decltype(call)*>(c))(); };
  return run(grid, block, seed);
}

template <class... P, std::size_t... I>
std::string run_kernel(void (*kernel)(P...), const Dim3 grid, const Dim3 block, const std::uint64_t* words,
                       const std::uint64_t seed, std::index_sequence<I...>) {
  auto call = [&] { kernel(parameter<P>(words[I])...); };
  machine.argument = &call;
  machine.body = [](void* c) { (*static_cast<decltype(call)*>(c))(); };
  return run(grid, block, seed);
}

// How many words a kernel takes.
template <class... P>
constexpr int kWords = sizeof...(P);
template <class P>
constexpr int kWords<P> = sizeof(P) / sizeof(std::uint64_t);

// Run a kernel on `count` words; an empty text where nothing went wrong.
template <class... P>
const char* launch(void (*kernel)(P...), const Dim3 grid, const Dim3 block, const std::uint64_t* words, const int count,
                   const std::uint64_t seed) {
  static std::string said;
  constexpr bool kStruct = sizeof...(P) == 1 && (std::is_class_v<P> && ...);
  if (count != kWords<P...>)
    said = "the kernel has " + std::to_string(kWords<P...>) + " parameters, and was given " + std::to_string(count);
  else if constexpr (kStruct)
    said = run_kernel(kernel, grid, block, words, seed);
  else
    said = run_kernel(kernel, grid, block, words, seed, std::index_sequence_for<P...>{});
  return said.c_str();
}

}  // namespace emulator

#define __syncthreads() emulator::sync_block(__LINE__)
#define __syncwarp() emulator::sync_warp(__LINE__)
#define __shfl_sync(mask, value, source) emulator::shuffle(value, static_cast<int>(source), __LINE__)
#define __shfl_up_sync(mask, value, by) \
  emulator::shuffle(value, static_cast<int>(threadIdx.x % 32) - static_cast<int>(by), __LINE__)
#define __shfl_down_sync(mask, value, by) \
  emulator::shuffle(value, static_cast<int>(threadIdx.x % 32) + static_cast<int>(by), __LINE__)
#define __shfl_xor_sync(mask, value, by) \
  emulator::shuffle(value, static_cast<int>(threadIdx.x % 32) ^ static_cast<int>(by), __LINE__)

template <class T>
T __ldcg(const T* const address) {
  return *address;
}

static inline unsigned atomicAdd(unsigned* const address, const unsigned value) {
  const unsigned before = *address;
  *address = before + value;
  emulator::wake_polling();
  return before;
}

namespace seqc {
// A read that other threads' releases are ordered before. Who reads again waits for some release.
static inline unsigned acquire(const unsigned* const flag) {
  return *flag;
}
static inline void release(unsigned* const flag, const unsigned value) {
  *flag = value;
  emulator::wake_polling();
}
static inline void wait_a_little() {
  emulator::machine.polling.push_back(emulator::machine.now);
  emulator::leave();
}
}  // namespace seqc

static inline double __longlong_as_double(const long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
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

#define SEQC_EMULATOR_ENTRY(kernel)                                                                              \
  extern "C" const char* seqc_launch_##kernel(unsigned gx, unsigned gy, unsigned bx, const std::uint64_t* words, \
                                              int count, std::uint64_t seed) {                                   \
    return emulator::launch(kernel, {gx, gy, 1}, {bx, 1, 1}, words, count, seed);                                \
  }
