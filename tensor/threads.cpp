#include "tensor/threads.h"

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "tensor/fork.h"
#include "tensor/split_loops.h"
#include "tensor/thread_state.h"
#include "tensor/uninterrupted.h"

namespace fluxion {
namespace {

int default_threads() {
  const int hardware = tbb::info::default_concurrency();
  const char* text = std::getenv("FLUXION_NUM_THREADS");
  int n = 0;
  if (text) std::from_chars(text, text + std::strlen(text), n);
  return n > 0 ? n : hardware;
}

/// An arena per thread count ever asked for: one in use is never taken away from a running loop.
class Arenas {
 public:
  Arenas() { set(default_threads()); }

  void set(int n) {
    std::lock_guard lock(mutex_);
    auto& arena = arenas_[n];
    if (!arena) arena = std::make_unique<tbb::task_arena>(n);
    if (n > tbb::info::default_concurrency())
      allowance_ =
          std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism, n);
    current_.store(arena.get(), std::memory_order_release);
    threads_.store(n, std::memory_order_release);
  }
  int threads() const { return threads_.load(std::memory_order_relaxed); }
  tbb::task_arena& current() const { return *current_.load(std::memory_order_acquire); }

 private:
  std::mutex mutex_;
  std::map<int, std::unique_ptr<tbb::task_arena>> arenas_;
  std::unique_ptr<tbb::global_control> allowance_;
  std::atomic<tbb::task_arena*> current_;
  std::atomic<int> threads_;
};

// Never destroyed: threads may still run when the process ends.
Arenas& arenas() {
  static auto* const a = new Arenas;
  return *a;
}

void run_serially(int64_t n, FunctionRef<void(int64_t, int64_t)> fn) {
  FloatEnvironment environment;
  fn(0, n);
}

/// Every chunk on a thread of its own, the first on the caller's: slow, but no chunk waits for another's thread.
void run_on_threads(int64_t chunks, FunctionRef<void(int64_t)> body) {
  std::exception_ptr error;
  std::mutex mutex;
  auto guarded = [&](int64_t i) {
    try {
      body(i);
    } catch (...) {
      std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int64_t i = 1; i < chunks; ++i) threads.emplace_back(guarded, i);
    guarded(0);
  }
  if (error) std::rethrow_exception(error);
}

std::atomic<void* (*)()> long_work_begin{nullptr};
std::atomic<void (*)(void*)> long_work_end{nullptr};

}  // namespace

void parallel(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> fn) {
  if (n <= 0) return;
  SplitLoops* test = SplitLoops::active();
  const int64_t most = n / std::max<int64_t>(test ? 1 : grain, 1);
  if (most < 2 || thread_state().in_parallel || detail::in_forked_child())
    return run_serially(n, fn);
  const int64_t chunks = std::min<int64_t>(most, num_threads());
  if (chunks < 2) return run_serially(n, fn);
  const int64_t each = n / chunks, extra = n % chunks;
  const ThreadState* caller = &thread_state();
  if (test) ++test->split;
  auto body = [&](int64_t i) {
    FloatEnvironment environment;
    Override<bool> inside(thread_state().in_parallel, true);
    if (test && &thread_state() != caller) ++test->foreign;
    const int64_t begin = i * each + std::min(i, extra);
    fn(begin, begin + each + (i < extra));
  };
  if (test) return run_on_threads(chunks, body);
  arenas().current().execute(
      [&] { tbb::parallel_for(int64_t{0}, chunks, body, tbb::static_partitioner{}); });
}

std::atomic<SplitLoops*> SplitLoops::active_{nullptr};
SplitLoops::SplitLoops() { active_.store(this, std::memory_order_release); }
SplitLoops::~SplitLoops() { active_.store(nullptr, std::memory_order_release); }

int num_threads() { return arenas().threads(); }

void set_num_threads(int n) {
  if (n < 1) fail(ErrorKind::value, "set_num_threads: {} threads; expected at least 1", n);
  arenas().set(n);
}

kernels::Ctx kernel_context(void* workspace, size_t workspace_bytes) {
  auto run = [](void*, int64_t n, int64_t grain, void (*fn)(void*, int64_t, int64_t), void* arg) {
    parallel(n, grain, [=](int64_t begin, int64_t end) { fn(arg, begin, end); });
  };
  return {workspace, workspace_bytes, nullptr, run, {}};
}

LongWork::LongWork(double nanoseconds) {
  if (nanoseconds <= kLongWork || Uninterrupted::active()) return;
  if (auto* begin = long_work_begin.load(std::memory_order_acquire)) token_ = begin();
}

LongWork::~LongWork() {
  if (token_) long_work_end.load(std::memory_order_acquire)(token_);
}

void set_long_work_hooks(LongWorkHooks hooks) {
  long_work_end.store(hooks.end, std::memory_order_release);
  long_work_begin.store(hooks.begin, std::memory_order_release);
}

}  // namespace fluxion
