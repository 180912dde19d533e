// What enters each stretch of time when time is cut up: one pass over the streams, looking back.
//
// A block is kWarps warps, each of the same 32 cells (or threads of cells), each with a stretch of
// steps; a block's stretches come one after another, together a chunk.  Each stretch is one function of
// what enters it, a member of the scan's algebra: a Law says how many parts such a function has, how two
// compose and how one applies to the scan's carries.
// A chunk publishes its map, waits for the chunks before it back to an anchor (every kSeen-th chunk
// publishes the state that leaves it), and sends the anchor's state through their maps, one after
// another. The order of operations depends on nothing but shapes, so that results do not change from
// run to run; "decoupled look-back" (Merrill and Garland 2016) with that restriction.
//
// Blocks take chunks in the order in which they start running, so those that a chunk waits for are
// already running: no block waits for one that cannot start.
//
// All laws of a kernel work in one arena of shared memory, as large as the largest needs.

#ifndef SEQC_EMULATOR
#define SEQC_ARENA(name, bytes) __shared__ __align__(16) unsigned char name[bytes]
#endif
#ifndef SEQC_WARPS
#define SEQC_WARPS 8
#endif
#ifndef SEQC_LOOK
#define SEQC_LOOK 32
#endif

namespace seqc {

constexpr int kLanes = kWarpThreads;  // cells of a block: a warp's accesses are one stretch of memory
constexpr int kWarps = SEQC_WARPS;    // stretches of a block
constexpr int kLook = SEQC_LOOK;      // chunks from anchor to anchor
constexpr int kScanThreads = kWarps * kLanes;

#ifndef SEQC_EMULATOR
// A read that the release it finds is ordered before, with all that was written before it.
SEQC_DEVICE unsigned acquire(const unsigned* const flag) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}
SEQC_DEVICE void release(unsigned* const flag, const unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" : : "l"(flag), "r"(value) : "memory");
}
SEQC_DEVICE void wait_a_little() { __nanosleep(20); }
// A part of an arena as an array.
template <class T>
SEQC_DEVICE T* view(unsigned char* const arena, const int from, int) {
  return reinterpret_cast<T*>(arena + from);
}
#endif

// A stretch of time as a function of what enters it, since the last reset in it (`begins`: there
// is one, and nothing of what was before it is left, not even a NaN).
template <class Law, class T>
struct Map {
  T parts[Law::kParts];
  u8 begins;
};

// The carries of a scan.
template <class Law, class T>
struct Carried {
  T of[Law::kStates];
};

template <class Law, class T>
SEQC_INLINE Carried<Law, T> apply(const Map<Law, T>& map, const Carried<Law, T>& before, const Carried<Law, T>& fresh) {
  Carried<Law, T> from, after;
#pragma unroll
  for (int i = 0; i < Law::kStates; ++i) from.of[i] = map.begins ? fresh.of[i] : before.of[i];
  Law::apply(map.parts, from.of, after.of);
  return after;
}

template <class Law, class T>
SEQC_INLINE Map<Law, T> then(const Map<Law, T>& first, const Map<Law, T>& second) {
  if (second.begins) return second;
  Map<Law, T> out;
  Law::compose(second.parts, first.parts, out.parts);
  out.begins = first.begins;
  return out;
}

// Where a law's arrays lie in the arena, in bytes.
template <class Law, class T>
struct Arena {
  static constexpr int kSize = static_cast<int>(sizeof(T));
  // Chunks from anchor to anchor: fewer where functions are large, for they are gathered here.
  static constexpr int kSeen = Law::kParts <= 2 ? kLook : 2 * kLook / Law::kParts > 1 ? 2 * kLook / Law::kParts : 1;
  static constexpr int kOwnParts = 0;
  static constexpr int kSeenParts = kOwnParts + Law::kParts * kScanThreads * kSize;
  static constexpr int kAnchored = kSeenParts + Law::kParts * kSeen * kLanes * kSize;
  static constexpr int kEntering = kAnchored + Law::kStates * kLanes * kSize;
  static constexpr int kOwnBegins = kEntering + Law::kStates * kLanes * kSize;
  static constexpr int kSeenBegins = kOwnBegins + kScanThreads;
  static constexpr int kBytes = kSeenBegins + kSeen * kLanes;
};
constexpr int kMostShared = 48 << 10;  // what a block has without asking for more

template <class K, int q = 0>
constexpr int arena_bytes() {
  if constexpr (q < K::kScans) {
    constexpr int own = Arena<typename K::template Law<q>, typename K::State>::kBytes;
    return own > arena_bytes<K, q + 1>() ? own : arena_bytes<K, q + 1>();
  }
  return kScanThreads * static_cast<int>(sizeof(double));  // of gather
}

// Where a thread is: `entry` among `entries` of a chunk on the board, its stretch `warp` of `chunk`.
struct Place {
  i64 entry, entries, chunk, chunks, group, groups;
  int lane, warp;
};

// Chunks are taken in the order in which blocks start running.
SEQC_DEVICE Place take_place(const i64 groups, const i64 chunks, unsigned* const tickets) {
  SEQC_SHARED(unsigned, ticket, 1);
  if (threadIdx.x == 0) ticket[0] = atomicAdd(tickets, 1u);
  __syncthreads();
  Place p;
  const i64 turn = ticket[0];
  p.groups = groups;
  p.chunks = chunks;
  p.chunk = turn / groups;
  p.group = turn % groups;
  p.lane = threadIdx.x % kLanes;
  p.warp = threadIdx.x / kLanes;
  p.entry = p.group * kLanes + p.lane;
  p.entries = groups * kLanes;
  return p;
}

// What a scan's chunks tell one another. `parts` holds each part of (chunks, entries), one after
// another; `leaving` each carry that leaves an anchor, likewise; `flags` (chunks, groups) how much
// of a chunk is there: 1 its map, 2 what leaves it.
template <class T>
struct Board {
  T* parts;
  T* leaving;
  u8* begins;
  unsigned* flags;
};

SEQC_DEVICE void await(const unsigned* const flag, const unsigned enough) {
  while (acquire(flag) < enough) wait_a_little();
}

template <class Law, class T, class Parts, class Begins>
SEQC_INLINE Map<Law, T> map_at(Parts& parts, Begins& begins, const int entry, const int apart) {
  Map<Law, T> map;
#pragma unroll
  for (int p = 0; p < Law::kParts; ++p) map.parts[p] = parts[p * apart + entry];
  map.begins = begins[entry];
  return map;
}

// What enters this thread's stretch, from the map of each thread's stretch and the state that
// enters the sequence. All threads of the block call it together.
template <class Law, class T, class Bytes>
SEQC_INLINE Carried<Law, T> enter(const Map<Law, T> own, const Carried<Law, T> start, const Carried<Law, T> fresh,
                                  const Place at, const Board<T> board, Bytes& arena) {
  using A = Arena<Law, T>;
  constexpr int kSeen = A::kSeen, kBlock = kScanThreads;
  auto parts = view<T>(arena, A::kOwnParts, Law::kParts * kBlock);
  auto begins = view<u8>(arena, A::kOwnBegins, kBlock);
  auto seen_parts = view<T>(arena, A::kSeenParts, Law::kParts * kSeen * kLanes);
  auto seen_begins = view<u8>(arena, A::kSeenBegins, kSeen * kLanes);
  auto anchored = view<T>(arena, A::kAnchored, Law::kStates * kLanes);
  auto entering = view<T>(arena, A::kEntering, Law::kStates * kLanes);
  __syncthreads();  // the call before, of another scan, has been read
  const int mine = at.warp * kLanes + at.lane;
#pragma unroll
  for (int p = 0; p < Law::kParts; ++p) parts[p * kBlock + mine] = own.parts[p];
  begins[mine] = own.begins;
  __syncthreads();

  const i64 apart = at.chunks * at.entries;
  const i64 anchor = at.chunk / kSeen * kSeen;
  const int between = static_cast<int>(at.chunk - anchor);
  Map<Law, T> whole = own;
  if (at.warp == 0) {
    for (int w = 1; w < kWarps; ++w) {
      whole = then(whole, map_at<Law, T>(parts, begins, w * kLanes + at.lane, kBlock));
    }
    if (at.chunk + 1 < at.chunks) {
      const i64 entry = at.chunk * at.entries + at.entry;
#pragma unroll
      for (int p = 0; p < Law::kParts; ++p) board.parts[p * apart + entry] = whole.parts[p];
      board.begins[entry] = whole.begins;
      __syncwarp();
      if (at.lane == 0) release(board.flags + at.chunk * at.groups + at.group, 1);
    }
  }
  for (int j = at.warp; j < between; j += kWarps) {
    await(board.flags + (anchor + j) * at.groups + at.group, 1);
    const i64 entry = (anchor + j) * at.entries + at.entry;
#pragma unroll
    for (int p = 0; p < Law::kParts; ++p) {
      seen_parts[(p * kSeen + j) * kLanes + at.lane] = __ldcg(board.parts + p * apart + entry);
    }
    seen_begins[j * kLanes + at.lane] = __ldcg(board.begins + entry);
  }
  if (at.warp == kWarps - 1) {
    if (anchor > 0) await(board.flags + (anchor - 1) * at.groups + at.group, 2);
#pragma unroll
    for (int i = 0; i < Law::kStates; ++i) {
      T state = start.of[i];
      if (anchor > 0) state = __ldcg(board.leaving + i * apart + (anchor / kSeen - 1) * at.entries + at.entry);
      anchored[i * kLanes + at.lane] = state;
    }
  }
  __syncthreads();
  if (at.warp == 0) {
    Carried<Law, T> state;
#pragma unroll
    for (int i = 0; i < Law::kStates; ++i) state.of[i] = anchored[i * kLanes + at.lane];
    for (int j = 0; j < between; ++j) {
      const auto map = map_at<Law, T>(seen_parts, seen_begins, j * kLanes + at.lane, kSeen * kLanes);
      state = apply(map, state, fresh);
    }
#pragma unroll
    for (int i = 0; i < Law::kStates; ++i) entering[i * kLanes + at.lane] = state.of[i];
    if (between == kSeen - 1 && at.chunk + 1 < at.chunks) {
      const Carried<Law, T> leaving = apply(whole, state, fresh);
#pragma unroll
      for (int i = 0; i < Law::kStates; ++i) {
        board.leaving[i * apart + at.chunk / kSeen * at.entries + at.entry] = leaving.of[i];
      }
      __syncwarp();
      if (at.lane == 0) release(board.flags + at.chunk * at.groups + at.group, 2);
    }
  }
  __syncthreads();
  Carried<Law, T> state;
#pragma unroll
  for (int i = 0; i < Law::kStates; ++i) state.of[i] = entering[i * kLanes + at.lane];
  for (int w = 0; w < at.warp; ++w) {
    state = apply(map_at<Law, T>(parts, begins, w * kLanes + at.lane, kBlock), state, fresh);
  }
  return state;
}

// The sum of what the threads of a cell in a block's stretches have, in order; at warp 0 alone.
template <class T, class Bytes>
SEQC_INLINE T gather(const T own, const Place at, Bytes& arena) {
  auto parts = view<T>(arena, 0, kScanThreads);
  __syncthreads();
  parts[at.warp * kLanes + at.lane] = own;
  __syncthreads();
  T sum = own;
  if (at.warp == 0)
    for (int w = 1; w < kWarps; ++w) sum += parts[w * kLanes + at.lane];
  return sum;
}

}  // namespace seqc
