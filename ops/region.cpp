#include "ops/region.h"

#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/requirements.h"
#include "ops/views.h"
#include "tensor/thread_state.h"

namespace fluxion {

namespace {

constexpr Field kFields[] = {
    {"base_strides", FieldKind::dims, offsetof(Region, base_strides),
     "strides of the base in elements"},
    {"sizes", FieldKind::dims, offsetof(Region, sizes), "shape of the region"},
    {"strides", FieldKind::dims, offsetof(Region, strides), "strides of the region in elements"},
    {"offset", FieldKind::integer, offsetof(Region, offset),
     "first element of the region in the base"},
};

/// Elements [low, high) around the first one that a geometry reaches.
struct Span {
  int64_t low = 0, high = 0;

  Span(Ints sizes, Ints strides, int64_t offset) {
    if (element_count(sizes) == 0) return;
    low = high = offset;
    for (size_t d = 0; d < sizes.size(); ++d) {
      int64_t reach = checked_mul(sizes[d] - 1, strides[d]);
      (reach < 0 ? low : high) = checked_add(reach < 0 ? low : high, reach);
    }
    high = checked_add(high, 1);
  }
  bool holds(const Span& o) const { return o.low == o.high || (low <= o.low && o.high <= high); }
  int64_t size() const { return high - low; }
};
Span base_span(Ints sizes, const Region& r) { return {sizes, r.base_strides, 0}; }
Span region_span(const Region& r) { return {r.sizes, r.strides, r.offset}; }

/// Zeroed memory for a base of that shape with the strides that the region was described in, and for the region where
/// it reaches beyond the base.
Tensor unset_base(Ints sizes, const Region& r, DType dtype) {
  Span base = base_span(sizes, r), region = region_span(r);
  if (base.size() == 0) base = region;
  if (region.size()) {
    base.low = std::min(base.low, region.low);
    base.high = std::max(base.high, region.high);
  }
  NoGrad plain;
  return alias(zeros(Ints({base.size()}), dtype), sizes, r.base_strides, -base.low);
}

/// The elements of `t` laid out with the strides that the region was described in.
Tensor laid_out(const Tensor& t, const Region& r, bool fresh) {
  if (!fresh && std::ranges::equal(t.strides(), Ints(r.base_strides)) &&
      base_span(t.sizes(), r).holds(region_span(r)))
    return t;
  Tensor copy = unset_base(t.sizes(), r, t.dtype());
  copy_elements(t, copy);
  return copy;
}

Tensor region_in(const Tensor& laid, const Region& r) {
  return alias(laid, r.sizes, r.strides, laid.storage_offset() + r.offset);
}

/// Where elements lie relative to the first: [low, high]. Nothing for a tensor without elements.
struct Reach {
  __int128 low = 0, high = 0;
  Reach(Ints sizes, Ints strides) {
    for (size_t d = 0; d < sizes.size(); ++d) {
      __int128 end = static_cast<__int128>(sizes[d] - 1) * strides[d];
      (end < 0 ? low : high) += end;
    }
  }
};

/// The region must lie within memory laid out with the base's strides.
void require_region(const TypeRule& t, const Region& r, Ints base) {
  require(t, r.base_strides.size() == base.size() && r.sizes.size() == r.strides.size(),
          "strides must be as many as sizes");
  auto bounded = [](Ints v) { return std::ranges::all_of(v, moderate); };
  require(t, bounded(r.base_strides) && bounded(r.strides), "strides are out of range");
  require(t, std::ranges::all_of(Ints(r.sizes), [](int64_t s) { return s >= 0; }),
          "sizes must not be negative");
  if (element_count(r.sizes) == 0)
    return require(t, r.offset == 0 || moderate(r.offset), "the offset is out of range");
  require(t, element_count(base) > 0, "there is no region in a tensor without elements");
  Reach whole(base, r.base_strides), part(r.sizes, r.strides);
  require(t, whole.high - whole.low < INT32_MAX * __int128{16384}, "the base is too large");
  require(t, part.low + r.offset >= whole.low && part.high + r.offset <= whole.high,
          "the region must lie within the base");
}

/// region += value where elements of the region share memory: one place for each element.
void add_to_region(const Tensor& region, const Tensor& value) {
  NoGrad plain;
  Span span(region.sizes(), region.strides(), region.storage_offset());
  Tensor places = scalar(region.storage_offset() - span.low, DType::i64);
  for (int d = 0; d < region.dim(); ++d) {
    Shape along(static_cast<size_t>(region.dim()), 1);
    along[d] = region.sizes()[d];
    Tensor steps = mul(arange(Scalar(region.sizes()[d])), Scalar(region.strides()[d]).tensor());
    places = add(places, reshape(steps, along));
  }
  Tensor memory = alias(region, {span.size()}, {1}, span.low);
  copy_elements(put_at(memory, {{0}, 1}, {&places, 1}, value), memory);
}

void infer_take(const TypeRule& t) {
  require_region(t, t.attrs<Region>(), t.in[0].shape);
  t.out[0] = {t.in[0].dtype, false, Shape(t.attrs<Region>().sizes)};
}

void eval_take(const Eval& e) {
  Tensor source = region_in(laid_out(e.in[0], e.attrs<Region>(), false), e.attrs<Region>());
  if (!e.out[0].defined()) e.out[0] = empty(source.sizes(), source.dtype());
  copy_elements(source, e.out[0]);
}

void eval_as_strided(const Eval& e) {
  const Tensor& x = e.in[0];
  const auto& r = e.attrs<Region>();
  bool described = std::ranges::equal(x.strides(), Ints(r.base_strides));
  Tensor view =
      described ? make_view(x, r.sizes, r.strides, r.offset) : region_in(laid_out(x, r, true), r);
  if (e.out[0].defined()) copy_elements(view, e.out[0]);
  else e.out[0] = view;
}

void vjp_take(const Vjp& v) {
  v.result[0] = apply(kEmbedRegion, Embedding{v.in[0].sizes(), v.attrs<Region>()}, {v.grad[0]});
}

void infer_embed(const TypeRule& t) {
  const auto& a = t.attrs<Embedding>();
  require(t, std::ranges::all_of(Ints(a.base_sizes), [](int64_t s) { return s >= 0; }),
          "sizes must not be negative");
  require_region(t, a.region, a.base_sizes);
  require(t, broadcasts_to(t.in[0].shape, a.region.sizes),
          "the value must have the region's shape");
  t.out[0] = {t.in[0].dtype, false, Shape(t.attrs<Embedding>().base_sizes)};
}

/// The sum of what the region's elements put into each element of the base.
void eval_embed(const Eval& e) {
  const auto& a = e.attrs<Embedding>();
  Tensor whole = unset_base(a.base_sizes, a.region, e.in[0].dtype());
  Tensor region = region_in(whole, a.region);
  if (overlaps_itself(*region.impl())) add_to_region(region, e.in[0]);
  else copy_elements(e.in[0], region);
  if (e.out[0].defined()) copy_elements(whole, e.out[0]);
  else e.out[0] = whole;
}

void infer_put(const TypeRule& t) {
  const auto& r = t.attrs<Region>();
  require_region(t, r, t.in[0].shape);
  require(t, broadcasts_to(t.in[1].shape, r.sizes), "the value must have the region's shape");
  t.out[0] = t.in[0];
}

void eval_put(const Eval& e) {
  Tensor whole = laid_out(e.in[0], e.attrs<Region>(), true);
  copy_elements(e.in[1], region_in(whole, e.attrs<Region>()));
  if (e.out[0].defined()) copy_elements(whole, e.out[0]);
  else e.out[0] = whole;
}

void vjp_put(const Vjp& v) {
  const auto& region = v.attrs<Region>();
  if (v.needs(0))
    v.result[0] = apply(kPutRegion, region, {v.grad[0], zeros(region.sizes, v.grad[0].dtype())});
  if (v.needs(1)) v.result[1] = apply(kTakeRegion, region, {v.grad[0]});
}

}  // namespace

Region region_of(const Tensor& view, const Tensor& base) {
  Region r{base.strides(), view.sizes(), view.strides(),
           view.storage_offset() - base.storage_offset()};
  return r;
}

Tensor embed(const Tensor& value, Ints base, Ints strides, int64_t offset) {
  Embedding a{base, {Ints(row_major_strides(base)), value.sizes(), strides, offset}};
  return apply(kEmbedRegion, a, {value});
}

namespace {

constexpr Field kEmbedFields[] = {
    {"base_sizes", FieldKind::dims, offsetof(Embedding, base_sizes), "shape of the result"},
    {"base_strides", FieldKind::dims, offsetof(Embedding, region.base_strides),
     "strides of the base in elements"},
    {"sizes", FieldKind::dims, offsetof(Embedding, region.sizes), "shape of the region"},
    {"strides", FieldKind::dims, offsetof(Embedding, region.strides),
     "strides of the region in elements"},
    {"offset", FieldKind::integer, offsetof(Embedding, region.offset),
     "first element of the region in the base"},
};

void samples(const OpDef& op, SampleSink& sink) {
  Region r{{5, 1}, {2, 2}, {5, 2}, 1}, shared{{5, 1}, {3, 4}, {2, 1}, 3};
  SampleSink::Input base{Shape{3, 5}}, part{Shape{2, 2}}, windows{Shape{3, 4}};
  if (&op == &kTakeRegion || &op == &kAsStrided) {
    sink.add({&base, 1}, &r, sizeof r);
    return sink.add({&base, 1}, &shared, sizeof shared);
  }
  if (&op == &kPutRegion) {
    SampleSink::Input both[] = {base, part};
    return sink.add(both, &r, sizeof r);
  }
  Embedding a{{3, 5}, r}, b{{3, 5}, shared};
  sink.add({&part, 1}, &a, sizeof a);
  sink.add({&windows, 1}, &b, sizeof b);
}

}  // namespace

constinit OpDef kEmbedRegion{
    .name = "embed_region",
    .doc = "Zeros with a strided region added, whose elements may share places.",
    .space = Space::movement,
    .attr_bytes = sizeof(Embedding),
    .fields = kEmbedFields,
    .infer = infer_embed,
    .eval = eval_embed,
    .vjp =
        [](const Vjp& v) {
          v.result[0] = apply(kTakeRegion, v.attrs<Embedding>().region, {v.grad[0]});
        },
    .cost = cheap_cost,
    .samples = samples};
constinit OpDef kTakeRegion{.name = "take_region",
                            .doc = "The elements of a strided region of a tensor.",
                            .space = Space::movement,
                            .attr_bytes = sizeof(Region),
                            .fields = kFields,
                            .infer = infer_take,
                            .eval = eval_take,
                            .vjp = vjp_take,
                            .cost = cheap_cost,
                            .samples = samples};
constinit OpDef kPutRegion{.name = "put_region",
                           .doc = "A tensor with a strided region replaced.",
                           .inputs = 2,
                           .space = Space::movement,
                           .attr_bytes = sizeof(Region),
                           .fields = kFields,
                           .infer = infer_put,
                           .eval = eval_put,
                           .vjp = vjp_put,
                           .cost = cheap_cost,
                           .samples = samples};

constinit OpDef kAsStrided{.name = "as_strided",
                           .doc = "A view of the elements of a strided region of a tensor.",
                           .view = true,
                           .space = Space::movement,
                           .attr_bytes = sizeof(Region),
                           .fields = kFields,
                           .infer = infer_take,
                           .eval = eval_as_strided,
                           .vjp = vjp_take,
                           .cost = cheap_cost,
                           .samples = samples};

Tensor as_strided(const Tensor& x, Ints size, Ints stride, OptInt storage_offset) {
  int64_t first = x.storage_offset(), offset = storage_offset.value_or(first);
  check_bounds(*x.storage(), x.dtype(), size, stride, offset, "as_strided");
  if (thread_state().grad_enabled && tracks_gradient(x) && overlaps_itself(*x.impl()))
    fail(ErrorKind::not_implemented,
         "as_strided: no gradient for an input whose elements share memory (expanded, shape {}). "
         "Call contiguous() on it first",
         shape_text(x.sizes()));
  return apply(kAsStrided, Region{x.strides(), size, stride, offset - first}, {x});
}

namespace {

OpDef* const kOps[] = {&kTakeRegion, &kPutRegion, &kEmbedRegion, &kAsStrided};
const Function kFunctions[] = {
    {"as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None) -> Tensor",
     "A view with any sizes and strides over the memory of input, from an offset on (by default where input begins); "
     "strides and offset count elements.",
     kFunction | kMethod, thunk<&as_strided>},
};

}  // namespace

extern const OpFile region_ops;
const OpFile region_ops{kOps, kFunctions};

}  // namespace fluxion
