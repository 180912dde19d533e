// S = sigmoid(a) S + k x, m = m / 2 + tanh(sum(S, cols)), y = sum(m S k, rows, cols): two inner axes,
// sums over one and over both, a state along one.  Axes (heads, rows, cols, hidden).
namespace seqc {
namespace {

struct Plane {
  using Storage = SEQC_STORAGE;
  using State = SEQC_STATE;
  static constexpr int kAxes = 4, kLane = 3, kInner = 2;
  static constexpr Role kRole[] = {Role::kOuter, Role::kInner, Role::kInner, Role::kLane};
  static constexpr int kScan[] = {-1};
};

struct PlaneForward : Plane {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, false, false, false, 1u},  // a: heads, rows
      {Kind::kStorage, true, false, false, false, 2u},  // k: cols
      {Kind::kStorage, true, true, true, false, 0u},    // x: hidden
      {Kind::kState, false, true, true, false, 3u},     // S_start
      {Kind::kState, false, true, true, false, 1u},     // m_start
      {Kind::kState, false, true, true, false, 3u},     // S_fresh
      {Kind::kState, false, true, true, false, 1u},     // m_fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kStorage, true, true, true, false, 0u},    // y_out
      {Kind::kStorage, true, true, true, false, 1u},    // m_out
      {Kind::kState, false, true, true, false, 3u},     // S_last
      {Kind::kState, false, true, true, false, 1u},     // m_last
      {Kind::kState, false, true, true, false, 3u},     // S_kept
      {Kind::kState, false, true, true, false, 1u},     // m_kept
  };
  static constexpr int kCount = 14, kScalars = 0, kResets = 7, kFirstOut = 8, kOuts = 2, kFirstKept = 12;
  static constexpr int kSums = 0, kBefores = 0, kScans = 0;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{-1, -1, -1, -1, 0u}};
  static constexpr unsigned kPartial[] = {1u};
  static constexpr bool kBack = false, kEvery = true, kParallel = false;

  struct Main {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = true, kLeaves = false;
    static constexpr int kCarries = 2, kParts = 0;
    static constexpr Carry kCarry[] = {{3, 5, 10, 12, 3u}, {4, 6, 11, 13, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_x = r.row(Index<2>{});
      auto v_sum = r.partial(Index<0>{});
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_a = r.value(Index<0>{}, s);
        const State s_k = r.value(Index<1>{}, s);
        auto s_S = r.carry(Index<0>{}, s);
        auto row = v_sum.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA { row[c] += seqc::sigmoid(s_a) * s_S[c] + s_k * s_x[c]; });
      });
      r.across(v_sum);
      typename R::Lanes v_y{};
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_a = r.value(Index<0>{}, s);
        const State s_k = r.value(Index<1>{}, s);
        auto s_S = r.carry(Index<0>{}, s);
        const auto s_m = r.carry(Index<1>{}, s);
        const auto row = v_sum.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State S = seqc::sigmoid(s_a) * s_S[c] + s_k * s_x[c];
          const State m = State(0.5) * s_m[c] + seqc::tanh(row[c]);
          v_y[c] += m * S * s_k;
          s_S[c] = S;
        });
      });
      r.inner(Index<1>{}, [&](const auto& s) SEQC_LAMBDA {
        auto s_m = r.carry(Index<1>{}, s);
        auto s_m_out = r.out(Index<9>{}, s);
        const auto row = v_sum.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          s_m[c] = State(0.5) * s_m[c] + seqc::tanh(row[c]);
          s_m_out.set(c, s_m[c]);
        });
        s_m_out.put();
      });
      r.across(v_y);
      auto s_y_out = r.out(Index<8>{});
      r.lanes([&](const auto c) SEQC_LAMBDA { s_y_out.set(c, v_y[c]); });
      s_y_out.put();
    }
  };
};

struct PlaneBackward : Plane {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, false, false, false, 1u},  // a
      {Kind::kStorage, true, false, false, false, 2u},  // k
      {Kind::kStorage, true, true, true, false, 0u},    // x
      {Kind::kStorage, true, true, true, false, 0u},    // d_y
      {Kind::kStorage, true, true, true, false, 1u},    // d_m
      {Kind::kState, false, true, true, false, 3u},     // S_kept
      {Kind::kState, false, true, true, false, 3u},     // S_first
      {Kind::kState, false, true, true, false, 3u},     // S_fresh
      {Kind::kState, false, true, true, false, 1u},     // m_kept
      {Kind::kState, false, true, true, false, 1u},     // m_first
      {Kind::kState, false, true, true, false, 1u},     // m_fresh
      {Kind::kState, false, true, true, false, 3u},     // adjoint_S start
      {Kind::kState, false, true, true, false, 1u},     // adjoint_m start
      {Kind::kState, false, true, true, false, 3u},     // adjoint_S fresh
      {Kind::kState, false, true, true, false, 1u},     // adjoint_m fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kState, true, false, false, true, 1u},     // d_a
      {Kind::kState, true, false, false, true, 2u},     // d_k
      {Kind::kStorage, true, true, true, false, 0u},    // d_x
      {Kind::kState, false, true, true, false, 3u},     // adjoint_S last
      {Kind::kState, false, true, true, false, 1u},     // adjoint_m last
  };
  static constexpr int kCount = 21, kScalars = 0, kResets = 15, kFirstOut = 16, kOuts = 3, kFirstKept = 0;
  static constexpr int kSums = 0, kBefores = 2, kScans = 0;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{5, 6, 7, 0, 3u}, {8, 9, 10, 1, 1u}};
  // sum(S, cols), sum(S k, cols), sum of d_a over cols, sum of d_k over rows
  static constexpr unsigned kPartial[] = {1u, 1u, 1u, 2u, 1u};
  static constexpr bool kBack = true, kEvery = true, kParallel = false;

  struct Main {
    static constexpr bool kBack = true, kSums = false, kBefores = true, kKeeps = false, kLeaves = true;
    static constexpr int kCarries = 2, kParts = 0;
    static constexpr Carry kCarry[] = {{11, 13, 19, -1, 3u}, {12, 14, 20, -1, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_x = r.row(Index<2>{});
      const auto s_d_y = r.row(Index<3>{});
      auto v_r = r.partial(Index<0>{});
      auto v_q = r.partial(Index<1>{});
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_a = r.value(Index<0>{}, s);
        const State s_k = r.value(Index<1>{}, s);
        const auto S_before = r.before(Index<0>{}, s);
        auto row = v_r.at(s);
        auto row_q = v_q.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State S = seqc::sigmoid(s_a) * S_before[c] + s_k * s_x[c];
          row[c] += S;
          row_q[c] += S * s_k;
        });
      });
      r.across(v_r);
      r.across(v_q);
      auto v_d_a = r.partial(Index<2>{});
      auto v_d_k = r.partial(Index<3>{});
      typename R::Lanes v_d_x{};
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_a = r.value(Index<0>{}, s);
        const State s_k = r.value(Index<1>{}, s);
        const auto S_before = r.before(Index<0>{}, s);
        const auto m_before = r.before(Index<1>{}, s);
        const auto s_d_m = r.row(Index<4>{}, s);
        auto adjoint_S = r.carry(Index<0>{}, s);
        const auto adjoint_m = r.carry(Index<1>{}, s);
        auto row_r = v_r.at(s);
        auto row_q = v_q.at(s);
        auto row_a = v_d_a.at(s);
        auto row_k = v_d_k.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State rate = seqc::sigmoid(s_a);
          const State S = rate * S_before[c] + s_k * s_x[c];
          const State tanh = seqc::tanh(row_r[c]);
          const State m = State(0.5) * m_before[c] + tanh;
          const State d_m = adjoint_m[c] + s_d_m[c] + s_d_y[c] * row_q[c];
          const State d_S = adjoint_S[c] + s_d_y[c] * m * s_k + d_m * (State(1) - tanh * tanh);
          v_d_x[c] += d_S * s_k;
          row_a[c] += d_S * S_before[c] * rate * (State(1) - rate);
          row_k[c] += d_S * s_x[c] + s_d_y[c] * m * S;
          adjoint_S[c] = rate * d_S;
        });
      });
      r.across(v_d_x);
      r.across(v_d_a);
      r.across(v_d_k);
      r.inner(Index<1>{}, [&](const auto& s) SEQC_LAMBDA {
        const auto s_d_m = r.row(Index<4>{}, s);
        auto adjoint_m = r.carry(Index<1>{}, s);
        auto d_a = r.out(Index<16>{}, s);
        const auto row_a = v_d_a.at(s);
        auto row_q = v_q.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          adjoint_m[c] = State(0.5) * (adjoint_m[c] + s_d_m[c] + s_d_y[c] * row_q[c]);
          d_a.set(c, row_a[c]);
        });
        d_a.put();
      });
      r.inner(Index<2>{}, [&](const auto& s) SEQC_LAMBDA {
        auto d_k = r.out(Index<17>{}, s);
        const auto row_k = v_d_k.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA { d_k.set(c, row_k[c]); });
        d_k.put();
      });
      auto d_x = r.out(Index<18>{});
      r.lanes([&](const auto c) SEQC_LAMBDA { d_x.set(c, v_d_x[c]); });
      d_x.put();
    }
  };
  struct Again {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = false, kLeaves = false;
    static constexpr int kCarries = 2, kParts = 0;
    static constexpr Carry kCarry[] = {{-1, 7, -1, 5, 3u}, {-1, 10, -1, 8, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_x = r.row(Index<2>{});
      auto v_sum = r.partial(Index<4>{});
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_a = r.value(Index<0>{}, s);
        const State s_k = r.value(Index<1>{}, s);
        auto s_S = r.carry(Index<0>{}, s);
        auto row = v_sum.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          s_S[c] = seqc::sigmoid(s_a) * s_S[c] + s_k * s_x[c];
          row[c] += s_S[c];
        });
      });
      r.across(v_sum);
      r.inner(Index<1>{}, [&](const auto& s) SEQC_LAMBDA {
        auto s_m = r.carry(Index<1>{}, s);
        const auto row = v_sum.at(s);
        r.lanes([&](const auto c) SEQC_LAMBDA { s_m[c] = State(0.5) * s_m[c] + seqc::tanh(row[c]); });
      });
    }
  };
};

}  // namespace
}  // namespace seqc
