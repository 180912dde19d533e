// u = f u + p v + x, v = q u + f v, w = f w + u, y = w + v with f = sigmoid(z): a scan of two coupled
// states (a law of matrices), and one of a state beside them.
namespace seqc {
namespace {

struct Coupled {
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
  // A matrix by rows, and what is added.
  struct Matrix {
    static constexpr int kParts = 6, kStates = 2;
    SEQC_INLINE static void apply(const State* const map, const State* const before, State* const after) {
      after[0] = seqc::times(before[0], map[0]) + seqc::times(before[1], map[1]) + map[4];
      after[1] = seqc::times(before[0], map[2]) + seqc::times(before[1], map[3]) + map[5];
    }
    SEQC_INLINE static void compose(const State* const later, const State* const first, State* const out) {
      out[0] = later[0] * first[0] + later[1] * first[2];
      out[1] = later[0] * first[1] + later[1] * first[3];
      out[2] = later[2] * first[0] + later[3] * first[2];
      out[3] = later[2] * first[1] + later[3] * first[3];
      out[4] = later[0] * first[4] + later[1] * first[5] + later[4];
      out[5] = later[2] * first[4] + later[3] * first[5] + later[5];
    }
  };
  struct Lifts {
    static constexpr bool kSums = false, kKeeps = false, kLeaves = false, kBefores = false;
  };
  struct AffineLift : Lifts {
    static constexpr int kParts = 2;
    SEQC_INLINE static State identity(const int p) { return p == 0 ? State(1) : State(0); }
  };
  struct MatrixLift : Lifts {
    static constexpr int kParts = 6;
    SEQC_INLINE static State identity(const int p) { return p == 0 || p == 3 ? State(1) : State(0); }
  };
};

struct CoupledForward : Coupled {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},   // z
      {Kind::kStorage, true, true, true, false, 0u},   // x
      {Kind::kState, false, true, true, false, 0u},    // p
      {Kind::kState, false, false, false, false, 0u},  // q, one for all lanes
      {Kind::kState, false, true, true, false, 0u},    // u_start
      {Kind::kState, false, true, true, false, 0u},    // v_start
      {Kind::kState, false, true, true, false, 0u},    // w_start
      {Kind::kState, false, true, true, false, 0u},    // u_fresh
      {Kind::kState, false, true, true, false, 0u},    // v_fresh
      {Kind::kState, false, true, true, false, 0u},    // w_fresh
      {Kind::kTruth, true, false, false, false, 0u},   // resets
      {Kind::kStorage, true, true, true, false, 0u},   // y_out
      {Kind::kState, false, true, true, false, 0u},    // u_last
      {Kind::kState, false, true, true, false, 0u},    // v_last
      {Kind::kState, false, true, true, false, 0u},    // w_last
      {Kind::kStorage, false, true, true, false, 0u},  // u_kept
      {Kind::kStorage, false, true, true, false, 0u},  // v_kept
      {Kind::kStorage, false, true, true, false, 0u},  // w_kept
  };
  static constexpr int kCount = 18, kScalars = 1, kResets = 10, kFirstOut = 11, kOuts = 1, kFirstKept = 15;
  static constexpr int kSums = 0, kBefores = 0, kScans = 2;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{-1, -1, -1, -1, 0u}};
  static constexpr int kScan[] = {0, 2};
  static constexpr bool kBack = false, kEvery = false, kParallel = true;
  template <int q>
  using Law = Pick<q, Matrix, Affine>;

  struct Main {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = true, kLeaves = false;
    static constexpr int kCarries = 3, kParts = 0;
    static constexpr Carry kCarry[] = {{4, 7, 12, 15, 0u}, {5, 8, 13, 16, 0u}, {6, 9, 14, 17, 0u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_x = r.row(Index<1>{});
      const auto s_p = r.row(Index<2>{});
      const State s_q = r.value(Index<3>{});
      auto s_u = r.carry(Index<0>{});
      auto s_v = r.carry(Index<1>{});
      auto s_w = r.carry(Index<2>{});
      auto s_y_out = r.out(Index<11>{});
      const State rate = r.scalar(0);
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State f = rate * seqc::sigmoid(s_z[c]);
        const State u = f * s_u[c] + s_p[c] * s_v[c] + s_x[c];
        const State v = s_q * s_u[c] + f * s_v[c];
        const State w = f * s_w[c] + u;
        s_y_out.set(c, w + v);
        s_u[c] = u;
        s_v[c] = v;
        s_w[c] = w;
      });
      s_y_out.put();
    }
  };
  struct Lift0 : MatrixLift {
    static constexpr bool kBack = false;
    static constexpr int kCarries = 6;
    static constexpr int kRunning[] = {-1};
    static constexpr Carry kNone = {-1, -1, -1, -1, 0u};
    static constexpr Carry kCarry[] = {kNone, kNone, kNone, kNone, kNone, kNone};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_x = r.row(Index<1>{});
      const auto s_p = r.row(Index<2>{});
      const State s_q = r.value(Index<3>{});
      const State rate = r.scalar(0);
      auto a = r.carry(Index<0>{});
      auto b = r.carry(Index<1>{});
      auto d = r.carry(Index<2>{});
      auto e = r.carry(Index<3>{});
      auto g = r.carry(Index<4>{});
      auto h = r.carry(Index<5>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State f = rate * seqc::sigmoid(s_z[c]);
        const State a1 = f * a[c] + s_p[c] * d[c], b1 = f * b[c] + s_p[c] * e[c];
        const State d1 = s_q * a[c] + f * d[c], e1 = s_q * b[c] + f * e[c];
        const State g1 = f * g[c] + s_p[c] * h[c] + s_x[c], h1 = s_q * g[c] + f * h[c];
        a[c] = a1, b[c] = b1, d[c] = d1, e[c] = e1, g[c] = g1, h[c] = h1;
      });
    }
  };
  struct Lift1 : AffineLift {
    static constexpr bool kBack = false;
    static constexpr int kCarries = 4;
    static constexpr int kRunning[] = {0, 1, -1, -1};
    static constexpr Carry kCarry[] = {{4, 7, 12, 15, 0u}, {5, 8, 13, 16, 0u}, {-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_x = r.row(Index<1>{});
      const auto s_p = r.row(Index<2>{});
      const State s_q = r.value(Index<3>{});
      const State rate = r.scalar(0);
      auto s_u = r.carry(Index<0>{});
      auto s_v = r.carry(Index<1>{});
      auto s_a = r.carry(Index<2>{});
      auto s_b = r.carry(Index<3>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State f = rate * seqc::sigmoid(s_z[c]);
        const State u = f * s_u[c] + s_p[c] * s_v[c] + s_x[c];
        const State v = s_q * s_u[c] + f * s_v[c];
        s_a[c] = f * s_a[c];
        s_b[c] = f * s_b[c] + u;
        s_u[c] = u;
        s_v[c] = v;
      });
    }
  };
  template <int q>
  using Lift = Pick<q, Lift0, Lift1>;
};

struct CoupledBackward : Coupled {
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},   // z
      {Kind::kStorage, true, true, true, false, 0u},   // d_y
      {Kind::kState, false, true, true, false, 0u},    // p
      {Kind::kState, false, false, false, false, 0u},  // q
      {Kind::kStorage, false, true, true, false, 0u},  // u_kept
      {Kind::kState, false, true, true, false, 0u},    // u_first
      {Kind::kState, false, true, true, false, 0u},    // u_fresh
      {Kind::kStorage, false, true, true, false, 0u},  // v_kept
      {Kind::kState, false, true, true, false, 0u},    // v_first
      {Kind::kState, false, true, true, false, 0u},    // v_fresh
      {Kind::kStorage, false, true, true, false, 0u},  // w_kept
      {Kind::kState, false, true, true, false, 0u},    // w_first
      {Kind::kState, false, true, true, false, 0u},    // w_fresh
      {Kind::kState, false, true, true, false, 0u},    // adjoint_w start
      {Kind::kState, false, true, true, false, 0u},    // adjoint_u start
      {Kind::kState, false, true, true, false, 0u},    // adjoint_v start
      {Kind::kState, false, true, true, false, 0u},    // adjoint_w fresh
      {Kind::kState, false, true, true, false, 0u},    // adjoint_u fresh
      {Kind::kState, false, true, true, false, 0u},    // adjoint_v fresh
      {Kind::kTruth, true, false, false, false, 0u},   // resets
      {Kind::kStorage, true, true, true, false, 0u},   // d_z
      {Kind::kStorage, true, true, true, false, 0u},   // d_x
      {Kind::kSum, false, true, true, false, 0u},      // d_p
      {Kind::kSum, false, true, true, false, 0u},      // d_q
      {Kind::kState, false, true, true, false, 0u},    // adjoint_w last
      {Kind::kState, false, true, true, false, 0u},    // adjoint_u last
      {Kind::kState, false, true, true, false, 0u},    // adjoint_v last
  };
  static constexpr int kCount = 27, kScalars = 1, kResets = 19, kFirstOut = 20, kOuts = 2, kFirstKept = 0;
  static constexpr int kSums = 2, kBefores = 3, kScans = 2;
  static constexpr Sum kSum[] = {{22, 0u}, {23, 0u}};
  static constexpr Before kBefore[] = {{4, 5, 6, 0, 0u}, {7, 8, 9, 1, 0u}, {10, 11, 12, 2, 0u}};
  static constexpr int kScan[] = {0, 1};
  static constexpr bool kBack = true, kEvery = false, kParallel = true;
  template <int q>
  using Law = Pick<q, Affine, Matrix>;

  struct Main {
    static constexpr bool kBack = true, kSums = true, kBefores = true, kKeeps = false, kLeaves = true;
    static constexpr int kCarries = 3, kParts = 0;
    static constexpr Carry kCarry[] = {{13, 16, 24, -1, 0u}, {14, 17, 25, -1, 0u}, {15, 18, 26, -1, 0u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_d_y = r.row(Index<1>{});
      const auto s_p = r.row(Index<2>{});
      const State s_q = r.value(Index<3>{});
      const auto s_u = r.before(Index<0>{});
      const auto s_v = r.before(Index<1>{});
      const auto s_w = r.before(Index<2>{});
      auto s_aw = r.carry(Index<0>{});
      auto s_au = r.carry(Index<1>{});
      auto s_av = r.carry(Index<2>{});
      auto s_d_z = r.out(Index<20>{});
      auto s_d_x = r.out(Index<21>{});
      auto s_d_p = r.sum(Index<0>{});
      auto s_d_q = r.sum(Index<1>{});
      const State rate = r.scalar(0);
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State s = seqc::sigmoid(s_z[c]), f = rate * s;
        const State dw = s_aw[c] + s_d_y[c], dv = s_av[c] + s_d_y[c], du = s_au[c] + dw;
        s_d_x.set(c, du);
        s_d_z.set(c, (du * s_u[c] + dv * s_v[c] + dw * s_w[c]) * f * (State(1) - s));
        s_d_p[c] += du * s_v[c];
        s_d_q[c] += dv * s_u[c];
        s_aw[c] = f * dw;
        s_au[c] = f * du + s_q * dv;
        s_av[c] = s_p[c] * du + f * dv;
      });
      s_d_z.put();
      s_d_x.put();
    }
  };
  struct Lift0 : AffineLift {
    static constexpr bool kBack = true;
    static constexpr int kCarries = 2;
    static constexpr int kRunning[] = {-1, -1};
    static constexpr Carry kCarry[] = {{-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_d_y = r.row(Index<1>{});
      auto s_a = r.carry(Index<0>{});
      auto s_b = r.carry(Index<1>{});
      const State rate = r.scalar(0);
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State f = rate * seqc::sigmoid(s_z[c]);
        s_a[c] = f * s_a[c];
        s_b[c] = f * (s_b[c] + s_d_y[c]);
      });
    }
  };
  struct Lift1 : MatrixLift {
    static constexpr bool kBack = true;
    static constexpr int kCarries = 7;
    static constexpr int kRunning[] = {0, -1, -1, -1, -1, -1, -1};
    static constexpr Carry kNone = {-1, -1, -1, -1, 0u};
    static constexpr Carry kCarry[] = {{13, 16, 24, -1, 0u}, kNone, kNone, kNone, kNone, kNone, kNone};
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_z = r.row(Index<0>{});
      const auto s_d_y = r.row(Index<1>{});
      const auto s_p = r.row(Index<2>{});
      const State s_q = r.value(Index<3>{});
      const State rate = r.scalar(0);
      auto s_aw = r.carry(Index<0>{});
      auto a = r.carry(Index<1>{});
      auto b = r.carry(Index<2>{});
      auto d = r.carry(Index<3>{});
      auto e = r.carry(Index<4>{});
      auto g = r.carry(Index<5>{});
      auto h = r.carry(Index<6>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State f = rate * seqc::sigmoid(s_z[c]);
        const State dw = s_aw[c] + s_d_y[c], du = g[c] + dw, dv = h[c] + s_d_y[c];
        const State a1 = f * a[c] + s_q * d[c], b1 = f * b[c] + s_q * e[c];
        const State d1 = s_p[c] * a[c] + f * d[c], e1 = s_p[c] * b[c] + f * e[c];
        const State g1 = f * du + s_q * dv, h1 = s_p[c] * du + f * dv;
        a[c] = a1, b[c] = b1, d[c] = d1, e[c] = e1, g[c] = g1, h[c] = h1;
        s_aw[c] = f * dw;
      });
    }
  };
  template <int q>
  using Lift = Pick<q, Lift0, Lift1>;
};

}  // namespace
}  // namespace seqc
