// Snapshots: copied out before the first write, free if there is none.
#include <cstring>
#include <mutex>
#include <new>

#include "base/error.h"
#include "base/spin_lock.h"
#include "tensor/fork.h"
#include "tensor/storage.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

/// Guards `Storage::snapshot` and the copying; spread over many lines, since it is taken for every
/// saved tensor.
struct alignas(64) LineLock : SpinLock {};

constinit LineLock locks[64];
constinit std::atomic<uint64_t> bytes_copied{0};

LineLock& lock_of(const Storage* s) {
  return locks[(reinterpret_cast<uintptr_t>(s) * 0x9e3779b97f4a7c15u) >> 58];
}

void destroy(Snapshot* p) {
  if (Storage* copy = p->copy.load(std::memory_order_acquire)) release(copy);
  release(p->source);
  pool_free(p, sizeof(Snapshot));
}

// The caller holds the lock.
void copy_out(Storage* s, Snapshot* p) {
  Ref<Storage> copy = allocate(s->nbytes);
  std::memcpy(copy->data, s->data, s->nbytes);
  bytes_copied.fetch_add(s->nbytes, std::memory_order_relaxed);
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->snapshot_copied(*s, *copy);
  p->copy.store(copy.detach(), std::memory_order_release);
  s->snapshot.store(nullptr, std::memory_order_release);
}

}  // namespace

Ref<Snapshot> take_snapshot(Storage* s) {
  std::lock_guard lock(lock_of(s));
  if (Snapshot* p = s->snapshot.load(std::memory_order_relaxed)) return Ref<Snapshot>::share(p);
  auto* p = new (pool_alloc(sizeof(Snapshot))) Snapshot;
  p->source = s;
  retain(s);
  s->snapshot.store(p, std::memory_order_relaxed);
  return Ref<Snapshot>::adopt(p);
}

// The last count goes under the lock: take_snapshot may be handing out another one.
void release(Snapshot* p) {
  uint32_t n = p->refs.load(std::memory_order_relaxed);
  while (n > 1)
    if (p->refs.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel)) return;
  {
    Storage* s = p->source;
    std::lock_guard lock(lock_of(s));
    if (p->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (s->snapshot.load(std::memory_order_relaxed) == p)
      s->snapshot.store(nullptr, std::memory_order_relaxed);
  }
  destroy(p);
}

Storage* bytes_of(const Snapshot& p) {
  Storage* copy = p.copy.load(std::memory_order_acquire);
  return copy ? copy : p.source;
}

void begin_write(Storage* s) {
  if (s->read_only) [[unlikely]]
    fail(ErrorKind::runtime,
         "this memory is read-only and cannot be written; clone() the tensor first");
  if (s->snapshot.load(std::memory_order_acquire)) [[unlikely]] {
    std::lock_guard lock(lock_of(s));
    if (Snapshot* p = s->snapshot.load(std::memory_order_relaxed)) copy_out(s, p);
  }
  s->version.fetch_add(1, std::memory_order_acq_rel);
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->written(*s);
}

uint64_t snapshot_bytes_copied() { return bytes_copied.load(std::memory_order_relaxed); }

namespace detail {

void lock_snapshots() {
  for (LineLock& l : locks) l.lock();
}
void unlock_snapshots() {
  for (LineLock& l : locks) l.unlock();
}

}  // namespace detail

}  // namespace fluxion
