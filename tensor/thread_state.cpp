#include "tensor/thread_state.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "tensor/fork.h"

namespace fluxion::detail {

constinit thread_local ThreadState* thread_state_ptr = nullptr;

namespace {

constexpr size_t kSlabBytes = 64 << 10;

/// A list of free blocks on its way between threads; the header lies in the first of them.
struct Magazine : FreeBlock {
  Magazine* next_magazine;
  uint32_t count;
};

/// What is left of a slab whose thread is gone.
struct Remnant {
  Remnant* next;
  size_t bytes;
};

/// Where threads leave what they have too much of. Full magazines are peeked at without the lock.
struct Depot {
  std::mutex mutex;
  std::atomic<Magazine*> magazines[kPoolSlots] = {};
  Remnant* remnants = nullptr;
};
constinit Depot depot;

/// Room for the magazine header, and whole cache lines from one line up.
constexpr size_t block_bytes(size_t slot) {
  const size_t n = slot * kPoolGranule;
  return n <= 32 ? 32 : n < 64 ? n : (n + 63) / 64 * 64;
}

// The caller holds the lock.
void deposit(size_t slot, FreeBlock* blocks, uint32_t count) {
  auto* m = static_cast<Magazine*>(blocks);
  m->next_magazine = depot.magazines[slot].load(std::memory_order_relaxed);
  m->count = count;
  depot.magazines[slot].store(m, std::memory_order_relaxed);
}

Magazine* withdraw(size_t slot) {
  if (!depot.magazines[slot].load(std::memory_order_relaxed)) return nullptr;
  std::lock_guard lock(depot.mutex);
  Magazine* m = depot.magazines[slot].load(std::memory_order_relaxed);
  if (m) depot.magazines[slot].store(m->next_magazine, std::memory_order_relaxed);
  return m;
}

void new_slab(ThreadState& ts) {
  {
    std::lock_guard lock(depot.mutex);
    if (Remnant* r = depot.remnants) {
      depot.remnants = r->next;
      ts.slab = reinterpret_cast<char*>(r);
      ts.slab_left = r->bytes;
      return;
    }
  }
  ts.slab = static_cast<char*>(system_alloc(kSlabBytes));
  ts.slab_left = kSlabBytes;
}

void* carve(ThreadState& ts, size_t slot) {
  const size_t n = block_bytes(slot), align = n < 64 ? kPoolGranule : 64;
  for (;;) {
    const size_t skip = -reinterpret_cast<uintptr_t>(ts.slab) % align;
    if (ts.slab_left >= skip + n) {
      char* p = ts.slab + skip;
      ts.slab = p + n;
      ts.slab_left -= skip + n;
      return p;
    }
    new_slab(ts);
  }
}

/// At thread exit. Frees that come later, from other destructors, start a new state.
void retire(void* state) {
  auto* ts = static_cast<ThreadState*>(state);
  thread_state_ptr = nullptr;
  std::lock_guard lock(depot.mutex);
  for (size_t slot = 0; slot < kPoolSlots; ++slot) {
    if (ts->pools[slot]) deposit(slot, ts->pools[slot], ts->pooled[slot]);
    if (ts->reserve[slot]) deposit(slot, ts->reserve[slot], kMagazine);
  }
  if (ts->slab_left >= 2 * kPoolLimit) {
    auto* r = reinterpret_cast<Remnant*>(ts->slab);
    *r = {depot.remnants, ts->slab_left};
    depot.remnants = r;
  }
  delete ts;
}

pthread_key_t make_key() {
  install_fork_handlers();
  pthread_key_t key;
  invariant(pthread_key_create(&key, retire) == 0, "no pthread key left for the thread state");
  return key;
}

}  // namespace

ThreadState* make_thread_state() {
  static const pthread_key_t key = make_key();
  auto* ts = new ThreadState;
  pthread_setspecific(key, ts);
  return thread_state_ptr = ts;
}

void* pool_refill(ThreadState& ts, size_t slot) {
  if (FreeBlock* b = ts.reserve[slot]) {
    ts.reserve[slot] = nullptr;
    ts.pools[slot] = b->next;
    ts.pooled[slot] = kMagazine - 1;
    return b;
  }
  if (Magazine* m = withdraw(slot)) {
    ts.pools[slot] = m->next;
    ts.pooled[slot] = m->count - 1;
    return m;
  }
  return carve(ts, slot);
}

void pool_spill(ThreadState& ts, size_t slot, void* p) {
  if (ts.reserve[slot]) {
    std::lock_guard lock(depot.mutex);
    deposit(slot, ts.reserve[slot], kMagazine);
  }
  ts.reserve[slot] = ts.pools[slot];
  ts.pools[slot] = static_cast<FreeBlock*>(p);
  ts.pools[slot]->next = nullptr;
  ts.pooled[slot] = 1;
}

void* system_alloc(size_t n) {
  void* p = std::aligned_alloc(64, (n + 63) / 64 * 64);
  if (!p) fail(ErrorKind::memory, "out of memory: the system has no {} bytes left", n);
  return p;
}

void system_free(void* p) { std::free(p); }

void lock_pool_depot() { depot.mutex.lock(); }
void unlock_pool_depot() { depot.mutex.unlock(); }

}  // namespace fluxion::detail
