// A lock of one byte for short sections; a thread that waits gives up its time slice.
#pragma once

#include <sched.h>

#include <atomic>

namespace fluxion {

class SpinLock {
 public:
  void lock() {
    while (taken_.exchange(true, std::memory_order_acquire)) sched_yield();
  }
  bool try_lock() { return !taken_.exchange(true, std::memory_order_acquire); }
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace fluxion
