// Memory blocks above the pools' size, kept for reuse: a fresh 64 MB block costs twenty times a
// reused one.
#pragma once

#include <cstddef>

namespace fluxion::detail {

/// At least `n` > 0 bytes, 64-byte aligned and padded. Raises ErrorKind::memory.
char* block_alloc(size_t n);
/// `n` as given to block_alloc.
void block_free(char* p, size_t n);

}  // namespace fluxion::detail
