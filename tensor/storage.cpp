#include "tensor/storage.h"

#include <sys/mman.h>

#include <new>

#include "base/error.h"
#include "tensor/block_cache.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

constexpr size_t kHeader = sizeof(Storage);

/// Vector kernels may touch whole cache lines; no bytes take one line too, so that `data` is never
/// null.
constexpr size_t padded(size_t n) { return n ? (n + 63) / 64 * 64 : 64; }

Storage* new_header(size_t nbytes, void (*dispose)(Storage*), void* memory) {
  auto* s = new (memory) Storage;
  s->nbytes = nbytes;
  s->dispose = dispose;
  return s;
}

void observe_death(Storage* s) {
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->disposed(*s);
}
Ref<Storage> observe_birth(Ref<Storage> s) {
  if (StorageObserver* o = thread_state().observer) [[unlikely]]
    o->created(*s);
  return s;
}

// Header and data in one pool block.
void dispose_small(Storage* s) {
  observe_death(s);
  pool_free(s, kHeader + padded(s->nbytes));
}

void dispose_block(Storage* s) {
  observe_death(s);
  detail::block_free(s->data, padded(s->nbytes));
  pool_free(s, kHeader);
}

void dispose_foreign(Storage* s) {
  observe_death(s);
  if (s->dispose_context) s->dispose_context(s->context);
  pool_free(s, kHeader);
}

void dispose_shared(Storage* s) {
  observe_death(s);
  munmap(s->data, padded(s->nbytes));
  pool_free(s, kHeader);
}

Ref<Storage> allocate_block(size_t nbytes) {
  Storage* s = new_header(nbytes, dispose_block, pool_alloc(kHeader));
  try {
    s->data = detail::block_alloc(nbytes > SIZE_MAX - 63 ? nbytes : padded(nbytes));
  } catch (...) {
    pool_free(s, kHeader);
    throw;
  }
  return observe_birth(Ref<Storage>::adopt(s));
}

}  // namespace

Ref<Storage> allocate(size_t nbytes) {
  if (nbytes > kPoolLimit - kHeader) return allocate_block(nbytes);
  void* block = pool_alloc(kHeader + padded(nbytes));
  Storage* s = new_header(nbytes, dispose_small, block);
  s->data = static_cast<char*>(block) + kHeader;
  return observe_birth(Ref<Storage>::adopt(s));
}

Ref<Storage> wrap_foreign(void* data, size_t nbytes, void (*dispose)(void* context),
                          void* context) {
  Storage* s = new_header(nbytes, dispose_foreign, pool_alloc(kHeader));
  s->data = static_cast<char*>(data);
  s->context = context;
  s->dispose_context = dispose;
  return observe_birth(Ref<Storage>::adopt(s));
}

// An anonymous shared mapping has no name to unlink and no /dev/shm limit.
Ref<Storage> allocate_shared(size_t nbytes) {
  void* p = MAP_FAILED;
  if (nbytes <= memory_use().limit)
    p = mmap(nullptr, padded(nbytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    fail(ErrorKind::memory, "out of memory: no {} bytes of shared memory", nbytes);
  Storage* s = new_header(nbytes, dispose_shared, pool_alloc(kHeader));
  s->data = static_cast<char*>(p);
  s->shared_memory = true;
  return observe_birth(Ref<Storage>::adopt(s));
}

}  // namespace fluxion
