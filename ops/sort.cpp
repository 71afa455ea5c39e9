// Order along a dim: sort, top-k, k-th value, median. Values and where they stood.
#include "kernels/sort.h"

#include <cstring>

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/requirements.h"
#include "ops/scatter.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

struct OrderAttrs {
  int64_t axis;
  int64_t largest;  // or descending
  int64_t skip = 0, count = 0;
};
constexpr Field kSortFields[] = {
    {"axis", FieldKind::integer, offsetof(OrderAttrs, axis), "the sorted dim"},
    {"descending", FieldKind::boolean, offsetof(OrderAttrs, largest), "greatest first"},
};
constexpr Field kTopkFields[] = {
    {"axis", FieldKind::integer, offsetof(OrderAttrs, axis), "the dim selected from"},
    {"largest", FieldKind::boolean, offsetof(OrderAttrs, largest), "rank the greatest first"},
    {"skip", FieldKind::integer, offsetof(OrderAttrs, skip), "ranks passed over first"},
    {"count", FieldKind::integer, offsetof(OrderAttrs, count), "ranks selected"},
};
struct MedianAttrs {
  int64_t axis, ignore_nan;
};
constexpr Field kMedianFields[] = {
    {"axis", FieldKind::integer, offsetof(MedianAttrs, axis),
     "the reduced dim; it stays with size 1"},
    {"ignore_nan", FieldKind::boolean, offsetof(MedianAttrs, ignore_nan),
     "leave NaN out instead of giving it"},
};

struct ModeAttrs {
  int64_t axis;
};
constexpr Field kModeFields[] = {{"axis", FieldKind::integer, offsetof(ModeAttrs, axis),
                                  "the reduced dim; it stays with size 1"}};

/// `t` with `axis` last: an alias.
Tensor axis_last(const Tensor& t, int64_t axis) {
  if (axis == t.dim() - 1) return t;
  Shape sizes(t.sizes()), strides(t.strides());
  int64_t size = sizes[axis], stride = strides[axis];
  sizes.erase(axis);
  strides.erase(axis);
  sizes.push_back(size);
  strides.push_back(stride);
  return alias(t, sizes, strides, t.storage_offset());
}

/// Runs `rank` on dense lines along the axis and delivers values and indices with `count` entries there.
template <class Rank>
void eval_lines(const Eval& e, int64_t axis, int64_t count, Rank rank) {
  const Tensor& x = e.in[0];
  Tensor lines = dense(axis_last(x, axis));
  kernels::LineOrder order{x.dtype(), lines.data<char>(), nullptr, nullptr, 0, x.sizes()[axis]};
  Shape shape(lines.sizes());
  shape.back() = 1;
  order.lines = element_count(shape);
  shape.back() = count;
  Tensor values = empty(shape, x.dtype()), indices = empty(shape, DType::i64);
  order.values = values.data<char>();
  order.indices = indices.data<int64_t>();
  if (values.numel()) {
    size_t part = kernels::order_workspace(x.dtype(), order.length);
    size_t parts = static_cast<size_t>(std::min<int64_t>(num_threads(), order.lines));
    Tensor workspace = empty(Shape{static_cast<int64_t>(part * parts)}, DType::u8);
    LongWork work(10.0 * static_cast<double>(x.numel()));
    invariant(rank(kernel_context(workspace.data(), part * parts), order) == kernels::kOk,
              e.op.name);
  }
  Shape final(x.sizes());
  final[axis] = count;
  const Tensor* results[] = {&values, &indices};
  for (size_t k = 0; k < 2; ++k) {
    bool ready = axis == x.dim() - 1;
    if (!e.out[k].defined()) e.out[k] = ready ? *results[k] : empty(final, results[k]->dtype());
    if (!e.out[k].is_same(*results[k])) copy_elements(*results[k], axis_last(e.out[k], axis));
  }
}

void eval_sort(const Eval& e) {
  const auto& a = e.attrs<OrderAttrs>();
  eval_lines(e, a.axis, e.in[0].sizes()[a.axis],
             [&](const kernels::Ctx& ctx, const kernels::LineOrder& order) {
               return kernels::sort_lines(ctx, order, a.largest);
             });
}
void eval_topk(const Eval& e) {
  const auto& a = e.attrs<OrderAttrs>();
  eval_lines(e, a.axis, a.count, [&](const kernels::Ctx& ctx, const kernels::LineOrder& order) {
    return kernels::select_lines(ctx, order, a.largest, a.skip, a.count);
  });
}
void eval_median(const Eval& e) {
  const auto& a = e.attrs<MedianAttrs>();
  eval_lines(e, a.axis, 1, [&](const kernels::Ctx& ctx, const kernels::LineOrder& order) {
    return kernels::median_lines(ctx, order, a.ignore_nan);
  });
}

}  // namespace

extern OpDef kSort;

namespace {

/// The longest run of equal sorted elements: the least of equally long ones, its last place in the line.
void eval_mode(const Eval& e) {
  NoGrad plain;
  int64_t axis = e.attrs<ModeAttrs>().axis;
  Tensor sorted[2];
  OrderAttrs order{axis, 0};
  const Tensor line[] = {dense(axis_last(e.in[0], axis))};
  order.axis = line[0].dim() - 1;
  apply(kSort, &order, line, sorted);
  int64_t length = line[0].size(-1), lines = line[0].numel() / std::max<int64_t>(length, 1);
  Shape shape(line[0].sizes());
  shape.back() = 1;
  Tensor values = empty(shape, line[0].dtype()), indices = empty(shape, DType::i64);
  int64_t size = size_of(line[0].dtype());
  for (int64_t l = 0; l < lines; ++l) {
    const char* v = sorted[0].data<char>() + l * length * size;
    auto same = [&](int64_t i, int64_t j) {
      return is_floating(values.dtype()) ? load_double(v + i * size, values.dtype()) ==
                                               load_double(v + j * size, values.dtype())
                                         : std::memcmp(v + i * size, v + j * size, size) == 0;
    };
    int64_t best = 0, longest = 0, run = 0;
    for (int64_t i = 0; i < length; ++i) {
      run = i && same(i - 1, i) ? run + 1 : 1;
      if (run > longest) longest = run, best = i;
    }
    std::memcpy(values.data<char>() + l * size, v + best * size, size);
    indices.data<int64_t>()[l] = sorted[1].data<int64_t>()[l * length + best];
  }
  Shape final(e.in[0].sizes());
  final[axis] = 1;
  const Tensor* results[] = {&values, &indices};
  for (size_t k = 0; k < 2; ++k) {
    if (!e.out[k].defined()) e.out[k] = empty(final, results[k]->dtype());
    copy_elements(*results[k], axis_last(e.out[k], axis));
  }
}

void infer_lines(const TypeRule& t, int64_t axis, int64_t count, int64_t least = 0) {
  require(t, t.in[0].shape[axis] >= least, "the dim is too short");
  Shape shape = t.in[0].shape;
  shape[axis] = count;
  t.out[0] = {t.in[0].dtype, false, shape};
  t.out[1] = {DType::i64, false, shape};
}

/// Every selected element came from one place.
template <class A>
void vjp_lines(const Vjp& v) {
  if (v.grad[0].defined())
    v.result[0] = scatter_into_zeros(v.in[0].sizes(), v.attrs<A>().axis, v.out[1], v.grad[0]);
}

double sort_cost(std::span<const Type> in, const void*) {
  return 20.0 * static_cast<double>(element_count(in[0].shape));
}

template <class A>
void add_samples(SampleSink& sink, std::initializer_list<A> all) {
  for (int t = 0; t < kDTypes; ++t)
    for (const A& a : all) {
      SampleSink::Input in{Shape{3, 7}, static_cast<DType>(t)};
      sink.add({&in, 1}, &a, sizeof a);
    }
}

constexpr SaveRule kSaveIndices[] = {{0, 2}};

}  // namespace

constinit OpDef kSort{
    .name = "sort",
    .doc = "The elements along an axis in order (stable, NaN greatest), and where they stood.",
    .outputs = 2,
    .attr_bytes = sizeof(OrderAttrs),
    .fields = kSortFields,
    .infer =
        [](const TypeRule& t) {
          int64_t axis = t.attrs<OrderAttrs>().axis;
          require_dim(t, axis, t.in[0].shape.size());
          infer_lines(t, axis, t.in[0].shape[axis]);
        },
    .eval = eval_sort,
    .vjp = vjp_lines<OrderAttrs>,
    .saves = kSaveIndices,
    .cost = sort_cost,
    .samples = [](const OpDef&, SampleSink& s) { add_samples<OrderAttrs>(s, {{0, 0}, {1, 1}}); }};
constinit OpDef kTopk{
    .name = "topk",
    .doc = "The elements of some ranks along an axis, and where they stood.",
    .outputs = 2,
    .attr_bytes = sizeof(OrderAttrs),
    .fields = kTopkFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<OrderAttrs>();
          require_dim(t, a.axis, t.in[0].shape.size());
          int64_t n = t.in[0].shape[a.axis];
          require(t, a.skip >= 0 && a.count >= 0 && a.skip <= n && a.count <= n - a.skip,
                  "there are not so many ranks");
          infer_lines(t, a.axis, a.count);
        },
    .eval = eval_topk,
    .vjp = vjp_lines<OrderAttrs>,
    .saves = kSaveIndices,
    .cost = sort_cost,
    .samples = [](const OpDef&,
                  SampleSink& s) { add_samples<OrderAttrs>(s, {{0, 1, 0, 2}, {1, 0, 3, 2}}); }};
constinit OpDef kMedian{
    .name = "median",
    .doc = "The lower median along an axis, and where it stood.",
    .outputs = 2,
    .attr_bytes = sizeof(MedianAttrs),
    .fields = kMedianFields,
    .infer =
        [](const TypeRule& t) {
          require_dim(t, t.attrs<MedianAttrs>().axis, t.in[0].shape.size());
          infer_lines(t, t.attrs<MedianAttrs>().axis, 1, 1);
        },
    .eval = eval_median,
    .vjp = vjp_lines<MedianAttrs>,
    .saves = kSaveIndices,
    .cost = sort_cost,
    .samples = [](const OpDef&, SampleSink& s) { add_samples<MedianAttrs>(s, {{0, 0}, {1, 1}}); }};

constinit OpDef kMode{
    .name = "mode",
    .doc = "The most frequent element along an axis, the least of several, and its last place.",
    .outputs = 2,
    .attr_bytes = sizeof(ModeAttrs),
    .fields = kModeFields,
    .infer =
        [](const TypeRule& t) {
          require_dim(t, t.attrs<ModeAttrs>().axis, t.in[0].shape.size());
          infer_lines(t, t.attrs<ModeAttrs>().axis, 1, 1);
        },
    .eval = eval_mode,
    .vjp = vjp_lines<ModeAttrs>,
    .saves = kSaveIndices,
    .cost = sort_cost,
    .samples = [](const OpDef&, SampleSink& s) { add_samples<ModeAttrs>(s, {{0}, {1}}); }};

namespace {

using Pair = std::tuple<Tensor, Tensor>;

/// Runs an op along a dim of x; a 0-dim x counts as one element.
template <class A>
Pair ordered(const OpDef& op, const Tensor& x, const A& attrs) {
  Tensor in = at_least_1d(op.name, x), out[2];
  apply(op, &attrs, {&in, 1}, out);
  if (x.dim(op.name) == 0 && out[0].numel() == 1)
    return {reshape(out[0], Ints{}), reshape(out[1], Ints{})};
  return {out[0], out[1]};
}

/// Drops the reduced dim of both results.
Pair without(const Pair& p, int64_t axis, bool keepdim) {
  const auto& [values, indices] = p;
  if (keepdim || values.dim() == 0) return p;
  return {select(values, axis, 0), select(indices, axis, 0)};
}

Pair median_along(const char* op, const Tensor& x, int64_t dim, bool keepdim, bool ignore_nan) {
  int64_t axis = wrap_dim(dim, x.dim(op), op);
  if (x.dim() && x.sizes()[axis] == 0)
    fail(ErrorKind::index, "{}: dim {} of shape {} has no elements", op, axis,
         shape_text(x.sizes()));
  return without(ordered(kMedian, x, MedianAttrs{axis, ignore_nan}), axis, keepdim);
}

Tensor median_of_all(const char* op, const Tensor& x, bool ignore_nan) {
  if (x.numel(op) == 0 && is_floating(x.dtype())) return full(Ints{}, Scalar(0.0 / 0.0), x.dtype());
  return std::get<0>(median_along(op, reshape(x, Shape{-1}), 0, false, ignore_nan));
}

}  // namespace

Pair sort(const Tensor& x, int64_t dim, bool descending, bool) {
  return ordered(kSort, x, OrderAttrs{wrap_dim(dim, x.dim(), "sort"), descending});
}
Tensor argsort(const Tensor& x, int64_t dim, bool descending, bool) {
  return std::get<1>(
      ordered(kSort, x.detach(), OrderAttrs{wrap_dim(dim, x.dim(), "argsort"), descending}));
}
Tensor msort(const Tensor& x) { return std::get<0>(sort(x, 0)); }

Pair topk(const Tensor& x, int64_t k, int64_t dim, bool largest, bool) {
  int64_t axis = wrap_dim(dim, x.dim(), "topk"), n = x.dim() ? x.sizes()[axis] : 1;
  if (k < 0 || k > n)
    fail(ErrorKind::runtime, "topk: k {} is out of range for dim {} of size {}", k, axis, n);
  return ordered(kTopk, x, OrderAttrs{axis, largest, 0, k});
}

Pair kthvalue(const Tensor& x, int64_t k, int64_t dim, bool keepdim) {
  int64_t axis = wrap_dim(dim, x.dim(), "kthvalue"), n = x.dim() ? x.sizes()[axis] : 1;
  if (k < 1 || k > n)
    fail(ErrorKind::runtime,
         "kthvalue: k {} is out of range for dim {} of size {}; expected 1 to {}", k, axis, n, n);
  return without(ordered(kTopk, x, OrderAttrs{axis, false, k - 1, 1}), axis, keepdim);
}

Tensor median(const Tensor& x) { return median_of_all("median", x, false); }
Pair median(const Tensor& x, int64_t dim, bool keepdim) {
  return median_along("median", x, dim, keepdim, false);
}
Tensor nanmedian(const Tensor& x) { return median_of_all("nanmedian", x, true); }
Pair nanmedian(const Tensor& x, int64_t dim, bool keepdim) {
  return median_along("nanmedian", x, dim, keepdim, true);
}

Pair mode(const Tensor& x, int64_t dim, bool keepdim) {
  int64_t axis = wrap_dim(dim, x.dim(), "mode");
  if (x.dim() && x.sizes()[axis] == 0)
    fail(ErrorKind::index, "mode: dim {} of shape {} has no elements", axis, shape_text(x.sizes()));
  return without(ordered(kMode, x, ModeAttrs{axis}), axis, keepdim);
}

namespace {

OpDef* const kOps[] = {&kSort, &kTopk, &kMedian, &kMode};

constexpr uint16_t kUsual = kFunction | kMethod;
using One = Tensor (*)(const Tensor&);
using Two = Pair (*)(const Tensor&, int64_t, bool);

const Function kFunctions[] = {
    {"sort(Tensor input, int dim=-1, bool descending=False, bool stable=False) -> (Tensor values, Tensor indices)",
     "The elements along a dim in order, and where they stood. Always stable; NaN counts as greatest.",
     kUsual | kOut, thunk<&sort>},
    {"argsort(Tensor input, int dim=-1, bool descending=False, bool stable=False) -> Tensor",
     "The indices that sort along a dim. Always stable.", kUsual, thunk<&argsort>},
    {"msort(Tensor input) -> Tensor", "Sorted along the first dim.", kUsual | kOut, thunk<&msort>},
    {"topk(Tensor input, int k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)",
     "The k largest (or smallest) elements along a dim, best first, and where they stood.",
     kUsual | kOut, thunk<&topk>},
    {"kthvalue(Tensor input, int k, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The k-th smallest element along a dim, counted from 1, and where it stood.", kUsual | kOut,
     thunk<&kthvalue>},
    {"median(Tensor input) -> Tensor", "The lower median of all elements; NaN if there is one.",
     kUsual, thunk<static_cast<One>(&median)>},
    {"median(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The lower median along a dim and where it stood.", kUsual | kOut,
     thunk<static_cast<Two>(&median)>},
    {"mode(Tensor input, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The most frequent element along a dim (the least of several) and its last place.",
     kUsual | kOut, thunk<&mode>},
    {"nanmedian(Tensor input) -> Tensor", "The lower median of the elements that are not NaN.",
     kUsual, thunk<static_cast<One>(&nanmedian)>},
    {"nanmedian(Tensor input, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
     "The lower median along a dim without NaN, and where it stood.", kUsual | kOut,
     thunk<static_cast<Two>(&nanmedian)>},
};

}  // namespace

extern const OpFile sort_ops;
const OpFile sort_ops{kOps, kFunctions};

}  // namespace fluxion
