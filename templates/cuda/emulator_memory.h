// The machine of emulated kernels, second half: shared memory whose accesses are watched (see
// emulator.h).
namespace emulator {

// Who touched an element of a shared array, and after how many barriers.
struct Access {
  int thread = -1;
  unsigned block_barriers = 0, warp_barriers = 0;
};

// Who last touched a number in shared memory. What is wrong with an access, or nothing.
class Watch {
 public:
  std::string touch(const Access& now, const bool writes) {
    std::string wrong;
    if (writes) {
      wrong = check(now);
      writer_ = now;
    } else {
      wrong = check(writer_, now, "read after a write");
      if (reader_.thread != now.thread) other_reader_ = reader_;
      reader_ = now;
    }
    return wrong;
  }
  // Whether the number may be written, or something else over it.
  std::string check(const Access& now) const {
    std::string wrong = check(writer_, now, "written after a write");
    if (wrong.empty()) wrong = check(reader_, now, "written after a read");
    if (wrong.empty()) wrong = check(other_reader_, now, "written after a read");
    return wrong;
  }

 private:
  static std::string check(const Access& before, const Access& now, const char* what) {
    if (before.thread < 0 || before.thread == now.thread || before.block_barriers != now.block_barriers) return {};
    const bool one_warp = before.thread / kWarpThreads == now.thread / kWarpThreads;
    if (one_warp && before.warp_barriers != now.warp_barriers) return {};
    return std::string(what) + " of thread " + std::to_string(before.thread) + ", and no barrier lies between";
  }
  Access writer_, reader_, other_reader_;
};

class Array {
 public:
  struct Cell {
    Word value = 0;
    bool written = false;
    Watch watch;
  };
  Array(std::string name, const long long count) : name(std::move(name)), cells(count) {}
  std::string place(const long long index) const { return name + " at " + std::to_string(index); }

  const std::string name;
  std::vector<Cell> cells;
};

// Numbers are watched as they lie in it: one that is written over another's bytes is a write of
// those, and what was written as one number is not read as another.
class Arena {
 public:
  // What was written as one: its first byte, its size.
  struct Number {
    int at, size;
    Watch watch;
  };
  struct Byte {
    unsigned char value = 0;
    std::shared_ptr<Number> number;
  };
  Arena(std::string name, const long long count) : name(std::move(name)), bytes(count) {}
  std::string place(const int at) const { return name + " at byte " + std::to_string(at); }

  const std::string name;
  std::vector<Byte> bytes;
};

class WholeMachine final : public Scheduler {
 public:
  Array* array(const char* name, const int line, const char* type, const long long count) override {
    const std::string key = std::string(name) + ":" + std::to_string(line) + type + std::to_string(count);
    auto& found = now_->block->arrays[key];
    if (!found) found = std::make_shared<Array>(name, count);
    return found.get();
  }
  Word read(Array* const array, const long long index) override {
    Array::Cell& cell = cell_of(*array, index);
    if (!cell.written) fail("shared array " + array->name + " is read at " + std::to_string(index) + " before it is written");
    const std::string wrong = cell.watch.touch(access(), false);
    if (!wrong.empty()) fail("shared array " + array->place(index) + " is " + wrong);
    return cell.value;
  }
  void write(Array* const array, const long long index, const Word value) override {
    Array::Cell& cell = cell_of(*array, index);
    const std::string wrong = cell.watch.touch(access(), true);
    if (!wrong.empty()) fail("shared array " + array->place(index) + " is " + wrong);
    cell.written = true;
    cell.value = value;
  }

  Arena* arena(const char* name, const int line, const long long bytes) override {
    auto& found = now_->block->arenas[std::string(name) + ":" + std::to_string(line)];
    if (!found) found = std::make_shared<Arena>(name, bytes);
    return found.get();
  }
  Part part(Arena& arena, const int from, const int count, const int size) override {
    if (from % size || from + static_cast<std::size_t>(count) * size > arena.bytes.size())
      fail("an array of " + std::to_string(count) + " at byte " + std::to_string(from) + " does not lie in shared memory");
    return {&arena, from, count, size};
  }
  Word read(const Part& part, const long long index) override {
    Arena& arena = *part.arena;
    const int at = byte_of(part, index);
    const std::shared_ptr<Arena::Number> number = arena.bytes[at].number;
    if (!number) fail("shared array " + arena.place(at) + " is read before it is written");
    Word found = 0;
    for (int b = 0; b < part.size; ++b) {
      if (arena.bytes[at + b].number != number || number->at != at || number->size != part.size)
        fail("shared array " + arena.place(at) + " is read, where another number was written");
      reinterpret_cast<unsigned char*>(&found)[b] = arena.bytes[at + b].value;
    }
    const std::string wrong = number->watch.touch(access(), false);
    if (!wrong.empty()) fail("shared array " + arena.place(at) + " is " + wrong);
    return found;
  }
  void write(const Part& part, const long long index, const Word value) override {
    Arena& arena = *part.arena;
    const int at = byte_of(part, index);
    std::shared_ptr<Arena::Number> number = arena.bytes[at].number;
    if (!number || number->at != at || number->size != part.size)
      number = std::make_shared<Arena::Number>(Arena::Number{at, part.size, {}});
    for (int b = 0; b < part.size; ++b) {
      Arena::Byte& byte = arena.bytes[at + b];
      if (byte.number && byte.number != number) {
        const std::string wrong = byte.number->watch.check(access());
        if (!wrong.empty()) fail("shared array " + arena.place(byte.number->at) + " is " + wrong);
      }
      byte = {reinterpret_cast<const unsigned char*>(&value)[b], number};
    }
    const std::string wrong = number->watch.touch(access(), true);
    if (!wrong.empty()) fail("shared array " + arena.place(at) + " is " + wrong);
  }

 private:
  Access access() const {
    const Fiber& f = *now_;
    return {static_cast<int>(f.thread), f.block->whole.passed, f.block->warps[f.thread / kWarpThreads].passed};
  }
  Array::Cell& cell_of(Array& array, const long long index) {
    const long long count = static_cast<long long>(array.cells.size());
    if (index < 0 || index >= count)
      fail("shared array " + array.name + " of " + std::to_string(count) + " is used at " + std::to_string(index));
    return array.cells[index];
  }
  int byte_of(const Part& part, const long long index) {
    if (index < 0 || index >= part.count)
      fail("shared array of " + std::to_string(part.count) + " at byte " + std::to_string(part.from) + " is used at " + std::to_string(index));
    return part.from + static_cast<int>(index) * part.size;
  }
};

}  // namespace emulator

extern "C" emulator::Machine* seqc_machine() {
  static emulator::WholeMachine machine;
  return &machine;
}
