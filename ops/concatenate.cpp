// Joining tensors along a dim.
#include <cstring>

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/promotion.h"
#include "ops/requirements.h"

namespace fluxion {

namespace {

struct ConcatenateAttrs {
  int64_t axis;
};
constexpr Field kFields[] = {
    {"axis", FieldKind::integer, offsetof(ConcatenateAttrs, axis), "the dim joined along"}};

template <class T>
Shape joined_shape(std::span<const T> in, int64_t axis) {
  Shape shape(shape_of(in[0]));
  for (const T& t : in.subspan(1)) shape[axis] = checked_add(shape[axis], shape_of(t)[axis]);
  return shape;
}

void infer_concatenate(const TypeRule& t) {
  int64_t axis = t.attrs<ConcatenateAttrs>().axis;
  require(t, !t.in.empty(), "there must be an input");
  require_dim(t, axis, t.in[0].shape.size());
  for (const Type& in : t.in) {
    Shape shape = in.shape;
    if (shape.size() == t.in[0].shape.size()) shape[axis] = t.in[0].shape[axis];
    require(t, in.dtype == t.in[0].dtype && shape == t.in[0].shape,
            "the inputs must have one dtype and agree in the other dims");
  }
  t.out[0] = {t.in[0].dtype, false, joined_shape(t.in, t.attrs<ConcatenateAttrs>().axis)};
}

constexpr int64_t kLarge =
    1 << 16;  // bytes from which a part is copied by the (parallel) strided copy

void eval_concatenate(const Eval& e) {
  int64_t axis = e.attrs<ConcatenateAttrs>().axis;
  if (!e.out[0].defined()) e.out[0] = empty(joined_shape(e.in, axis), e.in[0].dtype());
  const Tensor& out = e.out[0];
  Shape sizes(out.sizes());
  int64_t outer = element_count(out.sizes().first(axis)),
          row = out.nbytes() / std::max<int64_t>(outer, 1);
  char* to = out.data<char>();
  int64_t at = out.storage_offset();
  for (const Tensor& t : e.in) {
    sizes[axis] = t.sizes()[axis];
    int64_t part = t.nbytes() / std::max<int64_t>(outer, 1);
    if (t.numel() == 0) continue;
    if (t.is_contiguous() && out.is_contiguous() && (outer == 1 || t.nbytes() < kLarge) &&
        t.nbytes() < 8 * kLarge)
      for (int64_t o = 0; o < outer; ++o)
        std::memcpy(to + o * row, t.data<char>() + o * part, static_cast<size_t>(part));
    else copy_elements(t, alias(out, sizes, out.strides(), at));
    to += part;
    at += sizes[axis] * out.strides()[axis];
  }
}

void vjp_concatenate(const Vjp& v) {
  int64_t axis = v.attrs<ConcatenateAttrs>().axis, at = 0;
  for (size_t i = 0; i < v.in.size(); ++i) {
    int64_t n = v.in[i].sizes()[axis];
    if (v.needs(i)) v.result[i] = narrow(v.grad[0], axis, at, n);
    at += n;
  }
}

void concatenate_samples(const OpDef&, SampleSink& sink) {
  for (int t = 0; t < kDTypes; ++t)
    for (int64_t axis = 0; axis < 2; ++axis) {
      ConcatenateAttrs a{axis};
      auto dtype = static_cast<DType>(t);
      SampleSink::Input in[] = {{axis ? Shape{3, 2} : Shape{2, 3}, dtype},
                                {axis ? Shape{3, 1} : Shape{1, 3}, dtype},
                                {Shape{3, 3}, dtype}};
      sink.add(in, &a, sizeof a);
    }
}

double concatenate_cost(std::span<const Type> in, const void*) {
  double n = 0;
  for (const Type& t : in) n += static_cast<double>(element_count(t.shape));
  return n;
}

}  // namespace

constinit OpDef kConcatenate{.name = "concatenate",
                             .doc = "Tensors joined along an axis; their other dims agree.",
                             .inputs = 255,
                             .space = Space::movement,
                             .attr_bytes = sizeof(ConcatenateAttrs),
                             .fields = kFields,
                             .infer = infer_concatenate,
                             .eval = eval_concatenate,
                             .vjp = vjp_concatenate,
                             .cost = concatenate_cost,
                             .samples = concatenate_samples};

namespace {

/// PyTorch lets 1-dim tensors without elements stand among tensors of any shape.
bool is_legacy_empty(const Tensor& t) { return t.dim() == 1 && t.sizes()[0] == 0; }

void check_fits(const char* op, const Tensor& first, const Tensor& t, size_t position,
                int64_t axis) {
  bool fits = first.dim(op) == t.dim(op);
  for (int64_t d = 0; fits && d < t.dim(); ++d)
    fits = d == axis || first.sizes()[d] == t.sizes()[d];
  if (!fits)
    fail(ErrorKind::runtime,
         "{}: tensors must agree in all dims but {}: tensor 0 has shape {}, tensor {} has {}", op,
         axis, shape_text(first.sizes()), position, shape_text(t.sizes()));
}

constexpr size_t kMostInputs = 1 << 15;  // of one tape node

Tensor concatenated(Tensors parts, int64_t axis) {
  ConcatenateAttrs a{axis};
  if (parts.size() <= kMostInputs) return apply(kConcatenate, &a, parts);
  size_t half = parts.size() / 2;
  const Tensor halves[] = {concatenated(parts.first(half), axis),
                           concatenated(parts.subspan(half), axis)};
  return apply(kConcatenate, &a, halves);
}

Tensor join(const char* op, Tensors tensors, int64_t dim) {
  if (tensors.empty())
    fail(ErrorKind::runtime, "{}: needs at least one tensor, got an empty list", op);
  std::vector<Tensor> parts;
  parts.reserve(tensors.size());
  DType dtype = common_dtype(tensors);
  const Tensor* first = &tensors[0];
  for (size_t i = tensors.size(); i-- > 0;)
    if (tensors[i].dim(op) != 1 || !is_legacy_empty(tensors[i])) first = &tensors[i];
  if (first->dim() == 0)
    fail(ErrorKind::runtime, "{}: 0-dim tensors cannot be joined along a dim. Use stack()", op);
  int64_t axis = wrap_dim(dim, first->dim(), op);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (is_legacy_empty(tensors[i]) && first->dim() != 1) continue;
    check_fits(op, *first, tensors[i], i, axis);
    parts.push_back(to_dtype(tensors[i], dtype));
  }
  return concatenated(parts, axis);
}

std::vector<Tensor> mapped(Tensors tensors, Tensor (*f)(const Tensor&)) {
  std::vector<Tensor> out;
  for (const Tensor& t : tensors) out.push_back(f(t));
  return out;
}

}  // namespace

Tensor cat(Tensors tensors, int64_t dim) { return join("cat", tensors, dim); }
Tensor concat(Tensors tensors, int64_t dim) { return cat(tensors, dim); }
Tensor concatenate(Tensors tensors, int64_t dim) { return cat(tensors, dim); }

Tensor stack(Tensors tensors, int64_t dim) {
  if (tensors.empty())
    fail(ErrorKind::runtime, "stack: needs at least one tensor, got an empty list");
  int64_t axis = wrap_dim(dim, tensors[0].dim() + 1, "stack");
  std::vector<Tensor> parts;
  parts.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!std::ranges::equal(tensors[i].sizes(), tensors[0].sizes()))
      fail(ErrorKind::runtime,
           "stack: tensors must have one shape: tensor 0 has {}, tensor {} has {}",
           shape_text(tensors[0].sizes()), i, shape_text(tensors[i].sizes()));
    parts.push_back(unsqueeze(tensors[i], axis));
  }
  return join("stack", parts, axis);
}

Tensor atleast_1d(const Tensor& x) { return x.dim() ? x : reshape(x, Shape{1}); }
Tensor atleast_2d(const Tensor& x) { return x.dim() > 1 ? x : unsqueeze(atleast_1d(x), 0); }
Tensor atleast_3d(const Tensor& x) { return x.dim() > 2 ? x : unsqueeze(atleast_2d(x), -1); }

Tensor hstack(Tensors tensors) {
  std::vector<Tensor> parts = mapped(tensors, atleast_1d);
  return join("hstack", parts, !parts.empty() && parts[0].dim() > 1);
}
Tensor vstack(Tensors tensors) { return join("vstack", mapped(tensors, atleast_2d), 0); }
Tensor row_stack(Tensors tensors) { return vstack(tensors); }
Tensor dstack(Tensors tensors) { return join("dstack", mapped(tensors, atleast_3d), 2); }
Tensor column_stack(Tensors tensors) {
  return join("column_stack",
              mapped(tensors,
                     [](const Tensor& x) {
                       return x.dim("column_stack") > 1 ? x : reshape(x, Shape{-1, 1});
                     }),
              1);
}

namespace {

OpDef* const kOps[] = {&kConcatenate};
constexpr uint16_t kUsual = kFunction | kOut;

const Function kFunctions[] = {
    {"cat(Tensor[] tensors, int dim=0) -> Tensor",
     "Tensors joined along a dim, promoted to their common dtype.", kUsual, thunk<&cat>},
    {"concat(Tensor[] tensors, int dim=0) -> Tensor", "cat.", kUsual, thunk<&concat>},
    {"concatenate(Tensor[] tensors, int dim=0) -> Tensor", "cat.", kUsual, thunk<&concatenate>},
    {"stack(Tensor[] tensors, int dim=0) -> Tensor", "Tensors of one shape joined along a new dim.",
     kUsual, thunk<&stack>},
    {"hstack(Tensor[] tensors) -> Tensor",
     "Joined side by side: along dim 1, or dim 0 of 1-dim tensors.", kUsual, thunk<&hstack>},
    {"vstack(Tensor[] tensors) -> Tensor", "Joined as rows, along dim 0.", kUsual, thunk<&vstack>},
    {"row_stack(Tensor[] tensors) -> Tensor", "vstack.", kUsual, thunk<&row_stack>},
    {"dstack(Tensor[] tensors) -> Tensor", "Joined in depth, along dim 2.", kUsual, thunk<&dstack>},
    {"column_stack(Tensor[] tensors) -> Tensor", "Joined along dim 1; 1-dim tensors are columns.",
     kUsual, thunk<&column_stack>},
    {"atleast_1d(Tensor input) -> Tensor", "A 0-dim tensor as one element along one dim.",
     kFunction, thunk<&atleast_1d>},
    {"atleast_2d(Tensor input) -> Tensor", "With leading dims of size 1 up to two dims.", kFunction,
     thunk<&atleast_2d>},
    {"atleast_3d(Tensor input) -> Tensor", "With dims of size 1 up to three dims.", kFunction,
     thunk<&atleast_3d>},
};

}  // namespace

extern const OpFile concatenate_ops;
const OpFile concatenate_ops{kOps, kFunctions};

}  // namespace fluxion
