// What every generated CUDA kernel starts with: storage formats and elementary functions.
//
// No header is included, so NVRTC needs none. The functions are CUDA's own at full accuracy (a
// few ulp, no flushing of subnormal numbers); those that it lacks are put together here so that
// neither NaN nor infinity is lost. tests/cuda runs the same text on a CPU: what is particular
// to a GPU stands behind SEQC_EMULATOR.
#define SEQC_DEVICE static __device__ __forceinline__
// What emitted structs and templates are marked with; a lambda is inlined without being told.
#define SEQC_INLINE __device__ __forceinline__
#define SEQC_LAMBDA

using i64 = long long;
using u8 = unsigned char;

namespace seqc {

struct bfloat16 {
  unsigned short bits;
};
struct float16 {
  unsigned short bits;
};

SEQC_DEVICE float load(float x) { return x; }
SEQC_DEVICE double load(double x) { return x; }
SEQC_DEVICE float load(bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
SEQC_DEVICE float load(float16 x) {
#ifdef SEQC_EMULATOR
  return seqc_emulator_half_to_float(x.bits);
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#endif
}

template <class S>
struct Narrow {
  static __device__ __forceinline__ S from(S x) { return x; }
};
template <>
struct Narrow<bfloat16> {
  // To the nearest, ties to even; a NaN stays one though its payload may end in the bits cut off.
  static __device__ __forceinline__ bfloat16 from(float x) {
    const unsigned bits = __float_as_uint(x);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return {static_cast<unsigned short>(x != x ? (bits >> 16) | 0x40u : rounded)};
  }
};
template <>
struct Narrow<float16> {
  static __device__ __forceinline__ float16 from(float x) {
#ifdef SEQC_EMULATOR
    return {seqc_emulator_float_to_half(x)};
#else
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return {bits};
#endif
  }
};

template <class T>
SEQC_DEVICE T infinity() {
  return T(__uint_as_float(0x7f800000u));
}
template <class T>
SEQC_DEVICE T nan() {
  return T(__uint_as_float(0x7fc00000u));
}

SEQC_DEVICE float abs(float x) { return ::fabsf(x); }
SEQC_DEVICE double abs(double x) { return ::fabs(x); }
SEQC_DEVICE float sqrt(float x) { return ::sqrtf(x); }
SEQC_DEVICE double sqrt(double x) { return ::sqrt(x); }
SEQC_DEVICE float floor(float x) { return ::floorf(x); }
SEQC_DEVICE double floor(double x) { return ::floor(x); }
SEQC_DEVICE float pow(float x, float y) { return ::powf(x, y); }
SEQC_DEVICE double pow(double x, double y) { return ::pow(x, y); }
SEQC_DEVICE float exp(float x) { return ::expf(x); }
SEQC_DEVICE double exp(double x) { return ::exp(x); }
SEQC_DEVICE float expm1(float x) { return ::expm1f(x); }
SEQC_DEVICE double expm1(double x) { return ::expm1(x); }
SEQC_DEVICE float log(float x) { return ::logf(x); }
SEQC_DEVICE double log(double x) { return ::log(x); }
SEQC_DEVICE float log1p(float x) { return ::log1pf(x); }
SEQC_DEVICE double log1p(double x) { return ::log1p(x); }
SEQC_DEVICE float tanh(float x) { return ::tanhf(x); }
SEQC_DEVICE double tanh(double x) { return ::tanh(x); }
SEQC_DEVICE float sin(float x) { return ::sinf(x); }
SEQC_DEVICE double sin(double x) { return ::sin(x); }
SEQC_DEVICE float cos(float x) { return ::cosf(x); }
SEQC_DEVICE double cos(double x) { return ::cos(x); }
SEQC_DEVICE float erf(float x) { return ::erff(x); }
SEQC_DEVICE double erf(double x) { return ::erf(x); }
SEQC_DEVICE float erfc(float x) { return ::erfcf(x); }
SEQC_DEVICE double erfc(double x) { return ::erfc(x); }

// The comparisons send NaN to the side that carries it on.
template <class T>
SEQC_DEVICE T min(T a, T b) {
  return a < b || a != a ? a : b;
}
template <class T>
SEQC_DEVICE T max(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
SEQC_DEVICE T sign(T x) {
  return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;
}
template <class T>
SEQC_DEVICE T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}
template <class T>
SEQC_DEVICE T softplus(T x) {
  return max(x, T(0)) + log1p(exp(-abs(x)));
}
template <class T>
SEQC_DEVICE T logaddexp(T a, T b) {
  // At equal infinities the difference is NaN, and the sum is the infinity itself.
  const T larger = max(a, b);
  return a == b ? a + T(0.6931471805599453) : larger + log1p(exp(-abs(a - b)));
}
template <class T>
SEQC_DEVICE T normcdf(T x) {
  return T(0.5) * erfc(x * T(-0.7071067811865476));
}

// How many of a tile's steps are left.
SEQC_DEVICE int least(const i64 left, const int most) {
  return left < most ? left < 0 ? 0 : static_cast<int>(left) : most;
}

// Nothing times a product that overflowed is still nothing.
template <class T>
SEQC_DEVICE T times(const T before, const T product) {
  return before == T(0) ? T(0) : before * product;
}

}  // namespace seqc
