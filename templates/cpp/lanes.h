// A step of a piece of lanes: what an emitted step reads, computes with and hands out.

// A lambda that is called in a loop over lanes: a loop with a call left in it is not vectorised.
#define SEQC_LAMBDA __attribute__((always_inline))

namespace seqc {

// Lanes that a step takes at once, between prefetches.
template <class K>
constexpr i64 kPieceOf = K::kInner == 0 ? 32 : K::kLane < 0 ? 1 : 64;
// Rows to prefetch ahead.  A row is a page of its own at usual widths, and the hardware's own
// prefetcher starts anew with each page, so it comes too late by itself.
template <bool kBack>
constexpr i64 kAhead = kBack ? -2 : 3;

// Ask for a piece of a row that is needed soon; an address that is not there does no harm.
template <bool kWrite, i64 kPiece, class T>
SEQC_INLINE void fetch(const T* p) {
  for (i64 c = 0; c < kPiece; c += 64 / static_cast<i64>(sizeof(T))) __builtin_prefetch(p + c, kWrite);
}

// Results too large to stay in the caches go past them: that spares reading the lines they fill.
#if defined(__AVX__)
constexpr bool kCanStream = true;
typedef long long Line __attribute__((vector_size(32), may_alias));
template <i64 kPiece, class T>
SEQC_INLINE void stream(T* to, const T* from) {
  for (std::size_t at = 0; at < kPiece * sizeof(T); at += 32) {
    const Line line = *reinterpret_cast<const Line*>(reinterpret_cast<const char*>(from) + at);
    Line* const place = reinterpret_cast<Line*>(reinterpret_cast<char*>(to) + at);
#if defined(__clang__)
    __builtin_nontemporal_store(line, place);
#else
    __builtin_ia32_movntdq256(place, line);
#endif
  }
}
inline void settle() { __builtin_ia32_sfence(); }
#else
constexpr bool kCanStream = false;
template <i64 kPiece, class T>
SEQC_INLINE void stream(T* to, const T* from) {
  copy(from, kPiece, to);
}
inline void settle() {}
#endif

SEQC_INLINE bool widen(const u8* p) { return *p != 0; }
template <class T>
SEQC_INLINE auto widen(const T* p) {
  return load(p);
}
SEQC_INLINE void narrow(double* p, const double x) { *p = x; }
template <class T, class S>
SEQC_INLINE void narrow(T* p, const S x) {
  store(p, x);
}

// Where along the inner axes a cell is: an index each, and one of all of them together.
template <int kInner>
struct Along {
  i64 all, at[kInner + 1];
};

template <class K>
struct Block;

// A row of lanes as a step reads it.
template <class T>
struct Beside {
  const T* p;
  SEQC_INLINE auto operator[](const i64 c) const { return widen(p + c); }
};
template <class T, i64 kPiece>
struct Apart {
  alignas(64) T v[kPiece];
  SEQC_INLINE T operator[](const i64 c) const { return v[c]; }
};

// A row of lanes as a step writes it: in place, past the caches, from lane to lane, or into a sum.
template <class T>
struct Straight {
  T* p;
  template <class S>
  SEQC_INLINE void set(const i64 c, const S x) {
    narrow(p + c, x);
  }
  SEQC_INLINE void put() {}
};
template <class T, i64 kPiece>
struct Past {
  T* p;
  alignas(64) T v[kPiece];
  template <class S>
  SEQC_INLINE void set(const i64 c, const S x) {
    narrow(v + c, x);
  }
  SEQC_INLINE void put() { stream<kPiece>(p, v); }
};
template <class T, class S, i64 kPiece>
struct Scattered {
  T* p;
  i64 apart, n;
  alignas(64) S v[kPiece];
  SEQC_INLINE void set(const i64 c, const S x) { v[c] = x; }
  SEQC_INLINE void put() {
    for (i64 c = 0; c < n; ++c) narrow(p + c * apart, v[c]);
  }
};
template <class S, i64 kPiece>
struct Folded {
  S* p;
  bool begins;
  i64 n;
  alignas(64) S v[kPiece];
  SEQC_INLINE void set(const i64 c, const S x) { v[c] = x; }
  SEQC_INLINE void put() {
    S sum = S(0);
#pragma omp simd reduction(+ : sum)
    for (i64 c = 0; c < n; ++c) sum += v[c];
    *p = begins ? sum : *p + sum;
  }
};

template <class K, class S, bool kWhole, bool kStream>
struct Piece;

// Sums over some of several inner axes: a row of lanes at each place along the others, which may be
// read along other axes than they were made along.
template <class P>
struct Partial {
  typename P::State* rows;
  unsigned inner;
  const P& piece;
  SEQC_INLINE typename P::State* at(const typename P::Here& s) const { return rows + piece.row_of(inner, s) * P::kPiece; }
  template <int... kAxes>
  SEQC_INLINE typename P::State* at(const typename P::Here& s, Index<kAxes>...) const {
    const i64 along[] = {s.at[kAxes]...};
    return rows + piece.row_along(inner, along) * P::kPiece;
  }
};

// What a step is given as `r`.  Rows are taken outside of the loops over lanes, elements inside.
template <class K, class S, bool kWhole, bool kStream>
struct Piece {
  static constexpr bool kBack = S::kBack;
  static constexpr i64 kPiece = kPieceOf<K>;
  using State = typename K::State;
  using Storage = typename K::Storage;
  struct Lanes {
    alignas(64) State v[kPiece];
    SEQC_INLINE State& operator[](const i64 c) { return v[c]; }
  };
  struct Truths {
    alignas(64) bool v[kPiece];
    SEQC_INLINE bool& operator[](const i64 c) { return v[c]; }
  };
  using Here = Along<K::kInner>;

  const Block<K>& at;
  const i64 t, first, n;
  State* const* const carries;
  State* const* const sums;
  const void* const* const befores;

  SEQC_INLINE State scalar(const int i) const { return at.call.scalars[i]; }
  SEQC_INLINE State extent(const int axis) const { return static_cast<State>(at.call.extents[axis]); }
  // Where a cell is along an axis.
  SEQC_INLINE State outer(const int axis) const { return static_cast<State>(at.where[axis]); }
  SEQC_INLINE State lane(const i64 c) const { return static_cast<State>(at.first + first + c); }
  SEQC_INLINE State along(const Here& s, const int m) const { return static_cast<State>(s.at[m]); }
  template <int I>
  SEQC_INLINE auto* place(const i64 along) const {
    constexpr Tensor x = K::kTensors[I];
    using T = ElementOf<K, I>;
    T* p = reinterpret_cast<T*>(at.base[I]) + along;
    if constexpr (x.moves) p += t * at.time[I];
    if constexpr (x.lane) p += x.unit ? first : first * at.apart[I];
    return p;
  }
  template <int I>
  SEQC_INLINE i64 offset(const Here& s) const {
    i64 found = 0;
    for (int m = 0; m < K::kInner; ++m) found += s.at[m] * at.along[I][m];
    return found;
  }

  // An element without lanes.
  template <int I>
  SEQC_INLINE auto value_at(const i64 along) const {
    return widen(static_cast<const ElementOf<K, I>*>(place<I>(along)));
  }
  template <int I>
  SEQC_INLINE auto row_at(const i64 along) const {
    constexpr Tensor x = K::kTensors[I];
    using T = ElementOf<K, I>;
    const T* p = place<I>(along);
    if constexpr (x.unit) {
      if constexpr (x.moves && kWhole) fetch<false, kPiece>(p + kAhead<kBack> * at.time[I]);
      return Beside<T>{p};
    } else {
      Apart<decltype(widen(p)), kPiece> row;
      for (i64 c = 0; c < n; ++c) row.v[c] = widen(p + c * at.apart[I]);
      return row;
    }
  }
  template <int I>
  SEQC_INLINE auto out_at(const i64 along) const {
    constexpr Tensor x = K::kTensors[I];
    using T = ElementOf<K, I>;
    T* p = place<I>(along);
    if constexpr (x.blocks) {
      Folded<T, kPiece> row;
      row.p = p, row.begins = first == 0, row.n = kWhole ? kPiece : n;
      return row;
    } else if constexpr (!x.unit) {
      return Scattered<T, State, kPiece>{p, at.apart[I], n, {}};
    } else if constexpr (kStream && kWhole && x.kind == Kind::kStorage) {
      Past<T, kPiece> row;
      row.p = p;
      return row;
    } else {
      if constexpr (kBack && kWhole) fetch<true, kPiece>(p + kAhead<true> * at.time[I]);
      return Straight<T>{p};
    }
  }
  template <int I>
  SEQC_INLINE auto value(Index<I>) const { return value_at<I>(0); }
  template <int I>
  SEQC_INLINE auto value(Index<I>, const Here& s) const { return value_at<I>(offset<I>(s)); }
  template <int I>
  SEQC_INLINE auto row(Index<I>) const { return row_at<I>(0); }
  template <int I>
  SEQC_INLINE auto row(Index<I>, const Here& s) const { return row_at<I>(offset<I>(s)); }
  template <int I>
  SEQC_INLINE auto out(Index<I>) const { return out_at<I>(0); }
  template <int I>
  SEQC_INLINE auto out(Index<I>, const Here& s) const { return out_at<I>(offset<I>(s)); }

  // The row of something with these inner axes that belongs to a cell.
  SEQC_INLINE i64 row_of(const unsigned mask, const Here& s) const {
    if (mask + 1 == 1u << K::kInner) return s.all;
    i64 r = 0;
    for (int m = 0; m < K::kInner; ++m) r = mask >> m & 1 ? r * at.extents[m] + s.at[m] : r;
    return r;
  }
  // The same at these places along them.
  SEQC_INLINE i64 row_along(const unsigned mask, const i64* along) const {
    i64 r = 0;
    for (int m = 0; m < K::kInner; ++m) r = mask >> m & 1 ? r * at.extents[m] + *along++ : r;
    return r;
  }
  template <int J>
  SEQC_INLINE State* carry(Index<J>) const { return carries[J] + first; }
  template <int J>
  SEQC_INLINE State* carry(Index<J>, const Here& s) const { return carries[J] + row_of(S::kCarry[J].inner, s) * at.width + first; }
  template <int J>
  SEQC_INLINE State* sum(Index<J>) const { return sums[J] + first; }
  template <int J>
  SEQC_INLINE State* sum(Index<J>, const Here& s) const { return sums[J] + row_of(K::kSum[J].inner, s) * at.width + first; }
  // A state before the step: kept as it was stored, or computed again.
  template <int J>
  SEQC_INLINE auto before(Index<J>) const { return before_at<J>(0); }
  template <int J>
  SEQC_INLINE auto before(Index<J>, const Here& s) const { return before_at<J>(row_of(K::kBefore[J].inner, s)); }
  template <int J>
  SEQC_INLINE auto before_at(const i64 r) const {
    if constexpr (K::kEvery) {
      return Beside<State>{static_cast<const State*>(befores[J]) + r * at.width + first};
    } else {
      const Storage* p = static_cast<const Storage*>(befores[J]) + first;
      if constexpr (kWhole) fetch<false, kPiece>(p + kAhead<true> * at.time[K::kBefore[J].kept]);
      return Beside<Storage>{p};
    }
  }
  template <int P>
  SEQC_INLINE Partial<Piece> partial(Index<P>, const State neutral = State(0)) const {
    State* const rows = at.partials.get() + at.partial[P];
    fill(rows, at.rows_of(K::kPartial[P]) * kPiece, neutral);
    return {rows, K::kPartial[P], *this};
  }
  template <class... Sum>
  SEQC_INLINE void across(const Sum&...) const {}

  template <class F>
  SEQC_INLINE void lanes(F&& f) const {
    if constexpr (kWhole) {
#pragma omp simd
      for (i64 c = 0; c < kPiece; ++c) f(c);
    } else {
#pragma omp simd
      for (i64 c = 0; c < n; ++c) f(c);
    }
  }
  // Calls f(where) along the inner axes of a mask, or all.
  template <int kMask, class F>
  SEQC_INLINE void inner(Index<kMask>, F&& f) const {
    Here s{};
    const i64 count = at.rows_of(kMask);
    for (i64 i = 0; i < count; ++i) {
      f(s);
      ++s.all;
      for (int m = K::kInner - 1; m >= 0; --m) {
        if (!(kMask >> m & 1)) continue;
        if (++s.at[m] < at.extents[m]) break;
        s.at[m] = 0;
      }
    }
  }
  template <class F>
  SEQC_INLINE void inner(F&& f) const {
    if constexpr (K::kInner == 1) {
      Here s{};
      for (s.all = 0; s.all < at.inner; ++s.all) {
        s.at[0] = s.all;
        f(s);
      }
    } else {
      inner(Index<(1 << K::kInner) - 1>{}, f);
    }
  }
};

}  // namespace seqc
