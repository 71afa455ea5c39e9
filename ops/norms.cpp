#include "ops/norms.h"
#include "ops/requirements.h"

namespace fluxion {

namespace {

void check_same_shape(const char* op, const char* argument, const Tensor& t, Ints shape) {
  if (t.defined() && !std::ranges::equal(t.sizes(op), shape))
    fail(ErrorKind::runtime, "{}: {} must have normalized_shape {}, got {}", op, argument,
         shape_text(shape), shape_text(t.sizes()));
}

}  // namespace

void require_norm(const TypeRule& t) {
  const auto& a = t.attrs<NormAttrs>();
  require_count(t, 1 + a.has_weight + a.has_bias);
  require_floating(t, 0);
  Ints x = t.in[0].shape;
  require(t, a.dims > 0 && static_cast<size_t>(a.dims) <= x.size(), "there are not so many dims");
  for (size_t i = 1; i < t.in.size(); ++i) require_shape(t, i, x.last(static_cast<size_t>(a.dims)));
}

void require_norm_gradient(const TypeRule& t, size_t statistics) {
  const auto& a = t.attrs<NormGradAttrs>();
  require_floating(t, 1);
  Ints x = t.in[1].shape;
  require_shape(t, 0, x);
  require(t, a.dims > 0 && static_cast<size_t>(a.dims) <= x.size(), "there are not so many dims");
  auto dims = static_cast<size_t>(a.dims);
  for (size_t k = 0; k < statistics; ++k)
    require_elements(t, 2 + k, element_count(x.first(x.size() - dims)));
  if (a.has_weight) require_shape(t, 2 + statistics, x.last(dims));
  require(t, a.want_input || a.want_weight || a.want_bias, "some gradient must be wanted");
}

Shape statistics_shape(Ints shape, int64_t dims) {
  Shape out(shape);
  for (int64_t k = 0; k < dims; ++k) out[out.size() - 1 - k] = 1;
  return out;
}

void check_trailing_norm(const char* op, const Tensor& x, Ints normalized_shape,
                         const Tensor& weight, const Tensor& bias) {
  if (!is_floating(x.dtype(op)))
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
  if (t.defined() && (t.dim(op) != 1 || t.numel() != channels))
    fail(ErrorKind::runtime,
         "{}: {} must have one element per channel, shape ({},) for input of shape {}; got {}", op,
         argument, channels, shape_text(shape), shape_text(t.sizes()));
}

}  // namespace fluxion
