// Elementary functions for generated kernels.
//
// Every function is branch-free, so that a loop over channels that calls it under
// `#pragma omp simd` becomes vector code. libm's functions are calls, and their vector
// variants need -ffast-math, which gives up NaN and infinity. Build with
//   -O3 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast
// and without -ffast-math. No intrinsics: any target that GCC or Clang knows will do.
//
// A choice is written `c ? a : b` between values that are both computed. NaN fails every
// comparison, so each choice sends it to a side that carries it on.
//
// Errors are in units in the last place (ulp), the largest seen against exact references in
// tests/cpp/test_math.py, with a fused multiply-add at hand. Results below the least normal
// number underflow gradually.

// Each kernel's build parses what is included, so only light headers are, here and in the schedules:
// <cmath>, <algorithm>, <memory>, <vector> and <immintrin.h> took a quarter of the time of a build.
// Compilers' own functions, as in __builtin_sqrt, need none.
#include <cstdint>
#include <limits>

// Forced, because a loop with one call left in it is not vectorised at all.
#define SEQC_INLINE inline __attribute__((always_inline))

namespace seqc {

// ---------------------------------------------------------------- numbers as bits

template <class T>
struct Format;

template <>
struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int digits = 23, bias = 127;
  static constexpr float shifter = 0x1.8p23f;  // x + shifter has no fraction: it rounds x to an integer
  static constexpr float log2e = 0x1.715476p0f;
  static constexpr float ln2_hi = 0x1.62e4p-1f;  // short: n * ln2_hi is exact for every exponent n
  static constexpr float ln2_lo = 0x1.7f7d1cp-20f;
  static constexpr float exp_min = -104.0f, exp_max = 89.0f;  // exp is 0 below, infinite above
  static constexpr Bits sqrt_half = 0x3f3504f3u;
};

template <>
struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int digits = 52, bias = 1023;
  static constexpr double shifter = 0x1.8p52;
  static constexpr double log2e = 0x1.71547652b82fep0;
  static constexpr double ln2_hi = 0x1.62e42feep-1;
  static constexpr double ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr double exp_min = -746.0, exp_max = 710.0;
  static constexpr Bits sqrt_half = 0x3fe6a09e667f3bcdu;
};

template <class T>
SEQC_INLINE typename Format<T>::Bits to_bits(T x) {
  typename Format<T>::Bits bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <class T>
SEQC_INLINE T from_bits(typename Format<T>::Bits bits) {
  T x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^n for an n held modulo 2^32 or 2^64, where 2^n is a normal number.
template <class T>
SEQC_INLINE T exp2_int(typename Format<T>::Bits n) {
  return from_bits<T>((n + Format<T>::bias) << Format<T>::digits);
}

// c0 + x * (c1 + x * (c2 + ...))
template <class T>
SEQC_INLINE T polynomial(T, T c0) {
  return c0;
}
template <class T, class... C>
SEQC_INLINE T polynomial(T x, T c0, C... c) {
  return c0 + x * polynomial(x, static_cast<T>(c)...);
}

// ---------------------------------------------------------------- choices and rounding

template <class T>
SEQC_INLINE T where(bool condition, T a, T b) {
  return condition ? a : b;
}

// NaN in either argument is handed on, as torch.minimum and torch.maximum do.
template <class T>
SEQC_INLINE T min(T a, T b) {
  return a != a ? a : (a < b ? a : b);
}
template <class T>
SEQC_INLINE T max(T a, T b) {
  return a != a ? a : (a > b ? a : b);
}

SEQC_INLINE float abs(float x) { return __builtin_fabsf(x); }
SEQC_INLINE double abs(double x) { return __builtin_fabs(x); }
SEQC_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
SEQC_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
SEQC_INLINE float floor(float x) { return __builtin_floorf(x); }
SEQC_INLINE double floor(double x) { return __builtin_floor(x); }

// -1, 0 or 1; NaN for NaN. `x + 0` turns -0 into 0.
template <class T>
SEQC_INLINE T sign(T x) {
  return x > T(0) ? T(1) : (x < T(0) ? T(-1) : x + T(0));
}

// libm's; the one function here that is not vectorised.
SEQC_INLINE float pow(float x, float y) { return __builtin_powf(x, y); }
SEQC_INLINE double pow(double x, double y) { return __builtin_pow(x, y); }

// ---------------------------------------------------------------- exponentials

// x = n ln 2 + r with |r| <= ln(2) / 2, and e^r - 1 by a polynomial. `n` is kept as the bits of
// an integer.
template <class T>
struct ExpParts {
  typename Format<T>::Bits n;
  T expm1_r;
};

// (e^r - 1 - r) / r^2, for |r| <= ln(2) / 2, so well that e^r is off by 0.06 (0.2) ulp.
SEQC_INLINE float exp_tail(float r) {
  return polynomial(r, 0.4999999403953552f, 0.166665181517601f, 0.041668422520160675f, 0.008369064889848232f,
                    0.0013813880505040288f);
}
SEQC_INLINE double exp_tail(double r) {
  return polynomial(r, 0.5000000000000001, 0.16666666666666669, 0.04166666666662064, 0.008333333333329793,
                    0.0013888888918939168, 0.00019841269864380513, 2.4801518641395993e-05, 2.75572664186123e-06,
                    2.7621338669142925e-07, 2.510134692835034e-08);
}

// The parts of e^(x - deficit); `deficit` extends the precision of x, and is small beside it.
template <class T>
SEQC_INLINE ExpParts<T> exp_parts(T x, T deficit) {
  using F = Format<T>;
  const T shifted = (x - deficit) * F::log2e + F::shifter;
  const T n = shifted - F::shifter;
  const T r = x - n * F::ln2_hi - n * F::ln2_lo - deficit;
  return {to_bits(shifted) - to_bits(F::shifter), r + r * r * exp_tail(r)};
}

// e^(x - deficit) for x <= 0. One step cheaper than exp: only underflow is to be thought of, so
// 2^n is made in two factors, the second constant.
template <class T>
SEQC_INLINE T exp_nonpositive(T x, T deficit = T(0)) {
  using F = Format<T>;
  constexpr int lift = F::digits + 2;
  constexpr T drop = T(1) / (std::uint64_t(1) << lift);
  const ExpParts<T> e = exp_parts(x < F::exp_min ? F::exp_min : x, deficit);
  const T scale = exp2_int<T>(e.n + lift);
  return (scale + scale * e.expm1_r) * drop;
}

// 1 ulp.
template <class T>
SEQC_INLINE T exp(T x) {
  using F = Format<T>;
  constexpr int lift = F::digits + 2;
  constexpr T drop = T(1) / (std::uint64_t(1) << lift);
  const T clamped = x < F::exp_min ? F::exp_min : (x > F::exp_max ? F::exp_max : x);
  const ExpParts<T> e = exp_parts(clamped, T(0));
  // 2^n leaves the normal numbers at both ends: up by 2^(n-1) * 2, down by 2^(n+lift) * 2^-lift.
  const bool up = clamped > T(0);
  const T scale = exp2_int<T>(up ? e.n - 1 : e.n + lift);
  return (scale + scale * e.expm1_r) * (up ? T(2) : drop);
}

// 2 ulp. e^x - 1 = 2 (2^(n-1) (e^r - 1) + (2^(n-1) - 1/2)), where the last bracket is exact unless it does
// not matter.
template <class T>
SEQC_INLINE T expm1(T x) {
  using F = Format<T>;
  constexpr T lowest = T(-F::digits);  // e^x is less than half an ulp of 1 here
  const T clamped = x < lowest ? lowest : (x > F::exp_max ? F::exp_max : x);
  const ExpParts<T> e = exp_parts(clamped, T(0));
  const T scale = exp2_int<T>(e.n - 1);
  const T y = (scale * e.expm1_r + (scale - T(0.5))) * T(2);
  return abs(x) < std::numeric_limits<T>::epsilon() / 4 ? x : y;  // keeps -0 and denormals
}

// 2.7 ulp. sigmoid(x) and sigmoid(-x) share e and r when both are inlined, so the pair costs one exponential
// and one division; neither loses precision to 1 - sigmoid(x).
template <class T>
SEQC_INLINE T sigmoid(T x) {
  const T e = exp_nonpositive(-abs(x));
  const T r = T(1) / (T(1) + e);
  return x >= T(0) ? r : e * r;
}

// 1.5 ulp. Near 0 an odd polynomial, else 1 - 2 e^(-2|x|) / (1 + e^(-2|x|)).
SEQC_INLINE float tanh(float x) {
  const float a = abs(x), z = x * x;
  const float near = a + a * z *
                             polynomial(z, -0.3333328068256378f, 0.1333138346672058f, -0.05373399704694748f,
                                        0.020618107169866562f, -0.0056792860850691795f);
  const float e = exp_nonpositive(-2.0f * a);
  const float far = 1.0f - 2.0f * e / (1.0f + e);
  return __builtin_copysignf(a < 0.625f ? near : far, x);
}

// 1.2 ulp. The same; near 0 a rational function (Cephes), which shares the division.
SEQC_INLINE double tanh(double x) {
  const double a = abs(x), z = x * x;
  const bool near = a < 0.625;
  const double p =
      polynomial(z, -1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1);
  const double q =
      polynomial(z, 4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2, 1.0);
  const double e = exp_nonpositive(-2.0 * a);
  const double ratio = (near ? a * z * p : -2.0 * e) / (near ? q : 1.0 + e);
  return __builtin_copysign((near ? a : 1.0) + ratio, x);
}

// ---------------------------------------------------------------- logarithms

// (log(1+f) - f + f^2/2) for sqrt(1/2) <= 1+f < sqrt(2) is s (f^2/2 + R(s^2)), s = f / (2+f) (fdlibm).
SEQC_INLINE float log_tail(float z) {
  return z * polynomial(z, 0xaaaaaa.0p-24f, 0xccce13.0p-25f, 0x91e9ee.0p-25f, 0xf89e26.0p-26f);
}
SEQC_INLINE double log_tail(double z) {
  return z * polynomial(z, 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                        2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                        1.479819860511658591e-01);
}

// k ln 2 + log(1 + f) + c, for a small correction c.
template <class T>
SEQC_INLINE T log_sum(T k, T f, T c) {
  using F = Format<T>;
  const T s = f / (T(2) + f);
  const T half_square = T(0.5) * f * f;
  return s * (half_square + log_tail(s * s)) + (k * F::ln2_lo + c) - half_square + f + k * F::ln2_hi;
}

// x = 2^k m with sqrt(1/2) <= m < sqrt(2), for normal x > 0.
template <class T>
SEQC_INLINE void split(T x, T& k, T& m) {
  using F = Format<T>;
  constexpr typename F::Bits one = typename F::Bits(F::bias) << F::digits;
  constexpr typename F::Bits fraction = (typename F::Bits(1) << F::digits) - 1;
  const typename F::Bits bits = to_bits(x) + (one - F::sqrt_half);
  // Integer to floating point by the bits of the shifter: AVX2 has no conversion from 64 bits.
  k = from_bits<T>(to_bits(F::shifter) + (bits >> F::digits)) - (F::shifter + F::bias);
  m = from_bits<T>((bits & fraction) + F::sqrt_half);
}

// 1 ulp.
template <class T>
SEQC_INLINE T log(T x) {
  constexpr int lift = Format<T>::digits + 2;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const bool denormal = x < std::numeric_limits<T>::min();
  T k, m;
  split(denormal ? x * T(std::uint64_t(1) << lift) : x, k, m);
  const T y = log_sum(denormal ? k - T(lift) : k, m - T(1), T(0));
  return x > T(0) ? (x < infinity ? y : x) : (x == T(0) ? -infinity : std::numeric_limits<T>::quiet_NaN());
}

// log1p for finite x > -1 and NaN. The rounding error of 1 + x, which is exact when taken from the larger of
// the two, is put back as c, to first order.
template <class T>
SEQC_INLINE T log1p_finite(T x) {
  const T u = T(1) + x;
  T k, m;
  split(u, k, m);
  const T c = (x > T(1) ? T(1) - (u - x) : x - (u - T(1))) / u;
  const bool unscaled = k == T(0);  // then 1 + f is 1 + x, exactly
  return log_sum(k, unscaled ? x : m - T(1), unscaled ? T(0) : c);
}

// 1 ulp.
template <class T>
SEQC_INLINE T log1p(T x) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T y = abs(x) < std::numeric_limits<T>::epsilon() / 4 ? x : log1p_finite(x);  // keeps -0
  return x > T(-1) ? (x < infinity ? y : x) : (x == T(-1) ? -infinity : std::numeric_limits<T>::quiet_NaN());
}

// log(1 + e^x), 1.6 ulp. logsigmoid(x) is -softplus(-x).
template <class T>
SEQC_INLINE T softplus(T x) {
  return (x > T(0) ? x : T(0)) + log1p_finite(exp_nonpositive(-abs(x)));
}

// log(e^a + e^b). Equal arguments are apart, because inf - inf is NaN; so logaddexp(-inf, -inf) is -inf.
template <class T>
SEQC_INLINE T logaddexp(T a, T b) {
  constexpr T ln2 = T(0x1.62e42fefa39efp-1);
  const T y = (a > b ? a : b) + log1p_finite(exp_nonpositive(-abs(a - b)));
  return a == b ? a + ln2 : y;
}

// ---------------------------------------------------------------- sine and cosine

// x = n pi/2 + r, |r| <= pi/4; `quadrant` is n modulo 2^32. pi/2 comes in parts so short that n times each but
// the last is exact up to `sine_limit`; a float is reduced in double, which keeps every digit of r. Beyond the
// limit, where a result would need hundreds of digits of pi, it is NaN.
template <class T>
constexpr T sine_limit = sizeof(T) == 4 ? T(1e8) : T(1.6e6);

SEQC_INLINE float minus_half_pi_times(double n, float x) {
  const double r = static_cast<double>(x) - n * 0x1.921fb5p0 - n * 0x1.110b46p-26 - n * 0x1.1a62633145c07p-54;
  return static_cast<float>(r);
}
SEQC_INLINE double minus_half_pi_times(double n, double x) {
  return x - n * 0x1.921fb544p0 - n * 0x1.0b4611a6p-34 - n * 0x1.3198a2e0p-69 - n * 0x1.b839a252049c1p-104;
}

template <class T>
SEQC_INLINE void reduce_angle(T x, std::uint32_t& quadrant, T& r) {
  constexpr double shifter = Format<double>::shifter, two_over_pi = 0x1.45f306dc9c883p-1;
  const double shifted = static_cast<double>(x) * two_over_pi + shifter;
  quadrant = static_cast<std::uint32_t>(to_bits(shifted));
  r = minus_half_pi_times(shifted - shifter, x);
}

// sin(r) and cos(r) for |r| <= pi/4 (Cephes; fdlibm).
SEQC_INLINE float sin_reduced(float r) {
  const float z = r * r;
  return r + r * z * polynomial(z, -1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f);
}
SEQC_INLINE double sin_reduced(double r) {
  const double z = r * r;
  return r + r * z *
                 polynomial(z, -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
                            2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10);
}
SEQC_INLINE float cos_reduced(float r) {
  const float z = r * r;
  return 1.0f - (0.5f * z - z * z *
                                polynomial(z, 4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f));
}
SEQC_INLINE double cos_reduced(double r) {
  const double z = r * r;
  return 1.0 - (0.5 * z - z * z *
                              polynomial(z, 4.16666666666666019037e-02, -1.38888888888741095749e-03,
                                         2.48015872894767294178e-05, -2.75573143513906633035e-07,
                                         2.08757232129817482790e-09, -1.13596475577881948265e-11));
}

// sin(x + shift pi/2), 1.5 ulp.
template <class T>
SEQC_INLINE T sine(T x, std::uint32_t shift) {
  std::uint32_t quadrant;
  T r;
  reduce_angle(x, quadrant, r);
  quadrant += shift;
  const T y = (quadrant & 1u) != 0u ? cos_reduced(r) : sin_reduced(r);
  const T signed_y = (quadrant & 2u) != 0u ? -y : y;
  return abs(x) <= sine_limit<T> ? signed_y : std::numeric_limits<T>::quiet_NaN();
}
template <class T>
SEQC_INLINE T sin(T x) {
  const T y = sine(x, 0u);
  return x == T(0) ? x : y;  // keeps -0
}
template <class T>
SEQC_INLINE T cos(T x) {
  return sine(x, 1u);
}

// ---------------------------------------------------------------- the normal distribution

// e^(t^2/2) Phi(-t) (t + 4) as a polynomial in q = (t - 4) / (t + 4), for 0 <= t < 15 (39).
SEQC_INLINE float normcdf_tail(float q) {
  return polynomial(q, 0.7552851438522339f, -0.6078966856002808f, 0.38713735342025757f, -0.1865212768316269f,
                    0.06039753183722496f, -0.007545268163084984f, -0.003489317372441292f, 0.0016452192794531584f,
                    0.0001710546057438478f, -0.00023179868003353477f, -5.155659164302051e-05f);
}
SEQC_INLINE double normcdf_tail(double q) {
  return polynomial(q, 0.7552851304157515, -0.6078966419718917, 0.38713740074221886, -0.18652185795969417,
                    0.06039657489069947, -0.007540188965593059, -0.0034796923622425332, 0.0016308184418903596,
                    0.00013334425401904912, -0.0002310948183193762, -1.9078665316613576e-06, 3.5144181157760973e-05,
                    7.150055959216099e-07, -5.918892731763236e-06, -6.25132104047868e-07, 1.0198048518135172e-06,
                    2.6368248576407624e-07, -1.5426320536771075e-07, -7.63808205349045e-08, 1.457859334703646e-08,
                    1.392402399350171e-08, 7.26954547902669e-11, -9.653425420228504e-10);
}

// The standard normal distribution function, 5.3 ulp, also far out on the left. t^2 is needed beyond working
// precision, because e^(-t^2/2) turns its absolute error into a relative one: t^2 = head^2 + rest, where
// head is short, so that its square is exact.
template <class T>
SEQC_INLINE T normcdf(T x) {
  using Bits = typename Format<T>::Bits;
  constexpr T far = sizeof(T) == 4 ? T(15) : T(39);  // Phi(-far) is 0
  const T t = abs(x) > far ? far : abs(x);
  const T w = T(1) / (t + T(4));
  const T scaled = normcdf_tail((t - T(4)) * w) * w;
  const T head = from_bits<T>(to_bits(t) & (~Bits(0) << (Format<T>::digits / 2 + 1)));
  const T left = scaled * exp_nonpositive(T(-0.5) * head * head, T(0.5) * (t - head) * (t + head));
  return x > T(0) ? T(1) - left : left;
}

// erf(x) / x - 1 as a polynomial in x^2, for |x| <= 1.
SEQC_INLINE float erf_tail(float z) {
  return polynomial(z, 0.12837916612625122f, -0.37612637877464294f, 0.11283782124519348f, -0.026865430176258087f,
                    0.005221031606197357f, -0.0008484080317430198f, 0.00011265958892181516f,
                    -9.667044650996104e-06f);
}
SEQC_INLINE double erf_tail(double z) {
  return polynomial(z, 0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
                    0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05,
                    1.6461000484121368e-06, -1.6350312701054695e-07, 1.4659775274047436e-08,
                    -1.1372848856791674e-09, 5.957176147748911e-11);
}

// The error function, 1.6 ulp: near 0 a polynomial, further out by the normal distribution's tail, which is then
// so small that its error counts little.
template <class T>
SEQC_INLINE T erf(T x) {
  constexpr T sqrt_two = T(0x1.6a09e667f3bcdp0);
  const T far = T(1) - T(2) * normcdf(-sqrt_two * abs(x));
  const T near = x + x * erf_tail(x * x);
  return abs(x) <= T(1) ? near : (x < T(0) ? -far : far);
}

// ---------------------------------------------------------------- memory

// Narrow storage types are computed on as float. Conversions round to nearest, ties to even, and keep NaN,
// infinity and denormals; in integers, so that they are vectorised on every target.
struct bfloat16 {
  std::uint16_t bits;
};
struct float16 {
  std::uint16_t bits;
};

SEQC_INLINE float load(const float* p) { return *p; }
SEQC_INLINE double load(const double* p) { return *p; }
SEQC_INLINE void store(float* p, float x) { *p = x; }
SEQC_INLINE void store(double* p, double x) { *p = x; }

SEQC_INLINE float load(const bfloat16* p) { return from_bits<float>(static_cast<std::uint32_t>(p->bits) << 16); }

SEQC_INLINE void store(bfloat16* p, float x) {
  const std::uint32_t bits = to_bits(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  p->bits = static_cast<std::uint16_t>(x != x ? 0x7fc0u : rounded);
}

SEQC_INLINE float load(const float16* p) {
  const std::uint32_t half = p->bits;
  const std::uint32_t magnitude = (half & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & (0x1fu << 23);
  // Move the bias from 15 to 127; infinity and NaN once more, to the largest exponent.
  const std::uint32_t normal = magnitude + ((exponent == (0x1fu << 23) ? 2u : 1u) * (112u << 23));
  // A denormal gets the hidden bit of 2^-14, which is taken away again as a number.
  const std::uint32_t denormal = to_bits(from_bits<float>(magnitude + (113u << 23)) - 0x1p-14f);
  return from_bits<float>((exponent == 0u ? denormal : normal) | ((half & 0x8000u) << 16));
}

SEQC_INLINE void store(float16* p, float x) {
  const std::uint32_t bits = to_bits(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal: rebias and round; what rounds up past the last number becomes infinity by itself.
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Denormal: adding 0.5 leaves the rounded result in the low bits.
  const std::uint32_t denormal = to_bits(from_bits<float>(magnitude) + 0.5f) - to_bits(0.5f);
  const std::uint32_t finite = magnitude < (113u << 23) ? denormal : normal;
  const std::uint32_t huge = magnitude > (255u << 23) ? 0x7e00u : 0x7c00u;
  p->bits = static_cast<std::uint16_t>((magnitude < (143u << 23) ? finite : huge) | ((bits >> 16) & 0x8000u));
}

template <class T>
constexpr T infinity() {
  return std::numeric_limits<T>::infinity();
}
template <class T>
constexpr T nan() {
  return std::numeric_limits<T>::quiet_NaN();
}

// Nothing times a product that overflowed is still nothing.
template <class T>
SEQC_INLINE T times(const T before, const T product) {
  return before == T(0) ? T(0) : before * product;
}

}  // namespace seqc
