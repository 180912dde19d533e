// The march of a kernel with inner axes: a block has kMarchLanes neighbouring lanes of one row, kShares
// neighbouring threads a cell, each its elements of the inner axes in registers.  Sums over the axis that
// they share go on across those threads by shuffles.  The state never reaches memory, but for one step in `every`,
// from which the march back computes the others again: first those that begin a piece of kPiece steps,
// then, a piece at a time, all of them.
//
// The launcher says (and has the same formulas): threads that share a cell, steps of a piece, whether
// the states of one are kept in shared memory, and steps whose sums over lanes wait for the block.  A
// block's place for states, numbers() of Args, has (pieces of `every` + (shared ? 0 : kPiece)) * kRecord *
// threads numbers.

#ifndef SEQC_PARTS
#define SEQC_PARTS 1
#endif
#ifndef SEQC_PIECE
#define SEQC_PIECE 8
#endif
#ifndef SEQC_SHARED_RECORD
#define SEQC_SHARED_RECORD 0
#endif
#ifndef SEQC_FOLD_STEPS
#define SEQC_FOLD_STEPS 1
#endif

namespace seqc {

template <class K>
struct Inner {
  using L = Layout<K, SEQC_PARTS>;
  static constexpr int kPiece = SEQC_PIECE, kFoldSteps = SEQC_FOLD_STEPS;
  static constexpr int kThreads = kMarchLanes * L::kShares, kWarps = kThreads / kWarpThreads;
  // Whether registers hold the next step's streams and sums in double, too.
  static constexpr bool kFew = L::kOwn <= 4;
  static constexpr int kBlocks = !kFew ? 1 : (K::kBack ? 512 : 768) / kThreads > 0 ? (K::kBack ? 512 : 768) / kThreads : 1;

  // Numbers of a state that is computed again, a thread, and before its J-th carry.
  template <int J>
  static constexpr int record_to() {
    if constexpr (J > 0) {
      constexpr Carry x = K::Again::kCarry[J - 1];
      return record_to<J - 1>() + L::own(x.inner);
    }
    return 0;
  }
  static constexpr int record() {
    if constexpr (kComputesAgain<K>) return record_to<K::Again::kCarries>();
    return 0;
  }
  // Sums over lanes that wait for the block, before those of the O-th out.
  template <int O>
  static constexpr int stage_to() {
    if constexpr (O > 0) {
      using F = Fold<K, L, K::kFirstOut + O - 1>;
      return stage_to<O - 1>() + (F::kTensor.blocks ? kWarps * kFoldSteps * F::kElements : 0);
    }
    return 0;
  }
};

// Marches over steps first, …, last in the direction of S, each step's streams read while the one
// before is computed.  before(t, tile) and after(t) go around each step, which runs if runs(t).
template <class S, bool kMain, class K, class L, class Leave, class Tell, class Before, class Runs, class After>
SEQC_INLINE void one_ahead(const Cell<K, L>& cell, const Constants<K, L>& constants, const i64 first, const i64 last,
                           Carries<K, L, S>& carries, Sums<K, L, typename K::State>& sums, Keeper<K>& keeper,
                           const Leave& leave, const Tell& tell, const Before& before, const Runs& runs, const After& after) {
  constexpr bool kFew = Inner<K>::kFew;
  constexpr int kBy = S::kBack ? -1 : 1;
  Tile<K, L, 1> now, ahead;
  load_tile<true, kFew>(cell, now, first, 1);
#pragma unroll 1
  for (i64 k = first;; k += kBy) {
    const i64 t = late(k);
    if (t != last) load_tile<true, kFew>(cell, ahead, t + kBy, 1);
    before(t, now);
    if constexpr (!kFew) load_tile<false, true>(cell, now, t, 1);
    if (runs(t)) run_step<S, kMain>(cell, constants, now, 0, t, carries, sums, keeper, leave, tell);
    after(t);
    if (t == last) break;
    take_over<kFew>(now, ahead);
  }
}

// Sums over lanes wait in shared memory, some steps of them, for those of the block's other warps.
template <class K, class L, class Stage>
struct Staging {
  using N = Inner<K>;
  const Cell<K, L>& cell;
  Stage& stage;
  int& staged;

  template <int I, class State>
  SEQC_INLINE void operator()(Index<I>, const int element, const State sum) const {
    constexpr int elements = Fold<K, L, I>::kElements, from = N::template stage_to<I - K::kFirstOut>();
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    stage[from + (warp * N::kFoldSteps + staged) * elements + element] = sum;
  }
  // After step t: writes what waits, if it is enough or the last.  All threads of the block come here.
  SEQC_INLINE void after(const i64 t) const {
    if constexpr (kFolds<K>) {
      if (++staged < N::kFoldSteps && t != (K::kBack ? 0 : cell.args.steps() - 1)) return;
      __syncthreads();
      each<K::kOuts>([&](auto out) {
        constexpr int O = decltype(out)::value, I = K::kFirstOut + O;
        using F = Fold<K, L, I>;
        if constexpr (F::kTensor.blocks) {
          constexpr int elements = F::kElements, from = N::template stage_to<O>();
#pragma unroll 1
          for (int e = threadIdx.x; e < staged * elements; e += N::kThreads) {
            typename K::State sum(0);
#pragma unroll 1
            for (int w = 0; w < N::kWarps; ++w) sum += stage[from + w * N::kFoldSteps * elements + e];
            const i64 ago = staged - 1 - e / elements;
            *(cell.template place<I>(K::kBack ? t + ago : t - ago) + cell.template along<I>(e % elements)) = narrow<ElementOf<K, I>>(sum);
          }
        }
      });
      __syncthreads();
      staged = 0;
    }
  }
};

template <class K>
SEQC_INLINE void march_inner(const Args<K>& args) {
  using State = typename K::State;
  using S = typename K::Main;
  using N = Inner<K>;
  using L = typename N::L;
  constexpr int kRecord = N::record();
  SEQC_SHARED(State, stage, N::template stage_to<K::kOuts>() + 1);
  SEQC_SHARED(State, shared_record, (SEQC_SHARED_RECORD ? N::kPiece * kRecord * N::kThreads : 0) + 1);

  const i64 steps = args.steps(), lanes = args.lanes(), blocks = (lanes + kMarchLanes - 1) / kMarchLanes;
  const i64 block = static_cast<i64>(blockIdx.x) % blocks, row = static_cast<i64>(blockIdx.x) / blocks;
  const i64 lane = block * kMarchLanes + threadIdx.x / L::kShares;
  const Cell<K, L> cell(args, row, lane < lanes ? lane : lanes - 1, block, threadIdx.x % L::kShares, lane < lanes);
  Constants<K, L> constants;
  load_constants(cell, constants);
  Carries<K, L, S> carries;
  load_starts<S>(cell, carries);
  Keeper<K> keeper(args, 0);
  int staged = 0;
  const Staging<K, L, decltype(stage)> staging{cell, stage, staged};
  // What leaves at resets is added up in memory: there are few, and registers are rare.
  const auto leave = [&](auto carry, const auto& state) {
    constexpr int I = S::kCarry[decltype(carry)::value].fresh;
    if (cell.template tells<K::kTensors[I].inner>()) {
      cell.template elements<I>(cell.template seldom<I>(), [&](const int e, State* p) { *p += state[e]; });
    }
  };
  if constexpr (S::kLeaves) {
    each<S::kCarries>([&](auto carry) {
      constexpr int J = decltype(carry)::value, I = S::kCarry[J].fresh;
      const State nothing[L::own(S::kCarry[J].inner)] = {};
      if (args.addresses[I]) store_state<I>(cell, nothing);
    });
  }
  Sums<K, L, State> sums{};
  Sums<K, L, double> totals{};
  // Sums of some steps in State, of all in double: in registers, or, of long axes, in memory.
  const auto flush = [&](const bool begins) {
    each<K::kSums>([&](auto sum) {
      constexpr int k = decltype(sum)::value, I = K::kSum[k].tensor;
      constexpr unsigned mask = K::kTensors[I].inner;
      if constexpr (!N::kFew && mask != 0) {
        if (cell.template tells<mask>()) {
          cell.template elements<I>(cell.template seldom<I>(), [&](const int e, double* p) { *p = begins ? 0 : *p + entry<k>(sums)[e]; });
        }
      } else {
#pragma unroll
        for (int e = 0; e < L::own(mask); ++e) entry<k>(totals)[e] += entry<k>(sums)[e];
      }
    });
    clear(sums);
  };
  flush(true);

  const auto always = [](i64) { return true; };
  const auto nothing = [](i64, auto&) {};
  if constexpr (!K::kBack) {
    if (steps > 0) {
      one_ahead<S, true>(cell, constants, 0, steps - 1, carries, sums, keeper, leave, staging, nothing, always,
                         [&](const i64 t) { staging.after(t); });
    }
    flush(false);
  } else {
    constexpr int kPiece = N::kPiece;
    // Where nothing is computed again a span is a piece.
    const int every = kComputesAgain<K> ? static_cast<int>(args.every()) : kPiece;
    const int rows = (every + kPiece - 1) / kPiece;
    const int room = (rows + (SEQC_SHARED_RECORD ? 0 : kPiece)) * kRecord * N::kThreads;
    State* const entering = args.numbers() + static_cast<i64>(blockIdx.x) * room;
    State* const outside = entering + rows * kRecord * N::kThreads;
    (void)outside, (void)shared_record;
    const auto mine = [&](const int at, const int number) {
      return (at * kRecord + number) * N::kThreads + static_cast<int>(threadIdx.x);
    };
    for (i64 begin = (steps - 1) / every * every; begin >= 0 && steps > 0; begin -= every) {
      const int count = least(steps - begin, every), pieces = (count + kPiece - 1) / kPiece;
      // First a march through all pieces but the last, for the states that enter the others.
#pragma unroll 1
      for (int piece = kComputesAgain<K> && pieces > 1 ? pieces : 0; piece >= 0; --piece) {
        const bool survey = piece > 0 && piece == pieces;
        const i64 first = begin + (survey ? 0 : piece * kPiece);
        const i64 end = survey ? first + (pieces - 1) * kPiece : first + least(begin + count - first, kPiece);
        if constexpr (kComputesAgain<K>) {
          using A = typename K::Again;
          Carries<K, L, A> again;
          each<A::kCarries>([&](auto carry) {
            constexpr int J = decltype(carry)::value, I = A::kCarry[J].kept;
            auto& state = entry<J>(again);
            if (survey || piece == 0) {
              load_state<I>(cell, state, begin / every * args.strides[I][1]);
            } else {
#pragma unroll
              for (int e = 0; e < L::own(A::kCarry[J].inner); ++e) state[e] = entering[mine(piece, N::template record_to<J>() + e)];
            }
          });
          // Resets come before a state is recorded, so that what a step starts from is.
          one_ahead<A, false>(
              cell, constants, first, end - 1, again, sums, keeper, leave, staging,
              [&](const i64 t, Tile<K, L, 1>& now) {
                if (now.anew[0]) renew<A>(cell, again, leave);
                now.anew[0] = false;
                if (survey) return;
                const int j = static_cast<int>(t - first);
                each<A::kCarries>([&](auto carry) {
                  constexpr int J = decltype(carry)::value;
#pragma unroll
                  for (int e = 0; e < L::own(A::kCarry[J].inner); ++e) {
                    const int at = mine(j, N::template record_to<J>() + e);
                    if constexpr (SEQC_SHARED_RECORD) shared_record[at] = entry<J>(again)[e];
                    else outside[at] = entry<J>(again)[e];
                  }
                });
              },
              [&](const i64 t) { return survey || t + 1 < end; },
              [&](const i64 t) {
                const int j = static_cast<int>(t + 1 - begin);
                if (!survey || j % kPiece != 0) return;
                each<A::kCarries>([&](auto carry) {
                  constexpr int J = decltype(carry)::value;
#pragma unroll
                  for (int e = 0; e < L::own(A::kCarry[J].inner); ++e) {
                    entering[mine(j / kPiece, N::template record_to<J>() + e)] = entry<J>(again)[e];
                  }
                });
              });
        }
        if (survey) continue;
        one_ahead<S, true>(
            cell, constants, end - 1, first, carries, sums, keeper, leave, staging,
            [&](const i64 t, Tile<K, L, 1>& now) {
              if constexpr (kComputesAgain<K>) {
                each<K::kBefores>([&](auto before) {
                  constexpr int J = decltype(before)::value;
                  static constexpr auto x = K::kBefore[J];
#pragma unroll
                  for (int e = 0; e < L::own(x.inner); ++e) {
                    const int at = mine(static_cast<int>(t - first), N::template record_to<x.carry>() + e);
                    if constexpr (SEQC_SHARED_RECORD) entry<J>(now.befores)[e] = shared_record[at];
                    else entry<J>(now.befores)[e] = outside[at];
                  }
                });
              }
            },
            always, [&](const i64 t) { staging.after(t); });
        flush(false);
      }
    }
  }
  store_lasts<S>(cell, carries);
  each<K::kSums>([&](auto sum) {
    constexpr int k = decltype(sum)::value, I = K::kSum[k].tensor;
    if constexpr (N::kFew || K::kTensors[I].inner == 0) store_state<I>(cell, entry<k>(totals));
  });
}

}  // namespace seqc
