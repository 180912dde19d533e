// What an emulated kernel's library and the machine that runs it know of each other: see emulator.h.
namespace emulator {

using Word = unsigned long long;  // 8 bytes: what a parameter is, or a number as it is handed over

struct Dim3 {
  unsigned x, y, z;
};

class Array;  // in shared memory: its elements are watched
class Arena;  // shared memory that is used as several arrays, one after another
struct Part {
  Arena* arena;
  int from, count, size;  // the first byte, elements, bytes of each
};

class Machine {
 public:
  // Of the thread that runs.
  Dim3 thread_index, block_index, block_extent, grid_extent;

  virtual void sync_block(int line) = 0;
  virtual void sync_warp(int line) = 0;
  // What a thread of the warp hands over at the same place; one's own where there is no such thread.
  virtual Word shuffle(Word value, int source, int line) = 0;
  // Who waits a little goes on when somebody wakes those who do.
  virtual void wait_a_little() = 0;
  virtual void wake_polling() = 0;

  virtual Array* array(const char* name, int line, const char* type, long long count) = 0;
  virtual Word read(Array* array, long long index) = 0;
  virtual void write(Array* array, long long index, Word value) = 0;

  virtual Arena* arena(const char* name, int line, long long bytes) = 0;
  virtual Part part(Arena& arena, int from, int count, int size) = 0;
  virtual Word read(const Part& part, long long index) = 0;
  virtual void write(const Part& part, long long index, Word value) = 0;

  // Run every thread of a grid; what went wrong, or nothing.
  virtual const char* run(void (*thread)(void*), void* argument, Dim3 grid, Dim3 block, Word seed) = 0;
  // Says that a kernel was given too many or too few parameters.
  virtual const char* misfit(int parameters, int given) = 0;

 protected:
  ~Machine() = default;
};

}  // namespace emulator
