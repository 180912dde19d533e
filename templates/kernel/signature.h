// A kernel's signature as data, as emitted structs state it; shared by C++ and CUDA.

namespace seqc {

// What an element is: stored as tensors have it, held as the recurrence computes, a truth in a byte,
// or a sum over many steps.
enum class Kind { kStorage, kState, kTruth, kSum };

// What an axis is to a kernel: a cell has all of the inner axes; neighbouring cells lie along the lane.
enum class Role { kOuter, kLane, kInner };

// One entry of a signature.  `moves`: it has an element a step; `lane`: one a lane, and `unit`: those
// lie side by side; `blocks`: it has one a block of lanes in their stead, being summed over them.
// `inner`: bit m is set where it has an element along the m-th inner axis.
struct Tensor {
  Kind kind;
  bool moves, lane, unit, blocks;
  unsigned inner;
};

// What goes from step to step: the signature's entries of what it starts from, what it starts from
// anew at a reset (backwards: what leaves there), what it comes to, and where it is kept (-1: none).
// `inner`: bit m is set where it has an element along the m-th inner axis.
struct Carry {
  int start, fresh, last, kept;
  unsigned inner;
};

// A gradient of what is constant, summed over the steps.
struct Sum {
  int tensor;
  unsigned inner;
};

// A constant whose lanes do not lie side by side.
struct Gathered {
  int tensor;
  unsigned inner;
};

// A state of another kernel before each step: entries of what was kept, started from, and started
// anew from; the carry that it is where it is computed again.
struct Before {
  int kept, start, fresh, carry;
  unsigned inner;
};

// Names an entry of a signature, a carry, a sum or a state before the step by its position.
template <int N>
struct Index {
  static constexpr int value = N;
};

// The q-th of some types.
template <int q, class First, class... Rest>
struct Picked {
  using type = typename Picked<q - 1, Rest...>::type;
};
template <class First, class... Rest>
struct Picked<0, First, Rest...> {
  using type = First;
};
template <int q, class... Types>
using Pick = typename Picked<q, Types...>::type;

}  // namespace seqc
