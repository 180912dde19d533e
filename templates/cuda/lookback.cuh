// What enters each stretch of time when time is cut up: one pass over the streams, looking back.
//
// A block is kWarps warps of kLanes channels. A warp has a stretch of steps; a block's warps have
// stretches one after another, together a chunk. Each stretch is an affine map of what enters it.
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

// after = product * before + local; where the stretch holds a reset, `begins`, nothing of what
// was before is left, not even a NaN.
template <class T>
struct Map {
  T product, local;
  u8 begins;
};

template <class T>
SEQC_DEVICE T apply(const Map<T> map, const T before) {
  return compose(map.product, before, map.local, map.begins);
}

template <class T>
SEQC_DEVICE Map<T> then(const Map<T> first, const Map<T> second) {
  if (second.begins) return second;
  return {second.product * first.product, apply(second, first.local), first.begins};
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

// What a carry's chunks tell one another. `maps` holds products, then locals, of (chunks, cells);
// `leaving` (chunks / kLook, cells) what leaves an anchor; `flags` (chunks, groups) how much of
// a chunk is there: 1 its map, 2 what leaves it.
template <class T>
struct Board {
  T* products;
  T* locals;
  T* leaving;
  u8* begins;
  unsigned* flags;
};

SEQC_DEVICE void await(const unsigned* const flag, const unsigned enough) {
  while (acquire(flag) < enough) wait_a_little();
}

// What enters this thread's stretch, from the map of each thread's stretch and the state that
// enters the sequence. All threads of the block call it together.
template <class T>
SEQC_DEVICE T enter(const Map<T> own, const T start, const Place at, const Board<T> board) {
  SEQC_SHARED(T, products, kWarps* kLanes);
  SEQC_SHARED(T, locals, kWarps* kLanes);
  SEQC_SHARED(u8, begins, kWarps* kLanes);
  SEQC_SHARED(T, seen_products, kLook* kLanes);
  SEQC_SHARED(T, seen_locals, kLook* kLanes);
  SEQC_SHARED(u8, seen_begins, kLook* kLanes);
  SEQC_SHARED(T, anchored, kLanes);
  SEQC_SHARED(T, entering, kLanes);
  __syncthreads();  // the call before, of another carry, has been read
  const int mine = at.warp * kLanes + at.lane;
  products[mine] = own.product;
  locals[mine] = own.local;
  begins[mine] = own.begins;
  __syncthreads();

  const i64 anchor = at.chunk / kLook * kLook;
  const int between = static_cast<int>(at.chunk - anchor);
  Map<T> whole = own;
  if (at.warp == 0) {
    for (int w = 1; w < kWarps; ++w) {
      const int there = w * kLanes + at.lane;
      whole = then(whole, Map<T>{products[there], locals[there], begins[there]});
    }
    if (at.chunk + 1 < at.chunks) {
      if (at.live) {
        const i64 entry = at.chunk * at.cells + at.id;
        board.products[entry] = whole.product;
        board.locals[entry] = whole.local;
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
      seen_products[j * kLanes + at.lane] = __ldcg(board.products + entry);
      seen_locals[j * kLanes + at.lane] = __ldcg(board.locals + entry);
      seen_begins[j * kLanes + at.lane] = __ldcg(board.begins + entry);
    }
  }
  if (at.warp == kWarps - 1) {
    T state = start;
    if (anchor > 0) {
      await(board.flags + (anchor - 1) * at.groups + at.group, 2);
      if (at.live) state = __ldcg(board.leaving + (anchor / kLook - 1) * at.cells + at.id);
    }
    anchored[at.lane] = state;
  }
  __syncthreads();
  if (at.warp == 0) {
    T state = anchored[at.lane];
    if (at.live)
      for (int j = 0; j < between; ++j) {
        const int there = j * kLanes + at.lane;
        state = apply(Map<T>{seen_products[there], seen_locals[there], seen_begins[there]}, state);
      }
    entering[at.lane] = state;
    if (between == kLook - 1 && at.chunk + 1 < at.chunks) {
      if (at.live) board.leaving[at.chunk / kLook * at.cells + at.id] = apply(whole, state);
      __syncwarp();
      if (at.lane == 0) release(board.flags + at.chunk * at.groups + at.group, 2);
    }
  }
  __syncthreads();
  T state = entering[at.lane];
  for (int w = 0; w < at.warp; ++w) {
    const int there = w * kLanes + at.lane;
    state = apply(Map<T>{products[there], locals[there], begins[there]}, state);
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
