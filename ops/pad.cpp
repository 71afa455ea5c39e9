#include "ops/pad.h"

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/requirements.h"

namespace fluxion {

namespace {

struct PadAttrs {
  Dims low, high;
  double value;
};
constexpr Field kFields[] = {
    {"low", FieldKind::dims, offsetof(PadAttrs, low),
     "elements added before each dim; negative: removed"},
    {"high", FieldKind::dims, offsetof(PadAttrs, high),
     "elements added behind each dim; negative: removed"},
    {"value", FieldKind::real, offsetof(PadAttrs, value), "what is added"},
};

Shape padded_shape(Ints x, const PadAttrs& a) {
  Shape out(x);
  for (size_t d = 0; d < x.size(); ++d) {
    out[d] = checked_add(checked_add(x[d], a.low[d]), a.high[d]);
    if (out[d] < 0)
      fail(ErrorKind::runtime,
           "pad: ({}, {}) removes more than the {} elements of dim {} of shape {}", a.low[d],
           a.high[d], x[d], d, shape_text(x));
  }
  return out;
}

void infer_pad(const TypeRule& t) {
  const auto& a = t.attrs<PadAttrs>();
  Ints x = t.in[0].shape;
  require(t, a.low.size() == x.size() && a.high.size() == x.size(), "every dim must be named");
  for (size_t d = 0; d < x.size(); ++d)
    require(t, a.low[d] >= -x[d] && a.high[d] >= -x[d], "more is removed than there is");
  t.out[0] = {t.in[0].dtype, false, padded_shape(t.in[0].shape, t.attrs<PadAttrs>())};
}

/// The part of `t` that is kept (or filled): dims shortened from either end.
Tensor inner(const Tensor& t, const Dims& low, const Dims& high, int sign) {
  Shape sizes(t.sizes());
  int64_t offset = t.storage_offset();
  for (size_t d = 0; d < sizes.size(); ++d) {
    int64_t before = std::max<int64_t>(0, sign * low[d]),
            behind = std::max<int64_t>(0, sign * high[d]);
    sizes[d] = std::max<int64_t>(0, sizes[d] - before - behind);
    offset += before * t.strides()[d];
  }
  return alias(t, sizes, t.strides(), element_count(sizes) ? offset : t.storage_offset());
}

/// Writes `value` around the region that the input will take: before and behind it in each dim, once.
void fill_around(const Tensor& out, const PadAttrs& a) {
  Shape sizes(out.sizes());
  int64_t start = out.storage_offset();
  Tensor value = scalar(a.value, out.dtype());
  for (size_t d = 0; d < sizes.size(); ++d) {
    int64_t size = sizes[d], stride = out.strides()[d];
    int64_t before = std::clamp<int64_t>(a.low[d], 0, size),
            behind = std::clamp<int64_t>(a.high[d], 0, size - before);
    auto fill = [&](int64_t from, int64_t count) {
      sizes[d] = count;
      if (count) copy_elements(value, alias(out, sizes, out.strides(), start + from * stride));
    };
    fill(0, before);
    fill(size - behind, behind);
    sizes[d] = size - before - behind;
    start += before * stride;
  }
}

void eval_pad(const Eval& e) {
  const auto& a = e.attrs<PadAttrs>();
  const Tensor& x = e.in[0];
  if (!e.out[0].defined()) e.out[0] = empty(padded_shape(x.sizes(), a), x.dtype());
  const Tensor& out = e.out[0];
  if (out.numel() == 0) return;
  fill_around(out, a);
  Tensor from = inner(x, a.low, a.high, -1), to = inner(out, a.low, a.high, 1);
  if (from.numel()) copy_elements(from, to);
}

void vjp_pad(const Vjp& v) {
  PadAttrs back = v.attrs<PadAttrs>();
  for (size_t d = 0; d < back.low.size(); ++d) {
    back.low.v[d] = -back.low[d];
    back.high.v[d] = -back.high[d];
  }
  back.value = 0;
  v.result[0] = apply(v.op, back, {v.grad[0]});
}

void pad_samples(const OpDef&, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t)
    for (const PadAttrs& a : {PadAttrs{{1, 0}, {0, 2}, 3}, PadAttrs{{-1, 2}, {1, -2}, 0}}) {
      SampleSink::Input in{Shape{3, 4}, static_cast<DType>(t)};
      sink.add({&in, 1}, &a, sizeof a);
    }
}

}  // namespace

constinit OpDef kPad{
    .name = "pad",
    .doc = "Dims grown by a value, or cropped where the amount is negative.",
    .space = Space::movement,
    .attr_bytes = sizeof(PadAttrs),
    .fields = kFields,
    .infer = infer_pad,
    .eval = eval_pad,
    .vjp = vjp_pad,
    .cost = [](std::span<const Type> in,
               const void*) { return static_cast<double>(element_count(in[0].shape)); },
    .samples = pad_samples};

Tensor shifted(const Tensor& x, int64_t axis, int64_t by, double fill) {
  PadAttrs a{Dims(Shape(x.dim(), 0)), Dims(Shape(x.dim(), 0)), fill};
  a.low.v[axis] = by;
  a.high.v[axis] = -by;
  return apply(kPad, a, {x});
}

Tensor index_list(Ints values) {
  Tensor t = empty(Shape{static_cast<int64_t>(values.size())}, DType::i64);
  std::ranges::copy(values, t.data<int64_t>());
  return t;
}

namespace {

/// The element that stands at position j (-before <= j < size + after) of an extended dim.
using Source = int64_t (*)(int64_t j, int64_t size);
int64_t reflected(int64_t j, int64_t size) { return j < 0 ? -j : j < size ? j : 2 * size - 2 - j; }
int64_t replicated(int64_t j, int64_t size) { return std::clamp<int64_t>(j, 0, size - 1); }
int64_t wrapped(int64_t j, int64_t size) { return j < 0 ? j + size : j < size ? j : j - size; }

struct Mode {
  const char* name;
  Source source;
  int64_t limit_below_size;  // amounts up to size - this; -1: any
};
constexpr Mode kModes[] = {
    {"reflect", reflected, 1}, {"replicate", replicated, -1}, {"circular", wrapped, 0}};

Tensor extended(const Tensor& x, const Mode& mode, int64_t dim, int64_t before, int64_t behind) {
  if (before == 0 && behind == 0) return x;
  int64_t size = x.sizes()[dim],
          limit = mode.limit_below_size < 0 ? INT64_MAX : size - mode.limit_below_size;
  if (before > limit || behind > limit || (size == 0 && (before > 0 || behind > 0)))
    fail(
        ErrorKind::runtime,
        "pad: mode '{}' can add at most {} elements to either end of dim {} of shape {}, got ({}, {})",
        mode.name, std::max<int64_t>(size ? limit : 0, 0), dim, shape_text(x.sizes()), before,
        behind);
  int64_t total = checked_add(checked_add(size, before), behind);
  if (total < 0)
    fail(ErrorKind::runtime, "pad: ({}, {}) removes more than the {} elements of dim {}", before,
         behind, size, dim);
  Tensor list = empty(Shape{total}, DType::i64);
  auto* places = list.data<int64_t>();
  for (int64_t j = 0; j < total; ++j) places[j] = mode.source(j - before, size);
  return index_at(x, {dim}, {&list, 1});
}

}  // namespace

Tensor pad(const Tensor& x, Ints amounts, std::string_view mode, OptDouble value) {
  int64_t rank = x.dim(), pairs = static_cast<int64_t>(amounts.size()) / 2;
  if (amounts.size() % 2 || pairs > rank)
    fail(ErrorKind::runtime,
         "pad: needs (before, behind) for at most {} dims, last dim first, got {} numbers", rank,
         amounts.size());
  for (size_t i = 0; i < amounts.size(); ++i)
    if (int64_t d = rank - 1 - static_cast<int64_t>(i / 2); amounts[i] < -x.sizes()[d])
      fail(ErrorKind::runtime, "pad: {} removes more than the {} elements of dim {} of shape {}",
           amounts[i], x.sizes()[d], d, shape_text(x.sizes()));
  if (mode == "constant") {
    PadAttrs a{Dims(Shape(rank, 0)), Dims(Shape(rank, 0)), value.value_or(0)};
    for (int64_t i = 0; i < pairs; ++i) {
      a.low.v[rank - 1 - i] = amounts[2 * i];
      a.high.v[rank - 1 - i] = amounts[2 * i + 1];
    }
    padded_shape(x.sizes(), a);
    return apply(kPad, a, {x});
  }
  if (value && *value != 0)
    fail(ErrorKind::value, "pad: a value goes with mode 'constant' only, got mode '{}'", mode);
  for (const Mode& m : kModes)
    if (mode == m.name) {
      Tensor y = x;
      for (int64_t i = 0; i < pairs; ++i)
        y = extended(y, m, rank - 1 - i, amounts[2 * i], amounts[2 * i + 1]);
      return y;
    }
  fail(ErrorKind::not_implemented,
       "pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got '{}'", mode);
}

namespace {

OpDef* const kOps[] = {&kPad};
const Function kFunctions[] = {
    {"pad(Tensor input, int[] pad, str mode='constant', float? value=None) -> Tensor",
     "Elements added around the last dims: pad is (before, behind) of the last dim, of the one before it, ... "
     "Modes: constant (with value), reflect, replicate, circular. Negative amounts crop.",
     kPrivate | kNN, thunk<&pad>},
};

}  // namespace

extern const OpFile pad_ops;
const OpFile pad_ops{kOps, kFunctions};

}  // namespace fluxion
