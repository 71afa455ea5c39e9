#include "tensor/block_cache.h"

#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <mutex>

#include "base/error.h"
#include "tensor/fork.h"
#include "tensor/storage.h"
#include "tensor/thread_state.h"

namespace fluxion {
namespace {

constexpr size_t kMapped =
    1 << 20;  // from here on blocks are mmapped, so they can go back to the system
constexpr size_t kHugePage = 2 << 20;
constexpr size_t kLargest = size_t{1} << 47;  // user address space
constexpr size_t kClasses = 8 * 48;

/// Eight classes per doubling, so at most an eighth is wasted.
struct SizeClass {
  size_t index, bytes;
};
constexpr SizeClass size_class(size_t n) {
  const int shift = std::max(static_cast<int>(std::bit_width(n - 1)) - 4, 6);
  const size_t part = (n - 1) >> shift;
  return {static_cast<size_t>(shift) * 8 + part % 8, (part + 1) << shift};
}
static_assert(size_class(1024).bytes == 1024 && size_class(1025).bytes == 1152);
static_assert(size_class(kLargest).index < kClasses);

/// A cached block, linked in its own memory: into its class (last in, first out) and by age over
/// all classes.
struct Block {
  Block *class_next, *class_prev, *newer, *older;
  size_t bytes;
};

struct BlockCache {
  std::mutex mutex;
  Block* classes[kClasses] = {};
  Block *newest = nullptr, *oldest = nullptr;
  size_t in_use = 0, cached = 0;

  void push(char* p, SizeClass c);
  Block* pop(size_t index);
  void unlink(Block* b);
  Block* evict_above(size_t budget);
};
constinit BlockCache cache;

void BlockCache::push(char* p, SizeClass c) {
  auto* b = new (p) Block{classes[c.index], nullptr, nullptr, newest, c.bytes};
  if (b->class_next) b->class_next->class_prev = b;
  classes[c.index] = b;
  (newest ? newest->newer : oldest) = b;
  newest = b;
  cached += b->bytes;
}

void BlockCache::unlink(Block* b) {
  (b->class_prev ? b->class_prev->class_next : classes[size_class(b->bytes).index]) = b->class_next;
  if (b->class_next) b->class_next->class_prev = b->class_prev;
  (b->newer ? b->newer->older : newest) = b->older;
  (b->older ? b->older->newer : oldest) = b->newer;
  cached -= b->bytes;
}

Block* BlockCache::pop(size_t index) {
  Block* b = classes[index];
  if (b) unlink(b);
  return b;
}

/// Takes out the oldest blocks until at most `budget` bytes stay; returns them as a list by
/// `class_next`.
Block* BlockCache::evict_above(size_t budget) {
  Block* evicted = nullptr;
  while (cached > budget) {
    Block* b = oldest;
    unlink(b);
    b->class_next = evicted;
    evicted = b;
  }
  return evicted;
}

char* map(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<char*>(p);
}

/// Aligned to huge pages, which make the first touch several times cheaper.
char* map_huge(size_t bytes) {
  char* p = map(bytes + kHugePage);
  if (!p) return nullptr;
  char* aligned = p + (-reinterpret_cast<uintptr_t>(p) % kHugePage);
  char* end = p + bytes + kHugePage;
  if (aligned > p) munmap(p, aligned - p);
  if (end > aligned + bytes) munmap(aligned + bytes, end - (aligned + bytes));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

char* system_block(size_t bytes) {
  if (!kPooling || bytes < kMapped) return static_cast<char*>(std::aligned_alloc(64, bytes));
  return bytes < 2 * kHugePage ? map(bytes) : map_huge(bytes);
}

void free_system_block(void* p, size_t bytes) {
  if (!kPooling || bytes < kMapped) std::free(p);
  else munmap(p, bytes);
}

void free_list(Block* b) {
  while (b) {
    Block* next = b->class_next;
    free_system_block(b, b->bytes);
    b = next;
  }
}

size_t container_limit(const char* path) {
  size_t n;
  return std::ifstream(path) >> n ? n : SIZE_MAX;
}

/// Linux grants more memory than there is and kills whoever touches it, so we count ourselves.
size_t find_limit() {
  struct sysinfo info;
  size_t machine = kLargest;
  if (sysinfo(&info) == 0) machine = (size_t{info.totalram} + info.totalswap) * info.mem_unit;
  return std::min({machine, container_limit("/sys/fs/cgroup/memory.max"),
                   container_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
}

size_t limit() {
  static const size_t bytes = find_limit();
  return bytes;
}

double gib(size_t bytes) { return static_cast<double>(bytes) / (size_t{1} << 30); }

[[noreturn]] void out_of_memory(size_t asked) {
  fail(ErrorKind::memory,
       "out of memory: {} bytes ({:.1f} GiB) asked for; tensors hold {:.1f} GiB and the limit is "
       "{:.1f} GiB",
       asked, gib(asked), gib(memory_use().in_use), gib(limit()));
}

/// Counts `bytes` as in use; drops the cache to make room. False if there is none.
bool reserve(size_t bytes) {
  Block* evicted = nullptr;
  bool fits;
  {
    std::lock_guard lock(cache.mutex);
    fits = bytes <= limit() && cache.in_use <= limit() - bytes;
    if (fits && cache.cached > limit() - bytes - cache.in_use) evicted = cache.evict_above(0);
    if (fits) cache.in_use += bytes;
  }
  free_list(evicted);
  return fits;
}

void unreserve(size_t bytes) {
  std::lock_guard lock(cache.mutex);
  cache.in_use -= bytes;
}

}  // namespace

namespace detail {

char* block_alloc(size_t n) {
  if (n > kLargest) out_of_memory(n);
  const SizeClass c = size_class(n);
  if (kPooling) {
    std::lock_guard lock(cache.mutex);
    if (Block* b = cache.pop(c.index)) {
      cache.in_use += c.bytes;
      return reinterpret_cast<char*>(b);
    }
  }
  if (!reserve(c.bytes)) out_of_memory(n);
  char* p = system_block(c.bytes);
  if (!p) {
    empty_cache();
    p = system_block(c.bytes);
  }
  if (!p) {
    unreserve(c.bytes);
    out_of_memory(n);
  }
  return p;
}

void block_free(char* p, size_t n) {
  const SizeClass c = size_class(n);
  if (!kPooling) {
    unreserve(c.bytes);
    return free_system_block(p, c.bytes);
  }
  Block* evicted;
  {
    std::lock_guard lock(cache.mutex);
    cache.in_use -= c.bytes;
    cache.push(p, c);
    evicted = cache.evict_above(limit() / 4);
  }
  free_list(evicted);
}

void lock_block_cache() { cache.mutex.lock(); }
void unlock_block_cache() { cache.mutex.unlock(); }

}  // namespace detail

void empty_cache() {
  Block* evicted;
  {
    std::lock_guard lock(cache.mutex);
    evicted = cache.evict_above(0);
  }
  free_list(evicted);
}

MemoryUse memory_use() {
  std::lock_guard lock(cache.mutex);
  return {cache.in_use, cache.cached, limit()};
}

}  // namespace fluxion
