// The CUDA that generated kernels use, on a CPU: the emitted source compiles unchanged as C++ behind
// emulator_machine.h and this text.
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
//
// What is told of threads is told by a machine (emulator_scheduler.h, emulator_memory.h), a library
// of its own that is compiled once; a kernel's has no more of it than calls. No heavy header is
// included, for there are many kernels.
#define SEQC_EMULATOR 1

#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

extern "C" {
#define SEQC_EMULATOR_FUNCTION(name) \
  double name(double);               \
  float name##f(float)
SEQC_EMULATOR_FUNCTION(fabs);
SEQC_EMULATOR_FUNCTION(sqrt);
SEQC_EMULATOR_FUNCTION(floor);
SEQC_EMULATOR_FUNCTION(exp);
SEQC_EMULATOR_FUNCTION(expm1);
SEQC_EMULATOR_FUNCTION(log);
SEQC_EMULATOR_FUNCTION(log1p);
SEQC_EMULATOR_FUNCTION(tanh);
SEQC_EMULATOR_FUNCTION(sin);
SEQC_EMULATOR_FUNCTION(cos);
SEQC_EMULATOR_FUNCTION(erf);
SEQC_EMULATOR_FUNCTION(erfc);
double pow(double, double);
float powf(float, float);
}

namespace emulator {

static Machine* machine = nullptr;

template <class To, class From>
To bits(const From from) {
  static_assert(sizeof(To) >= sizeof(From) || sizeof(From) == sizeof(Word), "bits would be lost");
  To to{};
  __builtin_memcpy(&to, &from, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return to;
}

// What another thread of the warp hands over at the same place.
template <class T>
T shuffle(const T value, const int source, const int line) {
  return bits<T>(machine->shuffle(bits<Word>(value), source, line));
}

// An array in shared memory, or a part of an arena as one; M is which.
template <class T, class M>
class Watched {
 public:
  explicit Watched(const M memory) : memory_(memory) {}
  class Element {
   public:
    Element(const M& memory, const long long index) : memory_(memory), index_(index) {}
    operator T() const { return bits<T>(machine->read(memory_, index_)); }
    T operator=(const T value) const {
      machine->write(memory_, index_, bits<Word>(value));
      return value;
    }
    T operator=(const Element& other) const { return *this = static_cast<T>(other); }
    T operator+=(const T value) const { return *this = static_cast<T>(*this) + value; }

   private:
    const M& memory_;
    long long index_;
  };
  Element operator[](const long long index) const { return Element(memory_, index); }

 private:
  M memory_;
};

// The array declared at a line: one for each type and size, as of a function's instantiations.
template <class T>
Watched<T, Array*> shared(const char* name, const int line, const unsigned long long count) {
  return Watched<T, Array*>(machine->array(name, line, __PRETTY_FUNCTION__, static_cast<long long>(count)));
}

// Every parameter of a kernel is 8 bytes wide: an address, a whole number or a double.
template <class T>
T parameter(const Word word) {
  static_assert(sizeof(T) == sizeof(Word), "a parameter that is not 8 bytes wide");
  return bits<T>(word);
}

// Calls a kernel on its words.
template <class... P, int... I>
void call(void (*kernel)(P...), const Word* const words, std::integer_sequence<int, I...>) {
  kernel(parameter<P>(words[I])...);
}
// The parameters of a kernel are in one struct, of nothing but words.
template <class P>
void call_on_struct(void (*kernel)(P), const Word* const words) {
  P parameters;
  __builtin_memcpy(static_cast<void*>(&parameters), words, sizeof parameters);
  kernel(parameters);
}

// How many words a kernel takes.
template <class... P>
constexpr int kWords = sizeof...(P);
template <class P>
constexpr int kWords<P> = sizeof(P) / sizeof(Word);

// Run a kernel on `count` words; an empty text where nothing went wrong.
template <class... P>
const char* launch(void (*kernel)(P...), const Dim3 grid, const Dim3 block, const Word* words, const int count, const Word seed) {
  if (count != kWords<P...>) return machine->misfit(kWords<P...>, count);
  auto thread = [&] {
    if constexpr (sizeof...(P) == 1 && (std::is_class_v<P> && ...)) {
      call_on_struct(kernel, words);
    } else {
      call(kernel, words, std::make_integer_sequence<int, sizeof...(P)>{});
    }
  };
  return machine->run([](void* t) { (*static_cast<decltype(thread)*>(t))(); }, &thread, grid, block, seed);
}

}  // namespace emulator

#define threadIdx (emulator::machine->thread_index)
#define blockIdx (emulator::machine->block_index)
#define blockDim (emulator::machine->block_extent)
#define gridDim (emulator::machine->grid_extent)

#define __syncthreads() emulator::machine->sync_block(__LINE__)
#define __syncwarp() emulator::machine->sync_warp(__LINE__)
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
  emulator::machine->wake_polling();
  return before;
}

static inline double __longlong_as_double(const long long bits) { return emulator::bits<double>(bits); }
static inline float __uint_as_float(const unsigned bits) { return emulator::bits<float>(bits); }
static inline unsigned __float_as_uint(const float x) { return emulator::bits<unsigned>(x); }
static inline float seqc_emulator_half_to_float(const unsigned short bits) {
  return static_cast<float>(emulator::bits<_Float16>(bits));
}
static inline unsigned short seqc_emulator_float_to_half(const float x) {
  return emulator::bits<unsigned short>(static_cast<_Float16>(x));
}

#define SEQC_SHARED(type, name, count) const auto name = emulator::shared<type>(#name, __LINE__, count)
#define SEQC_ARENA(name, bytes) auto& name = *emulator::machine->arena(#name, __LINE__, bytes)

namespace seqc {
// A read that other threads' releases are ordered before. Who reads again waits for some release.
static inline unsigned acquire(const unsigned* const flag) { return *flag; }
static inline void release(unsigned* const flag, const unsigned value) {
  *flag = value;
  emulator::machine->wake_polling();
}
static inline void wait_a_little() { emulator::machine->wait_a_little(); }

template <class T>
emulator::Watched<T, emulator::Part> view(emulator::Arena& arena, const int from, const int count) {
  return emulator::Watched<T, emulator::Part>(emulator::machine->part(arena, from, count, sizeof(T)));
}
}  // namespace seqc

#define SEQC_EMULATOR_ENTRY(kernel)                                                                                  \
  extern "C" const char* seqc_launch_##kernel(unsigned gx, unsigned gy, unsigned bx, const emulator::Word* words,    \
                                              int count, emulator::Word seed, emulator::Machine* machine) {          \
    emulator::machine = machine;                                                                                     \
    return emulator::launch(kernel, {gx, gy, 1}, {bx, 1, 1}, words, count, seed);                                    \
  }
