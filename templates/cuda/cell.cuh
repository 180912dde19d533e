// Which cell a thread has, and where that lies in each tensor.
//
// A cell is one lane of one row with all of the inner axes.  kShares neighbouring threads have a cell
// together, each every kShares-th element along one of those axes, the longest, and all along the
// others; where there are none a thread has a cell by itself.

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
// The inner axis that the threads of a cell share: the first of the longest.
constexpr int shared_axis(const int axes) {
  int longest = 0;
  for (int m = 1; m < axes; ++m) longest = inner_extent(m) > inner_extent(longest) ? m : longest;
  return longest;
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

// What each of the threads that share a cell has along the m-th inner axis, and along those of a mask.
constexpr int own_extent(const int axes, const int shares, const int m) {
  return m == shared_axis(axes) ? (inner_extent(m) + shares - 1) / shares : inner_extent(m);
}
constexpr int own_elements(const int axes, const int shares, const unsigned mask) {
  int n = 1;
  for (int m = 0; m < axes; ++m) n *= mask >> m & 1 ? own_extent(axes, shares, m) : 1;
  return n;
}

#ifndef SEQC_EMULATOR
#define SEQC_SHARED(type, name, count) __shared__ type name[count]
#endif

// A place along the inner axes: which of a thread's own it is, and which of the threads it is.
struct Here {
  int own, part;
};

template <class K, int kWish>
struct Layout {
  static constexpr int kShares = K::kInner ? kWish : 1;
  static constexpr int kShared = shared_axis(K::kInner);
  static constexpr unsigned kSharedBit = 1u << kShared;
  static constexpr int kAll = K::kInner ? inner_extent(kShared) : 1;  // along the axis that is shared
  static constexpr bool kEven = kAll % kShares == 0;                  // all threads have as many
  // What a thread has along the m-th inner axis.
  static constexpr int extent(const int m) { return own_extent(K::kInner, kShares, m); }
  // Registers of a thread for something that has these inner axes.
  static constexpr int own(const unsigned mask) { return own_elements(K::kInner, kShares, mask); }
  static constexpr unsigned kEvery = (1u << K::kInner) - 1;
  static constexpr int kOwn = own_elements(K::kInner, kShares, kEvery);  // elements of a thread
  static constexpr int kUnroll = kOwn <= 32 ? kOwn : 1;                  // more would be too much text
  static constexpr int kWarpLanes = kWarpThreads / kShares;
  static_assert(kShares <= kWarpThreads && power_from(kShares) == kShares, "threads of a cell are a part of a warp");
  // Of the r-th of a thread's registers for something with these inner axes: where it is along the m-th.
  SEQC_INLINE static int along(const unsigned mask, const int r, const int m) {
    if (K::kInner == 1) return r;
    int rest = r;
#pragma unroll
    for (int n = K::kInner - 1; n > m; --n) rest /= mask >> n & 1 ? extent(n) : 1;
    return rest % extent(m);
  }
  // Whether a thread has it: along the axis that is shared some have one less.
  SEQC_INLINE static bool has(const unsigned mask, const int r, const int part) {
    return kEven || !(mask & kSharedBit) || along(mask, r, kShared) * kShares + part < kAll;
  }
  // Where a place is along the m-th inner axis.
  SEQC_INLINE static int index(const Here& s, const int m) {
    const int own = along(kEvery, s.own, m);
    return m == kShared ? own * kShares + s.part : own;
  }
  // Which of a thread's registers for something with these inner axes is a place's.
  SEQC_INLINE static int at(const unsigned mask, const Here& s) {
    if (K::kInner == 1) return mask ? s.own : 0;
    int r = 0;
#pragma unroll
    for (int m = 0; m < K::kInner; ++m) r = mask >> m & 1 ? r * extent(m) + along(kEvery, s.own, m) : r;
    return r;
  }
  // The same at these places along the axes of the mask.
  SEQC_INLINE static int at_places(const unsigned mask, const int* along) {
    int r = 0;
#pragma unroll
    for (int m = 0; m < K::kInner; ++m) r = mask >> m & 1 ? r * extent(m) + *along++ : r;
    return r;
  }
  // The place of the r-th of a thread's registers for something with these inner axes, at the first
  // index of the others; and which of all elements along those axes it is.
  SEQC_INLINE static int place(const unsigned mask, const int r) {
    if (K::kInner == 1 || mask == kEvery) return r;
    int found = 0;
#pragma unroll
    for (int m = 0; m < K::kInner; ++m) found = found * extent(m) + (mask >> m & 1 ? along(mask, r, m) : 0);
    return found;
  }
  SEQC_INLINE static int element(const unsigned mask, const int r, const int part) {
    int found = 0;
#pragma unroll
    for (int m = 0; m < K::kInner; ++m) {
      const int own = along(mask, r, m);
      if (mask >> m & 1) found = found * inner_extent(m) + (m == kShared ? own * kShares + part : own);
    }
    return found;
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
  bool speaks;              // hands out what all threads of the cell have
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
      if constexpr (role == Role::kInner && L::kShares > 1 && A == inner_axis<K>(L::kShared) && !x.blocks) {
        if constexpr (x.inner & L::kSharedBit) found += part * by[2 + A];
      }
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

  // From a tensor's first element to the r-th along its inner axes, of all threads.
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
    return own_along<I>(L::at(mask, s));
  }
  // From a thread's first element of a tensor to its r-th.
  template <int I>
  SEQC_INLINE i64 own_along(const int r) const {
    constexpr unsigned mask = K::kTensors[I].inner;
    i64 found = 0;
    each<K::kInner>([&](auto axis) {
      constexpr int m = decltype(axis)::value;
      if constexpr (mask >> m & 1) {
        const i64 by = args.strides[I][2 + inner_axis<K>(m)];
        found += L::along(mask, r, m) * (m == L::kShared ? L::kShares * by : by);
      }
    });
    return found;
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
      for (int r = 0; r < L::own(mask); ++r) {
        if (L::has(mask, r, part)) f(r, p + own_along<I>(r));
      }
    }
  }
  // Whether a thread hands out what has these inner axes: of what it has alone, or speaks for.
  template <unsigned mask>
  SEQC_INLINE bool tells() const {
    return mask & L::kSharedBit ? live : speaks;
  }
};

}  // namespace seqc
