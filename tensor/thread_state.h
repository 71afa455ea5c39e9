// Everything that belongs to a thread, behind one 8-byte thread_local pointer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fluxion {

struct Tracer;
struct StorageObserver;

inline constexpr size_t kPoolGranule = 16;
inline constexpr size_t kPoolLimit =
    1024;  // blocks up to this size live in thread-local free lists

inline constexpr size_t kPoolSlots = kPoolLimit / kPoolGranule + 1;
inline constexpr uint32_t kMagazine = 1024;  // blocks moved to or from the global lists at once

/// Off under AddressSanitizer, so that it sees every block.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kPooling = false;
#else
inline constexpr bool kPooling = true;
#endif

struct FreeBlock {
  FreeBlock* next;
};

struct ThreadState {
  bool grad_enabled = true;
  bool inference_mode = false;
  bool in_parallel = false;  // inside a body of `parallel`: nested calls run serially
  Tracer* tracer = nullptr;
  StorageObserver* observer = nullptr;  // of storages; set while tracing
  uint64_t sequence = 0;                // creation order of tape nodes (Lamport clock)
  void* dead_nodes = nullptr;  // tape nodes waiting to be destroyed by the outermost release
  bool draining_nodes = false;
  FreeBlock* pools[kPoolSlots] = {};
  FreeBlock* reserve[kPoolSlots] = {};  // empty or a full magazine
  uint32_t pooled[kPoolSlots] = {};     // length of each of `pools`
  char* slab = nullptr;
  size_t slab_left = 0;
};

namespace detail {
extern constinit thread_local ThreadState* thread_state_ptr
    __attribute__((tls_model("initial-exec")));
ThreadState* make_thread_state();
void* pool_refill(ThreadState& ts, size_t slot);
void pool_spill(ThreadState& ts, size_t slot, void* p);
void* system_alloc(size_t n);
void system_free(void* p);
}  // namespace detail

inline ThreadState& thread_state() {
  ThreadState* ts = detail::thread_state_ptr;
  return ts ? *ts : *detail::make_thread_state();
}

/// Small blocks (16-byte granules, 64-byte aligned from 64 bytes up); freed on any thread.
/// Above kPoolLimit they come from malloc.
inline void* pool_alloc(size_t n) {
  if (!kPooling || n > kPoolLimit) [[unlikely]]
    return detail::system_alloc(n);
  ThreadState& ts = thread_state();
  const size_t slot = (n + kPoolGranule - 1) / kPoolGranule;
  FreeBlock* b = ts.pools[slot];
  if (!b) [[unlikely]]
    return detail::pool_refill(ts, slot);
  ts.pools[slot] = b->next;
  --ts.pooled[slot];
  return b;
}

/// `n` as given to pool_alloc.
inline void pool_free(void* p, size_t n) {
  if (!kPooling || n > kPoolLimit) [[unlikely]]
    return detail::system_free(p);
  ThreadState& ts = thread_state();
  const size_t slot = (n + kPoolGranule - 1) / kPoolGranule;
  if (ts.pooled[slot] >= kMagazine) [[unlikely]]
    return detail::pool_spill(ts, slot, p);
  auto* b = static_cast<FreeBlock*>(p);
  b->next = ts.pools[slot];
  ts.pools[slot] = b;
  ++ts.pooled[slot];
}

/// Scoped override of a field of the thread state.
template <class T>
class Override {
 public:
  Override(T& field, T value) : field_(field), old_(field) { field = value; }
  ~Override() { field_ = old_; }
  Override(const Override&) = delete;
  Override& operator=(const Override&) = delete;

 private:
  T& field_;
  T old_;
};

struct NoGrad : Override<bool> {
  NoGrad() : Override(thread_state().grad_enabled, false) {}
};
struct EnableGrad : Override<bool> {
  EnableGrad() : Override(thread_state().grad_enabled, true) {}
};
/// As NoGrad; what is made inside can never take part in a computation that wants gradients.
struct InferenceMode : NoGrad {
  Override<bool> inference{thread_state().inference_mode, true};
};

}  // namespace fluxion
