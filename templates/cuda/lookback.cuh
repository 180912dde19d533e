// What enters each stretch of time when time is cut up: one pass over the streams, looking back.
//
// A block is kWarps warps of kLanes channels. A warp has a stretch of steps; a block's warps have
// stretches one after another, together a chunk. Each stretch is one function of what enters it,
// a member of the scan's algebra: a law L says how many parts such a function has, how two compose
// and how one applies to the scan's carries.
// A chunk publishes its map, waits for the chunks before it back to an anchor (every kLook-th
// chunk publishes the state that leaves it), and sends the anchor's state through their maps, one
// after another. The order of operations depends on nothing but shapes, so that results do not
// change from run to run; "decoupled look-back" (Merrill and Garland 2016) with that restriction.
//
// Blocks take chunks in the order in which they start running, so those that a chunk waits for are
// already running: no block waits for one that cannot start.

#ifndef SEQC_EMULATOR
#define SEQC_SHARED(type, name, count) __shared__ type name[count]
#endif
#ifndef SEQC_WARPS
#define SEQC_WARPS 8
#endif
#ifndef SEQC_LOOK
#define SEQC_LOOK 32
#endif

namespace seqc {

constexpr int kLanes = 32;          // channels of a block: a warp's accesses are one stretch of memory
constexpr int kWarps = SEQC_WARPS;  // stretches of a block
constexpr int kLook = SEQC_LOOK;    // chunks from anchor to anchor

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
#endif

// A stretch of time as a function of what enters it, since the last reset in it (`begins`: there
// is one, and nothing of what was before it is left, not even a NaN).
template <class L>
struct Map {
  typename L::T parts[L::kParts];
  u8 begins;
};

// The carries of a scan.
template <class L>
struct Carried {
  typename L::T of[L::kStates];
};

template <class L>
SEQC_DEVICE Carried<L> apply(const Map<L>& map, const Carried<L>& before, const Carried<L>& fresh) {
  Carried<L> from, after;
#pragma unroll
  for (int i = 0; i < L::kStates; ++i) from.of[i] = map.begins ? fresh.of[i] : before.of[i];
  L::apply(map.parts, from.of, after.of);
  return after;
}

template <class L>
SEQC_DEVICE Map<L> then(const Map<L>& first, const Map<L>& second) {
  if (second.begins) return second;
  Map<L> out;
  L::compose(second.parts, first.parts, out.parts);
  out.begins = first.begins;
  return out;
}

// The law of adjoints: a matrix, by rows, and what is passed on from nothing.
template <class S, int N>
struct Linear {
  using T = S;
  static constexpr int kStates = N, kParts = N * N + N;
  SEQC_DEVICE void apply(const T* const map, const T* const before, T* const after) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      after[i] = map[N * N + i];
#pragma unroll
      for (int j = 0; j < N; ++j) after[i] += times(before[j], map[N * i + j]);
    }
  }
  SEQC_DEVICE void compose(const T* const later, const T* const first, T* const out) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        out[N * i + j] = T(0);
#pragma unroll
        for (int m = 0; m < N; ++m) out[N * i + j] += later[N * i + m] * first[N * m + j];
      }
    }
    apply(later, first + N * N, out + N * N);
  }
};

// Chunks from anchor to anchor: fewer where functions are large, for they are gathered in shared
// memory.
template <class L>
constexpr int look() {
  return L::kParts <= 2 ? kLook : 2 * kLook / L::kParts > 1 ? 2 * kLook / L::kParts : 1;
}

// Where a thread is: its channel `id` (none where not live), its stretch `warp` of chunk `chunk`.
struct Place {
  i64 id, cells, chunk, chunks, group, groups;
  int lane, warp;
  bool live;
};

// Chunks are taken in the order in which blocks start running.
SEQC_DEVICE Place take_place(const i64 cells, const i64 chunks, unsigned* const tickets) {
  SEQC_SHARED(unsigned, ticket, 1);
  if (threadIdx.x == 0) ticket[0] = atomicAdd(tickets, 1u);
  __syncthreads();
  Place p;
  p.cells = cells;
  p.chunks = chunks;
  p.groups = (cells + kLanes - 1) / kLanes;
  const i64 turn = ticket[0];
  p.chunk = turn / p.groups;
  p.group = turn % p.groups;
  p.lane = threadIdx.x % kLanes;
  p.warp = threadIdx.x / kLanes;
  p.id = p.group * kLanes + p.lane;
  p.live = p.id < cells;
  return p;
}

// What a scan's chunks tell one another. `parts` holds each part of (chunks, cells), one after
// another; `leaving` each carry that leaves an anchor, likewise; `flags` (chunks, groups) how much
// of a chunk is there: 1 its map, 2 what leaves it.
template <class L>
struct Board {
  typename L::T* parts;
  typename L::T* leaving;
  u8* begins;
  unsigned* flags;
};

SEQC_DEVICE void await(const unsigned* const flag, const unsigned enough) {
  while (acquire(flag) < enough) wait_a_little();
}

template <class L, class Parts, class Begins>
SEQC_DEVICE Map<L> map_at(Parts& parts, Begins& begins, const int entry, const int apart) {
  Map<L> map;
#pragma unroll
  for (int p = 0; p < L::kParts; ++p) map.parts[p] = parts[p * apart + entry];
  map.begins = begins[entry];
  return map;
}

// What enters this thread's stretch, from the map of each thread's stretch and the state that
// enters the sequence. All threads of the block call it together.
template <class L>
SEQC_DEVICE Carried<L> enter(const Map<L> own, const Carried<L> start, const Carried<L> fresh, const Place at, const Board<L> board) {
  using T = typename L::T;
  constexpr int kSeen = look<L>();
  constexpr int kBlock = kWarps * kLanes;
  SEQC_SHARED(T, parts, L::kParts* kBlock);
  SEQC_SHARED(u8, begins, kBlock);
  SEQC_SHARED(T, seen_parts, L::kParts* kSeen* kLanes);
  SEQC_SHARED(u8, seen_begins, kSeen* kLanes);
  SEQC_SHARED(T, anchored, L::kStates* kLanes);
  SEQC_SHARED(T, entering, L::kStates* kLanes);
  __syncthreads();  // the call before, of another scan, has been read
  const int mine = at.warp * kLanes + at.lane;
#pragma unroll
  for (int p = 0; p < L::kParts; ++p) parts[p * kBlock + mine] = own.parts[p];
  begins[mine] = own.begins;
  __syncthreads();

  const i64 apart = at.chunks * at.cells;
  const i64 anchor = at.chunk / kSeen * kSeen;
  const int between = static_cast<int>(at.chunk - anchor);
  Map<L> whole = own;
  if (at.warp == 0) {
    for (int w = 1; w < kWarps; ++w) {
      whole = then(whole, map_at<L>(parts, begins, w * kLanes + at.lane, kBlock));
    }
    if (at.chunk + 1 < at.chunks) {
      if (at.live) {
        const i64 entry = at.chunk * at.cells + at.id;
#pragma unroll
        for (int p = 0; p < L::kParts; ++p) board.parts[p * apart + entry] = whole.parts[p];
        board.begins[entry] = whole.begins;
      }
      __syncwarp();
      if (at.lane == 0) release(board.flags + at.chunk * at.groups + at.group, 1);
    }
  }
  for (int j = at.warp; j < between; j += kWarps) {
    await(board.flags + (anchor + j) * at.groups + at.group, 1);
    if (at.live) {
      const i64 entry = (anchor + j) * at.cells + at.id;
#pragma unroll
      for (int p = 0; p < L::kParts; ++p) {
        seen_parts[(p * kSeen + j) * kLanes + at.lane] = __ldcg(board.parts + p * apart + entry);
      }
      seen_begins[j * kLanes + at.lane] = __ldcg(board.begins + entry);
    }
  }
  if (at.warp == kWarps - 1) {
    if (anchor > 0) await(board.flags + (anchor - 1) * at.groups + at.group, 2);
#pragma unroll
    for (int i = 0; i < L::kStates; ++i) {
      T state = start.of[i];
      if (anchor > 0 && at.live) {
        state = __ldcg(board.leaving + i * apart + (anchor / kSeen - 1) * at.cells + at.id);
      }
      anchored[i * kLanes + at.lane] = state;
    }
  }
  __syncthreads();
  if (at.warp == 0) {
    Carried<L> state;
#pragma unroll
    for (int i = 0; i < L::kStates; ++i) state.of[i] = anchored[i * kLanes + at.lane];
    if (at.live)
      for (int j = 0; j < between; ++j) {
        const auto map = map_at<L>(seen_parts, seen_begins, j * kLanes + at.lane, kSeen * kLanes);
        state = apply(map, state, fresh);
      }
#pragma unroll
    for (int i = 0; i < L::kStates; ++i) entering[i * kLanes + at.lane] = state.of[i];
    if (between == kSeen - 1 && at.chunk + 1 < at.chunks) {
      if (at.live) {
        const Carried<L> leaving = apply(whole, state, fresh);
#pragma unroll
        for (int i = 0; i < L::kStates; ++i) {
          board.leaving[i * apart + at.chunk / kSeen * at.cells + at.id] = leaving.of[i];
        }
      }
      __syncwarp();
      if (at.lane == 0) release(board.flags + at.chunk * at.groups + at.group, 2);
    }
  }
  __syncthreads();
  Carried<L> state;
#pragma unroll
  for (int i = 0; i < L::kStates; ++i) state.of[i] = entering[i * kLanes + at.lane];
  for (int w = 0; w < at.warp; ++w) {
    state = apply(map_at<L>(parts, begins, w * kLanes + at.lane, kBlock), state, fresh);
  }
  return state;
}

// The sum of what the threads of a channel have, in order; at warp 0 alone.
template <class T>
SEQC_DEVICE T gather(const T own, const Place at) {
  SEQC_SHARED(T, parts, kWarps* kLanes);
  __syncthreads();
  parts[at.warp * kLanes + at.lane] = own;
  __syncthreads();
  T sum = own;
  if (at.warp == 0)
    for (int w = 1; w < kWarps; ++w) sum += parts[w * kLanes + at.lane];
  return sum;
}

}  // namespace seqc
