// Where the extremum of a dim stands.
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/reduce.h"

namespace fluxion {

using loops::Extent;
using loops::Value;

namespace {

bool finds_max(const OpDef& op);

void place_kernels(const OpDef& op, KernelSink& sink) {
  bool largest = finds_max(op);
  for (int k = 0; k < kDTypes; ++k) {
    auto t = static_cast<DType>(k);
    DType c = compute_dtype(t);
    loops::Elem compute = c == DType::bool_ ? DType::i32 : c;
    sink.add(op, t, kByRows, [&](std::string symbol) {
      return loops::rows(std::move(symbol), compute,
                         {{t}, {t, Extent::row}, {DType::i64, Extent::row}}, [&](loops::Row& r) {
                           auto at = [&](const loops::Index& i) { return r.load(0, i); };
                           auto place = largest ? r.reduce_argmax(at) : r.reduce_argmin(at);
                           if (t == DType::bool_) r.store_row(1, loops::nonzero(place.value));
                           else r.store_row(1, place.value);
                           r.store_row(2, place.column);
                         });
    });
    sink.add(op, t, kByColumns, [&](std::string symbol) {
      return loops::columns(std::move(symbol), compute,
                            {{t}, {t, Extent::column}, {DType::i64, Extent::column}},
                            [&](loops::Column& c) {
                              auto at = [&](Value row) { return c.load(0, row); };
                              auto place = largest ? c.reduce_argmax(at) : c.reduce_argmin(at);
                              if (t == DType::bool_) c.store(1, loops::nonzero(place.value));
                              else c.store(1, place.value);
                              c.store(2, place.row);
                            });
    });
  }
}

void infer_place(const TypeRule& t) {
  require_reduction(t);
  Shape s = reduced_shape(t.in[0].shape, t.attrs<ReduceAttrs>());
  t.out[0] = {t.in[0].dtype, false, s};
  t.out[1] = {DType::i64, false, s};
}

void eval_place(const Eval& e) {
  const auto& a = e.attrs<ReduceAttrs>();
  Shape s = reduced_shape(e.in[0].sizes(), a);
  Tensor results[2] = {empty(s, e.in[0].dtype()), empty(s, DType::i64)};
  run_reduction(e.op, a, e.in[0], results);
  for (int i = 0; i < 2; ++i) {
    if (e.out[i].defined()) copy_elements(results[i], e.out[i]);
    else e.out[i] = results[i];
  }
}

/// The gradient goes to the place that was found.
void vjp_place(const Vjp& v) {
  if (!v.grad[0].defined()) return;
  const auto& a = v.attrs<ReduceAttrs>();
  Ints shape = v.in[0].sizes();
  int64_t dim = a.dims.size() == 1 ? a.dims[0] : -1;
  if (dim >= 0) {
    Tensor where_at = unreduce(v.out[1], a, shape), g = unreduce(v.grad[0], a, shape);
    v.result[0] = scatter(zeros(shape, v.grad[0].dtype()), dim, where_at, g);
    return;
  }
  int64_t n = element_count(shape), one = 1;
  Tensor flat = scatter(zeros(Ints(&n, 1), v.grad[0].dtype()), 0, reshape(v.out[1], Ints(&one, 1)),
                        reshape(v.grad[0], Ints(&one, 1)));
  v.result[0] = reshape(flat, shape);
}

/// One dim or all of them.
void place_samples(const OpDef& op, SampleSink& sink) {
  auto add = [&](std::initializer_list<int64_t> dims, DType t) {
    ReduceAttrs a{0, 0, dims};
    SampleSink::Input x{Shape{3, 7}, t, 0.25, 2.0};
    sink.add({&x, 1}, &a, op.attr_bytes);
  };
  for (int k = 0; k < kDTypes; ++k) {
    add({1}, static_cast<DType>(k));
    add({0}, static_cast<DType>(k));
    add({0, 1}, static_cast<DType>(k));
  }
}

constexpr SaveRule kSavePlace[] = {{0, 2}};

constexpr OpDef place_op(OpDef d) {
  d.outputs = 2;
  d.space = Space::reduction;
  d.attr_bytes = sizeof(ReduceAttrs);
  d.fields = kReduceFields;
  d.infer = infer_place;
  d.eval = eval_place;
  d.vjp = vjp_place;
  d.saves = kSavePlace;
  d.kernels = place_kernels;
  d.cost = reduce_cost;
  d.samples = place_samples;
  return d;
}

}  // namespace

constinit OpDef kArgMax =
    place_op({.name = "argmax",
              .doc = "The largest element over dims and where it first stands; NaN wins."});
constinit OpDef kArgMin =
    place_op({.name = "argmin",
              .doc = "The smallest element over dims and where it first stands; NaN wins."});

namespace {

bool finds_max(const OpDef& op) { return &op == &kArgMax; }

std::tuple<Tensor, Tensor> place(const OpDef& op, const char* name, const Tensor& x, OptInt dim,
                                 bool keepdim) {
  OptInts dims;
  if (dim) dims = Ints(&*dim, 1);
  ReduceAttrs a = reduce_attrs(name, x, dims, keepdim);
  int64_t n = 1;
  for (int64_t d : Ints(a.dims)) n *= x.sizes()[d];
  if (n == 0)
    fail(ErrorKind::index,
         "{}: cannot reduce over zero elements of shape {}; there is no index to return", name,
         shape_text(x.sizes()));
  Tensor out[2];
  apply(op, &a, {&x, 1}, out);
  return {out[0], out[1]};
}

}  // namespace

Tensor argmax(const Tensor& x, OptInt dim, bool keepdim) {
  return std::get<1>(place(kArgMax, "argmax", x, dim, keepdim));
}
Tensor argmin(const Tensor& x, OptInt dim, bool keepdim) {
  return std::get<1>(place(kArgMin, "argmin", x, dim, keepdim));
}
std::tuple<Tensor, Tensor> max(const Tensor& x, int64_t dim, bool keepdim) {
  return place(kArgMax, "max", x, dim, keepdim);
}
std::tuple<Tensor, Tensor> min(const Tensor& x, int64_t dim, bool keepdim) {
  return place(kArgMin, "min", x, dim, keepdim);
}
Tensor max(const Tensor& x) { return amax(x); }
Tensor min(const Tensor& x) { return amin(x); }
Tensor max(const Tensor& a, const Tensor& b) { return maximum(a, b); }
Tensor min(const Tensor& a, const Tensor& b) { return minimum(a, b); }

namespace {

OpDef* const kOps[] = {&kArgMax, &kArgMin};
const Function kFunctions[] = {
    {"argmax(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
     "The index of the largest element of a dim (of the flattened tensor by default); the first of equals, NaN counts as largest.",
     kFunction | kMethod, thunk<&argmax>},
    {"argmin(Tensor input, int? dim=None, bool keepdim=False) -> Tensor",
     "The index of the smallest element of a dim (of the flattened tensor by default); the first of equals, NaN counts as smallest.",
     kFunction | kMethod, thunk<&argmin>},
    {"max(Tensor input) -> Tensor", "The largest element; ties share the gradient.",
     kFunction | kMethod, thunk<static_cast<Tensor (*)(const Tensor&)>(&max)>},
    {"max(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The largest elements of a dim and their first indices.", kFunction | kMethod,
     thunk<static_cast<std::tuple<Tensor, Tensor> (*)(const Tensor&, int64_t, bool)>(&max)>},
    {"max(Tensor input, Tensor other) -> Tensor", "maximum(input, other).", kFunction | kMethod,
     thunk<static_cast<Tensor (*)(const Tensor&, const Tensor&)>(&max)>},
    {"min(Tensor input) -> Tensor", "The smallest element; ties share the gradient.",
     kFunction | kMethod, thunk<static_cast<Tensor (*)(const Tensor&)>(&min)>},
    {"min(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The smallest elements of a dim and their first indices.", kFunction | kMethod,
     thunk<static_cast<std::tuple<Tensor, Tensor> (*)(const Tensor&, int64_t, bool)>(&min)>},
    {"min(Tensor input, Tensor other) -> Tensor", "minimum(input, other).", kFunction | kMethod,
     thunk<static_cast<Tensor (*)(const Tensor&, const Tensor&)>(&min)>},
};

}  // namespace

extern const OpFile arg_reduce_ops;
const OpFile arg_reduce_ops{kOps, kFunctions};

}  // namespace fluxion
