// Memory that never moves, and snapshots of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ref.h"

namespace fluxion {

struct Snapshot;

/// The identity of memory. Views, NumPy, DLPack and shared memory all hold the same Storage;
/// `data` never changes while it lives, whoever writes.
struct alignas(64) Storage {
  RefCount refs{1};
  bool read_only = false;  // begin_write raises
  bool shared_memory = false;
  std::atomic<uint64_t> version{0};          // bumped by every write; a cache key, never an error
  std::atomic<Snapshot*> snapshot{nullptr};  // non-null only while somebody needs the old bytes
  char* data = nullptr;                      // 64-byte aligned when ours
  size_t nbytes = 0;
  void (*dispose)(Storage*) = nullptr;       // frees data and the header
  void* context = nullptr;                   // of foreign memory: its owner,
  void (*dispose_context)(void*) = nullptr;  // told when the last holder goes
};
static_assert(sizeof(Storage) == 64);

/// "These bytes as of now": free until somebody writes, then a private copy.
/// Shared by all readers of one version of a Storage.
struct Snapshot {
  RefCount refs{1};
  Storage* source;                      // held
  std::atomic<Storage*> copy{nullptr};  // held; null while the source still has these bytes
};

class Tensor;

/// Told what happens to memory on its thread while capture writes down what runs (ThreadState::observer).
struct StorageObserver {
  virtual ~StorageObserver() = default;
  virtual void created(Storage&) = 0;
  virtual void disposed(Storage&) = 0;
  /// `copy` has the bytes that `from` had before the write that has been announced.
  virtual void snapshot_copied(Storage& from, Storage& copy) = 0;
  /// A write into the storage has been announced (begin_write).
  virtual void written(Storage&) = 0;
  /// The host reads the value of `t` (item(), a branch in Python, NumPy).
  virtual void read(const Tensor& t) = 0;
  /// A random generator is given another state.
  virtual void reseeded() = 0;
};

inline void retain(Storage* s) { s->refs.fetch_add(1, std::memory_order_relaxed); }
inline void release(Storage* s) {
  if (drop_count(s->refs)) s->dispose(s);
}
inline void retain(Snapshot* s) { s->refs.fetch_add(1, std::memory_order_relaxed); }
void release(Snapshot* s);

/// Uninitialised storage from the caching allocator, padded to 64 bytes. Raises ErrorKind::memory.
Ref<Storage> allocate(size_t nbytes);

/// Wraps memory owned by somebody else; `dispose(context)` runs when the last holder goes.
Ref<Storage> wrap_foreign(void* data, size_t nbytes, void (*dispose)(void* context), void* context);

/// Shared memory (POSIX, unlinked at once, inherited by forked children).
Ref<Storage> allocate_shared(size_t nbytes);

Ref<Snapshot> take_snapshot(Storage* s);

/// The storage that has the snapshot's bytes: the source while unwritten, else the copy. For
/// reading only.
Storage* bytes_of(const Snapshot& s);

/// Must precede every write into `s`: bumps the version and copies the old bytes out for snapshot
/// holders. Raises if the storage is read-only.
void begin_write(Storage* s);

/// Bytes that begin_write has copied for snapshot holders so far (diagnostics).
uint64_t snapshot_bytes_copied();

/// Returns cached blocks to the system.
void empty_cache();

/// What the caching allocator holds, and how much it may ever hold (memory of the machine or
/// container).
struct MemoryUse {
  size_t in_use, cached, limit;
};
MemoryUse memory_use();

}  // namespace fluxion
