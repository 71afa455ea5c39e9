// The primitives behind advanced indexing, index_select, embedding and index_add.
#include "ops/index.h"

#include "kernels/index.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr Field kFields[] = {
    {"dims", FieldKind::dims, offsetof(IndexAttrs, dims),
     "the indexed dims, ascending, one per index tensor"},
    {"accumulate", FieldKind::boolean, offsetof(IndexAttrs, accumulate),
     "add to the elements instead of replacing them"},
};

bool neighbours(const Dims& dims) {
  return dims[dims.size() - 1] - dims[0] == static_cast<int64_t>(dims.size()) - 1;
}
bool indexed(const Dims& dims, int64_t d) {
  return std::ranges::find(Ints(dims), d) != Ints(dims).end();
}

template <class T>
Shape index_space(const char* op, std::span<const T> indices) {
  Shape space(shape_of(indices[0]));
  for (size_t i = 1; i < indices.size(); ++i)
    space = broadcast_shapes(op, space, shape_of(indices[i]));
  return space;
}

Shape result_shape(const Dims& dims, Ints x, Ints space) {
  Shape out;
  auto add_space = [&] {
    for (int64_t s : space) out.push_back(s);
  };
  bool inside = neighbours(dims);
  if (!inside) add_space();
  for (int64_t d = 0; d < static_cast<int64_t>(x.size()); ++d) {
    if (inside && d == dims[0]) add_space();
    if (!indexed(dims, d)) out.push_back(x[d]);
  }
  return out;
}

/// The indices resolved to offsets, and the loops around and inside the rows they name.
struct Plan {
  Shape space;
  Tensor offsets;
  kernels::RowMove move{};

  Plan(const OpDef& op, const Dims& dims, const Tensor& x, Tensors indices)
      : space(index_space(op.name, indices)) {
    move.positions = element_count(space);
    offsets = empty(Shape{move.positions}, DType::i64);
    move.offsets = offsets.data<int64_t>();
    move.elem = x.dtype();
    bool inside = neighbours(dims);
    for (int64_t d = 0; d < x.dim(); ++d) {
      if (!indexed(dims, d)) {
        (inside && d < dims[0] ? move.outer : move.inner).add(x.sizes()[d], x.strides()[d]);
        continue;
      }
      int64_t reach = (x.sizes()[d] - 1) * x.strides()[d];
      move.span += std::abs(reach);
      if (reach < 0) move.low += reach;
    }
    ++move.span;
    resolve(dims, x, indices);
  }

 private:
  void resolve(const Dims& dims, const Tensor& x, Tensors indices) {
    kernels::IndexOperand operands[kMaxRank];
    int64_t strides[kMaxRank][kMaxRank];
    for (size_t k = 0; k < indices.size(); ++k) {
      const Tensor& index = indices[k];
      size_t missing = space.size() - index.dim();
      for (size_t d = 0; d < space.size(); ++d)
        strides[k][d] =
            d < missing || index.sizes()[d - missing] == 1 ? 0 : index.strides()[d - missing];
      operands[k] = {index.data<char>(), index.dtype(), strides[k], x.sizes()[dims[k]],
                     x.strides()[dims[k]]};
    }
    kernels::Ctx ctx = kernel_context();
    int status = kernels::resolve_indices(ctx, operands, static_cast<int>(indices.size()),
                                          static_cast<int>(space.size()), space.data(),
                                          offsets.data<int64_t>());
    if (status == kernels::kIndexOutOfRange)
      fail_index(ctx.error[0], dims[ctx.error[3]], ctx.error[2], space, ctx.error[1]);
  }
};

/// One index tensor per indexed dim, from input `first` on.
void require_places(const TypeRule& t, const Dims& dims, size_t first) {
  require(t, dims.size() > 0 && t.in.size() == first + dims.size(),
          "there must be one index tensor per indexed dim");
  require_ascending(t, dims, t.in[0].shape.size());
  for (size_t i = first; i < t.in.size(); ++i) require_indices(t, i);
  require(t,
          t.in[0].shape.size() - dims.size() + index_space(t.op.name, t.in.subspan(first)).size() <=
              kMaxRank,
          "the result has too many dims");
}

void infer_index(const TypeRule& t) {
  const auto& a = t.attrs<IndexAttrs>();
  require_places(t, a.dims, 1);
  Shape space = index_space(t.op.name, t.in.subspan(1));
  t.out[0] = {t.in[0].dtype, false, result_shape(a.dims, t.in[0].shape, space)};
}

void eval_index(const Eval& e) {
  const auto& a = e.attrs<IndexAttrs>();
  const Tensor& x = e.in[0];
  Plan plan(e.op, a.dims, x, e.in.subspan(1));
  Shape shape = result_shape(a.dims, x.sizes(), plan.space);
  Tensor out = e.out[0].defined() && e.out[0].is_contiguous() ? e.out[0] : empty(shape, x.dtype());
  plan.move.indexed = x.data<char>();
  plan.move.rows = out.data<char>();
  LongWork work(static_cast<double>(out.numel()));
  kernels::take_rows(kernel_context(), plan.move);
  if (!e.out[0].defined()) e.out[0] = out;
  else if (!e.out[0].is_same(out)) copy_elements(out, e.out[0]);
}

void vjp_index(const Vjp& v) {
  const Tensor& x = v.in[0];
  Tensor none = expand(zeros({}, v.grad[0].dtype()), x.sizes());
  v.result[0] = put_at(none, {v.attrs<IndexAttrs>().dims, 1}, v.in.subspan(1), v.grad[0]);
}

void infer_put(const TypeRule& t) {
  const auto& a = t.attrs<IndexAttrs>();
  require_places(t, a.dims, 2);
  Shape shape = result_shape(a.dims, t.in[0].shape, index_space(t.op.name, t.in.subspan(2)));
  require(t, broadcasts_to(t.in[1].shape, shape), "the values must broadcast to the indexed shape");
  t.out[0] = {t.in[0].dtype, false, t.in[0].shape};
}

/// The values dense in the shape of the indexing result, or a single element.
Tensor rows_for(const OpDef& op, const Tensor& values, Ints shape, DType dtype,
                const Tensor& target) {
  if (!can_broadcast(values.sizes(), shape))
    fail(ErrorKind::runtime,
         "{}: values of shape {} cannot be broadcast to the indexing result of shape {}", op.name,
         shape_text(values.sizes()), shape_text(shape));
  bool shares = values.storage() == target.storage();
  bool fits =
      values.numel() == 1 || (values.is_contiguous() && std::ranges::equal(values.sizes(), shape));
  if (fits && !shares && values.dtype() == dtype) return values;
  Tensor rows = empty(values.numel() == 1 ? Ints{} : shape, dtype);
  copy_elements(values.numel() == 1 ? alias(values, {}, {}, values.storage_offset()) : values,
                rows);
  return rows;
}

/// Where the result is computed: `out` itself, or for sums of half types f32 memory. Filled with x.
Tensor work_for(const Eval& e, bool sums) {
  const Tensor& x = e.in[0];
  if (!e.out[0].defined()) e.out[0] = empty(x.sizes(), x.dtype());
  Tensor work = sums && is_half(x.dtype()) ? empty(x.sizes(), DType::f32) : e.out[0];
  if (!work.is_same(x)) copy_elements(x, work);
  return work;
}

void eval_put(const Eval& e) {
  const auto& a = e.attrs<IndexAttrs>();
  Tensors indices = e.in.subspan(2);
  Tensor work = work_for(e, a.accumulate);
  Plan plan(e.op, a.dims, work, indices);
  Shape shape = result_shape(a.dims, work.sizes(), plan.space);
  Tensor rows = rows_for(e.op, e.in[1], shape, work.dtype(), work);
  plan.move.indexed = work.data<char>();
  plan.move.rows = rows.data<char>();
  plan.move.one_row = rows.numel() == 1;
  LongWork waits(static_cast<double>(element_count(shape)));
  int status = kernels::put_rows(kernel_context(), plan.move,
                                 a.accumulate ? kernels::Combine::add : kernels::Combine::replace);
  invariant(status == kernels::kOk, e.op.name);
  if (!work.is_same(e.out[0])) copy_elements(work, e.out[0]);
}

/// True at the positions whose value stayed: the last of those that name the same element.
Tensor winners(const Dims& dims, Ints x, Tensors indices, size_t inner) {
  Shape space = index_space("index_put", indices), places, all;
  Dims every;
  for (int64_t d : Ints(dims)) {
    every.v[every.n] = every.n;
    ++every.n;
    places.push_back(x[d]);
  }
  Tensor order =
      reshape(arange(Scalar(0), Scalar(element_count(space)), Scalar(1), DType::i64), space);
  Tensor last = put_at(zeros(places, DType::i64), {every, 0}, indices, order);
  Shape spread = space;
  for (size_t i = 0; i < inner; ++i) spread.push_back(1);
  return reshape(eq(index_at(last, every, indices), order), spread);
}

void vjp_put(const Vjp& v) {
  const auto& a = v.attrs<IndexAttrs>();
  const Tensor& g = v.grad[0];
  Tensors indices = v.in.subspan(2);
  Tensor zero = zeros({}, g.dtype());
  if (v.needs(0)) v.result[0] = a.accumulate ? g : put_at(g, a, indices, zero);
  if (!v.needs(1)) return;
  v.result[1] = index_at(g, a.dims, indices);
  if (a.accumulate) return;
  size_t free = g.dim() - a.dims.size(),
         outer = neighbours(a.dims) ? static_cast<size_t>(a.dims[0]) : 0;
  v.result[1] = where(winners(a.dims, g.sizes(), indices, free - outer), v.result[1], zero);
}

double index_cost(std::span<const Type> in, const void* attrs) {
  const auto& a = *static_cast<const IndexAttrs*>(attrs);
  return static_cast<double>(
      element_count(result_shape(a.dims, in[0].shape, index_space("index", in.subspan(1)))));
}
double put_cost(std::span<const Type> in, const void*) {
  return static_cast<double>(element_count(in[0].shape));
}

void index_samples(const OpDef& op, SampleSink& sink) {
  using Input = SampleSink::Input;
  bool put = &op == &kIndexPut;
  auto add = [&](DType t, std::initializer_list<int64_t> x, Dims dims, std::vector<Shape> indices,
                 Shape values) {
    std::vector<Input> in{{Shape(x), t}};
    if (put) in.push_back({values, t});
    for (size_t k = 0; k < indices.size(); ++k)
      in.push_back({indices[k], k ? DType::i32 : DType::i64, 0, 2});
    for (int64_t accumulate = 0; accumulate <= put; ++accumulate) {
      IndexAttrs a{dims, accumulate};
      sink.add(in, &a, sizeof a);
    }
  };
  for (int t = 0; t < kDTypes; ++t) {
    auto dtype = static_cast<DType>(t);
    add(dtype, {3, 4}, {0}, {Shape{5}}, Shape{5, 4});
    add(dtype, {4, 3, 5}, {1}, {Shape{2, 2}}, Shape{4, 2, 2, 5});
    add(dtype, {4, 3, 5}, {0, 2}, {Shape{6}, Shape{1}}, Shape{6, 3});
    add(dtype, {3}, {0}, {Shape{}}, Shape{});
  }
}

constexpr SaveRule kSaveIndices[] = {{~1u, 0}};
constexpr SaveRule kSavePutIndices[] = {{~3u, 0}};

}  // namespace

constinit OpDef kIndex{.name = "index",
                       .doc = "The elements of x at the places that index tensors name.",
                       .inputs = 255,
                       .space = Space::gather,
                       .attr_bytes = sizeof(IndexAttrs),
                       .fields = kFields,
                       .infer = infer_index,
                       .eval = eval_index,
                       .vjp = vjp_index,
                       .saves = kSaveIndices,
                       .cost = index_cost,
                       .samples = index_samples};
constinit OpDef kIndexPut{
    .name = "index_put",
    .doc =
        "x with values put at (or added to) the places that index tensors name, in order of position.",
    .inputs = 255,
    .space = Space::gather,
    .attr_bytes = sizeof(IndexAttrs),
    .fields = kFields,
    .infer = infer_put,
    .eval = eval_put,
    .vjp = vjp_put,
    .saves = kSavePutIndices,
    .cost = put_cost,
    .samples = index_samples};

Tensor index_at(const Tensor& x, const Dims& dims, Tensors indices) {
  Tensor in[kMaxRank + 1] = {x};
  std::ranges::copy(indices, in + 1);
  IndexAttrs a{dims};
  return apply(kIndex, &a, {in, indices.size() + 1});
}

Tensor put_at(const Tensor& x, const IndexAttrs& a, Tensors indices, const Tensor& values) {
  Tensor in[kMaxRank + 2] = {x, values};
  std::ranges::copy(indices, in + 2);
  return apply(kIndexPut, &a, {in, indices.size() + 2});
}

namespace {
OpDef* const kOps[] = {&kIndex, &kIndexPut};
}

extern const OpFile index_ops;
const OpFile index_ops{kOps, {}};

}  // namespace fluxion
