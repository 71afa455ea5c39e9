// What index ops require of their arguments, and how they say it.
#include <cmath>

#include "ops/copy.h"
#include "ops/index.h"

namespace fluxion {

void check_index_dtype(const char* op, const Tensor& index) {
  if (index.dtype(op) == DType::i64 || index.dtype() == DType::i32) return;
  fail(ErrorKind::runtime, "{}: the index must be int64 or int32, got {}. Convert it with .long()",
       op, name(index.dtype()));
}

Tensor matching(const char* op, const char* what, const Tensor& value, const Tensor& self) {
  if (value.has(kWeak)) return to_dtype(value, self.dtype(op));
  if (value.dtype(op) != self.dtype())
    fail(ErrorKind::runtime,
         "{}: {} must have the tensor's dtype {}, got {}. Convert it with .to()", op, what,
         name(self.dtype()), name(value.dtype()));
  return value;
}

Tensor fill_value(const char* op, const Tensor& value, DType dtype) {
  if (value.dim(op) != 0)
    fail(ErrorKind::runtime, "{}: the value must be a number or a 0-dim tensor, got shape {}", op,
         shape_text(value.sizes()));
  if (is_integral(dtype)) {
    double v = value.item(), bits = static_cast<double>(8 * size_of(dtype) - (dtype != DType::u8));
    double end = std::ldexp(1.0, static_cast<int>(bits)), begin = dtype == DType::u8 ? 0 : -end;
    bool exact = value.dtype() == DType::i64 && dtype == DType::i64;
    if (!exact && !(v > begin - 1 && v < end))
      fail(ErrorKind::runtime, "{}: the value {} does not fit {}", op, v, name(dtype));
  }
  return to_dtype(value, dtype);
}

std::string position_text(Ints space, int64_t position) {
  if (space.empty()) return "";
  Shape at(space.size());
  for (size_t d = space.size(); d-- > 0;) {
    at[d] = position % space[d];
    position /= space[d];
  }
  return fmt::format(" (at position {} of the index)",
                     space.size() == 1 ? std::to_string(at[0]) : shape_text(at));
}

void fail_index(int64_t value, int64_t dim, int64_t extent, Ints space, int64_t position) {
  fail(ErrorKind::index, "index {} is out of range for dim {} of size {}{}", value, dim, extent,
       position_text(space, position));
}

}  // namespace fluxion
