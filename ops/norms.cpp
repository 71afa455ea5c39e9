#include "ops/norms.h"

namespace fluxion {

namespace {

void check_same_shape(const char* op, const char* argument, const Tensor& t, Ints shape) {
  if (t.defined() && !std::ranges::equal(t.sizes(), shape))
    fail(ErrorKind::runtime, "{}: {} must have normalized_shape {}, got {}", op, argument,
         shape_text(shape), shape_text(t.sizes()));
}

}  // namespace

Shape statistics_shape(Ints shape, int64_t dims) {
  Shape out(shape);
  for (int64_t k = 0; k < dims; ++k) out[out.size() - 1 - k] = 1;
  return out;
}

void check_trailing_norm(const char* op, const Tensor& x, Ints normalized_shape,
                         const Tensor& weight, const Tensor& bias) {
  if (!is_floating(x.dtype()))
    fail(ErrorKind::runtime,
         "{}: needs a floating point input, got {}. Cast it with .float() first", op,
         name(x.dtype()));
  size_t n = normalized_shape.size();
  if (n == 0)
    fail(ErrorKind::runtime, "{}: normalized_shape must name at least one dim, got ()", op);
  if (static_cast<size_t>(x.dim()) < n || !std::ranges::equal(x.sizes().last(n), normalized_shape))
    fail(ErrorKind::runtime,
         "{}: the input's shape must end with normalized_shape {}, got input of shape {}", op,
         shape_text(normalized_shape), shape_text(x.sizes()));
  check_same_shape(op, "weight", weight, normalized_shape);
  check_same_shape(op, "bias", bias, normalized_shape);
}

void check_per_channel(const char* op, const char* argument, const Tensor& t, int64_t channels,
                       Ints shape) {
  if (t.defined() && (t.dim() != 1 || t.numel() != channels))
    fail(ErrorKind::runtime,
         "{}: {} must have one element per channel, shape ({},) for input of shape {}; got {}", op,
         argument, channels, shape_text(shape), shape_text(t.sizes()));
}

}  // namespace fluxion
