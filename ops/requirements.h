// What type rules require of attributes and input types. A graph whose types the rules accept may be run without further checks of
// shapes.
#pragma once

#include "ops/op.h"

namespace fluxion {

/// Raises "OP: WHAT, got (f32[2, 3], i64[4])".
[[noreturn]] void fail_rule(const TypeRule& t, const char* what);
inline void require(const TypeRule& t, bool holds, const char* what) {
  if (!holds) fail_rule(t, what);
}

/// Between `least` and `most` inputs.
void require_count(const TypeRule& t, size_t least, size_t most);
inline void require_count(const TypeRule& t, size_t count) { require_count(t, count, count); }
void require_rank(const TypeRule& t, size_t input, size_t least, size_t most = kMaxRank);
void require_shape(const TypeRule& t, size_t input, Ints shape);
/// One element per entry of the shape, whatever the dims.
void require_elements(const TypeRule& t, size_t input, int64_t count);
void require_floating(const TypeRule& t, size_t input);
/// int64 or int32.
void require_indices(const TypeRule& t, size_t input);
/// The state of a random draw: i64[2].
void require_state(const TypeRule& t, size_t input);
/// dim is one of a tensor of that rank.
void require_dim(const TypeRule& t, int64_t dim, size_t rank);
/// Ascending, distinct dims of a tensor of that rank.
void require_ascending(const TypeRule& t, Ints dims, size_t rank);
/// Attributes small enough that sums and products with sizes do not overflow.
inline bool moderate(int64_t v) { return v > -(int64_t{1} << 31) && v < (int64_t{1} << 31); }
/// Whether a tensor of one shape broadcasts to the other.
bool broadcasts_to(Ints from, Ints to);

}  // namespace fluxion
