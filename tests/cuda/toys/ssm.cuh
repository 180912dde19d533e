// h = exp(-A softplus(d + e)) h + softplus(d + e) x B, y = sum(C h, slots) + D x: a sum over an inner
// axis, its states kept now and then and computed again, gradients of constants and of streams without
// lanes.  Axes (hidden, slots).
namespace seqc {
namespace {

struct Ssm {
  using Storage = SEQC_STORAGE;
  using State = SEQC_STATE;
  static constexpr int kAxes = 2, kLane = 0, kInner = 1;
  static constexpr Role kRole[] = {Role::kLane, Role::kInner};
  static constexpr unsigned kPartial[] = {0u};
  static constexpr int kScan[] = {0};
  struct Affine {
    static constexpr int kParts = 2, kStates = 1;
    SEQC_INLINE static void apply(const State* const map, const State* const before, State* const after) {
      after[0] = seqc::times(before[0], map[0]) + map[1];
    }
    SEQC_INLINE static void compose(const State* const later, const State* const first, State* const out) {
      out[0] = later[0] * first[0];
      out[1] = later[0] * first[1] + later[1];
    }
  };
  template <int>
  using Law = Affine;
  struct Lifts {
    static constexpr bool kSums = false, kKeeps = false, kLeaves = false, kBefores = false;
    static constexpr int kParts = 2, kCarries = 2;
    static constexpr int kRunning[] = {-1, -1};
    static constexpr Carry kCarry[] = {{-1, -1, -1, -1, 1u}, {-1, -1, -1, -1, 1u}};
    SEQC_INLINE static State identity(const int p) { return p == 0 ? State(1) : State(0); }
  };
};

struct SsmForward : Ssm {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},    // d
      {Kind::kStorage, true, false, false, false, 1u},  // B
      {Kind::kStorage, true, true, true, false, 0u},    // x
      {Kind::kStorage, true, false, false, false, 1u},  // C
      {Kind::kState, false, true, true, false, 1u},     // A
      {Kind::kState, false, true, true, false, 0u},     // e
      {Kind::kState, false, true, true, false, 0u},     // D
      {Kind::kState, false, true, false, false, 1u},    // start
      {Kind::kState, false, true, false, false, 1u},    // fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kStorage, true, true, true, false, 0u},    // y_out
      {Kind::kState, false, true, false, false, 1u},    // last
      {Kind::kState, false, true, false, false, 1u},    // kept
  };
  static constexpr int kCount = 13, kScalars = 0, kResets = 9, kFirstOut = 10, kOuts = 1, kFirstKept = 12;
  static constexpr int kSums = 0, kBefores = 0, kScans = 1;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{-1, -1, -1, -1, 0u}};
  static constexpr bool kBack = false, kEvery = true, kParallel = true;

  struct Main {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = true, kLeaves = false;
    static constexpr int kCarries = 1, kParts = 0;
    static constexpr Carry kCarry[] = {{7, 8, 11, 12, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_d = r.row(Index<0>{});
      const auto s_e = r.row(Index<5>{});
      const auto s_x = r.row(Index<2>{});
      typename R::Lanes v4;
      typename R::Lanes v10;
      r.lanes([&](const auto c) SEQC_LAMBDA {
        v4[c] = seqc::softplus(s_d[c] + s_e[c]);
        v10[c] = v4[c] * s_x[c];
      });
      typename R::Lanes v19_sum{};
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_B = r.value(Index<1>{}, s);
        const State s_C = r.value(Index<3>{}, s);
        const auto s_A = r.row(Index<4>{}, s);
        auto s_h = r.carry(Index<0>{}, s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State v7 = seqc::exp(-(s_A[c] * v4[c]));
          const State v16 = v7 * s_h[c] + s_B * v10[c];
          v19_sum[c] += v16 * s_C;
          s_h[c] = v16;
        });
      });
      r.across(v19_sum);
      const auto s_D = r.row(Index<6>{});
      auto s_y_out = r.out(Index<10>{});
      r.lanes([&](const auto c) SEQC_LAMBDA { s_y_out.set(c, v19_sum[c] + s_x[c] * s_D[c]); });
      s_y_out.put();
    }
  };
  struct Lift0 : Lifts {
    static constexpr bool kBack = false;
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_d = r.row(Index<0>{});
      const auto s_e = r.row(Index<5>{});
      const auto s_x = r.row(Index<2>{});
      typename R::Lanes v4;
      typename R::Lanes v10;
      r.lanes([&](const auto c) SEQC_LAMBDA {
        v4[c] = seqc::softplus(s_d[c] + s_e[c]);
        v10[c] = v4[c] * s_x[c];
      });
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_B = r.value(Index<1>{}, s);
        const auto s_A = r.row(Index<4>{}, s);
        auto s_a = r.carry(Index<0>{}, s);
        auto s_b = r.carry(Index<1>{}, s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State v7 = seqc::exp(-(s_A[c] * v4[c]));
          s_a[c] = v7 * s_a[c];
          s_b[c] = v7 * s_b[c] + s_B * v10[c];
        });
      });
    }
  };
  template <int>
  using Lift = Lift0;
};

struct SsmBackward : Ssm {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},    // d
      {Kind::kStorage, true, false, false, false, 1u},  // B
      {Kind::kStorage, true, true, true, false, 0u},    // x
      {Kind::kStorage, true, false, false, false, 1u},  // C
      {Kind::kStorage, true, true, true, false, 0u},    // d_y
      {Kind::kState, false, true, true, false, 1u},     // A
      {Kind::kState, false, true, true, false, 0u},     // e
      {Kind::kState, false, true, true, false, 0u},     // D
      {Kind::kState, false, true, false, false, 1u},    // h_kept
      {Kind::kState, false, true, false, false, 1u},    // h_first
      {Kind::kState, false, true, false, false, 1u},    // h_fresh
      {Kind::kState, false, true, false, false, 1u},    // adjoint_h start
      {Kind::kState, false, true, false, false, 1u},    // adjoint_h fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kStorage, true, true, true, false, 0u},    // d_d
      {Kind::kState, true, false, false, true, 1u},     // d_B
      {Kind::kStorage, true, true, true, false, 0u},    // d_x
      {Kind::kState, true, false, false, true, 1u},     // d_C
      {Kind::kSum, false, true, true, false, 1u},       // d_A
      {Kind::kSum, false, true, true, false, 0u},       // d_e
      {Kind::kSum, false, true, true, false, 0u},       // d_D
      {Kind::kState, false, true, false, false, 1u},    // adjoint_h last
  };
  static constexpr int kCount = 22, kScalars = 0, kResets = 13, kFirstOut = 14, kOuts = 4, kFirstKept = 0;
  static constexpr int kSums = 3, kBefores = 1, kScans = 1;
  static constexpr Sum kSum[] = {{18, 1u}, {19, 0u}, {20, 0u}};
  static constexpr Before kBefore[] = {{8, 9, 10, 0, 1u}};
  static constexpr bool kBack = true, kEvery = true, kParallel = true;

  struct Main {
    static constexpr bool kBack = true, kSums = true, kBefores = true, kKeeps = false, kLeaves = true;
    static constexpr int kCarries = 1, kParts = 0;
    static constexpr Carry kCarry[] = {{11, 12, 21, -1, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_d = r.row(Index<0>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_d_y = r.row(Index<4>{});
      const auto s_e = r.row(Index<6>{});
      const auto s_D = r.row(Index<7>{});
      typename R::Lanes v3;
      typename R::Lanes v4;
      typename R::Lanes v10;
      r.lanes([&](const auto c) SEQC_LAMBDA {
        v3[c] = s_d[c] + s_e[c];
        v4[c] = seqc::softplus(v3[c]);
        v10[c] = v4[c] * s_x[c];
      });
      typename R::Lanes v28_sum{};
      typename R::Lanes v37_sum{};
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_B = r.value(Index<1>{}, s);
        const State s_C = r.value(Index<3>{}, s);
        const auto s_A = r.row(Index<5>{}, s);
        const auto s_h_before = r.before(Index<0>{}, s);
        auto s_adjoint_h = r.carry(Index<0>{}, s);
        auto s_d_B = r.out(Index<15>{}, s);
        auto s_d_C = r.out(Index<17>{}, s);
        auto s_d_A = r.sum(Index<0>{}, s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State v7 = seqc::exp(-(s_A[c] * v4[c]));
          const State v14 = s_B * v10[c] + v7 * s_h_before[c];
          const State v23 = s_adjoint_h[c] + s_C * s_d_y[c];
          const State v32 = v7 * (s_h_before[c] * v23);
          v28_sum[c] += s_B * v23;
          v37_sum[c] += -(s_A[c] * v32);
          s_d_B.set(c, v10[c] * v23);
          s_d_C.set(c, v14 * s_d_y[c]);
          s_d_A[c] += -(v4[c] * v32);
          s_adjoint_h[c] = v7 * v23;
        });
        s_d_B.put();
        s_d_C.put();
      });
      r.across(v28_sum);
      r.across(v37_sum);
      auto s_d_d = r.out(Index<14>{});
      auto s_d_x = r.out(Index<16>{});
      auto s_d_e = r.sum(Index<1>{});
      auto s_d_D = r.sum(Index<2>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State v40 = (s_x[c] * v28_sum[c] + v37_sum[c]) * seqc::sigmoid(v3[c]);
        s_d_d.set(c, v40);
        s_d_x.set(c, v4[c] * v28_sum[c] + s_D[c] * s_d_y[c]);
        s_d_e[c] += v40;
        s_d_D[c] += s_x[c] * s_d_y[c];
      });
      s_d_d.put();
      s_d_x.put();
    }
  };
  struct Again {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = false, kLeaves = false;
    static constexpr int kCarries = 1, kParts = 0;
    static constexpr Carry kCarry[] = {{-1, 10, -1, 8, 1u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_d = r.row(Index<0>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_e = r.row(Index<6>{});
      typename R::Lanes v4;
      typename R::Lanes v10;
      r.lanes([&](const auto c) SEQC_LAMBDA {
        v4[c] = seqc::softplus(s_d[c] + s_e[c]);
        v10[c] = v4[c] * s_x[c];
      });
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_B = r.value(Index<1>{}, s);
        const auto s_A = r.row(Index<5>{}, s);
        auto s_h = r.carry(Index<0>{}, s);
        r.lanes([&](const auto c) SEQC_LAMBDA { s_h[c] = seqc::exp(-(s_A[c] * v4[c])) * s_h[c] + s_B * v10[c]; });
      });
    }
  };
  struct Lift0 : Lifts {
    static constexpr bool kBack = true;
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_d = r.row(Index<0>{});
      const auto s_d_y = r.row(Index<4>{});
      const auto s_e = r.row(Index<6>{});
      typename R::Lanes v4;
      r.lanes([&](const auto c) SEQC_LAMBDA { v4[c] = seqc::softplus(s_d[c] + s_e[c]); });
      r.inner([&](const auto& s) SEQC_LAMBDA {
        const State s_C = r.value(Index<3>{}, s);
        const auto s_A = r.row(Index<5>{}, s);
        auto s_a = r.carry(Index<0>{}, s);
        auto s_b = r.carry(Index<1>{}, s);
        r.lanes([&](const auto c) SEQC_LAMBDA {
          const State v7 = seqc::exp(-(s_A[c] * v4[c]));
          s_a[c] = v7 * s_a[c];
          s_b[c] = v7 * (s_b[c] + s_C * s_d_y[c]);
        });
      });
    }
  };
  template <int>
  using Lift = Lift0;
};

}  // namespace
}  // namespace seqc
