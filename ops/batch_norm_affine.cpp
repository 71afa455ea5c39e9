// What training and evaluation of batch_norm share: scaling and shifting each channel.
#include "ops/batch_norm.h"
#include "ops/copy.h"
#include "ops/requirements.h"

namespace fluxion {

using loops::Value;

namespace {

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;

/// x, factor, offset -> y; factor and offset per row, or per column
void affine_by_rows(Row& r) {
  Value factor = r.load(1), offset = r.load(2);
  r.each([&](const auto& i) { r.store(3, i, loops::fma(r.load(0, i), factor, offset)); });
}
void affine_by_columns(Row& r) {
  r.each(
      [&](const auto& i) { r.store(3, i, loops::fma(r.load(0, i), r.load(1, i), r.load(2, i))); });
}

constexpr Slot kAffineRows[] = {element, row, row, element};
constexpr Slot kAffineColumns[] = {element, column, column, element};

constexpr RowProgram kAffineByRows{3, 3, kAffineRows, affine_by_rows};
constexpr RowProgram kAffineByColumns{4, 3, kAffineColumns, affine_by_columns};

}  // namespace

void require_channels(const TypeRule& t, size_t x, size_t first) {
  require_floating(t, x);
  require_rank(t, x, 2);
  for (size_t i = first; i < t.in.size(); ++i) require_shape(t, i, Shape{t.in[x].shape[1]});
}

Tensor per_sample(const Tensor& t, const ChannelShape& s) {
  return dense(expand(t, Ints({s.samples, s.channels})));
}

Tensor over_channels(const Tensor& t, const Tensor& x) {
  Shape shape(static_cast<size_t>(x.dim() - 1), 1);
  shape[0] = t.numel();
  return reshape(t, shape);
}

Tensor or_constant(bool present, const Tensor& t, double value, int64_t channels, DType dtype) {
  return present ? t : full(Ints({channels}), value, dtype);
}

void emit_affine(const OpDef& op, KernelSink& sink) {
  emit(op, sink, kAffineByRows);
  emit(op, sink, kAffineByColumns);
}

void run_affine(const OpDef& op, const Tensor& x, const Tensor& factor, const Tensor& offset,
                Tensor& y) {
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  ensure(y, x.sizes(), x.dtype());
  if (x.dim() == 2)
    return run(op, kAffineByColumns, compute, s.samples, s.channels, {&x, &factor, &offset, &y});
  Tensor f = per_sample(factor, s), o = per_sample(offset, s);
  run(op, kAffineByRows, compute, s.samples * s.channels, s.positions, {&x, &f, &o, &y});
}

Tensor compose_affine(const Eval& e, const NormAttrs& a, const Tensor& mean, const Tensor& variance,
                      size_t fixed) {
  const Tensor& x = e.in[0];
  ChannelShape s = channels_of(x.sizes());
  DType compute = row_compute(x.dtype());
  Tensor weight =
      widen(or_constant(a.has_weight, e.in[fixed - 1 + a.has_weight], 1, s.channels, compute));
  Tensor bias = widen(or_constant(a.has_bias, e.in.back(), 0, s.channels, compute));
  Tensor factor = mul(weight, rsqrt(add(variance, number(a.eps)))),
         offset = sub(bias, mul(mean, factor));
  Tensor y = _fma(as_channels(widen(x), s), unsqueeze(factor, -1), unsqueeze(offset, -1));
  return rounded(reshape(y, x.sizes()), x.dtype());
}

}  // namespace fluxion
