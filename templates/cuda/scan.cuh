// A thread has a cell (or its part of one) and one tile of steps, held in registers: for each scan
// first the tile as a function of what enters it, then what does enter it (stretches.cuh); then the
// steps themselves.  Forwards and backwards; backwards, chunk 0 is the last of the sequence.
//
// With an inner axis kShares threads have a cell, and the law is applied to each of their elements;
// states that the way back reads are computed again from those kept, so `every` is best SEQC_SCAN_TILE.
//
// The launcher lays out: with groups = (lanes / (32 / kShares), rounded up) * rows where there are inner
// axes or sums over lanes, else rows * lanes / 32, rounded up, and chunks = steps / (SEQC_SCAN_TILE *
// SEQC_WARPS), rounded up: chunks * groups blocks of 32 * SEQC_WARPS threads; numbers() has
// scan_numbers<K>() * chunks * groups * 32 of State, begins() scan_elements<K>() * chunks * groups * 32
// bytes, flags() 1 + scan_elements<K>() * chunks * groups of 32 bits, zeroed.
// Sums over time, and what leaves at resets, are found a chunk each: (chunks, batch, *axes), plainly.
// What is summed over lanes comes a warp's lanes each: 32 / kShares of them.

#ifndef SEQC_SCAN_TILE
#define SEQC_SCAN_TILE 8  // steps of a tile
#endif
#ifndef SEQC_SCAN_PARTS
#define SEQC_SCAN_PARTS 1  // threads that share a cell
#endif

namespace seqc {

template <class K>
using ScanLayout = Layout<K, SEQC_SCAN_PARTS>;
template <class K>
using ScanTile = Tile<K, ScanLayout<K>, SEQC_SCAN_TILE>;

// A scan's elements of a thread: along the inner axes of its carries.
template <class K, int q>
constexpr int scan_own() {
  return ScanLayout<K>::own(K::Main::kCarry[K::kScan[q]].inner);
}
// Elements and numbers of a thread on the board that scans before the q-th have.
template <class K, int q = K::kScans>
constexpr int scan_elements() {
  if constexpr (q > 0) return scan_elements<K, q - 1>() + scan_own<K, q - 1>();
  return 0;
}
template <class K, int q = K::kScans>
constexpr int scan_numbers() {
  if constexpr (q > 0) {
    using Law = typename K::template Law<q - 1>;
    return scan_numbers<K, q - 1>() + scan_own<K, q - 1>() * (Law::kParts + Law::kStates);
  }
  return 0;
}

// Whether time may be cut into chunks: scans have laws, what functions tell one another fits a block's
// shared memory, and a thread's elements fit its registers.
template <class K>
constexpr bool can_scan() {
  if constexpr (K::kParallel) {
    constexpr bool few = ScanLayout<K>::kOwn <= 8;
    return few && arena_bytes<K>() <= kMostShared;
  }
  return false;
}

// The states before each step of a tile, whose last step in time is `first`, from one that was kept.
template <class K, class L, int kTile>
SEQC_INLINE void compute_again(const Cell<K, L>& cell, const Constants<K, L>& constants, Tile<K, L, kTile>& tile,
                               const i64 first, const int count) {
  using A = typename K::Again;
  using State = typename K::State;
  if (count <= 0) return;
  const i64 begin = first - count + 1, every = cell.args.every(), from = begin / every * every;
  Carries<K, L, A> again;
  Sums<K, L, State> sums{};
  Keeper<K> keeper(cell.args, 0);
  const auto leave = [](auto, const auto&) {};
  const auto tell = [](auto, int, State) {};
  each<A::kCarries>([&](auto carry) {
    constexpr int J = decltype(carry)::value, I = A::kCarry[J].kept;
    load_state<I>(cell, entry<J>(again), begin / every * cell.args.strides[I][1]);
  });
#pragma unroll 1
  for (i64 t = from; t < begin; ++t) {
    Tile<K, L, 1> now;
    load_tile<true, true>(cell, now, t, 1);
    run_step<A, false>(cell, constants, now, 0, t, again, sums, keeper, leave, tell);
  }
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    if (i >= count) continue;
    if (tile.anew[i]) renew<A>(cell, again, leave);
    each<K::kBefores>([&](auto before) {
      constexpr int J = decltype(before)::value;
      constexpr int own = L::own(K::kBefore[J].inner);
#pragma unroll
      for (int e = 0; e < own; ++e) entry<J>(tile.befores)[i * own + e] = entry<K::kBefore[J].carry>(again)[e];
    });
    Folds<K, L> folds;
    if (i > 0) A::run(Step<K, L, A, Tile<K, L, kTile>>{cell, constants, tile, i, first - i, again, sums, folds});
  }
}

// What enters a tile of scan q's carries, those of earlier scans being known.
template <int q, class K, class L, int kTile, class Bytes>
SEQC_INLINE void enter_scan(const Cell<K, L>& cell, const Constants<K, L>& constants, const Tile<K, L, kTile>& tile,
                            const i64 first, const int count, const Place& at,
                            Carries<K, L, typename K::Main>& carries, Bytes& arena) {
  using State = typename K::State;
  using Main = typename K::Main;
  using S = typename K::template Lift<q>;
  using Law = typename K::template Law<q>;
  constexpr int running = S::kCarries - S::kParts, own = scan_own<K, q>();
  Carries<K, L, S> map;
  each<S::kCarries>([&](auto carry) {
    constexpr int J = decltype(carry)::value;
    auto& numbers = entry<J>(map);
    if constexpr (J >= running) {
      static_assert(L::own(S::kCarry[J].inner) == own, "a function's parts and its carries have different inner axes");
#pragma unroll
      for (int e = 0; e < own; ++e) numbers[e] = S::identity(J - running);
    } else {
#pragma unroll
      for (int e = 0; e < L::own(S::kCarry[J].inner); ++e) numbers[e] = entry<S::kRunning[J]>(carries)[e];
    }
  });
  Sums<K, L, State> sums{};
  Keeper<K> keeper(cell.args, 0);
  bool begins = false;
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    if (i >= count) break;
    const i64 t = K::kBack ? first - i : first + i;
    run_step<S, false>(cell, constants, tile, i, t, map, sums, keeper, [](auto, const auto&) {}, [](auto, int, State) {});
    begins |= tile.anew[i];
  }

  State start[Law::kStates][own], fresh[Law::kStates][own];
  each<Law::kStates>([&](auto state) {
    constexpr int i = decltype(state)::value;
    static constexpr Carry x = Main::kCarry[K::kScan[q] + i];
    load_state<x.start>(cell, start[i]);
    if (!K::kBack && cell.args.addresses[K::kResets]) {
      load_state<x.fresh>(cell, fresh[i]);
    } else {
#pragma unroll
      for (int e = 0; e < own; ++e) fresh[i][e] = State(0);
    }
  });
  const i64 room = at.chunks * at.entries;
#pragma unroll
  for (int e = 0; e < own; ++e) {
    Map<Law, State> mine;
    Carried<Law, State> from, anew;
    each<Law::kParts>([&](auto part) {
      constexpr int p = decltype(part)::value;
      mine.parts[p] = entry<running + p>(map)[e];
    });
    mine.begins = begins;
#pragma unroll
    for (int i = 0; i < Law::kStates; ++i) from.of[i] = start[i][e], anew.of[i] = fresh[i][e];
    State* const numbers = cell.args.numbers() + (scan_numbers<K, q>() + e * (Law::kParts + Law::kStates)) * room;
    const int element = scan_elements<K, q>() + e;
    const Board<State> board{numbers, numbers + Law::kParts * room, cell.args.begins() + element * room,
                             cell.args.flags() + 1 + element * at.chunks * at.groups};
    const auto entering = enter(mine, from, anew, at, board, arena);
    each<Law::kStates>([&](auto state) {
      constexpr int i = decltype(state)::value;
      entry<K::kScan[q] + i>(carries)[e] = entering.of[i];
    });
  }
}

// Sums of a chunk, at its own place.
template <int I, class K, class L, class T, int kCount, class Bytes>
SEQC_INLINE void store_chunk(const Cell<K, L>& cell, const T (&sums)[kCount], const Place& at, Bytes& arena) {
  T whole[kCount];
#pragma unroll
  for (int e = 0; e < kCount; ++e) whole[e] = gather(sums[e], at, arena);
  if (at.warp == 0) store_state<I>(cell, whole, at.chunk * cell.args.batch() * cell.args.strides[I][0]);
}

template <class K>
SEQC_INLINE void scan(const Args<K>& args) {
  static_assert(can_scan<K>(), "time cannot be cut for this kernel: the launcher must not compile its scan");
  using State = typename K::State;
  using S = typename K::Main;
  using L = ScanLayout<K>;
  constexpr int kTile = SEQC_SCAN_TILE;
  SEQC_ARENA(arena, arena_bytes<K>());
  const i64 steps = args.steps(), rows = args.rows();
  const i64 groups = kFolds<K> || K::kInner ? rows * groups_of_row<K, L>(args) : (rows * args.lanes() + kLanes - 1) / kLanes;
  const Place at = take_place(groups, args.chunks(), args.flags());
  const Cell<K, L> cell = cell_of<K, L>(args, at.entry);

  // Stretch n has steps [n * kTile, (n + 1) * kTile), counted from the end where steps run backwards.
  const i64 stretch = at.chunk * kWarps + at.warp, stretches = (steps + kTile - 1) / kTile;
  const i64 begin = (K::kBack ? stretches - 1 - stretch : stretch) * kTile;
  const int count = begin < 0 ? 0 : least(steps - begin, kTile);
  const i64 first = K::kBack ? begin + count - 1 : begin;
  Constants<K, L> constants;
  load_constants(cell, constants);
  ScanTile<K> tile;
  load_tile<true, true>(cell, tile, first, count);
  if constexpr (kComputesAgain<K>) compute_again(cell, constants, tile, first, count);

  Carries<K, L, S> carries, left{};
  each<K::kScans>([&](auto q) { enter_scan<decltype(q)::value>(cell, constants, tile, first, count, at, carries, arena); });
  Sums<K, L, State> sums{};
  Keeper<K> keeper(args, first);
  const auto leave = [&](auto carry, const auto& state) {
    constexpr int J = decltype(carry)::value;
#pragma unroll
    for (int e = 0; e < L::own(S::kCarry[J].inner); ++e) entry<J>(left)[e] += state[e];
  };
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    if (i >= count) break;
    const i64 t = K::kBack ? first - i : first + i;
    run_step<S, true>(cell, constants, tile, i, t, carries, sums, keeper, leave, written_at(cell, t));
  }
  if (count > 0 && (K::kBack ? begin == 0 : begin + count == steps)) store_lasts<S>(cell, carries);
  if constexpr (S::kSums) {
    Sums<K, L, double> totals{};
    add_up(totals, sums);
    each<K::kSums>([&](auto sum) {
      constexpr int k = decltype(sum)::value;
      store_chunk<K::kSum[k].tensor>(cell, entry<k>(totals), at, arena);
    });
  }
  if constexpr (S::kLeaves) {
    each<S::kCarries>([&](auto carry) {
      constexpr int J = decltype(carry)::value, I = S::kCarry[J].fresh;
      if (args.addresses[I]) store_chunk<I>(cell, entry<J>(left), at, arena);
    });
  }
}

}  // namespace seqc
