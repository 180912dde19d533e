// How a kernel's work is cut: a task is a block of one row's lanes; where there are fewer tasks than
// threads, time is cut into chunks as well, if every scan has a law.

namespace seqc {

constexpr i64 kStreamBytes = i64(32) << 20;  // results smaller than this stay in the caches

// Time in chunks, in the order of the march: chunk i has steps [begin(i), end(i)).
template <class K>
struct Cut {
  i64 rows, width, blocks, tasks, chunks;
  Memory<i64> edges;

  Cut(const Call<K>& call, const i64 threads) {
    const i64 lanes = call.lanes(), steps = call.steps, cells = lanes * call.inner();
    constexpr i64 kPiece = kPieceOf<K>;
    rows = call.batch * call.outer();
    if constexpr (K::kInner) {
      width = min(kPiece, lanes);
    } else {
      blocks = (lanes + kBlock - 1) / kBlock;
      // More blocks, but none narrower than a few vectors.
      if (rows * blocks < threads) blocks = max(blocks, min((threads + rows - 1) / rows, lanes / 128));
      width = (lanes + blocks - 1) / blocks;
      width = min(kBlock, (width + kPiece - 1) / kPiece * kPiece);
    }
    blocks = (lanes + width - 1) / width;
    tasks = rows * blocks;
    chunks = 1;
    if (K::kParallel && tasks * 2 <= threads && steps >= 16 * threads && steps * cells >= 1 << 15) {
      // The first chunk is run at once, beside the summaries of the others but the last; a summary
      // costs about three quarters of a run, so the first is that much shorter.
      chunks = threads / tasks + 1;
      const double share = static_cast<double>(steps) / (static_cast<double>(chunks) - 0.25);
      edges = Memory<i64>(chunks + 1);
      for (i64 i = 0; i <= chunks; ++i) {
        i64& e = edges.get()[i];
        e = i == 0 ? 0 : i == chunks ? steps : static_cast<i64>(share * (static_cast<double>(i) - 0.25));
        if (K::kBack) e = steps - e;
        if (K::kEvery) e = e == steps ? e : e / call.every * call.every;
      }
    }
  }
  i64 begin(const Call<K>& call, const i64 chunk) const { return chunks == 1 ? 0 : edges.get()[chunk + (K::kBack ? 1 : 0)]; }
  i64 end(const Call<K>& call, const i64 chunk) const { return chunks == 1 ? call.steps : edges.get()[chunk + (K::kBack ? 0 : 1)]; }
};

// Whether results go past the caches: there is much of them, and rows start at cache lines.
template <class K>
bool streams(const Call<K>& call) {
  i64 bytes = 0;
  bool fits = kCanStream && K::kInner == 0;
  each<K::kCount>([&](auto i) {
    constexpr int I = decltype(i)::value;
    constexpr Tensor x = K::kTensors[I];
    if constexpr (I >= K::kFirstOut && I < K::kFirstOut + K::kOuts && x.kind == Kind::kStorage && x.unit) {
      constexpr i64 size = sizeof(ElementOf<K, I>);
      i64 count = call.batch * call.steps * call.lanes();
      std::uintptr_t all = reinterpret_cast<std::uintptr_t>(call.base[I]);
      for (int a = 0; a < 2 + K::kAxes; ++a) {
        if (a - 2 != K::kLane) all |= static_cast<std::uintptr_t>(call.strides[I][a] * size);
        if (a >= 2 && a - 2 != K::kLane && call.strides[I][a]) count *= call.extents[a - 2];
      }
      bytes += count * size;
      fits &= all % 64 == 0;
    }
  });
  return fits && bytes >= kStreamBytes;
}

template <class S, class K>
void load_starts(const Block<K>& at, const Work<K, S>& work) {
  using State = typename K::State;
  for (int j = 0; j < S::kCarries; ++j) {
    const Carry x = S::kCarry[j];
    const State* const from = reinterpret_cast<const State*>(at.base[x.start]);
    if (from) at.walk(x.inner, x.start, [&](const i64 here, const i64 there) { work.carries[j][here] = from[there]; });
  }
}

template <class S, class K>
void store_lasts(const Block<K>& at, const Work<K, S>& work) {
  using State = typename K::State;
  for (int j = 0; j < S::kCarries; ++j) {
    const Carry x = S::kCarry[j];
    State* const to = reinterpret_cast<State*>(at.base[x.last]);
    at.walk(x.inner, x.last, [&](const i64 here, const i64 there) { to[there] = work.carries[j][here]; });
  }
}

// Adds what left at resets, and the sums, to their tensors: in order, so that results do not depend
// on the threads' timing.
template <class S, class K>
void add_sums(const Block<K>& at, const Work<K, S>& work) {
  using State = typename K::State;
  for (int j = 0; j < S::kCarries; ++j) {
    const Carry x = S::kCarry[j];
    if (!work.left[j]) continue;
    State* const to = reinterpret_cast<State*>(at.base[x.fresh]);
    at.walk(x.inner, x.fresh, [&](const i64 here, const i64 there) { to[there] += work.left[j][here]; });
  }
  if constexpr (S::kSums) {
    for (int k = 0; k < K::kSums; ++k) {
      const Sum x = K::kSum[k];
      double* const to = reinterpret_cast<double*>(at.base[x.tensor]);
      at.walk(x.inner, x.tensor, [&](const i64 here, const i64 there) { to[there] += work.totals[k][here]; });
    }
  }
}

template <class K>
class Run {
 public:
  using State = typename K::State;
  using S = typename K::Main;
  Run(const Call<K>& call, const i64 threads) : call_(call), threads_(threads), cut_(call, threads), past_(streams(call)) {}

  void operator()() const {
    if constexpr (K::kParallel) {
      if (cut_.chunks > 1) return in_chunks();
    }
#pragma omp parallel for schedule(static) num_threads(threads_) if (cut_.tasks > 1)
    for (i64 task = 0; task < cut_.tasks; ++task) {
      const Block<K> at = block(task);
      const Work<K, S> work(at);
      load_starts(at, work);
      main(at, work, 0, call_.steps);
      store_lasts(at, work);
      add_sums(at, work);
    }
  }

 private:
  Block<K> block(const i64 task) const { return Block<K>(call_, task / cut_.blocks, task % cut_.blocks, cut_.width); }

  void main(const Block<K>& at, const Work<K, S>& work, const i64 begin, const i64 end) const {
    if constexpr (K::kInner == 0) {
      if (past_) return go<S, kCanStream>(at, work, begin, end), settle();
    }
    go<S, false>(at, work, begin, end);
  }

  // Few lanes: chunk 0 runs beside the summaries of chunks 1, 2, …; the summaries give every chunk
  // its start; then the chunks run.
  void in_chunks() const {
    const i64 tasks = cut_.tasks, chunks = cut_.chunks;
    Several<Work<K, S>> works(tasks * chunks);  // chunk after chunk
    for (i64 job = 0; job < tasks * chunks; ++job) works[job] = Work<K, S>(block(job % tasks));
    for (i64 task = 0; task < tasks; ++task) load_starts(block(task), works[task]);
    if constexpr (S::kCarries > 0) {
      each<K::kScans>([&](auto q) { summarise<decltype(q)::value>(works); });
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (i64 job = S::kCarries ? tasks : 0; job < tasks * chunks; ++job) {
      const i64 chunk = job / tasks;
      const Block<K> at = block(job % tasks);
      main(at, works[job], cut_.begin(call_, chunk), cut_.end(call_, chunk));
      if (chunk + 1 == chunks) store_lasts(at, works[job]);
    }
    for (i64 job = 0; job < tasks * chunks; ++job) add_sums(block(job % tasks), works[job]);
  }

  // What enters each chunk of the carries of scan kScan, those of earlier scans being known.
  template <int kScan>
  void summarise(const Several<Work<K, S>>& works) const {
    using L = typename K::template Lift<kScan>;
    using Law = typename K::template Law<kScan>;
    const i64 tasks = cut_.tasks, chunks = cut_.chunks;
    constexpr int kRunning = L::kCarries - L::kParts;
    const Several<Work<K, L>> maps(tasks * chunks);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (i64 job = kScan ? tasks : 0; job < tasks * (chunks - 1); ++job) {
      const i64 chunk = job / tasks;
      const Block<K> at = block(job % tasks);
      if (chunk == 0) {
        // Its carries leave for chunk 1; what it started from is not needed any more.
        main(at, works[job], cut_.begin(call_, 0), cut_.end(call_, 0));
        for (int j = 0; j < S::kCarries; ++j) {
          copy(works[job].carries[j], Work<K, S>::size(at, j), works[tasks + job].carries[j]);
        }
      } else {
        maps[job] = Work<K, L>(at);
        const Work<K, L>& map = maps[job];
        for (int j = 0; j < kRunning; ++j) {
          copy(works[job].carries[L::kRunning[j]], Work<K, L>::size(at, j), map.carries[j]);
        }
        for (int p = 0; p < L::kParts; ++p) {
          fill(map.carries[kRunning + p], Work<K, L>::size(at, kRunning + p), L::identity(p));
        }
        go<L, false>(at, map, cut_.begin(call_, chunk), cut_.end(call_, chunk));
      }
    }
    for (i64 task = 0; task < tasks; ++task) {
      const Block<K> at = block(task);
      for (i64 chunk = 1; chunk + 1 < chunks; ++chunk) enter<kScan, L, Law>(at, chunk, maps[chunk * tasks + task], works[chunk * tasks + task], works[(chunk + 1) * tasks + task]);
    }
  }

  template <int kScan, class L, class Law>
  void enter(const Block<K>& at, const i64 chunk, const Work<K, L>& map, const Work<K, S>& from, const Work<K, S>& to) const {
    constexpr int kRunning = L::kCarries - L::kParts, kFirst = K::kScan[kScan];
    const bool anew = at.anew(cut_.begin(call_, chunk), cut_.end(call_, chunk));
    Work<K, S> fresh;
    if (anew && !K::kBack) {
      fresh = Work<K, S>(at);
      renew<S>(at, fresh);
    }
    // All carries of a scan have the same axes.
    const i64 count = Work<K, S>::size(at, kFirst);
    for (i64 i = 0; i < count; ++i) {
      State parts[Law::kParts], before[Law::kStates], after[Law::kStates];
      for (int p = 0; p < Law::kParts; ++p) parts[p] = map.carries[kRunning + p][i];
      for (int j = 0; j < Law::kStates; ++j) before[j] = anew ? (K::kBack ? State(0) : fresh.carries[kFirst + j][i]) : from.carries[kFirst + j][i];
      Law::apply(parts, before, after);
      for (int j = 0; j < Law::kStates; ++j) to.carries[kFirst + j][i] = after[j];
    }
  }

  const Call<K>& call_;
  const i64 threads_;
  const Cut<K> cut_;
  const bool past_;
};

template <class K>
void run(const i64* sizes, void* const* data, const i64* strides, const double* scalars, const i64 threads) {
  const Call<K> call(sizes, data, strides, scalars);
  Run<K>(call, threads)();
}

}  // namespace seqc
