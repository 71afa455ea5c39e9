#include "serve/statistics.h"

namespace fluxion::serve {

int shard_index() {
  static std::atomic<int> next{0};
  thread_local const int mine = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return mine;
}

}  // namespace fluxion::serve
