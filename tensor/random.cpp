#include "tensor/random.h"

#include <algorithm>

#include "tensor/storage.h"
#include "tensor/thread_generator.h"
#include "tensor/thread_state.h"

namespace fluxion {

namespace {
constinit thread_local Generator* own_generator = nullptr;
}  // namespace

void Generator::manual_seed(uint64_t seed) { set_state(seed, 0); }

void Generator::set_state(uint64_t seed, uint64_t calls) {
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->reseeded();
  key_.store(seed, std::memory_order_relaxed);
  calls_.store(calls, std::memory_order_relaxed);
}

Generator::Call Generator::next_call() {
  return {seed(), calls_.fetch_add(1, std::memory_order_relaxed)};
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void set_thread_generator(Generator* generator) { own_generator = generator; }

Generator& current_generator() { return own_generator ? *own_generator : default_generator(); }

void philox(uint64_t key, uint64_t call, uint64_t block, uint32_t out[4]) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(call), c3 = static_cast<uint32_t>(call >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c0, b = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

void random_bits(Generator::Call call, int64_t begin, std::span<uint32_t> out) {
  uint64_t block = static_cast<uint64_t>(begin) / 4;
  size_t skip = static_cast<size_t>(begin) % 4;
  for (size_t i = 0; i < out.size(); ++block, skip = 0) {
    uint32_t words[4];
    philox(call.key, call.call, block, words);
    const size_t n = std::min(4 - skip, out.size() - i);
    std::copy_n(words + skip, n, out.data() + i);
    i += n;
  }
}

}  // namespace fluxion
