// The machine of emulated kernels, first half: threads as fibers, and who runs when (see emulator.h).
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace emulator {

constexpr unsigned kWarpThreads = 32;
constexpr std::size_t kStackBytes = 128 << 10;

struct Block;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  Block* block = nullptr;
  unsigned thread = 0;
  bool ended = false;
  Word slot = 0;  // what a shuffle hands over
};

// Threads that wait for one another: of a block, or of a warp.
struct Barrier {
  unsigned passed = 0;  // how often all have arrived
  int line = 0;         // where the waiting ones are
  std::vector<Fiber*> waiting;
};

struct Block {
  Dim3 index{};
  unsigned running = 0;
  Barrier whole;
  std::vector<Barrier> warps;
  std::vector<unsigned> running_in_warp;
  std::vector<Fiber*> fibers, ready;
  std::map<std::string, std::shared_ptr<Array>> arrays;
  std::map<std::string, std::shared_ptr<Arena>> arenas;
};

class Scheduler : public Machine {
 public:
  void sync_block(const int line) final {
    Block& block = *now_->block;
    arrive(block.whole, block.running, line, "__syncthreads");
  }

  void sync_warp(const int line) final {
    Block& block = *now_->block;
    const unsigned warp = now_->thread / kWarpThreads;
    arrive(block.warps[warp], block.running_in_warp[warp], line, "__syncwarp");
  }

  Word shuffle(const Word value, const int source, const int line) final {
    Fiber& self = *now_;
    self.slot = value;
    sync_warp(line);
    const int first = static_cast<int>(self.thread / kWarpThreads * kWarpThreads);
    const bool there = source >= 0 && source < static_cast<int>(kWarpThreads) && first + source < static_cast<int>(self.block->fibers.size());
    const Word found = there ? self.block->fibers[first + source]->slot : value;
    sync_warp(line);
    return found;
  }

  void wait_a_little() final {
    polling_.push_back(now_);
    leave();
  }

  void wake_polling() final { make_ready(polling_); }

  const char* misfit(const int parameters, const int given) final {
    said_ = "the kernel has " + std::to_string(parameters) + " parameters, and was given " + std::to_string(given);
    return said_.c_str();
  }

  const char* run(void (*thread)(void*), void* argument, const Dim3 grid, const Dim3 block, const Word seed) final {
    thread_ = thread;
    argument_ = argument;
    said_ = run(grid, block, seed);
    return said_.c_str();
  }

 protected:
  [[noreturn]] void fail(const std::string& what) {
    if (failure_.empty())
      failure_ = what + " (block " + std::to_string(now_->block->index.x) + ", thread " + std::to_string(now_->thread) + ")";
    for (;;) leave();
  }

  Fiber* now_ = nullptr;

 private:
  // Give way to the scheduler; comes back when it picks this fiber again.
  void leave() { swapcontext(&now_->context, &scheduler_); }

  void make_ready(std::vector<Fiber*>& fibers) {
    for (Fiber* const f : fibers) f->block->ready.push_back(f);
    fibers.clear();
  }

  void arrive(Barrier& barrier, const unsigned threads, const int line, const char* what) {
    if (!barrier.waiting.empty() && barrier.line != line)
      fail(std::string("threads wait at different ") + what + "s, lines " + std::to_string(barrier.line) + " and " +
           std::to_string(line));
    barrier.line = line;
    barrier.waiting.push_back(now_);
    if (barrier.waiting.size() == threads) {
      ++barrier.passed;
      make_ready(barrier.waiting);
    }
    leave();
  }

  static void run_fiber(const unsigned high, const unsigned low) {
    Scheduler& s = *reinterpret_cast<Scheduler*>(static_cast<std::uintptr_t>(high) << 32 | low);
    for (;;) {
      s.thread_(s.argument_);
      Fiber& f = *s.now_;
      Block& block = *f.block;
      if (!block.whole.waiting.empty()) s.fail("a thread ends while others of its block wait at a barrier");
      f.ended = true;
      --block.running;
      --block.running_in_warp[f.thread / kWarpThreads];
      s.leave();
    }
  }

  Fiber* take_fiber() {
    if (idle_.empty()) {
      pool_.push_back(std::make_unique<Fiber>());
      idle_.push_back(pool_.back().get());
    }
    Fiber* const f = idle_.back();
    idle_.pop_back();
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.get();
    f->context.uc_stack.ss_size = kStackBytes;
    f->context.uc_link = nullptr;
    // makecontext hands over whole numbers alone.
    const std::uintptr_t self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&f->context, reinterpret_cast<void (*)()>(run_fiber), 2, static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
    f->ended = false;
    return f;
  }

  std::unique_ptr<Block> start_block(const unsigned x, const unsigned y) {
    auto block = std::make_unique<Block>();
    block->index = {x, y, 0};
    block->running = block_extent.x;
    block->warps.resize((block_extent.x + kWarpThreads - 1) / kWarpThreads);
    for (unsigned w = 0; w < block->warps.size(); ++w)
      block->running_in_warp.push_back(std::min(kWarpThreads, block_extent.x - w * kWarpThreads));
    for (unsigned t = 0; t < block_extent.x; ++t) {
      Fiber* const f = take_fiber();
      f->block = block.get();
      f->thread = t;
      block->fibers.push_back(f);
      block->ready.push_back(f);
    }
    return block;
  }

  std::string run(const Dim3 grid, const Dim3 block, const Word seed) {
    grid_extent = grid;
    block_extent = block;
    random_.seed(seed);
    failure_.clear();
    polling_.clear();
    idle_.clear();
    for (auto& f : pool_) idle_.push_back(f.get());
    std::vector<unsigned> order(grid.x * grid.y);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random_);
    const std::size_t most_resident = 1 + random_() % 4;
    std::vector<std::unique_ptr<Block>> resident;
    std::size_t started = 0;
    Block* favoured = nullptr;
    for (;;) {
      while (resident.size() < most_resident && started < order.size()) {
        resident.push_back(start_block(order[started] % grid.x, order[started] / grid.x));
        ++started;
      }
      if (resident.empty()) return "";
      // One block goes on for as long as it can, or until chance turns to another.
      std::vector<Block*> able;
      for (const auto& b : resident)
        if (!b->ready.empty()) able.push_back(b.get());
      if (able.empty()) {
        std::string waits;
        for (const auto& b : resident)
          for (const Fiber* f : b->fibers)
            if (!f->ended && waits.empty())
              waits = "block " + std::to_string(b->index.x) + ", thread " + std::to_string(f->thread) +
                      (b->whole.waiting.empty() ? "" : ", a barrier at line " + std::to_string(b->whole.line));
        return "deadlock: nothing can run; one that waits is " + waits;
      }
      if (std::find(able.begin(), able.end(), favoured) == able.end() || random_() % 512 == 0)
        favoured = able[random_() % able.size()];
      std::vector<Fiber*>& ready = favoured->ready;
      std::swap(ready[random_() % ready.size()], ready.back());
      now_ = ready.back();
      ready.pop_back();
      thread_index = {now_->thread, 0, 0};
      block_index = now_->block->index;
      swapcontext(&scheduler_, &now_->context);
      if (!failure_.empty()) return failure_;
      if (now_->ended) {
        Block* const block_of = now_->block;
        idle_.push_back(now_);
        if (block_of->running == 0)
          resident.erase(std::find_if(resident.begin(), resident.end(), [&](const auto& b) { return b.get() == block_of; }));
      }
    }
  }

  ucontext_t scheduler_;
  std::mt19937_64 random_;
  std::vector<Fiber*> polling_, idle_;
  std::vector<std::unique_ptr<Fiber>> pool_;
  std::string failure_, said_;
  void (*thread_)(void*) = nullptr;
  void* argument_ = nullptr;
};

}  // namespace emulator
