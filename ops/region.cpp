#include "ops/region.h"

#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/requirements.h"

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

/// The elements of `t` laid out with the strides that the region was described in.
Tensor laid_out(const Tensor& t, const Region& r, bool fresh) {
  if (!fresh && std::ranges::equal(t.strides(), Ints(r.base_strides))) return t;
  int64_t span = 1;
  int64_t lowest = 0;
  for (size_t d = 0; d < r.base_strides.size(); ++d) {
    int64_t reach = (t.size(d) - 1) * r.base_strides[d];
    span += std::abs(reach);
    if (reach < 0) lowest -= reach;
  }
  Tensor copy = alias(empty(Ints({span}), t.dtype()), t.sizes(), r.base_strides, lowest);
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

void infer_take(const TypeRule& t) {
  require_region(t, t.attrs<Region>(), t.in[0].shape);
  t.out[0] = {t.in[0].dtype, false, Shape(t.attrs<Region>().sizes)};
}

void eval_take(const Eval& e) {
  Tensor source = region_in(laid_out(e.in[0], e.attrs<Region>(), false), e.attrs<Region>());
  if (!e.out[0].defined()) e.out[0] = empty(source.sizes(), source.dtype());
  copy_elements(source, e.out[0]);
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

/// Memory for a tensor of that shape with the strides the region was described in, filled with zeros.
void eval_embed(const Eval& e) {
  const auto& a = e.attrs<Embedding>();
  Tensor whole = zeros(a.base_sizes, e.in[0].dtype());
  if (!std::ranges::equal(whole.strides(), Ints(a.region.base_strides)))
    whole = laid_out(whole, a.region, true);
  copy_elements(e.in[0], region_in(whole, a.region));
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
  Region r{{5, 1}, {2, 2}, {5, 2}, 1};
  SampleSink::Input base{Shape{3, 5}}, part{Shape{2, 2}};
  if (&op == &kTakeRegion) return sink.add({&base, 1}, &r, sizeof r);
  if (&op == &kPutRegion) {
    SampleSink::Input both[] = {base, part};
    return sink.add(both, &r, sizeof r);
  }
  Embedding a{{3, 5}, r};
  sink.add({&part, 1}, &a, sizeof a);
}

}  // namespace

constinit OpDef kEmbedRegion{.name = "embed_region",
                             .doc = "Zeros with a strided region filled in.",
                             .space = Space::movement,
                             .attr_bytes = sizeof(Embedding),
                             .fields = kEmbedFields,
                             .infer = infer_embed,
                             .eval = eval_embed,
                             .vjp =
                                 [](const Vjp& v) {
                                   v.result[0] =
                                       apply(kTakeRegion, v.attrs<Embedding>().region, {v.grad[0]});
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

namespace {
OpDef* const kOps[] = {&kTakeRegion, &kPutRegion, &kEmbedRegion};
}

extern const OpFile region_ops;
const OpFile region_ops{kOps, {}};

}  // namespace fluxion
