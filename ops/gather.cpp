// The primitives gather and scatter: one index per element, along one axis.
#include "kernels/index.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/pad.h"
#include "ops/requirements.h"
#include "ops/scan.h"
#include "ops/scatter.h"
#include "tensor/threads.h"

namespace fluxion {

using kernels::Combine;

namespace {

constexpr Field kGatherFields[] = {
    {"axis", FieldKind::integer, offsetof(ScatterAttrs, axis), "the indexed dim"}};
constexpr Field kScatterFields[] = {
    {"axis", FieldKind::integer, offsetof(ScatterAttrs, axis), "the indexed dim"},
    {"combine", FieldKind::integer, offsetof(ScatterAttrs, combine),
     "0 replace, 1 add, 2 multiply, 3 maximum, 4 minimum; in order along the axis"},
};

/// A move along an axis; 0-dim tensors count as one element along one dim.
struct Plan {
  kernels::AxisMove move{};

  Plan(const Tensor& indexed, int64_t axis, const Tensor& index) {
    const bool dims = index.dim() > 0;
    move.elem = indexed.dtype();
    move.rank = std::max(index.dim(), 1);
    move.axis = static_cast<int>(axis);
    move.sizes = dims ? index.sizes().data() : kOne;
    move.index = {index.data<char>(), index.dtype(), dims ? index.strides().data() : kOne,
                  dims ? indexed.sizes()[axis] : 1, dims ? indexed.strides()[axis] : 0};
    move.indexed = indexed.data<char>();
    move.indexed_strides = dims ? indexed.strides().data() : kOne;
  }
  void set_plain(const Tensor& t) {
    move.plain = t.data<char>();
    move.plain_strides = t.numel() == 1 ? kNone : t.strides().data();
  }
  /// Runs fn(ctx, move) and raises for a bad index.
  template <class Fn>
  void run(const OpDef& op, Ints index_shape, Fn fn) {
    if (element_count(index_shape) == 0) return;  // its loops may still be long
    LongWork work(2.0 * static_cast<double>(element_count(index_shape)));
    kernels::Ctx ctx = kernel_context();
    int status = fn(ctx, move);
    if (status == kernels::kIndexOutOfRange)
      fail_index(ctx.error[0], move.axis, ctx.error[2], index_shape, ctx.error[1]);
    invariant(status == kernels::kOk, op.name);
  }

  static constexpr int64_t kOne[1] = {1};
  static constexpr int64_t kNone[kMaxRank] = {};
};

/// The index names places along the axis and lies within the other dims.
void require_places(const TypeRule& t) {
  Ints x = t.in[0].shape, index = t.in[1].shape;
  int64_t axis = t.attrs<ScatterAttrs>().axis;
  require_dim(t, axis, std::max<size_t>(x.size(), 1));
  require_indices(t, 1);
  require(t, x.size() == index.size(), "the index must have the rank of the first input");
  for (size_t d = 0; d < x.size(); ++d)
    require(t, static_cast<int64_t>(d) == axis || index[d] <= x[d],
            "the index must lie within the other dims");
}

void infer_gather(const TypeRule& t) {
  require_places(t);
  t.out[0] = {t.in[0].dtype, false, t.in[1].shape};
}

void eval_gather(const Eval& e) {
  const Tensor& index = e.in[1];
  Plan plan(e.in[0], e.attrs<ScatterAttrs>().axis, index);
  if (!e.out[0].defined()) e.out[0] = empty(index.sizes(), e.in[0].dtype());
  plan.set_plain(e.out[0]);
  plan.run(e.op, index.sizes(), kernels::gather_along);
}

void vjp_gather(const Vjp& v) {
  v.result[0] =
      scatter_into_zeros(v.in[0].sizes(), v.attrs<ScatterAttrs>().axis, v.in[1], v.grad[0]);
}

void infer_scatter(const TypeRule& t) {
  require_places(t);
  Ints index = t.in[1].shape, source = t.in[2].shape;
  bool fits = source.size() == index.size();
  for (size_t d = 0; fits && d < index.size(); ++d) fits = index[d] <= source[d];
  require(t, fits || element_count(source) == 1, "the source must cover the index");
  auto combine = t.attrs<ScatterAttrs>().combine;
  require(t, combine >= Combine::replace && combine <= Combine::minimum, "no way to combine");
  t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
}

void eval_scatter(const Eval& e) {
  const auto& a = e.attrs<ScatterAttrs>();
  const Tensor &x = e.in[0], &index = e.in[1];
  const bool in_place = e.out[0].defined();
  if (!in_place) e.out[0] = empty(x.sizes(), x.dtype());
  bool widens = is_half(x.dtype()) && a.combine != Combine::replace;
  Tensor work = widens ? empty(x.sizes(), DType::f32) : e.out[0], source = e.in[2];
  if (!work.is_same(x)) copy_elements(x, work);
  if (source.dtype() != work.dtype() || source.storage() == work.storage()) {
    Tensor copy = empty(source.sizes(), work.dtype());
    copy_elements(source, copy);
    source = copy;
  }
  Plan plan(work, a.axis, index);
  plan.set_plain(source);
  plan.move.check_first = in_place && !widens;
  plan.run(e.op, index.sizes(), [&](kernels::Ctx& ctx, const kernels::AxisMove& move) {
    return kernels::scatter_along(ctx, move, a.combine);
  });
  if (widens) copy_elements(work, e.out[0]);
}

Tensor zero_of(const Tensor& like) { return zeros({}, like.dtype()); }

/// True at the sources that stayed: the last of those that meet in one element.
Tensor winners(Ints x, int64_t axis, const Tensor& index) {
  Tensor order =
      reshape(arange(Scalar(0), Scalar(index.numel()), Scalar(1), DType::i64), index.sizes());
  Tensor last = scatter_at(zeros(x, DType::i64), axis, index, order, Combine::replace);
  return eq(gather_at(last, axis, index), order);
}

void vjp_scatter(const Vjp& v) {
  const auto& a = v.attrs<ScatterAttrs>();
  const Tensor &g = v.grad[0], &index = v.in[1];
  bool adds = a.combine == Combine::add;
  if (v.needs(0))
    v.result[0] = adds ? g : scatter_at(g, a.axis, index, zero_of(g), Combine::replace);
  if (v.needs(2)) {
    Tensor there = gather_at(g, a.axis, index);
    v.result[2] = adds ? there : where(winners(g.sizes(), a.axis, index), there, zero_of(g));
  }
}

/// Sources that meet in one element, brought together: the sorted index, and who has a neighbour in the same group.
struct Groups {
  Tensor order, index, after_same, before_same;

  Groups(const Tensor& given, int64_t axis, int64_t extent) {
    Tensor places =
        where(lt(given, Scalar(0).tensor()), add(given, Scalar(extent).tensor()), given);
    order = argsort(places, axis);
    index = gather_at(places, axis, order);
    after_same = eq(index, shifted(index, axis, 1, -1));
    before_same = eq(index, shifted(index, axis, -1, -1));
  }
};

/// The product of all other factors: those before times those behind. No division, so right where factors are zero.
void vjp_multiply(const Vjp& v, int64_t axis) {
  const Tensor &g = v.grad[0], &x = v.in[0], &index = v.in[1];
  Tensor source = expand(v.in[2], index.sizes());
  if (v.needs(0)) {
    Tensor others =
        scatter_at(expand(ones({}, x.dtype()), x.sizes()), axis, index, source, Combine::multiply);
    v.result[0] = mul(g, others);
  }
  if (!v.needs(2)) return;
  Groups groups(index, axis, x.dim() ? x.sizes()[axis] : 1);
  Tensor factors = gather_at(source, axis, groups.order), zero = zero_of(g);
  Tensor before =
      linear_recurrence(where(groups.after_same, zero, gather_at(x, axis, groups.index)),
                        where(groups.after_same, shifted(factors, axis, 1, 0), zero), axis, false);
  Tensor behind =
      linear_recurrence(where(groups.before_same, zero, ones({}, g.dtype())),
                        where(groups.before_same, shifted(factors, axis, -1, 0), zero), axis, true);
  Tensor slope = mul(gather_at(g, axis, groups.index), mul(before, behind));
  v.result[2] = scatter_into_zeros(index.sizes(), axis, groups.order, slope);
}

/// Equal extremes share the gradient evenly, the element that was there among them.
void vjp_extremum(const Vjp& v, int64_t axis) {
  const Tensor &g = v.grad[0], &x = v.in[0], &index = v.in[1], &out = v.out[0];
  Tensor source = expand(v.in[2], index.sizes());
  Tensor here = to_dtype(eq(x, out), x.dtype());
  Tensor there = to_dtype(eq(source, gather_at(out, axis, index)), x.dtype());
  Tensor ties = scatter_at(here, axis, index, there, Combine::add);
  Tensor share = div(g, where(eq(ties, number(0)), number(1), ties));
  if (v.needs(0)) v.result[0] = mul(share, here);
  if (v.needs(2)) v.result[2] = mul(gather_at(share, axis, index), there);
}

void vjp_reduce(const Vjp& v) {
  const auto& a = v.attrs<ScatterAttrs>();
  a.combine == Combine::multiply ? vjp_multiply(v, a.axis) : vjp_extremum(v, a.axis);
}

double index_cost(std::span<const Type> in, const void*) {
  return static_cast<double>(element_count(in[1].shape));
}

void add_samples(const OpDef& op, SampleSink& sink, std::initializer_list<Combine> combines) {
  using Input = SampleSink::Input;
  for (int t = 0; t < kDTypes; ++t)
    for (Combine c : combines)
      for (int64_t axis = 0; axis < 2; ++axis) {
        ScatterAttrs a{axis, c};
        auto dtype = static_cast<DType>(t);
        Input in[] = {{Shape{4, 5}, dtype, 0.5, 2},
                      {Shape{3, 4}, axis ? DType::i64 : DType::i32, 0, 3},
                      {Shape{3, 4}, dtype, 0.5, 2}};
        sink.add({in, op.inputs}, &a, sizeof a);
      }
}

constexpr SaveRule kSaveIndex[] = {{2, 0}};
constexpr SaveRule kSaveEverything[] = {{7, 1}};

}  // namespace

constinit OpDef kGather{
    .name = "gather",
    .doc = "The elements of x at index along an axis; the index's shape.",
    .inputs = 2,
    .space = Space::gather,
    .attr_bytes = sizeof(ScatterAttrs),
    .fields = kGatherFields,
    .infer = infer_gather,
    .eval = eval_gather,
    .vjp = vjp_gather,
    .saves = kSaveIndex,
    .cost = index_cost,
    .samples = [](const OpDef& op, SampleSink& s) { add_samples(op, s, {Combine::replace}); }};
constinit OpDef kScatter{
    .name = "scatter",
    .doc =
        "x with the source (of the index's shape, or one element) put or added in at index along an axis.",
    .inputs = 3,
    .space = Space::gather,
    .attr_bytes = sizeof(ScatterAttrs),
    .fields = kScatterFields,
    .infer = infer_scatter,
    .eval = eval_scatter,
    .vjp = vjp_scatter,
    .saves = kSaveIndex,
    .cost = index_cost,
    .samples = [](const OpDef& op, SampleSink& s) {
      add_samples(op, s, {Combine::replace, Combine::add});
    }};
constinit OpDef kScatterReduce{
    .name = "scatter_reduce",
    .doc = "x multiplied with, or the extremum with, the source at index along an axis.",
    .inputs = 3,
    .space = Space::gather,
    .attr_bytes = sizeof(ScatterAttrs),
    .fields = kScatterFields,
    .infer = infer_scatter,
    .eval = eval_scatter,
    .vjp = vjp_reduce,
    .saves = kSaveEverything,
    .cost = index_cost,
    .samples = [](const OpDef& op, SampleSink& s) {
      add_samples(op, s, {Combine::multiply, Combine::maximum, Combine::minimum});
    }};

Tensor gather_at(const Tensor& x, int64_t axis, const Tensor& index) {
  return apply(kGather, ScatterAttrs{axis, Combine::replace}, {x, index});
}
Tensor scatter_at(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source,
                  Combine combine) {
  const OpDef& op = combine <= Combine::add ? kScatter : kScatterReduce;
  return apply(op, ScatterAttrs{axis, combine}, {x, index, source});
}
Tensor scatter_into_zeros(Ints shape, int64_t axis, const Tensor& index, const Tensor& source) {
  return scatter_at(expand(zeros({}, source.dtype()), shape), axis, index, source, Combine::add);
}

namespace {
OpDef* const kOps[] = {&kGather, &kScatter, &kScatterReduce};
}

extern const OpFile gather_ops;
const OpFile gather_ops{kOps, {}};

}  // namespace fluxion
