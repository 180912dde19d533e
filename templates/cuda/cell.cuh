// Which cell a thread has, and where that lies in each tensor.
//
// A cell is one lane of one row with all of the inner axes.  Where there is one inner axis, kShares
// neighbouring threads have a cell together, each every kShares-th element along that axis; with none
// or several a thread has a cell by itself.

#ifndef SEQC_INNER
#define SEQC_INNER 1  // the extents of the inner axes, one after another
#endif

namespace seqc {

constexpr int kWarpThreads = 32;

// The extent of the m-th inner axis.
constexpr int inner_extent(const int m) {
  const int extents[] = {SEQC_INNER, 1};
  return extents[m];
}
constexpr int power_from(const int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

// Elements along the inner axes of a mask.
constexpr int inner_elements(const int axes, const unsigned mask) {
  int n = 1;
  for (int m = 0; m < axes; ++m) n *= mask >> m & 1 ? inner_extent(m) : 1;
  return n;
}

#ifndef SEQC_EMULATOR
#define SEQC_SHARED(type, name, count) __shared__ type name[count]
#endif

// A place along the inner axes: which of a thread's own it is, and which of all.
struct Here {
  int own, all;
};

template <class K, int kWish>
struct Layout {
  static constexpr int kShares = K::kInner == 1 ? kWish : 1;
  static constexpr int kAll = inner_elements(K::kInner, ~0u);  // elements of a cell
  static constexpr int kOwn = (kAll + kShares - 1) / kShares;  // of a thread
  static constexpr bool kEven = kAll % kShares == 0;           // all threads have as many
  static constexpr int kUnroll = kOwn <= 32 ? kOwn : 1;        // more would be too much text
  static constexpr int kWarpLanes = kWarpThreads / kShares;
  static_assert(kShares <= kWarpThreads && power_from(kShares) == kShares, "threads of a cell are a part of a warp");
  // Registers of a thread for something that has these inner axes.
  static constexpr int own(const unsigned mask) {
    return K::kInner == 1 && mask ? kOwn : inner_elements(K::kInner, mask);
  }
  // Where a place is along the m-th inner axis.
  SEQC_INLINE static int index(const Here& s, const int m) {
    int rest = s.all;
#pragma unroll
    for (int n = K::kInner - 1; n > m; --n) rest /= inner_extent(n);
    return m ? rest % inner_extent(m) : rest;
  }
  // Which of a thread's registers for something with these inner axes is a place's.
  SEQC_INLINE static int at(const unsigned mask, const Here& s) {
    if (K::kInner == 1) return mask ? s.own : 0;
    int r = 0;
#pragma unroll
    for (int m = 0; m < K::kInner; ++m) r = mask >> m & 1 ? r * inner_extent(m) + index(s, m) : r;
    return r;
  }
};

// Registers: an array for each of some entries, of which Table::Of<I> says type and size.  Beside one
// another, not one in the other: of nested classes NVRTC's front end takes time without end.
template <class Table, int I>
struct Leaf {
  typename Table::template Of<I>::Type v[Table::template Of<I>::kSize];
};
template <class Table, class Which>
struct Leaves;
template <class Table, int... I>
struct Leaves<Table, Sequence<I...>> : Leaf<Table, I>... {};
template <class Table, int N>
using Bank = Leaves<Table, Count<N>>;
template <int I, class Table>
SEQC_INLINE auto& entry(Leaf<Table, I>& leaf) {
  return leaf.v;
}
template <int I, class Table>
SEQC_INLINE const auto& entry(const Leaf<Table, I>& leaf) {
  return leaf.v;
}
template <class T, int N>
struct Array {
  using Type = T;
  static constexpr int kSize = N;
};

// The same number, for the compiler another: what is computed from it is computed where it is
// needed, and does not hold registers throughout the march.
SEQC_DEVICE i64 late(i64 x) {
#ifndef SEQC_EMULATOR
  asm volatile("" : "+l"(x));
#endif
  return x;
}

// What a thread reads of memory that no thread writes meanwhile.
template <class T>
SEQC_INLINE T fetch(const T* const p) {
#ifndef SEQC_EMULATOR
  if constexpr (sizeof(T) == 2) {
    T found;
    found.bits = __ldg(&p->bits);
    return found;
  } else {
    return __ldg(p);
  }
#else
  return *p;
#endif
}

template <class K>
struct Places {
  template <int I>
  using Of = Array<ElementOf<K, I>*, 1>;
};

template <class K, class L>
struct Cell {
  using State = typename K::State;

  const Args<K>& args;
  i64 batch, lane, block;   // `block` of lanes, for what has an element a block of them
  i64 outer[K::kAxes + 1];  // where along each outer axis
  int part;                 // which of the threads of the cell
  bool live;                // false past the last lane, where threads do what the last lane's do
  bool speaks;              // hands out what has no inner axis
  Bank<Places<K>, K::kCount> places;  // of what moves, at step 0 and the thread's first element

  SEQC_INLINE Cell(const Args<K>& a, const i64 row, const i64 at_lane, const i64 at_block, const int at_part, const bool at_live)
      : args(a), lane(at_lane), block(at_block), part(at_part), live(at_live), speaks(at_live && at_part == 0) {
    i64 rest = row;
    each<K::kAxes>([&](auto backwards) {
      constexpr int A = K::kAxes - 1 - decltype(backwards)::value;
      if constexpr (K::kRole[A] == Role::kOuter) outer[A] = rest % a.extents[2 + A], rest /= a.extents[2 + A];
    });
    batch = rest;
    each<K::kCount>([&](auto i) {
      constexpr int I = decltype(i)::value;
      entry<I>(places)[0] = a.template address<I>() + offset<I>(lane);
    });
  }

  template <int I>
  SEQC_INLINE i64 offset(const i64 at_lane) const {
    static constexpr Tensor x = K::kTensors[I];
    const i64* const by = args.strides[I];
    i64 found = batch * by[0];
    each<K::kAxes>([&](auto axis) {
      constexpr int A = decltype(axis)::value;
      static constexpr Role role = K::kRole[A];
      if constexpr (role == Role::kOuter) found += outer[A] * by[2 + A];
      if constexpr (role == Role::kLane && x.blocks) found += block * by[2 + A];
      if constexpr (role == Role::kLane && x.lane) found += x.unit && x.moves ? at_lane : at_lane * by[2 + A];
      if constexpr (role == Role::kInner && L::kShares > 1 && x.inner && !x.blocks) found += part * by[2 + A];
    });
    return found;
  }
  // Where a tensor is that moves, at a step.
  template <int I>
  SEQC_INLINE ElementOf<K, I>* place(const i64 t) const {
    return entry<I>(places)[0] + t * args.strides[I][1];
  }
  // Where a tensor is that is seldom needed: that is worked out anew each time.
  template <int I>
  SEQC_INLINE ElementOf<K, I>* seldom() const {
    return args.template address<I>() + offset<I>(late(lane));
  }
  SEQC_INLINE bool anew(const i64 t) const {
    return args.addresses[K::kResets] && fetch(place<K::kResets>(t));
  }

  // From a tensor's first element to the r-th along its inner axes.
  template <int I>
  SEQC_INLINE i64 along(const int r) const {
    constexpr unsigned mask = K::kTensors[I].inner;
    i64 found = 0;
    int rest = r;
    each<K::kInner>([&](auto backwards) {
      constexpr int m = K::kInner - 1 - decltype(backwards)::value;
      if constexpr (mask >> m & 1) {
        found += rest % inner_extent(m) * args.strides[I][2 + inner_axis<K>(m)];
        rest /= inner_extent(m);
      }
    });
    return found;
  }
  // From where a thread's elements of a tensor begin to the one at a place.
  template <int I>
  SEQC_INLINE i64 to(const Here& s) const {
    constexpr unsigned mask = K::kTensors[I].inner;
    if constexpr (mask == 0) return 0;
    if constexpr (K::kInner == 1) return s.own * (L::kShares * args.strides[I][2 + inner_axis<K>(0)]);
    return along<I>(L::at(mask, s));
  }
  // Calls f(which of a thread's own, where it is) for each of its elements of a tensor at p.
  // Addresses go from element to element: offsets known beforehand would hold registers throughout.
  template <int I, class T, class F>
  SEQC_INLINE void elements(T* p, const F& f) const {
    constexpr unsigned mask = K::kTensors[I].inner;
    if constexpr (mask == 0) {
      f(0, p);
    } else if constexpr (K::kInner == 1) {
      const i64 step = L::kShares * args.strides[I][2 + inner_axis<K>(0)];
#pragma unroll L::kUnroll
      for (int i = 0; i < L::kOwn; ++i) {
        if (L::kEven || i * L::kShares + part < L::kAll) f(i, p);
        p += step;
      }
    } else {
#pragma unroll L::kUnroll
      for (int r = 0; r < L::own(mask); ++r) f(r, p + along<I>(r));
    }
  }
  // Whether a thread hands out what has an inner axis, or has none.
  template <unsigned mask>
  SEQC_INLINE bool tells() const {
    return mask ? live : speaks;
  }
};

}  // namespace seqc
