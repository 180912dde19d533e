// The tables in which a launcher hands a kernel's tensors over, and memory for what it works on.

#include <cstdlib>
#include <utility>

namespace seqc {

using i64 = std::int64_t;
using u8 = std::uint8_t;

template <class F, int... N>
SEQC_INLINE void each_of(std::integer_sequence<int, N...>, F&& f) {
  (f(Index<N>{}), ...);
}
// Calls f(Index<0>), …, f(Index<kCount - 1>).
template <int kCount, class F>
SEQC_INLINE void each(F&& f) {
  each_of(std::make_integer_sequence<int, kCount>{}, f);
}

template <class K, Kind kind>
using Element = Pick<static_cast<int>(kind), typename K::Storage, typename K::State, u8, double>;  // as Kind lists them
template <class K, int I>
using ElementOf = Element<K, K::kTensors[I].kind>;

template <class T>
SEQC_INLINE void fill(T* const to, const i64 count, const T value) {
  for (i64 i = 0; i < count; ++i) to[i] = value;
}
template <class T>
SEQC_INLINE void copy(const T* const from, const i64 count, T* const to) {
  for (i64 i = 0; i < count; ++i) to[i] = from[i];
}

// Memory in rows that start at cache lines.
template <class T>
class Memory {
 public:
  explicit Memory(const i64 count = 0) : data_(count ? static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64)) : nullptr) {
    fill(data_, count, T(0));
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Memory() { std::free(data_); }
  T* get() const { return data_; }

 private:
  T* data_;
};

// So many of something that has memory of its own.
template <class T>
class Several {
 public:
  explicit Several(const i64 count) : items_(new T[count]) {}
  Several(const Several&) = delete;
  ~Several() { delete[] items_; }
  T& operator[](const i64 i) const { return items_[i]; }

 private:
  T* const items_;
};

// A call: extents of batch, time and the axes; of each entry its address and its strides along
// batch, time and each axis (0 along one that it has not); the scalars.
template <class K>
struct Call {
  i64 batch, steps, extents[K::kAxes + 1], every;
  char* base[K::kCount];
  i64 strides[K::kCount][2 + K::kAxes];
  typename K::State scalars[K::kScalars + 1];

  Call(const i64* sizes, void* const* data, const i64* lie, const double* numbers) : batch(sizes[0]), steps(sizes[1]), every(sizes[2 + K::kAxes]) {
    for (int a = 0; a < K::kAxes; ++a) extents[a] = sizes[2 + a];
    for (int i = 0; i < K::kCount; ++i) {
      base[i] = static_cast<char*>(data[i]);
      for (int a = 0; a < 2 + K::kAxes; ++a) strides[i][a] = *lie++;
    }
    for (int i = 0; i < K::kScalars; ++i) scalars[i] = static_cast<typename K::State>(numbers[i]);
  }
  i64 lanes() const { return K::kLane < 0 ? 1 : extents[K::kLane < 0 ? 0 : K::kLane]; }
  i64 inner() const {
    i64 n = 1;
    for (int a = 0; a < K::kAxes; ++a) n *= K::kRole[a] == Role::kInner ? extents[a] : 1;
    return n;
  }
  i64 outer() const {
    i64 n = 1;
    for (int a = 0; a < K::kAxes; ++a) n *= K::kRole[a] == Role::kOuter ? extents[a] : 1;
    return n;
  }
  i64 lane_stride(const int tensor) const { return K::kLane < 0 ? 0 : strides[tensor][2 + (K::kLane < 0 ? 0 : K::kLane)]; }
};

}  // namespace seqc
