// For tests of thread independence: small samples, too, run on several threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace fluxion {

/// While it lives, parallel loops split down to single items, and are counted. One at a time.
class SplitLoops {
 public:
  SplitLoops();
  ~SplitLoops();
  SplitLoops(const SplitLoops&) = delete;
  SplitLoops& operator=(const SplitLoops&) = delete;

  static SplitLoops* active() { return active_.load(std::memory_order_acquire); }
  std::atomic<int64_t> split{0};    // loops that ran in more than one chunk
  std::atomic<int64_t> foreign{0};  // chunks that ran on another thread than the caller's

 private:
  static std::atomic<SplitLoops*> active_;
};

/// The least number of items per chunk: the one asked for, or 1 under SplitLoops.
inline int64_t chunk_grain(int64_t asked) { return SplitLoops::active() ? 1 : asked; }

}  // namespace fluxion
