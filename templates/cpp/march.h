// A march over time: a task's lanes, step after step, its carries in the caches.

namespace seqc {

constexpr i64 kBlock = 1024;  // lanes a task takes at most
constexpr i64 kFlush = 64;    // steps whose sums are gathered in State before they go to double

// The lanes of one row (batch, outer axes) that a task has.
template <class K>
struct Block {
  using State = typename K::State;
  const Call<K>& call;
  i64 b, row, block, first, n, width, inner;
  i64 extents[K::kInner + 1];  // of the inner axes
  char* base[K::kCount];       // at the row and the first lane
  i64 time[K::kCount], apart[K::kCount], along[K::kCount][K::kInner + 1];
  i64 where[K::kAxes + 1] = {};  // along the outer axes
  Memory<State> rows[K::kGathers + 1], partials;
  i64 partial[K::kPartials + 1];
  const u8* resets;

  Block(const Call<K>& c, const i64 at_row, const i64 at_block, const i64 wide)
      : call(c), row(at_row), block(at_block), first(at_block * wide), n(min(wide, c.lanes() - first)), width(wide), inner(c.inner()) {
    i64 rest = row;
    for (int a = K::kAxes - 1; a >= 0; --a) {
      if (K::kRole[a] == Role::kOuter) where[a] = rest % c.extents[a], rest /= c.extents[a];
    }
    b = rest;
    for (int a = 0, m = 0; a < K::kAxes; ++a) {
      if (K::kRole[a] == Role::kInner) extents[m++] = c.extents[a];
    }
    each<K::kCount>([&](auto i) {
      constexpr int I = decltype(i)::value;
      constexpr Tensor x = K::kTensors[I];
      const i64* lie = c.strides[I];
      apart[I] = c.lane_stride(I);
      i64 offset = b * lie[0] + (x.blocks ? block : first) * apart[I];
      for (int a = 0, m = 0; a < K::kAxes; ++a) {
        if (K::kRole[a] == Role::kInner) along[I][m++] = lie[2 + a];
        offset += where[a] * lie[2 + a];
      }
      time[I] = lie[1];
      base[I] = c.base[I] ? c.base[I] + offset * static_cast<i64>(sizeof(ElementOf<K, I>)) : nullptr;
    });
    resets = reinterpret_cast<const u8*>(base[K::kResets]);
    i64 size = 0;
    for (int p = 0; p < K::kPartials; ++p) partial[p] = size, size += rows_of(K::kPartial[p]) * kPieceOf<K>;
    partials = Memory<State>(size);
    for (int g = 0; g < K::kGathers; ++g) {
      const Gathered x = K::kGather[g];
      rows[g] = Memory<State>(rows_of(x.inner) * width);
      State* const to = rows[g].get();
      const State* const from = reinterpret_cast<const State*>(base[x.tensor]);
      walk(x.inner, x.tensor, [&](const i64 here, const i64 there) { to[here] = from[there]; });
      base[x.tensor] = reinterpret_cast<char*>(to);
      apart[x.tensor] = 1;
      i64 step = width;
      for (int m = K::kInner - 1; m >= 0; --m) {
        along[x.tensor][m] = x.inner >> m & 1 ? step : 0;
        step *= x.inner >> m & 1 ? extents[m] : 1;
      }
    }
  }
  bool anew(const i64 t) const { return resets && resets[t * time[K::kResets]]; }
  bool anew(const i64 begin, const i64 end) const {
    bool found = false;
    if (resets) {
      for (i64 t = begin; t < end; ++t) found |= anew(t);
    }
    return found;
  }
  // Rows of lanes of something that has these inner axes.
  i64 rows_of(const unsigned mask) const {
    i64 found = 1;
    for (int m = 0; m < K::kInner; ++m) found *= mask >> m & 1 ? extents[m] : 1;
    return found;
  }
  // f(place in rows, offset in the tensor) for each element of the block.
  template <class F>
  SEQC_INLINE void walk(const unsigned mask, const int tensor, F&& f) const {
    const i64 count = rows_of(mask), by = apart[tensor];
    for (i64 r = 0; r < count; ++r) {
      i64 rest = r, offset = 0;
      for (int m = K::kInner - 1; m >= 0; --m) {
        if (mask >> m & 1) offset += rest % extents[m] * along[tensor][m], rest /= extents[m];
      }
      if (by == 1) {
        for (i64 c = 0; c < n; ++c) f(r * width + c, offset + c);
      } else {
        for (i64 c = 0; c < n; ++c) f(r * width + c, offset + c * by);
      }
    }
  }
};

// What a march of step S works on, in rows of lanes: its carries; backwards what left at resets;
// the sums of its steps, in State and of all of them in double.
template <class K, class S>
struct Work {
  using State = typename K::State;
  Memory<State> states;
  Memory<double> doubles;
  State* carries[S::kCarries + 1] = {};
  State* left[S::kCarries + 1] = {};
  State* sums[K::kSums + 1] = {};
  double* totals[K::kSums + 1] = {};

  Work() = default;
  explicit Work(const Block<K>& at) {
    i64 own = 0, summed = 0;
    for (int j = 0; j < S::kCarries; ++j) own += size(at, j);
    if constexpr (S::kSums) {
      for (int k = 0; k < K::kSums; ++k) summed += at.rows_of(K::kSum[k].inner) * at.width;
    }
    const bool leaves = S::kLeaves && at.resets;
    states = Memory<State>(own * (leaves ? 2 : 1) + summed);
    doubles = Memory<double>(summed);
    State* next = states.get();
    for (int j = 0; j < S::kCarries; ++j) carries[j] = next, next += size(at, j);
    for (int j = 0; j < S::kCarries; ++j) left[j] = leaves ? next : nullptr, next += leaves ? size(at, j) : 0;
    double* total = doubles.get();
    if constexpr (S::kSums) {
      for (int k = 0; k < K::kSums; ++k) {
        const i64 count = at.rows_of(K::kSum[k].inner) * at.width;
        sums[k] = next, next += count;
        totals[k] = total, total += count;
      }
    }
  }
  static i64 size(const Block<K>& at, const int j) { return at.rows_of(S::kCarry[j].inner) * at.width; }
};

// At a reset carries start anew; backwards what has arrived leaves.
template <class S, class K>
void renew(const Block<K>& at, const Work<K, S>& work) {
  using State = typename K::State;
  for (int j = 0; j < S::kCarries; ++j) {
    const Carry x = S::kCarry[j];
    State* const rows = work.carries[j];
    const i64 count = Work<K, S>::size(at, j);
    if (j >= S::kCarries - S::kParts) {
      fill(rows, count, S::identity(j - (S::kCarries - S::kParts)));
    } else if (S::kBack) {
      if (State* const left = work.left[j]) {
        for (i64 i = 0; i < count; ++i) left[i] += rows[i];
      }
      fill(rows, count, State(0));
    } else {
      const State* const from = reinterpret_cast<const State*>(at.base[x.fresh]);
      at.walk(x.inner, x.fresh, [&](const i64 here, const i64 there) { rows[here] = from[there]; });
    }
  }
}

template <class S, class K>
void flush(const Block<K>& at, const Work<K, S>& work) {
  if constexpr (S::kSums) {
    for (int k = 0; k < K::kSums; ++k) {
      const i64 count = at.rows_of(K::kSum[k].inner) * at.width;
      for (i64 i = 0; i < count; ++i) work.totals[k][i] += work.sums[k][i];
      fill(work.sums[k], count, typename K::State(0));
    }
  }
}

// One step of all lanes.
template <class S, bool kStream, class K>
SEQC_INLINE void step(const Block<K>& at, const Work<K, S>& work, const i64 t, const void* const* befores) {
  constexpr i64 kPiece = kPieceOf<K>;
  i64 first = 0;
  for (; first + kPiece <= at.n; first += kPiece) {
    S::run(Piece<K, S, true, kStream>{at, t, first, kPiece, work.carries, work.sums, befores});
  }
  if (first < at.n) S::run(Piece<K, S, false, false>{at, t, first, at.n - first, work.carries, work.sums, befores});
}

// Steps [begin, end), in the kernel's direction.
template <class S, bool kStream, class K>
void march(const Block<K>& at, const Work<K, S>& work, const i64 begin, const i64 end) {
  using State = typename K::State;
  using Storage = typename K::Storage;
  constexpr int kBefores = S::kBefores ? K::kBefores : 0;
  alignas(64) Storage began[kBefores + 1][kBefores ? kBlock : 1];
  const void* befores[kBefores + 1];
  const i64 steps = end - begin;
  const bool keeps = S::kKeeps && at.base[K::kFirstKept];
  for (i64 k = 0; k < steps; ++k) {
    const i64 t = S::kBack ? end - 1 - k : begin + k;
    const bool anew = (S::kCarries || kBefores) && at.anew(t);
    if constexpr (K::kEvery && S::kKeeps) {
      if (keeps && t % at.call.every == 0) {
        for (int j = 0; j < S::kCarries; ++j) {
          const Carry x = S::kCarry[j];
          State* const to = reinterpret_cast<State*>(at.base[x.kept]) + t / at.call.every * at.time[x.kept];
          at.walk(x.inner, x.kept, [&](const i64 here, const i64 there) { to[there] = work.carries[j][here]; });
        }
      }
    }
    if (!S::kBack && anew) renew<S>(at, work);
    for (int j = 0; j < kBefores; ++j) {
      const Before x = K::kBefore[j];
      befores[j] = reinterpret_cast<const Storage*>(at.base[x.kept]) + (t - 1) * at.time[x.kept];
      if (t == 0 || anew) {
        const State* const from = reinterpret_cast<const State*>(at.base[anew ? x.fresh : x.start]);
        for (i64 c = 0; c < at.n; ++c) narrow(began[j] + c, from ? from[c] : State(0));
        befores[j] = began[j];
      }
    }
    step<S, kStream>(at, work, t, befores);
    if (S::kBack && anew) renew<S>(at, work);
    if constexpr (!K::kEvery && S::kKeeps) {
      for (int j = 0; keeps && j < S::kCarries; ++j) {
        const Carry x = S::kCarry[j];
        if (x.kept < 0) continue;
        Storage* const to = reinterpret_cast<Storage*>(at.base[x.kept]) + t * at.time[x.kept];
        for (i64 c = 0; c < at.n; ++c) narrow(to + c, work.carries[j][c]);
      }
    }
    if (S::kSums && (t == begin || (t - begin) % kFlush == 0)) flush<S>(at, work);
  }
}

// The same backwards where but one state in `every` steps was kept: those between are computed again.
template <class S, bool kStream, class K>
void march_again(const Block<K>& at, const Work<K, S>& work, const i64 begin, const i64 end) {
  using State = typename K::State;
  using A = typename K::Again;
  const Work<K, A> again(at);
  i64 places[A::kCarries + 1], size = 0;
  for (int j = 0; j < A::kCarries; ++j) places[j] = size, size += Work<K, A>::size(at, j);
  const i64 every = at.call.every;
  const Memory<State> record(size * every);
  for (i64 from = (end - 1) / every * every; from >= begin && end > begin; from -= every) {
    const i64 to = min(end, from + every);
    for (int j = 0; j < A::kCarries; ++j) {
      const Carry x = A::kCarry[j];
      const State* const kept = reinterpret_cast<const State*>(at.base[x.kept]) + from / every * at.time[x.kept];
      at.walk(x.inner, x.kept, [&](const i64 here, const i64 there) { again.carries[j][here] = kept[there]; });
    }
    for (i64 t = from; t < to; ++t) {
      if (at.anew(t)) renew<A>(at, again);
      copy(again.states.get(), size, record.get() + (t - from) * size);
      if (t + 1 < to) step<A, false>(at, again, t, nullptr);
    }
    for (i64 t = to - 1; t >= from; --t) {
      const void* befores[K::kBefores + 1];
      for (int j = 0; j < K::kBefores; ++j) befores[j] = record.get() + (t - from) * size + places[K::kBefore[j].carry];
      step<S, kStream>(at, work, t, befores);
      if (at.anew(t)) renew<S>(at, work);
    }
    flush<S>(at, work);
  }
}

template <class S, bool kStream, class K>
void go(const Block<K>& at, const Work<K, S>& work, const i64 begin, const i64 end) {
  if constexpr (K::kEvery && S::kBack && S::kBefores) {
    march_again<S, kStream>(at, work, begin, end);
  } else {
    march<S, kStream>(at, work, begin, end);
  }
}

}  // namespace seqc
