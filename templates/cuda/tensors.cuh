// A kernel's arguments, and what schedules need of an emitted struct.
//
// Sources are concatenated, for NVRTC gets no include path: math.cuh, kernel/signature.h, this file,
// cell.cuh, step.cuh, tiles.cuh, march.cuh, inner.cuh, stretches.cuh, scan.cuh, the struct K in
// namespace seqc, entries.cuh. What schedules read of K (signature.h has the tables' types):
//
//   types       Storage, State
//   numbers     kAxes, kLane (an axis, -1: none), kInner (how many axes are inner), kCount, kResets,
//               kScalars, kFirstOut, kOuts, kSums, kBefores, kScans
//   flags       kBack (steps run backwards), kEvery (states are kept once in `every` steps; exactly
//               where kInner > 0), kParallel (every scan has a law: Lift<q>, Law<q> and kScan exist)
//   tables      kRole[kAxes]; kTensors[kCount], in the order of FORM: what steps read (streams,
//               constants, masks), then states and resets, outs, sums, last, kept; kSum, kBefore,
//               kScan (of each scan its first carry in Main), kPartial (masks)
//   steps       Main; Again where kBack, kEvery and Main::kBefores; Lift<q>.  Each has kBack, kSums,
//               kBefores, kKeeps, kLeaves, kCarries, kParts, kCarry[], kRunning[], identity(p), run(r)
//   laws        Law<q>: kParts, kStates, apply, compose
//
// Tensor::inner must be right: it says how many registers of a thread an entry takes.  `unit` is
// believed of what moves alone.  Entries of a table that a kernel does not have are never looked at.

namespace seqc {

template <int... I>
struct Sequence {};
template <int N, int... I>
struct Counted : Counted<N - 1, N - 1, I...> {};
template <int... I>
struct Counted<0, I...> {
  using Type = Sequence<I...>;
};
// Numbers 0, 1, …, N - 1.
template <int N>
using Count = typename Counted<N>::Type;

template <class F, int... I>
SEQC_INLINE void each_of(Sequence<I...>, const F& f) {
  (f(Index<I>{}), ...);
}
// Calls f(Index<0>), …, f(Index<kCount - 1>).
template <int kCount, class F>
SEQC_INLINE void each(const F& f) {
  each_of(Count<kCount>{}, f);
}

template <bool kFirst, class A, class B>
struct Choice {
  using Type = A;
};
template <class A, class B>
struct Choice<false, A, B> {
  using Type = B;
};
template <bool kFirst, class A, class B>
using Choose = typename Choice<kFirst, A, B>::Type;

template <class K, Kind kind>
using Element = Choose<kind == Kind::kStorage, typename K::Storage,
                       Choose<kind == Kind::kState, typename K::State, Choose<kind == Kind::kTruth, u8, double>>>;
template <class K, int I>
using ElementOf = Element<K, K::kTensors[I].kind>;

// The arguments of a kernel, 8 bytes each: extents of batch, time and the axes, and `every`; of each
// tensor its address, then of each its strides along batch, time and the axes, in elements; scalars as
// double; and for schedules that need them places for what threads keep or tell one another.
template <class K>
struct Args {
  static constexpr int kDims = 2 + K::kAxes;
  i64 extents[kDims + 1];
  void* addresses[K::kCount];
  i64 strides[K::kCount][kDims];
  i64 tail[K::kScalars + 4];

  SEQC_INLINE i64 batch() const { return extents[0]; }
  SEQC_INLINE i64 steps() const { return extents[1]; }
  SEQC_INLINE i64 every() const { return extents[kDims]; }
  SEQC_INLINE i64 lanes() const {
    if constexpr (K::kLane < 0) return 1;
    return extents[2 + (K::kLane < 0 ? 0 : K::kLane)];
  }
  // Rows of lanes: of the batch and the outer axes.
  SEQC_INLINE i64 rows() const {
    i64 n = extents[0];
    each<K::kAxes>([&](auto a) {
      constexpr int A = decltype(a)::value;
      if constexpr (K::kRole[A] == Role::kOuter) n *= extents[2 + A];
    });
    return n;
  }
  template <int I>
  SEQC_INLINE ElementOf<K, I>* address() const {
    return static_cast<ElementOf<K, I>*>(addresses[I]);
  }
  SEQC_INLINE typename K::State scalar(const int i) const {
    return static_cast<typename K::State>(__longlong_as_double(tail[i]));
  }
  // What blocks keep for themselves (a march back), or chunks of time tell one another (a scan).
  SEQC_INLINE typename K::State* numbers() const { return reinterpret_cast<typename K::State*>(tail[K::kScalars]); }
  SEQC_INLINE u8* begins() const { return reinterpret_cast<u8*>(tail[K::kScalars + 1]); }
  SEQC_INLINE unsigned* flags() const { return reinterpret_cast<unsigned*>(tail[K::kScalars + 2]); }
  SEQC_INLINE i64 chunks() const { return tail[K::kScalars + 3]; }
};

// Whether a march back has to compute states again that were not kept.
template <class K>
constexpr bool kComputesAgain = K::kBack && K::kEvery && K::Main::kBefores;

constexpr int lesser(const int a, const int b) { return b >= 0 && b < a ? b : a; }
template <class S, int J = 0>
constexpr int first_of_carries(const int found) {
  if constexpr (J < S::kCarries) {
    constexpr Carry x = S::kCarry[J];
    return first_of_carries<S, J + 1>(lesser(lesser(lesser(found, x.start), x.fresh), x.kept));
  }
  return found;
}
template <class K, int J = 0>
constexpr int first_of_befores(const int found) {
  if constexpr (J < K::kBefores) return first_of_befores<K, J + 1>(lesser(found, K::kBefore[J].kept));
  return found;
}
template <class K>
constexpr int readable() {
  int found = first_of_carries<typename K::Main>(first_of_befores<K>(K::kResets));
  if constexpr (kComputesAgain<K>) found = first_of_carries<typename K::Again>(found);
  return found;
}
// What steps read by itself comes first in a signature: this many entries.
template <class K>
constexpr int kReadable = readable<K>();

// The axis that is the m-th of some role.
template <class K, int A = 0>
constexpr int inner_axis(const int m) {
  if constexpr (A < K::kAxes) {
    constexpr bool inner = K::kRole[A] == Role::kInner;
    return inner && m == 0 ? A : inner_axis<K, A + 1>(m - inner);
  }
  return 0;
}

// Lanes of one element of a tensor that has one a block of lanes.  Without inner axes those of a warp.
// A march with inner axes takes those of its block, a scan those of a warp (Layout::kWarpLanes).
constexpr int kMarchLanes = 64;

}  // namespace seqc
