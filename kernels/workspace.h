// Parts of the workspace for the threads that run at the moment.
#pragma once

#include <atomic>

#include "kernels/kernel.h"

namespace fluxion::kernels {

constexpr size_t align_up(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

/// Up to 64 equal parts; whoever starts a piece of work borrows one.
class Slots {
 public:
  Slots(void* workspace, size_t bytes_each, int count)
      : base_(static_cast<char*>(workspace)), bytes_(bytes_each), count_(count) {}

  char* borrow() {
    for (;;) {
      uint64_t used = used_.load(std::memory_order_relaxed);
      const int free = __builtin_ctzll(~used | uint64_t{1} << 63);
      if (free < count_ && !(used >> free & 1) &&
          used_.compare_exchange_weak(used, used | uint64_t{1} << free, std::memory_order_acquire))
        return base_ + static_cast<size_t>(free) * bytes_;
    }
  }
  void give_back(char* part) {
    const size_t number = static_cast<size_t>(part - base_) / bytes_;
    used_.fetch_and(~(uint64_t{1} << number), std::memory_order_release);
  }

 private:
  char* base_;
  size_t bytes_;
  int count_;
  std::atomic<uint64_t> used_{0};
};

inline constexpr int kMaxSlots = 64;

/// Runs task(t, part) for t in [0, tasks), in parallel unless `serial`, each with a part of the
/// workspace.
template <class Task>
void run_tasks(const Ctx& ctx, int64_t tasks, bool serial, Slots& slots, const Task& task) {
  struct Call {
    Slots& slots;
    const Task& task;
  } call{slots, task};
  auto run = [](void* arg, int64_t begin, int64_t end) {
    const Call& c = *static_cast<Call*>(arg);
    char* part = c.slots.borrow();
    for (int64_t t = begin; t < end; ++t) c.task(t, part);
    c.slots.give_back(part);
  };
  if (serial || tasks < 2 || !ctx.parallel) run(&call, 0, tasks);
  else ctx.parallel(ctx.pool, tasks, 1, run, &call);
}

/// Runs task(i) for i in [0, n), in parallel unless `serial`.
template <class Task>
void run_each(const Ctx& ctx, int64_t n, bool serial, const Task& task) {
  auto run = [](void* arg, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) (*static_cast<const Task*>(arg))(i);
  };
  void* arg = const_cast<void*>(static_cast<const void*>(&task));
  if (serial || n < 2 || !ctx.parallel) run(arg, 0, n);
  else ctx.parallel(ctx.pool, n, 1, run, arg);
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/// Piece i of n when [0, total) is cut into n pieces at multiples of `unit`.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
constexpr Range piece(int64_t total, int64_t unit, int64_t n, int64_t i) {
  const int64_t units = divide_up(total, unit);
  return {least(total, units * i / n * unit), least(total, units * (i + 1) / n * unit)};
}

}  // namespace fluxion::kernels
