// h = sigmoid(z + g + w) h + (m ? x : 0), n = sigmoid(h) n + x g: two scans, the second after the first;
// a stream without lanes, a constant, a mask.
namespace seqc {
namespace {

struct Strata {
  using Storage = SEQC_STORAGE;
  using State = SEQC_STATE;
  static constexpr int kAxes = 1, kLane = 0, kInner = 0;
  static constexpr Role kRole[] = {Role::kLane};
  static constexpr unsigned kPartial[] = {0u};
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
    static constexpr bool kSums = false, kKeeps = false, kLeaves = false;
    static constexpr int kParts = 2;
    SEQC_INLINE static State identity(const int p) { return p == 0 ? State(1) : State(0); }
  };
};

struct StrataForward : Strata {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},    // z
      {Kind::kStorage, true, false, false, false, 0u},  // g
      {Kind::kStorage, true, true, true, false, 0u},    // x
      {Kind::kState, false, true, true, false, 0u},     // w
      {Kind::kTruth, true, true, true, false, 0u},      // m
      {Kind::kState, false, true, true, false, 0u},     // h_start
      {Kind::kState, false, true, true, false, 0u},     // n_start
      {Kind::kState, false, true, true, false, 0u},     // h_fresh
      {Kind::kState, false, true, true, false, 0u},     // n_fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kStorage, true, true, true, false, 0u},    // h_out
      {Kind::kState, false, true, true, false, 0u},     // h_last
      {Kind::kState, false, true, true, false, 0u},     // n_last
      {Kind::kStorage, false, true, true, false, 0u},   // n_kept
  };
  static constexpr int kCount = 14, kScalars = 0, kResets = 9, kFirstOut = 10, kOuts = 1, kFirstKept = 13;
  static constexpr int kSums = 0, kBefores = 0, kScans = 2;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{-1, -1, -1, -1, 0u}};
  static constexpr int kScan[] = {0, 1};
  static constexpr bool kBack = false, kEvery = false, kParallel = true;

  struct Main {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = true, kLeaves = false;
    static constexpr int kCarries = 2, kParts = 0;
    static constexpr Carry kCarry[] = {{5, 7, 11, -1, 0u}, {6, 8, 12, 13, 0u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_w = r.row(Index<3>{});
      const auto s_m = r.row(Index<4>{});
      auto s_h = r.carry(Index<0>{});
      auto s_n = r.carry(Index<1>{});
      auto s_h_out = r.out(Index<10>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const bool kept = s_m[c];
        const State v1 = a * s_h[c] + (kept ? State(s_x[c]) : State(0));
        const State v2 = seqc::sigmoid(v1) * s_n[c] + s_x[c] * s_g;
        s_h_out.set(c, v1);
        s_h[c] = v1;
        s_n[c] = v2;
      });
      s_h_out.put();
    }
  };
  struct Lift0 : Lifts {
    static constexpr bool kBack = false, kBefores = false;
    static constexpr int kCarries = 2;
    static constexpr int kRunning[] = {-1, -1};
    static constexpr Carry kCarry[] = {{-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_w = r.row(Index<3>{});
      const auto s_m = r.row(Index<4>{});
      auto s_a = r.carry(Index<0>{});
      auto s_b = r.carry(Index<1>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const bool kept = s_m[c];
        s_a[c] = a * s_a[c];
        s_b[c] = a * s_b[c] + (kept ? State(s_x[c]) : State(0));
      });
    }
  };
  struct Lift1 : Lifts {
    static constexpr bool kBack = false, kBefores = false;
    static constexpr int kCarries = 3;
    static constexpr int kRunning[] = {0, -1, -1};
    static constexpr Carry kCarry[] = {{5, 7, 11, -1, 0u}, {-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_w = r.row(Index<3>{});
      const auto s_m = r.row(Index<4>{});
      auto s_h = r.carry(Index<0>{});
      auto s_a = r.carry(Index<1>{});
      auto s_b = r.carry(Index<2>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const bool kept = s_m[c];
        const State v1 = a * s_h[c] + (kept ? State(s_x[c]) : State(0));
        const State v2 = seqc::sigmoid(v1);
        s_a[c] = v2 * s_a[c];
        s_b[c] = v2 * s_b[c] + s_x[c] * s_g;
        s_h[c] = v1;
      });
    }
  };
  template <int q>
  using Lift = Pick<q, Lift0, Lift1>;
};

struct StrataBackward : Strata {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},    // z
      {Kind::kStorage, true, false, false, false, 0u},  // g
      {Kind::kStorage, true, true, true, false, 0u},    // x
      {Kind::kStorage, true, true, true, false, 0u},    // d_h
      {Kind::kState, false, true, true, false, 0u},     // w
      {Kind::kTruth, true, true, true, false, 0u},      // m
      {Kind::kStorage, false, true, true, false, 0u},   // h_kept
      {Kind::kState, false, true, true, false, 0u},     // h_first
      {Kind::kState, false, true, true, false, 0u},     // h_fresh
      {Kind::kStorage, false, true, true, false, 0u},   // n_kept
      {Kind::kState, false, true, true, false, 0u},     // n_first
      {Kind::kState, false, true, true, false, 0u},     // n_fresh
      {Kind::kState, false, true, true, false, 0u},     // adjoint_n start
      {Kind::kState, false, true, true, false, 0u},     // adjoint_h start
      {Kind::kState, false, true, true, false, 0u},     // adjoint_n fresh
      {Kind::kState, false, true, true, false, 0u},     // adjoint_h fresh
      {Kind::kTruth, true, false, false, false, 0u},    // resets
      {Kind::kStorage, true, true, true, false, 0u},    // d_z
      {Kind::kState, true, false, false, true, 0u},     // d_g
      {Kind::kStorage, true, true, true, false, 0u},    // d_x
      {Kind::kSum, false, true, true, false, 0u},       // d_w
      {Kind::kState, false, true, true, false, 0u},     // adjoint_n last
      {Kind::kState, false, true, true, false, 0u},     // adjoint_h last
  };
  static constexpr int kCount = 23, kScalars = 0, kResets = 16, kFirstOut = 17, kOuts = 3, kFirstKept = 0;
  static constexpr int kSums = 1, kBefores = 2, kScans = 2;
  static constexpr Sum kSum[] = {{20, 0u}};
  static constexpr Before kBefore[] = {{6, 7, 8, 0, 0u}, {9, 10, 11, 1, 0u}};
  static constexpr int kScan[] = {0, 1};
  static constexpr bool kBack = true, kEvery = false, kParallel = true;

  // What the steps share: c = sigmoid(h) after the step.
  struct Main {
    static constexpr bool kBack = true, kSums = true, kBefores = true, kKeeps = false, kLeaves = true;
    static constexpr int kCarries = 2, kParts = 0;
    static constexpr Carry kCarry[] = {{12, 14, 21, -1, 0u}, {13, 15, 22, -1, 0u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_d_h = r.row(Index<3>{});
      const auto s_w = r.row(Index<4>{});
      const auto s_m = r.row(Index<5>{});
      const auto s_h_before = r.before(Index<0>{});
      const auto s_n_before = r.before(Index<1>{});
      auto s_adjoint_n = r.carry(Index<0>{});
      auto s_adjoint_h = r.carry(Index<1>{});
      auto s_d_z = r.out(Index<17>{});
      auto s_d_g = r.out(Index<18>{});
      auto s_d_x = r.out(Index<19>{});
      auto s_d_w = r.sum(Index<0>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const bool kept = s_m[c];
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const State h = a * s_h_before[c] + (kept ? State(s_x[c]) : State(0));
        const State s = seqc::sigmoid(h);
        const State dn = s_adjoint_n[c];
        const State dh = s_adjoint_h[c] + s_d_h[c] + dn * s_n_before[c] * s * (State(1) - s);
        const State pre = dh * s_h_before[c] * a * (State(1) - a);
        s_d_z.set(c, pre);
        s_d_g.set(c, pre + dn * s_x[c]);
        s_d_x.set(c, (kept ? dh : State(0)) + dn * s_g);
        s_d_w[c] += pre;
        s_adjoint_n[c] = s * dn;
        s_adjoint_h[c] = a * dh;
      });
      s_d_z.put();
      s_d_g.put();
      s_d_x.put();
    }
  };
  struct Lift0 : Lifts {
    static constexpr bool kBack = true, kBefores = true;
    static constexpr int kCarries = 2;
    static constexpr int kRunning[] = {-1, -1};
    static constexpr Carry kCarry[] = {{-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_w = r.row(Index<4>{});
      const auto s_m = r.row(Index<5>{});
      const auto s_h_before = r.before(Index<0>{});
      auto s_a = r.carry(Index<0>{});
      auto s_b = r.carry(Index<1>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const bool kept = s_m[c];
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const State s = seqc::sigmoid(a * s_h_before[c] + (kept ? State(s_x[c]) : State(0)));
        s_a[c] = s * s_a[c];
        s_b[c] = s * s_b[c];
      });
    }
  };
  struct Lift1 : Lifts {
    static constexpr bool kBack = true, kBefores = true;
    static constexpr int kCarries = 3;
    static constexpr int kRunning[] = {0, -1, -1};
    static constexpr Carry kCarry[] = {{12, 14, 21, -1, 0u}, {-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const State s_g = r.value(Index<1>{});
      const auto s_x = r.row(Index<2>{});
      const auto s_d_h = r.row(Index<3>{});
      const auto s_w = r.row(Index<4>{});
      const auto s_m = r.row(Index<5>{});
      const auto s_h_before = r.before(Index<0>{});
      const auto s_n_before = r.before(Index<1>{});
      auto s_adjoint_n = r.carry(Index<0>{});
      auto s_a = r.carry(Index<1>{});
      auto s_b = r.carry(Index<2>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const bool kept = s_m[c];
        const State a = seqc::sigmoid(s_z[c] + s_g + s_w[c]);
        const State s = seqc::sigmoid(a * s_h_before[c] + (kept ? State(s_x[c]) : State(0)));
        const State dn = s_adjoint_n[c];
        s_a[c] = a * s_a[c];
        s_b[c] = a * (s_b[c] + s_d_h[c] + dn * s_n_before[c] * s * (State(1) - s));
        s_adjoint_n[c] = s * dn;
      });
    }
  };
  template <int q>
  using Lift = Pick<q, Lift0, Lift1>;
};

}  // namespace
}  // namespace seqc
