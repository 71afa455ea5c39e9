// Whole files as memory.
#pragma once

#include <string>

#include "tensor/storage.h"

namespace fluxion::io {

/// The file's bytes, read when they are touched. Writing changes a private copy of a page, never the file; the file
/// may be replaced or removed meanwhile, but must not be cut short in place. Raises IoError.
Ref<Storage> map_file(const std::string& path);

/// The file's bytes, read now. Raises IoError.
Ref<Storage> read_file(const std::string& path);

/// A range of a storage as a storage of its own, which keeps the whole alive: what is written to one range concerns
/// snapshots of that range only.
Ref<Storage> slice(const Ref<Storage>& whole, size_t begin, size_t nbytes);

}  // namespace fluxion::io
