// Tiles of steps: read, and run one step after another.

namespace seqc {

template <class K, class L>
SEQC_INLINE void load_constants(const Cell<K, L>& cell, Constants<K, L>& constants) {
  each<kReadable<K>>([&](auto i) {
    constexpr int I = decltype(i)::value;
    if constexpr (!K::kTensors[I].moves) {
      cell.template elements<I>(entry<I>(cell.places)[0], [&](const int e, const auto* p) { entry<I>(constants)[e] = widen(fetch(p)); });
    }
  });
}

// Reads steps `first`, the one after it in the kernel's direction, …: `count` of them, which may be
// none.  kBeside: what has no inner axis, and what was kept; kAlong: what has one.
template <bool kBeside, bool kAlong, class K, class L, int kSteps>
SEQC_INLINE void load_tile(const Cell<K, L>& cell, Tile<K, L, kSteps>& tile, const i64 first, const int count) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const i64 t = K::kBack ? first - i : first + i;
    if (i < count) {
      each<kReadable<K>>([&](auto entry_of) {
        constexpr int I = decltype(entry_of)::value;
        static constexpr Tensor x = K::kTensors[I];
        if constexpr (x.moves && (x.inner ? kAlong : kBeside)) {
          cell.template elements<I>(cell.template place<I>(t), [&](const int e, const auto* p) {
            entry<I>(tile.streams)[i * L::own(x.inner) + e] = fetch(p);
          });
        }
      });
      if constexpr (kBeside) tile.anew[i] = cell.anew(t);
      if constexpr (kBeside && !K::kEvery) {
        each<K::kBefores>([&](auto before) {
          constexpr int J = decltype(before)::value;
          static constexpr Before x = K::kBefore[J];
          using T = ElementOf<K, x.kept>;
          T& found = entry<J>(tile.befores)[i];
          if (!tile.anew[i] && t > 0) {
            found = fetch(cell.template place<x.kept>(t - 1));
          } else if (tile.anew[i]) {
            found = narrow<T>(fetch(cell.template seldom<x.fresh>()));
          } else {
            found = cell.args.addresses[x.start] ? narrow<T>(fetch(cell.template seldom<x.start>())) : narrow<T>(typename K::State(0));
          }
        });
      }
    }
  }
}

// One tile becomes another, but for what the other has not read.
template <bool kAlong, class K, class L, int kSteps>
SEQC_INLINE void take_over(Tile<K, L, kSteps>& tile, const Tile<K, L, kSteps>& next) {
  each<kReadable<K>>([&](auto entry_of) {
    constexpr int I = decltype(entry_of)::value;
    static constexpr Tensor x = K::kTensors[I];
    if constexpr (x.moves && (!x.inner || kAlong)) {
#pragma unroll
      for (int i = 0; i < StreamTable<K, L, kSteps>::size(x); ++i) entry<I>(tile.streams)[i] = entry<I>(next.streams)[i];
    }
  });
  if constexpr (!K::kEvery) {
    each<K::kBefores>([&](auto before) {
      constexpr int J = decltype(before)::value;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) entry<J>(tile.befores)[i] = entry<J>(next.befores)[i];
    });
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) tile.anew[i] = next.anew[i];
}

// ---- carries

// Reads a state from a tensor at p; zeros where there is none.
template <int I, class K, class L, int kCount>
SEQC_INLINE void load_state(const Cell<K, L>& cell, typename K::State (&state)[kCount], const i64 further = 0) {
  using State = typename K::State;
  static_assert(L::own(K::kTensors[I].inner) == kCount, "a carry and its tensor have different inner axes");
  if (cell.args.addresses[I]) {
    cell.template elements<I>(cell.template seldom<I>() + further, [&](const int e, const State* p) { state[e] = *p; });
  } else {
#pragma unroll
    for (int e = 0; e < kCount; ++e) state[e] = State(0);
  }
}
template <int I, class K, class L, class T, int kCount>
SEQC_INLINE void store_state(const Cell<K, L>& cell, const T (&state)[kCount], const i64 further = 0) {
  static_assert(L::own(K::kTensors[I].inner) == kCount, "a carry and its tensor have different inner axes");
  if (cell.template tells<K::kTensors[I].inner>()) {
    cell.template elements<I>(cell.template seldom<I>() + further, [&](const int e, auto* p) {
      using To = ElementOf<K, I>;
      if constexpr (K::kTensors[I].kind == Kind::kSum) {
        *p = static_cast<double>(state[e]);
      } else {
        *p = narrow<To>(state[e]);
      }
    });
  }
}

template <class S, class K, class L>
SEQC_INLINE void load_starts(const Cell<K, L>& cell, Carries<K, L, S>& carries) {
  each<S::kCarries>([&](auto carry) {
    constexpr int J = decltype(carry)::value;
    load_state<S::kCarry[J].start>(cell, entry<J>(carries));
  });
}
template <class S, class K, class L>
SEQC_INLINE void store_lasts(const Cell<K, L>& cell, const Carries<K, L, S>& carries) {
  each<S::kCarries>([&](auto carry) {
    constexpr int J = decltype(carry)::value;
    store_state<S::kCarry[J].last>(cell, entry<J>(carries));
  });
}

template <class B>
SEQC_INLINE void clear(B& bank) {
  bank = B{};
}

// At a reset carries start anew; backwards what has arrived leaves: leave(carry, numbers).
template <class S, class K, class L, class Leave>
SEQC_INLINE void renew(const Cell<K, L>& cell, Carries<K, L, S>& carries, const Leave& leave) {
  using State = typename K::State;
  each<S::kCarries>([&](auto carry) {
    constexpr int J = decltype(carry)::value;
    constexpr int first_part = S::kCarries - S::kParts;
    auto& state = entry<J>(carries);
    constexpr int count = L::own(S::kCarry[J].inner);
    if constexpr (J >= first_part || S::kBack) {
      if constexpr (S::kLeaves) leave(carry, state);
#pragma unroll
      for (int e = 0; e < count; ++e) state[e] = J >= first_part ? S::identity(J - first_part) : State(0);
    } else {
      load_state<S::kCarry[J].fresh>(cell, state);
    }
  });
}

// What a march forward keeps for the way back: the state before one step in `every`, or each state
// after its step.
template <class K>
struct Keeper {
  i64 chunk;
  int phase, every;
  bool keeps;
  SEQC_INLINE Keeper(const Args<K>& args, const i64 first) : chunk(0), phase(0), every(1), keeps(false) {
    if constexpr (K::Main::kKeeps) keeps = args.addresses[K::kFirstKept] != nullptr;
    if constexpr (K::kEvery && K::Main::kKeeps) {
      every = static_cast<int>(args.every());
      if (keeps) chunk = (first + every - 1) / every, phase = static_cast<int>(first % every);
    }
  }
  template <class L>
  SEQC_INLINE void before(const Cell<K, L>& cell, const Carries<K, L, typename K::Main>& carries) {
    if constexpr (K::kEvery && K::Main::kKeeps) {
      if (keeps && phase == 0) {
        each_kept([&](auto carry, auto kept) {
          constexpr int J = decltype(carry)::value, I = decltype(kept)::value;
          store_state<I>(cell, entry<J>(carries), chunk * cell.args.strides[I][1]);
        });
        ++chunk;
      }
      if (++phase == every) phase = 0;
    }
  }
  template <class L>
  SEQC_INLINE void after(const Cell<K, L>& cell, const Carries<K, L, typename K::Main>& carries, const i64 t) const {
    if constexpr (!K::kEvery && K::Main::kKeeps) {
      if (keeps) {
        each_kept([&](auto carry, auto kept) {
          constexpr int J = decltype(carry)::value, I = decltype(kept)::value;
          if (cell.live) *cell.template place<I>(t) = narrow<ElementOf<K, I>>(entry<J>(carries)[0]);
        });
      }
    }
  }
  template <class F>
  SEQC_INLINE static void each_kept(const F& f) {
    each<K::Main::kCarries>([&](auto carry) {
      static constexpr Carry x = K::Main::kCarry[decltype(carry)::value];
      if constexpr (x.kept >= 0) f(carry, Index<x.kept>{});
    });
  }
};

// ---- sums over the lanes of a warp

// Of kCount numbers a thread at a time: with each shuffle a thread gives away half of its numbers
// and keeps the other half, so that in the end each has one.
template <class L, int kCount, class State>
SEQC_INLINE State over_lanes(State* const mine) {
  int by = kWarpThreads / 2;
#pragma unroll
  for (int half = kCount / 2; half > 0; half /= 2, by /= 2) {
    const bool upper = threadIdx.x & by;
#pragma unroll
    for (int j = 0; j < half; ++j) {
      const State gives = upper ? mine[j] : mine[j + half];
      const State keeps = upper ? mine[j + half] : mine[j];
      mine[j] = keeps + __shfl_xor_sync(~0u, gives, by);
    }
  }
#pragma unroll
  for (; by >= L::kShares; by /= 2) mine[0] += __shfl_xor_sync(~0u, mine[0], by);
  return mine[0];
}
// Calls tell(entry, element along the inner axes, sum) at the thread that has it.
template <class K, class L, class Tell>
SEQC_INLINE void close_folds(Folds<K, L>& folds, const int part, const Tell& tell) {
  each<K::kOuts>([&](auto out) {
    constexpr int O = decltype(out)::value;
    using F = Fold<K, L, K::kFirstOut + O>;
    if constexpr (F::kTensor.blocks) {
      constexpr int turns = L::kWarpLanes / F::kGroup;  // threads of a lane that have the same sum
      const int at = static_cast<int>(threadIdx.x) % kWarpThreads / L::kShares;
#pragma unroll
      for (int g = 0; g < F::kRoom; g += F::kGroup) {
        const auto sum = over_lanes<L, F::kGroup>(entry<O>(folds) + g);
        const int own = g + at / turns;
        constexpr unsigned mask = F::kTensor.inner;
        const bool speaks = at % turns == 0 && (mask & L::kSharedBit || part == 0);
        if (speaks && own < F::kCount && L::has(mask, own, part)) {
          tell(Index<K::kFirstOut + O>{}, L::element(mask, own, part), sum);
        }
      }
    }
  });
}

// ---- steps

// One step; kMain: what it hands out is handed out.
template <class S, bool kMain, class K, class L, int kSteps, class Leave, class Tell>
SEQC_INLINE void run_step(const Cell<K, L>& cell, const Constants<K, L>& constants, const Tile<K, L, kSteps>& tile,
                          const int i, const i64 t, Carries<K, L, S>& carries, Sums<K, L, typename K::State>& sums,
                          Keeper<K>& keeper, const Leave& leave, const Tell& tell) {
  if constexpr (kMain) keeper.before(cell, carries);
  if (!S::kBack && tile.anew[i]) renew<S>(cell, carries, leave);
  Folds<K, L> folds;
  if constexpr (kMain && kFolds<K>) clear(folds);
  S::run(Step<K, L, S, Tile<K, L, kSteps>>{cell, constants, tile, i, t, carries, sums, folds});
  if constexpr (kMain && kFolds<K>) close_folds<K, L>(folds, cell.part, tell);
  if constexpr (kMain) keeper.after(cell, carries, t);
  if (S::kBack && tile.anew[i]) renew<S>(cell, carries, leave);
}

// What a fold is told where nothing waits for a block's other warps: it is written at once.
template <class K, class L>
SEQC_INLINE auto written_at(const Cell<K, L>& cell, const i64 t) {
  return [&cell, t](auto out, const int element, const auto sum) {
    constexpr int I = decltype(out)::value;
    cell.template place<I>(t)[cell.template along<I>(element)] = narrow<ElementOf<K, I>>(sum);
  };
}

// The sums of some steps are added to those of all.
template <class K, class L>
SEQC_INLINE void add_up(Sums<K, L, double>& totals, const Sums<K, L, typename K::State>& sums) {
  each<K::kSums>([&](auto sum) {
    constexpr int k = decltype(sum)::value;
#pragma unroll
    for (int e = 0; e < L::own(K::kSum[k].inner); ++e) entry<k>(totals)[e] += entry<k>(sums)[e];
  });
}

}  // namespace seqc
