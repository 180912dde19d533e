// h = max(h + a, b): a scan whose functions are neither linear nor made of products.
namespace seqc {
namespace {

struct MaxPlus {
  using Storage = SEQC_STORAGE;
  using State = SEQC_STATE;
  static constexpr int kAxes = 2, kLane = 1, kInner = 0;
  static constexpr Role kRole[] = {Role::kOuter, Role::kLane};
  static constexpr unsigned kPartial[] = {0u};
  static constexpr Tensor kTensors[] = {
      {Kind::kStorage, true, true, true, false, 0u},   // a
      {Kind::kStorage, true, true, true, false, 0u},   // b
      {Kind::kState, false, true, true, false, 0u},    // start
      {Kind::kState, false, true, true, false, 0u},    // fresh
      {Kind::kTruth, true, false, false, false, 0u},   // resets
      {Kind::kStorage, true, true, true, false, 0u},   // h_out
      {Kind::kState, false, true, true, false, 0u},    // last
  };
  static constexpr int kCount = 7, kScalars = 0, kResets = 4, kFirstOut = 5, kOuts = 1, kFirstKept = 0;
  static constexpr int kSums = 0, kBefores = 0, kScans = 1;
  static constexpr Sum kSum[] = {{-1, 0u}};
  static constexpr Before kBefore[] = {{-1, -1, -1, -1, 0u}};
  static constexpr int kScan[] = {0};
  static constexpr bool kBack = false, kEvery = false, kParallel = true;
  struct Law0 {
    static constexpr int kParts = 2, kStates = 1;
    SEQC_INLINE static void apply(const State* const map, const State* const before, State* const after) {
      after[0] = seqc::max(before[0] + map[0], map[1]);
    }
    SEQC_INLINE static void compose(const State* const later, const State* const first, State* const out) {
      out[0] = first[0] + later[0];
      out[1] = seqc::max(first[1] + later[0], later[1]);
    }
  };
  template <int>
  using Law = Law0;

  struct Main {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = false, kLeaves = false;
    static constexpr int kCarries = 1, kParts = 0;
    static constexpr Carry kCarry[] = {{2, 3, 6, -1, 0u}};
    SEQC_INLINE static State identity(const int) { return State(0); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_a = r.row(Index<0>{});
      const auto s_b = r.row(Index<1>{});
      auto s_h = r.carry(Index<0>{});
      auto s_h_out = r.out(Index<5>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        const State v = seqc::max(s_h[c] + s_a[c], State(s_b[c]));
        s_h_out.set(c, v);
        s_h[c] = v;
      });
      s_h_out.put();
    }
  };
  struct Lift0 {
    static constexpr bool kBack = false, kSums = false, kBefores = false, kKeeps = false, kLeaves = false;
    static constexpr int kCarries = 2, kParts = 2;
    static constexpr int kRunning[] = {-1, -1};
    static constexpr Carry kCarry[] = {{-1, -1, -1, -1, 0u}, {-1, -1, -1, -1, 0u}};
    SEQC_INLINE static State identity(const int p) { return p == 0 ? State(0) : -seqc::infinity<State>(); }
    template <class R>
    SEQC_INLINE static void run(const R& r) {
      const auto s_a = r.row(Index<0>{});
      const auto s_b = r.row(Index<1>{});
      auto s_s = r.carry(Index<0>{});
      auto s_m = r.carry(Index<1>{});
      r.lanes([&](const auto c) SEQC_LAMBDA {
        s_s[c] = s_s[c] + s_a[c];
        s_m[c] = seqc::max(s_m[c] + s_a[c], State(s_b[c]));
      });
    }
  };
  template <int>
  using Lift = Lift0;
};

}  // namespace
}  // namespace seqc
