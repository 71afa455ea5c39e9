// Reversing and rotating dims.
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/requirements.h"

namespace fluxion {

namespace {

struct ReverseAttrs {
  Dims dims;
};
constexpr Field kFields[] = {
    {"dims", FieldKind::dims, offsetof(ReverseAttrs, dims), "the reversed dims"}};

void eval_reverse(const Eval& e) {
  const Tensor& x = e.in[0];
  Shape strides(x.strides());
  int64_t offset = x.storage_offset();
  for (int64_t d : Ints(e.attrs<ReverseAttrs>().dims)) {
    if (x.numel()) offset += (x.sizes()[d] - 1) * strides[d];
    strides[d] = -strides[d];
  }
  if (!e.out[0].defined()) e.out[0] = empty_like_dense(x);
  copy_elements(alias(x, x.sizes(), strides, offset), e.out[0]);
}

void reverse_samples(const OpDef&, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t)
    for (const ReverseAttrs& a : {ReverseAttrs{{0}}, ReverseAttrs{{0, 1}}}) {
      SampleSink::Input in{Shape{3, 4}, static_cast<DType>(t)};
      sink.add({&in, 1}, &a, sizeof a);
    }
}

/// A dim list without repetitions, in the order given.
Dims distinct_dims(const char* op, const Tensor& x, Ints dims) {
  Dims out;
  uint32_t seen = 0;
  for (int64_t given : dims) {
    int64_t d = wrap_dim(given, x.dim(op), op);
    if (seen >> d & 1)
      fail(ErrorKind::runtime, "{}: dim {} is named twice in {}", op, d, shape_text(dims));
    seen |= 1u << d;
    out.v[out.n++] = d;
  }
  return out;
}

}  // namespace

constinit OpDef kReverse{
    .name = "reverse",
    .doc = "A copy with dims reversed.",
    .space = Space::movement,
    .attr_bytes = sizeof(ReverseAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          Dims dims = t.attrs<ReverseAttrs>().dims;
          std::sort(dims.v, dims.v + dims.n);
          require_ascending(t, dims, t.in[0].shape.size());
          t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
        },
    .eval = eval_reverse,
    .vjp = [](const Vjp& v) { v.result[0] = apply(v.op, v.attrs<ReverseAttrs>(), {v.grad[0]}); },
    .cost = [](std::span<const Type> in,
               const void*) { return static_cast<double>(element_count(in[0].shape)); },
    .samples = reverse_samples};

Tensor flip(const Tensor& x, Ints dims) {
  if (x.dim() == 0) return clone(x);
  return apply(kReverse, ReverseAttrs{distinct_dims("flip", x, dims)}, {x});
}
Tensor fliplr(const Tensor& x) {
  if (x.dim() < 2)
    fail(ErrorKind::runtime, "fliplr: needs at least 2 dims, got shape {}", shape_text(x.sizes()));
  return flip(x, Shape{1});
}
Tensor flipud(const Tensor& x) {
  if (x.dim() < 1) fail(ErrorKind::runtime, "flipud: needs at least 1 dim, got a 0-dim tensor");
  return flip(x, Shape{0});
}

namespace {

Tensor rolled(const Tensor& x, int64_t shift, int64_t dim) {
  int64_t axis = wrap_dim(dim, x.dim("roll"), "roll"), n = x.sizes()[axis];
  int64_t rest = n ? shift % n : 0, start = rest > 0 ? n - rest : -rest;
  if (start == 0) return x;
  const Tensor parts[] = {narrow(x, axis, start, n - start), narrow(x, axis, 0, start)};
  return cat(parts, axis);
}

}  // namespace

Tensor roll(const Tensor& x, Ints shifts, Ints dims) {
  if (dims.empty()) {
    if (shifts.size() != 1)
      fail(ErrorKind::runtime,
           "roll: without dims there must be one shift (of the flattened tensor), got {}",
           shifts.size());
    return clone(reshape(rolled(reshape(x, Shape{-1}), shifts[0], 0), x.sizes()));
  }
  if (shifts.size() != dims.size())
    fail(ErrorKind::runtime, "roll: shifts and dims must be equally many, got {} and {}",
         shifts.size(), dims.size());
  Tensor y = x;
  for (size_t i = 0; i < dims.size(); ++i) y = rolled(y, shifts[i], dims[i]);
  return y.is_same(x) ? clone(x) : y;
}

Tensor rot90(const Tensor& x, int64_t k, Ints dims) {
  if (dims.size() != 2) fail(ErrorKind::runtime, "rot90: needs two dims, got {}", shape_text(dims));
  Dims plane = distinct_dims("rot90", x, dims);
  switch ((k % 4 + 4) % 4) {
    case 1: return transpose(flip(x, Shape{plane[1]}), plane[0], plane[1]);
    case 2: return flip(x, plane);
    case 3: return transpose(flip(x, Shape{plane[0]}), plane[0], plane[1]);
    default: return clone(x);
  }
}

namespace {

OpDef* const kOps[] = {&kReverse};
constexpr uint16_t kUsual = kFunction | kMethod;

const Function kFunctions[] = {
    {"flip(Tensor input, int... dims) -> Tensor", "A copy with the given dims reversed.", kUsual,
     thunk<&flip>},
    {"fliplr(Tensor input) -> Tensor", "Dim 1 reversed.", kUsual, thunk<&fliplr>},
    {"flipud(Tensor input) -> Tensor", "Dim 0 reversed.", kUsual, thunk<&flipud>},
    {"roll(Tensor input, int[] shifts, int[] dims=[]) -> Tensor",
     "Elements moved along dims by shifts, those that leave enter at the other end. Without dims: of the flattened tensor.",
     kUsual, thunk<&roll>},
    {"rot90(Tensor input, int k=1, int[] dims=[0, 1]) -> Tensor",
     "Rotated k times by 90 degrees from dims[0] to dims[1].", kUsual, thunk<&rot90>},
};

}  // namespace

extern const OpFile flip_ops;
const OpFile flip_ops{kOps, kFunctions};

}  // namespace fluxion
