// The memory planner: places buffers that live at different times at the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fluxion::compile {

/// A buffer is needed from step `first` to step `last`, both inclusive.
struct Lifetime {
  int64_t bytes;
  uint32_t first, last;
  int64_t offset = 0;  // decided by plan_arena
};

inline constexpr int64_t kArenaAlignment = 64;

/// Gives every buffer an offset so that no two that live at one moment overlap. Returns the arena's size.
/// Best fit over free gaps in order of time: n log n.
size_t plan_arena(std::span<Lifetime> buffers);

/// The most bytes alive at one moment.
size_t most_live_bytes(std::span<const Lifetime> buffers);

}  // namespace fluxion::compile
