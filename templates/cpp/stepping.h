// A kernel whose steps have products with matrices: all of a step is there before the next begins.
//
// A step is a few passes over vectors; a pass takes its products, then what is pointwise, a block of
// entries and some rows of the batch at a time, so that a product never leaves the core's own cache.
// Matrices are packed once a call.  Threads share the batch, or where that is small the entries:
// then they meet between passes that need one another's.

#include <atomic>
#include <thread>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace seqc {

// A product of a pass: a matrix (an entry of the signature) times what a carry or a vector holds (-1:
// the other).  Its result is over the shared axes and the rows, what it takes over the shared axes and
// the columns (masks); `turned`: the matrix has its columns before its rows.
struct Product {
  int matrix, carry, vector;
  unsigned shared, rows, columns;
  bool turned;
};
// What becomes of terms along an axis, which a carry or a vector holds.
enum class Over { kSum, kMax, kMin };
struct Reduction {
  Over kind;
  int carry, vector, axis;
};

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRowsAtOnce = 8;
#else
constexpr int kVectorBytes = 32, kRowsAtOnce = 4;
#endif
template <class T>
using VectorOf __attribute__((vector_size(kVectorBytes))) = T;
// Entries of a block: two registers.
template <class T>
constexpr i64 kWide = 2 * kVectorBytes / static_cast<i64>(sizeof(T));
// Multiply-adds of a step below which another thread costs more than it saves.
constexpr i64 kShareWork = 1 << 14;

// y[r] = panel times u[r]: a block's entries, of as many rows as registers hold.  The panel has
// the block's entries of each column side by side.
template <int kRows, class T>
SEQC_INLINE void multiply(const T* panel, const T* const* u, const i64 columns, T* y) {
  using V = VectorOf<T>;
  constexpr i64 kLanes = kVectorBytes / static_cast<i64>(sizeof(T));
  constexpr int kChains = kRows > 4 ? 1 : kRows > 2 ? 2 : 4;  // sums that wait for nobody
  V sums[kChains][kRows][2] = {};
  const auto take = [&](const int chain, const i64 k) __attribute__((always_inline)) {
    const V w0 = *reinterpret_cast<const V*>(panel + k * 2 * kLanes);
    const V w1 = *reinterpret_cast<const V*>(panel + k * 2 * kLanes + kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const T x = u[r][k];
      sums[chain][r][0] += w0 * x;
      sums[chain][r][1] += w1 * x;
    }
  };
  i64 k = 0;
  for (; k + kChains <= columns; k += kChains) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) take(chain, k + chain);
  }
  for (; k < columns; ++k) take(0, k);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    for (int half = 0; half < 2; ++half) {
      V sum = sums[0][r][half];
#pragma GCC unroll 4
      for (int chain = 1; chain < kChains; ++chain) sum += sums[chain][r][half];
      *reinterpret_cast<V*>(y + r * 2 * kLanes + half * kLanes) = sum;
    }
  }
}
template <class T>
SEQC_INLINE void multiply(const T* panel, const T* const* u, const i64 columns, T* y, const i64 rows) {
  i64 r = 0;
  if constexpr (kRowsAtOnce == 8) {
    for (; r + 8 <= rows; r += 8) multiply<8>(panel, u + r, columns, y + r * kWide<T>);
  }
  for (; r + 4 <= rows; r += 4) multiply<4>(panel, u + r, columns, y + r * kWide<T>);
  for (; r + 2 <= rows; r += 2) multiply<2>(panel, u + r, columns, y + r * kWide<T>);
  for (; r < rows; ++r) multiply<1>(panel, u + r, columns, y + r * kWide<T>);
}

// Where threads that share entries meet.
class Meeting {
 public:
  void of(const i64 count) { count_ = count; }
  void wait() {
    if (count_ < 2) return;
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > 1 << 12) std::this_thread::yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }

 private:
  i64 count_ = 1;
  alignas(64) std::atomic<i64> arrived_{0};
  alignas(64) std::atomic<unsigned> round_{0};
};

// Vectors over some axes (a mask), laid out plainly: blocks of entries along the last of them.
template <class K>
struct Domain {
  i64 lanes = 1, outer = 1, across = 1, blocks = 1;
  i64 strides[K::kAxes + 1] = {};
  int lane = -1;

  Domain(const Call<K>& call, const unsigned axes) {
    for (int a = K::kAxes - 1; a >= 0; --a) {
      if (!(axes >> a & 1)) continue;
      strides[a] = lanes * outer;
      if (lane < 0) {
        lane = a, lanes = call.extents[a];
      } else {
        outer *= call.extents[a];
      }
    }
    constexpr i64 wide = kWide<typename K::State>;
    across = (lanes + wide - 1) / wide;
    blocks = outer * across;
  }
  i64 size() const { return lanes * outer; }
};

template <class K>
class Stepper;

// A block of a row as an emitted pass reads it.
template <class K, class P>
struct Entries {
  using State = typename K::State;
  static constexpr i64 kPiece = kWide<State>;
  const Stepper<K>& all;
  i64 b, t, first, n, parity;
  bool anew;
  const i64* where;  // along each axis but the lane's
  State* products;   // this row's, one after another

  // An entry of a plainly laid out vector over some axes.
  SEQC_INLINE i64 offset(const unsigned axes) const {
    i64 found = 0, step = 1;
    for (int a = K::kAxes - 1; a >= 0; --a) {
      if (!(axes >> a & 1)) continue;
      found += (a == P::kLane ? first : where[a]) * step;
      step *= all.call.extents[a];
    }
    return found;
  }
  template <int I>
  SEQC_INLINE auto* place(const i64 at) const {
    const i64* lie = all.call.strides[I];
    i64 found = b * lie[0] + (K::kTensors[I].moves ? at * lie[1] : 0);
    for (int a = 0; a < K::kAxes; ++a) {
      if (P::kAxes >> a & K::kTensors[I].inner >> a & 1) found += (a == P::kLane ? first : where[a]) * lie[2 + a];
    }
    return reinterpret_cast<ElementOf<K, I>*>(all.call.base[I]) + found;
  }
  SEQC_INLINE State scalar(const int i) const { return all.call.scalars[i]; }
  SEQC_INLINE State extent(const int axis) const { return static_cast<State>(all.call.extents[axis]); }
  SEQC_INLINE State along(const int axis) const { return static_cast<State>(where[axis]); }
  SEQC_INLINE State lane(const i64 c) const { return static_cast<State>(first + c); }
  template <int I>
  SEQC_INLINE auto value(Index<I>) const { return widen(static_cast<const ElementOf<K, I>*>(place<I>(t))); }
  template <int I>
  SEQC_INLINE auto row(Index<I>) const { return Beside<ElementOf<K, I>>{place<I>(t)}; }
  template <int I>
  SEQC_INLINE auto out(Index<I>) const { return Straight<ElementOf<K, I>>{place<I>(t)}; }
  // What is not asked for goes nowhere.
  template <int I>
  SEQC_INLINE auto keep(Index<I>) const {
    using T = ElementOf<K, I>;
    return Straight<T>{all.call.base[I] ? place<I>(t) : static_cast<T*>(all.nowhere())};
  }
  template <int I>
  SEQC_INLINE double* total(Index<I>) const { return place<I>(0); }
  // A state before the step: as it was kept, or what it started from.
  template <int J>
  SEQC_INLINE Apart<State, kPiece> before(Index<J>) const {
    constexpr Before x = K::kBefore[J];
    const i64 count = P::kLane >= 0 && x.inner >> P::kLane & 1 ? n : 1;
    Apart<State, kPiece> found;
    if (t == 0 || anew) {
      const State* const from = anew ? place<x.fresh>(0) : place<x.start>(0);
      for (i64 c = 0; c < count; ++c) found.v[c] = from[c];
    } else {
      const auto* const from = place<x.kept>(t - 1);
      for (i64 c = 0; c < count; ++c) found.v[c] = widen(from + c);
    }
    return found;
  }
  template <int J>
  SEQC_INLINE const State* carry(Index<J>) const { return all.carry(J, b, parity) + offset(K::Main::kCarry[J].inner); }
  template <int J>
  SEQC_INLINE State* next(Index<J>) const { return all.carry(J, b, 1 - parity) + offset(K::Main::kCarry[J].inner); }
  template <int V>
  SEQC_INLINE State* vector(Index<V>) const { return all.vector(V, b, parity) + offset(K::kVector[V]); }
  template <int Q>
  SEQC_INLINE const State* product(Index<Q>) const { return products + Q * kRowsAtOnce * kPiece; }
  // What terms along an axis come to.
  template <int Q>
  SEQC_INLINE Apart<State, kPiece> reduced(Index<Q>) const {
    constexpr Reduction x = P::kReductions[Q];
    const unsigned axes = x.carry >= 0 ? K::Main::kCarry[x.carry < 0 ? 0 : x.carry].inner : K::kVector[x.vector < 0 ? 0 : x.vector];
    const State* from = x.carry >= 0 ? all.carry(x.carry, b, parity) : all.vector(x.vector, b, parity);
    const Domain<K> terms(all.call, axes);
    for (int a = 0; a < K::kAxes; ++a) {
      if (a != x.axis) from += (a == P::kLane ? first : where[a]) * terms.strides[a];
    }
    const i64 by = terms.strides[x.axis], apart = P::kLane >= 0 ? terms.strides[P::kLane < 0 ? 0 : P::kLane] : 0;
    Apart<State, kPiece> found;
    for (i64 c = 0; c < n; ++c) {
      State sum = x.kind == Over::kSum ? State(0) : from[c * apart];
      for (i64 k = 0; k < all.call.extents[x.axis]; ++k) {
        const State term = from[c * apart + k * by];
        sum = x.kind == Over::kSum ? sum + term : x.kind == Over::kMax ? seqc::max(sum, term) : seqc::min(sum, term);
      }
      found.v[c] = sum;
    }
    return found;
  }
  template <class F>
  SEQC_INLINE void lanes(F&& f) const {
    if (n == kPiece) {
#pragma omp simd
      for (i64 c = 0; c < kPiece; ++c) f(c);
    } else {
#pragma omp simd
      for (i64 c = 0; c < n; ++c) f(c);
    }
  }
};

template <class K>
class Stepper {
 public:
  using State = typename K::State;
  static constexpr i64 kPiece = kWide<State>;
  static constexpr int kCarries = K::Main::kCarries;
  const Call<K>& call;

  Stepper(const Call<K>& c, const i64 threads) : call(c) {
    i64 size = 0, work = 0;
    for (int j = 0; j < kCarries; ++j) carries_[j] = size, size += 2 * call.batch * extent(K::Main::kCarry[j].inner);
    for (int v = 0; v < K::kVectors; ++v) vectors_[v] = size, size += 2 * call.batch * extent(K::kVector[v]);
    values_ = Memory<State>(size);
    size = 0;
    each<K::kPasses>([&](auto i) {
      using P = typename K::template Pass<decltype(i)::value>;
      const Domain<K> domain(call, P::kAxes);
      for (int q = 0; q < P::kProductCount; ++q) {
        const i64 columns = Matrix(call, P::kProducts[q]).columns;
        panels_[P::kFirstProduct + q] = size;
        size += domain.blocks * columns * kPiece;
        work += domain.size() * columns;
      }
    });
    weights_ = Memory<State>(size);
    // A thread has rows enough for the registers, or else shares the entries of all of them.
    const i64 useful = std::max<i64>(1, std::min(threads, call.batch * work / kShareWork));
    by_rows_ = std::max<i64>(1, std::min(useful, call.batch / kRowsAtOnce));
    by_entries_ = useful / by_rows_;
    meetings_ = std::vector<Meeting>(by_rows_);
    for (Meeting& m : meetings_) m.of(by_entries_);
  }

  void operator()() {
    i64 threads = by_rows_ * by_entries_;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp single
      {
#if defined(_OPENMP)
        const i64 there = omp_get_num_threads();
#else
        const i64 there = 1;
#endif
        // Threads that wait for one another must all be there.
        if (there < threads) share_rows(threads = there);
      }
#pragma omp for schedule(static)
      for (i64 part = 0; part < threads; ++part) pack(part, threads);
#pragma omp for schedule(static)
      for (i64 part = 0; part < by_rows_ * by_entries_; ++part) march(part);
    }
  }
  State* carry(const int j, const i64 b, const i64 parity) const {
    return values_.get() + carries_[j] + (parity * call.batch + b) * extent(K::Main::kCarry[j].inner);
  }
  State* vector(const int v, const i64 b, const i64 parity) const {
    return values_.get() + vectors_[v] + (parity * call.batch + b) * extent(K::kVector[v]);
  }
  void* nowhere() const {
    alignas(64) static thread_local char place[2 * kVectorBytes];
    return place;
  }

 private:
  void share_rows(const i64 threads) {
    by_rows_ = std::min(threads, std::max<i64>(call.batch, 1)), by_entries_ = 1;
    meetings_ = std::vector<Meeting>(by_rows_);
  }

  // A product's matrix: shared blocks of rows and columns, as it is multiplied with.
  struct Matrix {
    i64 shared, rows, columns;
    i64 by_row, by_column;  // elements from one to the next, as it lies
    const State* from;
    Matrix(const Call<K>& call, const Product& x) : shared(1), rows(1), columns(1), from(reinterpret_cast<const State*>(call.base[x.matrix])) {
      for (int a = 0; a < K::kAxes; ++a) {
        shared *= x.shared >> a & 1 ? call.extents[a] : 1;
        rows *= x.rows >> a & 1 ? call.extents[a] : 1;
        columns *= x.columns >> a & 1 ? call.extents[a] : 1;
      }
      by_row = x.turned ? 1 : columns;
      by_column = x.turned ? rows : 1;
    }
  };
  i64 extent(const unsigned axes) const {
    i64 found = 1;
    for (int a = 0; a < K::kAxes; ++a) found *= axes >> a & 1 ? call.extents[a] : 1;
    return found;
  }

  void pack(const i64 part, const i64 parts) {
    each<K::kPasses>([&](auto i) {
      using P = typename K::template Pass<decltype(i)::value>;
      const Domain<K> domain(call, P::kAxes);
      for (int q = 0; q < P::kProductCount; ++q) {
        const Matrix m(call, P::kProducts[q]);
        for (i64 block = domain.blocks * part / parts; block < domain.blocks * (part + 1) / parts; ++block) {
          const i64 first = block / domain.across * domain.lanes + block % domain.across * kPiece;
          const i64 n = std::min(kPiece, domain.lanes - block % domain.across * kPiece);
          const State* const from = m.from + first / m.rows * m.rows * m.columns + first % m.rows * m.by_row;
          State* const to = weights_.get() + panels_[P::kFirstProduct + q] + block * m.columns * kPiece;
          for (i64 c = 0; c < n; ++c) {
            for (i64 k = 0; k < m.columns; ++k) to[k * kPiece + c] = from[c * m.by_row + k * m.by_column];
          }
        }
      }
    });
  }

  // A thread's steps.
  void march(const i64 part) {
    const i64 group = part / by_entries_, share = part % by_entries_;
    const i64 begin = call.batch * group / by_rows_, end = call.batch * (group + 1) / by_rows_;
    Meeting& meeting = meetings_[group];
    for (int j = 0; j < kCarries; ++j) {
      const Carry x = K::Main::kCarry[j];
      if (call.base[x.start]) copy(j, share, begin, end, 0, [&](const i64 b, State* to, const i64 at, const i64 n) { std::copy_n(state(x.start, b) + at, n, to); });
    }
    meeting.wait();
    const u8* const resets = reinterpret_cast<const u8*>(call.base[K::kResets]);
    std::vector<u8> anew(call.batch);
    for (i64 k = 0; k < call.steps; ++k) {
      const i64 t = K::kBack ? call.steps - 1 - k : k, parity = k & 1;
      bool any = false;
      if (resets) {
        for (i64 b = begin; b < end; ++b) any |= anew[b] = resets[b * call.strides[K::kResets][0] + t * call.strides[K::kResets][1]] != 0;
      }
      if (!K::kBack && any) {
        renew(share, begin, end, parity, anew.data());
        meeting.wait();
      }
      each<K::kPasses>([&](auto i) {
        constexpr int I = decltype(i)::value;
        using P = typename K::template Pass<I>;
        if constexpr (P::kMeets) meeting.wait();
        pass<P>(share, begin, end, t, parity, anew.data());
      });
      if (K::kBack && any) renew(share, begin, end, 1 - parity, anew.data());
      if (K::kMeets) meeting.wait();
    }
    for (int j = 0; j < kCarries; ++j) {
      const Carry x = K::Main::kCarry[j];
      copy(j, share, begin, end, call.steps & 1, [&](const i64 b, const State* from, const i64 at, const i64 n) { std::copy_n(from, n, state(x.last, b) + at); });
    }
  }
  // A row of a tensor (batch, *axes), laid out plainly.
  State* state(const int tensor, const i64 b) const { return reinterpret_cast<State*>(call.base[tensor]) + b * call.strides[tensor][0]; }

  // f(row, entries, their first place, how many) for a thread's own of a carry.
  template <class F>
  void copy(const int j, const i64 share, const i64 begin, const i64 end, const i64 parity, F&& f) {
    const Domain<K> domain(call, K::Main::kCarry[j].inner);
    for (i64 block = domain.blocks * share / by_entries_; block < domain.blocks * (share + 1) / by_entries_; ++block) {
      const i64 first = block % domain.across * kPiece, at = block / domain.across * domain.lanes + first;
      for (i64 b = begin; b < end; ++b) f(b, carry(j, b, parity) + at, at, std::min(kPiece, domain.lanes - first));
    }
  }
  // At a reset carries start anew; backwards what has arrived leaves.
  void renew(const i64 share, const i64 begin, const i64 end, const i64 parity, const u8* anew) {
    for (int j = 0; j < kCarries; ++j) {
      const Carry x = K::Main::kCarry[j];
      copy(j, share, begin, end, parity, [&](const i64 b, State* own, const i64 at, const i64 n) {
        if (!anew[b]) return;
        State* const fresh = state(x.fresh, b) + at;
        for (i64 c = 0; c < n; ++c) {
          if (K::kBack) {
            fresh[c] += own[c], own[c] = State(0);
          } else {
            own[c] = fresh[c];
          }
        }
      });
    }
  }

  template <class P>
  void pass(const i64 share, const i64 begin, const i64 end, const i64 t, const i64 parity, const u8* anew) {
    const Domain<K> domain(call, P::kAxes);
    alignas(64) State products[(P::kProductCount ? P::kProductCount : 1) * kRowsAtOnce * kPiece];
    for (i64 block = domain.blocks * share / by_entries_; block < domain.blocks * (share + 1) / by_entries_; ++block) {
      const i64 first = block % domain.across * kPiece;
      i64 where[K::kAxes + 1] = {}, rest = block / domain.across;
      for (int a = K::kAxes - 1; a >= 0; --a) {
        if (P::kAxes >> a & 1 && a != P::kLane) where[a] = rest % call.extents[a], rest /= call.extents[a];
      }
      for (i64 b0 = begin; b0 < end; b0 += kRowsAtOnce) {
        const i64 rows = std::min<i64>(kRowsAtOnce, end - b0);
        for (int q = 0; q < P::kProductCount; ++q) {
          const Product x = P::kProducts[q];
          const Matrix m(call, x);
          const i64 at = (block / domain.across * domain.lanes + first) / m.rows * m.columns;
          const State* u[kRowsAtOnce];
          for (i64 r = 0; r < rows; ++r) u[r] = (x.carry >= 0 ? carry(x.carry, b0 + r, parity) : vector(x.vector, b0 + r, parity)) + at;
          const State* const panel = weights_.get() + panels_[P::kFirstProduct + q] + block * m.columns * kPiece;
          multiply(panel, u, m.columns, products + q * kRowsAtOnce * kPiece, rows);
        }
        for (i64 r = 0; r < rows; ++r) {
          P::run(Entries<K, P>{*this, b0 + r, t, first, std::min(kPiece, domain.lanes - first), parity, anew[b0 + r] != 0, where, products + r * kPiece});
        }
      }
    }
  }

  i64 by_rows_, by_entries_;
  i64 carries_[kCarries + 1], vectors_[K::kVectors + 1], panels_[K::kProducts + 1];
  Memory<State> values_, weights_;
  std::vector<Meeting> meetings_;
};

template <class K>
void run_steps(const i64* sizes, void* const* data, const i64* strides, const double* scalars, const i64 threads) {
  const Call<K> call(sizes, data, strides, scalars);
  Stepper<K>{call, threads}();
}

}  // namespace seqc
