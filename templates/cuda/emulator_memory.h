// Shared memory of emulated blocks: arrays whose accesses are watched (see emulator.h, which comes
// before).
#include <typeinfo>

namespace emulator {

// Who touched an element of a shared array, and after how many barriers.
struct Access {
  int thread = -1;
  unsigned block_barriers = 0, warp_barriers = 0;
};

inline Access access() {
  const Fiber& f = *machine.now;
  return {static_cast<int>(f.thread), f.block->whole.passed, f.block->warps[f.thread / kWarpThreads].passed};
}

// Who last touched a number in shared memory.
class Watch {
 public:
  template <class Place>
  void touch(const Access& now, const bool writes, const Place& place) {
    if (writes) {
      check(now, place);
      writer_ = now;
    } else {
      check(writer_, now, "read after a write", place);
      if (reader_.thread != now.thread) other_reader_ = reader_;
      reader_ = now;
    }
  }
  // Whether the number may be written, or something else over it.
  template <class Place>
  void check(const Access& now, const Place& place) const {
    check(writer_, now, "written after a write", place);
    check(reader_, now, "written after a read", place);
    check(other_reader_, now, "written after a read", place);
  }

 private:
  template <class Place>
  static void check(const Access& before, const Access& now, const char* what, const Place& place) {
    if (before.thread < 0 || before.thread == now.thread || before.block_barriers != now.block_barriers) return;
    const bool one_warp = before.thread / kWarpThreads == now.thread / kWarpThreads;
    if (one_warp && before.warp_barriers != now.warp_barriers) return;
    fail("shared array " + place() + " is " + what + " of thread " + std::to_string(before.thread) +
         ", and no barrier lies between");
  }
  Access writer_, reader_, other_reader_;
};

template <class T>
class Shared : public SharedBase {
 public:
  Shared(std::string name, const std::size_t count) : name_(std::move(name)), cells_(count) {}

  class Element {
   public:
    Element(Shared& array, const long long index) : array_(array), index_(index) {}
    operator T() const { return array_.read(index_); }
    T operator=(const T value) const { return array_.write(index_, value); }
    T operator=(const Element& other) const { return *this = static_cast<T>(other); }
    T operator+=(const T value) const { return *this = static_cast<T>(*this) + value; }

   private:
    Shared& array_;
    long long index_;
  };
  Element operator[](const long long index) {
    if (index < 0 || index >= static_cast<long long>(cells_.size()))
      fail("shared array " + name_ + " of " + std::to_string(cells_.size()) + " is used at " + std::to_string(index));
    return Element(*this, index);
  }

 private:
  struct Cell {
    T value{};
    bool written = false;
    Watch watch;
  };
  std::string place(const long long index) const { return name_ + " at " + std::to_string(index); }
  T read(const long long index) {
    Cell& cell = cells_[index];
    if (!cell.written) fail("shared array " + name_ + " is read at " + std::to_string(index) + " before it is written");
    cell.watch.touch(access(), false, [&] { return place(index); });
    return cell.value;
  }
  T write(const long long index, const T value) {
    Cell& cell = cells_[index];
    cell.watch.touch(access(), true, [&] { return place(index); });
    cell.written = true;
    return cell.value = value;
  }

  std::string name_;
  std::vector<Cell> cells_;
};

// The array declared at a line: one for each type and size, as of a function's instantiations.
template <class T>
Shared<T>& shared(const char* name, const int line, const std::size_t count) {
  const std::string key = std::string(name) + ":" + std::to_string(line) + typeid(T).name() + std::to_string(count);
  auto& found = machine.now->block->shared[key];
  if (!found) found = std::make_unique<Shared<T>>(name, count);
  return static_cast<Shared<T>&>(*found);
}

// Shared memory that is used as several arrays, one after another. Numbers are watched as they lie
// in it: one that is written over another's bytes is a write of those, and what was written as one
// number is not read as another.
class Arena : public SharedBase {
 public:
  Arena(std::string name, const std::size_t bytes) : name_(std::move(name)), bytes_(bytes) {}
  std::size_t size() const { return bytes_.size(); }
  template <class T>
  T read(const int at) {
    const std::shared_ptr<Number> number = bytes_[at].number;
    if (!number) fail("shared array " + place(at) + " is read before it is written");
    T found;
    for (int b = 0; b < static_cast<int>(sizeof(T)); ++b) {
      if (bytes_[at + b].number != number || number->at != at || number->size != sizeof(T))
        fail("shared array " + place(at) + " is read, where another number was written");
      reinterpret_cast<unsigned char*>(&found)[b] = bytes_[at + b].value;
    }
    number->watch.touch(access(), false, [&] { return place(at); });
    return found;
  }
  template <class T>
  T write(const int at, const T value) {
    std::shared_ptr<Number> number = bytes_[at].number;
    if (!number || number->at != at || number->size != sizeof(T)) number = std::make_shared<Number>(Number{at, sizeof(T), {}});
    for (int b = 0; b < static_cast<int>(sizeof(T)); ++b) {
      Byte& byte = bytes_[at + b];
      if (byte.number && byte.number != number) byte.number->watch.check(access(), [&] { return place(byte.number->at); });
      byte = {reinterpret_cast<const unsigned char*>(&value)[b], number};
    }
    number->watch.touch(access(), true, [&] { return place(at); });
    return value;
  }

 private:
  // What was written as one: its first byte, its size.
  struct Number {
    int at;
    std::size_t size;
    Watch watch;
  };
  struct Byte {
    unsigned char value = 0;
    std::shared_ptr<Number> number;
  };
  std::string place(const int at) const { return name_ + " at byte " + std::to_string(at); }

  std::string name_;
  std::vector<Byte> bytes_;
};
// A part of an arena as an array.
template <class T>
class View {
 public:
  View(Arena& arena, const int from, const int count) : arena_(arena), from_(from), count_(count) {
    if (from % static_cast<int>(sizeof(T)) || from + count * sizeof(T) > arena.size())
      fail("an array of " + std::to_string(count) + " at byte " + std::to_string(from) + " does not lie in shared memory");
  }
  class Element {
   public:
    Element(Arena& arena, const int at) : arena_(arena), at_(at) {}
    operator T() const { return arena_.read<T>(at_); }
    T operator=(const T value) const { return arena_.write<T>(at_, value); }
    T operator=(const Element& other) const { return *this = static_cast<T>(other); }

   private:
    Arena& arena_;
    int at_;
  };
  Element operator[](const long long index) const {
    if (index < 0 || index >= count_)
      fail("shared array of " + std::to_string(count_) + " at byte " + std::to_string(from_) + " is used at " + std::to_string(index));
    return Element(arena_, from_ + static_cast<int>(index * sizeof(T)));
  }

 private:
  Arena& arena_;
  int from_;
  long long count_;
};
inline Arena& arena(const char* name, const int line, const std::size_t bytes) {
  auto& found = machine.now->block->shared[std::string(name) + ":" + std::to_string(line)];
  if (!found) found = std::make_unique<Arena>(name, bytes);
  return static_cast<Arena&>(*found);
}

}  // namespace emulator

#define SEQC_SHARED(type, name, count) auto& name = emulator::shared<type>(#name, __LINE__, count)
#define SEQC_ARENA(name, bytes) auto& name = emulator::arena(#name, __LINE__, bytes)

namespace seqc {
template <class T>
emulator::View<T> view(emulator::Arena& arena, const int from, const int count) {
  return {arena, from, count};
}
}  // namespace seqc
