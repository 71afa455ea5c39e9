#include "ops/requirements.h"

#include <algorithm>

namespace fluxion {

void fail_rule(const TypeRule& t, const char* what) {
  std::string given;
  for (const Type& in : t.in) {
    given += fmt::format("{}{}[", given.empty() ? "" : ", ", short_name(in.dtype));
    for (size_t d = 0; d < in.shape.size(); ++d)
      given += fmt::format("{}{}", d ? ", " : "", in.shape[d]);
    given += "]";
  }
  fail(ErrorKind::runtime, "{}: {}, got ({})", t.op.name, what, given);
}

void require_count(const TypeRule& t, size_t least, size_t most) {
  require(t, t.in.size() >= least && t.in.size() <= most,
          "the number of inputs does not fit the attributes");
}

void require_rank(const TypeRule& t, size_t input, size_t least, size_t most) {
  size_t rank = t.in[input].shape.size();
  if (rank >= least && rank <= most) return;
  std::string what = least == most
                         ? fmt::format("input {} must have rank {}", input, least)
                         : fmt::format("input {} must have rank {} to {}", input, least, most);
  fail_rule(t, what.c_str());
}

void require_shape(const TypeRule& t, size_t input, Ints shape) {
  if (std::ranges::equal(Ints(t.in[input].shape), shape)) return;
  fail_rule(t, fmt::format("input {} must have shape {}", input, shape_text(shape)).c_str());
}

void require_elements(const TypeRule& t, size_t input, int64_t count) {
  if (element_count(t.in[input].shape) == count) return;
  fail_rule(t, fmt::format("input {} must have {} elements", input, count).c_str());
}

void require_floating(const TypeRule& t, size_t input) {
  if (!is_floating(t.in[input].dtype))
    fail_rule(t, fmt::format("input {} must be floating", input).c_str());
}

void require_indices(const TypeRule& t, size_t input) {
  if (t.in[input].dtype != DType::i64 && t.in[input].dtype != DType::i32)
    fail_rule(t, fmt::format("input {} must be i64 or i32", input).c_str());
}

void require_state(const TypeRule& t, size_t input) {
  require(t, t.in[input].dtype == DType::i64 && t.in[input].shape == Shape{2},
          "the state of a random draw must be i64[2]");
}

void require_dim(const TypeRule& t, int64_t dim, size_t rank) {
  if (dim < 0 || dim >= static_cast<int64_t>(rank))
    fail_rule(t, fmt::format("dim {} is out of range for rank {}", dim, rank).c_str());
}

void require_ascending(const TypeRule& t, Ints dims, size_t rank) {
  for (size_t i = 0; i < dims.size(); ++i) {
    require_dim(t, dims[i], rank);
    require(t, i == 0 || dims[i] > dims[i - 1], "dims must be ascending and distinct");
  }
}

bool broadcasts_to(Ints from, Ints to) {
  if (from.size() > to.size()) return false;
  Ints tail = to.last(from.size());
  for (size_t d = 0; d < from.size(); ++d)
    if (from[d] != 1 && from[d] != tail[d]) return false;
  return true;
}

}  // namespace fluxion
