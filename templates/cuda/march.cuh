// A thread has a cell and marches over all steps: while it computes a tile of them, the next tile's
// loads are under way.  Neighbouring threads are neighbouring lanes, so every load and store of a warp
// is one stretch of memory.  For kernels without inner axes; inner.cuh has the others' march.

#ifndef SEQC_MARCH_TILE
#define SEQC_MARCH_TILE 4  // steps of a tile; two tiles are in registers
#endif

namespace seqc {

constexpr int kFlatThreads = 128;  // of a block
constexpr int kFlatBlocks = 3;     // at once

// Groups of lanes that a warp has, where something is summed over them: of one row each.
template <class K, class L>
SEQC_INLINE i64 groups_of_row(const Args<K>& args) {
  return (args.lanes() + L::kWarpLanes - 1) / L::kWarpLanes;
}

// The cell of the n-th thread, of lanes one after another; where something is summed over lanes each
// row begins with a warp.  Past the last cell threads do what those of the last do.
template <class K, class L>
SEQC_INLINE Cell<K, L> cell_of(const Args<K>& args, const i64 n) {
  const i64 lanes = args.lanes();
  if constexpr (kFolds<K> || K::kInner) {
    const i64 groups = groups_of_row<K, L>(args), last = args.rows() * groups - 1;
    const i64 wanted = n / kWarpThreads, group = wanted < last ? wanted : last;
    const int thread = static_cast<int>(n % kWarpThreads);
    const i64 block = group % groups, lane = block * L::kWarpLanes + thread / L::kShares;
    const bool live = wanted <= last && lane < lanes;
    return {args, group / groups, lane < lanes ? lane : lanes - 1, block, thread % L::kShares, live};
  } else {
    const i64 last = args.rows() * lanes - 1, id = n < last ? n : last;
    return {args, id / lanes, id % lanes, 0, 0, n <= last};
  }
}

template <class K>
SEQC_INLINE void march_flat(const Args<K>& args) {
  using State = typename K::State;
  using S = typename K::Main;
  using L = Layout<K, 1>;
  constexpr int kTile = SEQC_MARCH_TILE;
  const i64 steps = args.steps();
  const i64 thread = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  const Cell<K, L> cell = cell_of<K, L>(args, thread);
  if constexpr (kFolds<K>) {
    // Shuffles are for whole warps; those past the last row's have nothing to do.
    if (thread / kWarpThreads >= args.rows() * groups_of_row<K, L>(args)) return;
  } else {
    if (!cell.live) return;
  }

  Constants<K, L> constants;
  load_constants(cell, constants);
  Carries<K, L, S> carries, left{};
  load_starts<S>(cell, carries);
  const auto leave = [&](auto carry, const auto& state) { entry<decltype(carry)::value>(left)[0] += state[0]; };
  Sums<K, L, double> totals{};
  Keeper<K> keeper(args, 0);
  Tile<K, L, kTile> tile, ahead;
  i64 first = K::kBack ? steps - 1 : 0;
  int count = least(steps, kTile);
  load_tile<true, true>(cell, tile, first, count);
  while (count > 0) {
    const i64 now = first;
    const int computed = count;
    first += K::kBack ? -kTile : kTile;
    count = least(K::kBack ? first + 1 : steps - first, kTile);
    load_tile<true, true>(cell, ahead, first, count);
    Sums<K, L, State> sums{};
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      if (i >= computed) break;
      const i64 t = K::kBack ? now - i : now + i;
      run_step<S, true>(cell, constants, tile, i, t, carries, sums, keeper, leave, written_at(cell, t));
    }
    add_up(totals, sums);
    take_over<true>(tile, ahead);
  }
  store_lasts<S>(cell, carries);
  if constexpr (S::kLeaves) {
    each<S::kCarries>([&](auto carry) {
      constexpr int J = decltype(carry)::value, I = S::kCarry[J].fresh;
      if (args.addresses[I]) store_state<I>(cell, entry<J>(left));
    });
  }
  each<K::kSums>([&](auto sum) {
    constexpr int k = decltype(sum)::value;
    store_state<K::kSum[k].tensor>(cell, entry<k>(totals));
  });
}

}  // namespace seqc
