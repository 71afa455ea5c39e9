// The compute threads: a bounded queue without locks for requests too long for a connection's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace fluxion::serve {

class ComputeThreads {
 public:
  using Job = std::function<void()>;  // must not throw

  /// `threads` jobs run at once and `queue` more wait. 0 threads: one per core.
  ComputeThreads(uint32_t threads, uint32_t queue);
  /// Ends after the jobs that were accepted.
  ~ComputeThreads();
  ComputeThreads(const ComputeThreads&) = delete;
  ComputeThreads& operator=(const ComputeThreads&) = delete;

  /// False, and nothing happens, if the queue is full.
  bool submit(Job job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fluxion::serve
