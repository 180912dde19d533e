// What an emitted step is given as `r`: a cell's numbers in the registers of its threads.

namespace seqc {

template <class S, class T>
SEQC_INLINE S narrow(const T x) {
  return Narrow<S>::from(x);
}
SEQC_INLINE bool widen(const u8 x) { return x != 0; }
template <class T>
SEQC_INLINE auto widen(const T x) {
  return load(x);
}

// The lane of a cell: there is one, so it says nothing.
struct Lane {};

// A number of a lane: as a step reads it, as it keeps it between loops, and one that is kept elsewhere.
template <class T>
struct Read {
  T x;
  SEQC_INLINE T operator[](Lane) const { return x; }
};
template <class T>
struct One {
  T x;
  SEQC_INLINE T& operator[](Lane) { return x; }
  SEQC_INLINE T operator[](Lane) const { return x; }
};
template <class T>
struct Held {
  T& x;
  SEQC_INLINE T& operator[](Lane) const { return x; }
};
// A number as a step hands it out: to memory, or to a sum over the lanes of a block.
template <class T>
struct Straight {
  T* p;
  bool tells;
  T v;
  template <class S>
  SEQC_INLINE void set(Lane, const S x) {
    v = narrow<T>(x);
  }
  SEQC_INLINE void put() const {
    if (tells) *p = v;
  }
};
template <class S>
struct Folded {
  S& sum;
  bool live;
  S v;
  SEQC_INLINE void set(Lane, const S x) { v = live ? x : S(0); }
  SEQC_INLINE void put() const { sum = v; }
};
// Sums over some of several inner axes, with an element along the others, which may be read along
// other axes than they were made along, where a thread has a cell by itself.
template <class L, class S, unsigned mask>
struct Partial {
  S v[L::own(mask)];
  SEQC_INLINE Held<S> at(const Here& s) { return {v[L::at(mask, s)]}; }
  SEQC_INLINE Read<S> at(const Here& s) const { return {v[L::at(mask, s)]}; }
  template <int kFirst, int... kAxes>
  SEQC_INLINE Read<S> at(const Here& s, Index<kFirst>, Index<kAxes>...) const {
    static_assert(L::kShares == 1, "threads that share a cell do not read what others have");
    const int along[] = {L::index(s, kFirst), L::index(s, kAxes)...};
    return {v[L::at_places(mask, along)]};
  }
};

// ---- what is in registers

// What does not change with time.
template <class K, class L>
struct ConstantTable {
  template <int I>
  using Of = Array<typename K::State, K::kTensors[I].moves ? 1 : L::own(K::kTensors[I].inner)>;
};
template <class K, class L>
using Constants = Bank<ConstantTable<K, L>, kReadable<K>>;

// What goes from step to step.
template <class K, class L, class S>
struct CarryTable {
  template <int J>
  using Of = Array<typename K::State, L::own(S::kCarry[J].inner)>;
};
template <class K, class L, class S>
using Carries = Bank<CarryTable<K, L, S>, S::kCarries>;

// Sums over steps, in State, and in double over many.
template <class K, class L, class T>
struct SumTable {
  template <int k>
  using Of = Array<T, L::own(K::kSum[k].inner)>;
};
template <class K, class L, class T>
using Sums = Bank<SumTable<K, L, T>, K::kSums>;

// What a step sums over lanes, of its own lane: as many as can be summed together.
template <class K, class L, int I>
struct Fold {
  static constexpr Tensor kTensor = K::kTensors[I];
  static constexpr int kCount = kTensor.blocks ? L::own(kTensor.inner) : 1;
  static constexpr int kGroup = power_from(kCount) < L::kWarpLanes ? power_from(kCount) : L::kWarpLanes;
  static constexpr int kRoom = (kCount + kGroup - 1) / kGroup * kGroup;
  static constexpr int kElements = inner_elements(K::kInner, kTensor.inner);
};
template <class K, class L>
struct FoldTable {
  template <int I>
  using Of = Array<typename K::State, Fold<K, L, K::kFirstOut + I>::kRoom>;
};
template <class K, class L>
using Folds = Bank<FoldTable<K, L>, K::kOuts>;

template <class K, int I = 0>
constexpr bool sums_over_lanes() {
  if constexpr (I < K::kOuts) {
    constexpr Tensor x = K::kTensors[K::kFirstOut + I];
    return x.blocks || sums_over_lanes<K, I + 1>();
  }
  return false;
}
template <class K>
constexpr bool kFolds = sums_over_lanes<K>();

// The steps of a tile as they were read; `steps` of them.
template <class K, class L, int kSteps>
struct StreamTable {
  static constexpr int size(const Tensor x) { return x.moves ? kSteps * L::own(x.inner) : 1; }
  template <int I>
  using Of = Array<ElementOf<K, I>, size(K::kTensors[I])>;
};
// The states before them: as they were kept, or as they were computed again.
template <class K, class L, int kSteps>
struct BeforeTable {
  template <int J>
  using Of = Array<ElementOf<K, K::kBefore[J].kept>, kSteps * L::own(K::kBefore[J].inner)>;
};
template <class K, class L, int kSteps>
struct Tile {
  Bank<StreamTable<K, L, kSteps>, kReadable<K>> streams;
  Bank<BeforeTable<K, L, kSteps>, K::kBefores> befores;
  bool anew[kSteps];
};

// ---- the step

template <class K, class L, class S, class Tile>
struct Step {
  using State = typename K::State;
  using Storage = typename K::Storage;
  using Lanes = One<State>;
  using Truths = One<bool>;

  const Cell<K, L>& cell;
  const Constants<K, L>& constants;
  const Tile& tile;
  const int i;  // which step of the tile
  const i64 t;
  Carries<K, L, S>& carries;
  Sums<K, L, State>& sums;
  Folds<K, L>& folds;

  SEQC_INLINE State scalar(const int n) const { return cell.args.scalar(n); }
  SEQC_INLINE State extent(const int axis) const { return static_cast<State>(cell.args.extents[2 + axis]); }
  SEQC_INLINE State outer(const int axis) const { return static_cast<State>(cell.outer[axis]); }
  SEQC_INLINE State lane(Lane) const { return static_cast<State>(cell.lane); }
  SEQC_INLINE State along(const Here& s, const int m) const { return static_cast<State>(L::index(s, m)); }

  template <int I>
  SEQC_INLINE auto read(const int own) const {
    static constexpr Tensor x = K::kTensors[I];
    if constexpr (x.moves) {
      return widen(entry<I>(tile.streams)[i * L::own(x.inner) + own]);
    } else {
      return entry<I>(constants)[own];
    }
  }
  template <int I>
  SEQC_INLINE int own(const Here& s) const {
    static_assert(K::kTensors[I].inner != 0, "a tensor is read along an axis that its entry of kTensors does not have");
    return L::at(K::kTensors[I].inner, s);
  }
  template <int I>
  SEQC_INLINE auto value(Index<I>) const { return read<I>(0); }
  template <int I>
  SEQC_INLINE auto value(Index<I>, const Here& s) const { return read<I>(own<I>(s)); }
  template <int I>
  SEQC_INLINE auto row(Index<I>) const { return Read<decltype(read<I>(0))>{read<I>(0)}; }
  template <int I>
  SEQC_INLINE auto row(Index<I>, const Here& s) const { return Read<decltype(read<I>(0))>{read<I>(own<I>(s))}; }

  template <int J>
  SEQC_INLINE Read<State> before_at(const int own) const {
    return {load(entry<J>(tile.befores)[i * L::own(K::kBefore[J].inner) + own])};
  }
  template <int J>
  SEQC_INLINE auto before(Index<J>) const { return before_at<J>(0); }
  template <int J>
  SEQC_INLINE auto before(Index<J>, const Here& s) const { return before_at<J>(L::at(K::kBefore[J].inner, s)); }
  template <int J>
  SEQC_INLINE Held<State> carry(Index<J>) const { return {entry<J>(carries)[0]}; }
  template <int J>
  SEQC_INLINE Held<State> carry(Index<J>, const Here& s) const { return {entry<J>(carries)[L::at(S::kCarry[J].inner, s)]}; }
  template <int J>
  SEQC_INLINE Held<State> sum(Index<J>) const { return {entry<J>(sums)[0]}; }
  template <int J>
  SEQC_INLINE Held<State> sum(Index<J>, const Here& s) const { return {entry<J>(sums)[L::at(K::kSum[J].inner, s)]}; }

  template <int I>
  SEQC_INLINE auto out_at(const int own, const i64 along) const {
    static constexpr Tensor x = K::kTensors[I];
    if constexpr (x.blocks) {
      return Folded<State>{entry<I - K::kFirstOut>(folds)[own], cell.live, State(0)};
    } else {
      using T = ElementOf<K, I>;
      return Straight<T>{cell.template place<I>(t) + along, cell.template tells<x.inner>(), T{}};
    }
  }
  template <int I>
  SEQC_INLINE auto out(Index<I>) const { return out_at<I>(0, 0); }
  template <int I>
  SEQC_INLINE auto out(Index<I>, const Here& s) const { return out_at<I>(own<I>(s), cell.template to<I>(s)); }

  template <int P>
  SEQC_INLINE auto partial(Index<P>, const State neutral = State(0)) const {
    Partial<L, State, K::kPartial[P]> found;
#pragma unroll L::kUnroll
    for (int e = 0; e < L::own(K::kPartial[P]); ++e) found.v[e] = neutral;
    return found;
  }
  // The sum of what the threads of a cell have, the same at each, of terms along the inner axes of a
  // mask: of what is along an axis that they do not share each has all terms.
  template <int kMask>
  SEQC_INLINE void across(Index<kMask>, State& sum) const {
    if constexpr (kMask & L::kSharedBit) {
#pragma unroll
      for (int by = L::kShares / 2; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
    }
  }
  template <int kMask>
  SEQC_INLINE void across(Index<kMask> terms, Lanes& sum) const { across(terms, sum.x); }
  template <int kMask, unsigned mask>
  SEQC_INLINE void across(Index<kMask> terms, Partial<L, State, mask>& sums) const {
    if constexpr (!(mask & L::kSharedBit)) {
#pragma unroll L::kUnroll
      for (int e = 0; e < L::own(mask); ++e) across(terms, sums.v[e]);
    }
  }
  template <class Sum>
  SEQC_INLINE void across(Sum& sum) const { across(Index<static_cast<int>(L::kEvery)>{}, sum); }

  template <class F>
  SEQC_INLINE void lanes(const F& f) const { f(Lane{}); }
  // Calls f(where) along the inner axes of a mask, or all.
  template <int kMask, class F>
  SEQC_INLINE void inner(Index<kMask>, const F& f) const {
#pragma unroll L::kUnroll
    for (int own = 0; own < L::own(kMask); ++own) {
      if (L::has(kMask, own, cell.part)) f(Here{L::place(kMask, own), cell.part});
    }
  }
  template <class F>
  SEQC_INLINE void inner(const F& f) const { inner(Index<static_cast<int>(L::kEvery)>{}, f); }
};

}  // namespace seqc
