// Counters that many threads add to without sharing a cache line.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace fluxion::serve {

using Clock = std::chrono::steady_clock;

inline constexpr int kShards = 8;
/// This thread's shard; threads take turns.
int shard_index();

template <int N>
class Counters {
 public:
  void add(int which, uint64_t n = 1) {
    shards_[shard_index()].values[which].fetch_add(n, std::memory_order_relaxed);
  }
  uint64_t sum(int which) const {
    uint64_t total = 0;
    for (const Shard& s : shards_) total += s.values[which].load(std::memory_order_relaxed);
    return total;
  }

 private:
  struct alignas(64) Shard {
    std::array<std::atomic<uint64_t>, N> values{};
  };
  std::array<Shard, kShards> shards_;
};

enum Count : int {
  kSuccess,        // requests answered
  kRejected,       // refused: queue full or waited too long
  kFailedModel,    // the model raised
  kFailedRequest,  // the request did not fit the model
  kSuccessNs,      // the rest are nanoseconds and bytes of answered requests
  kFailNs,
  kQueueNs,
  kInputNs,
  kInferNs,
  kOutputNs,
  kInputBytes,
  kCounts
};

/// What one served version counts.
struct Statistics {
  Counters<kCounts> counts;
  std::atomic<int64_t> last_inference_ms{0};  // Unix time
  std::atomic<int64_t> average_ns{0};         // of a run, moving; 0: never ran

  uint64_t failures() const {
    return counts.sum(kRejected) + counts.sum(kFailedModel) + counts.sum(kFailedRequest);
  }
  void note_run(int64_t ns) {
    const int64_t old = average_ns.load(std::memory_order_relaxed);
    average_ns.store(std::max<int64_t>(1, old ? old + (ns - old) / 8 : ns),
                     std::memory_order_relaxed);
  }
};

inline constexpr int kLowestStatus = 100, kHighestStatus = 599;

/// What the server counts of HTTP.
struct HttpStatistics {
  Counters<kHighestStatus - kLowestStatus + 1> responses;  // by status
  Counters<3> totals;                                      // bytes in, bytes out, connections
  std::atomic<int64_t> open_connections{0};
  std::atomic<uint64_t> buffered_bytes{0};  // of long bodies

  void count(int status, uint64_t in, uint64_t out) {
    responses.add(status - kLowestStatus);
    totals.add(0, in);
    totals.add(1, out);
  }
};

inline int64_t nanoseconds(Clock::duration d) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
}

}  // namespace fluxion::serve
