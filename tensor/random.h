// Counter-based random numbers: bits depend on (key, call number, element index) and nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace fluxion {

/// The state of a generator: a key (seed) and the number of calls made so far.
class Generator {
 public:
  explicit Generator(uint64_t seed = 0) : key_(seed) {}
  void manual_seed(uint64_t seed);
  uint64_t seed() const { return key_.load(std::memory_order_relaxed); }
  uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
  void set_state(uint64_t seed, uint64_t calls);
  /// Reserves one call number.
  struct Call {
    uint64_t key, call;
  };
  Call next_call();

 private:
  std::atomic<uint64_t> key_, calls_{0};
};

Generator& default_generator();

/// Philox4x32-10 (Salmon et al. 2011): key = key, counter = (block, call).
void philox(uint64_t key, uint64_t call, uint64_t block, uint32_t out[4]);

/// The words of elements begin, begin + 1, ...: element e is word e % 4 of block e / 4.
void random_bits(Generator::Call call, int64_t begin, std::span<uint32_t> out);

}  // namespace fluxion
