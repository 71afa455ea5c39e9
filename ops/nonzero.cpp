// Where a tensor is nonzero, and what follows from it: selecting and filling by masks.
#include "kernels/index.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/inplace.h"
#include "ops/promotion.h"
#include "tensor/threads.h"

namespace fluxion {

extern OpDef kSelect;  // where

namespace {

void infer_nonzero(const TypeRule& t) {
  fail(
      ErrorKind::not_implemented,
      "{}: how many elements are nonzero is known only when it runs. Use where() or masked_fill(), which keep the shape",
      t.op.name);
}

void eval_nonzero(const Eval& e) {
  const Tensor& x = e.in[0];
  Tensor mask = empty(x.sizes(), DType::bool_);
  copy_elements(x, mask);
  LongWork work(static_cast<double>(x.numel()));
  kernels::Ctx ctx = kernel_context();
  int64_t count = kernels::count_true(ctx, mask.data<char>(), mask.numel());
  Tensor out = empty(Shape{count, x.dim()}, DType::i64);
  kernels::true_coordinates(ctx, mask.data<char>(), x.dim(), x.sizes().data(), out.data<int64_t>());
  if (e.out[0].defined()) copy_elements(out, e.out[0]);
  else e.out[0] = out;
}

void check_mask(const char* op, const Tensor& mask) {
  if (mask.dtype(op) != DType::bool_)
    fail(ErrorKind::runtime,
         "{}: the mask must be a bool tensor, got {}. Compare it, for example with != 0", op,
         name(mask.dtype()));
}

void check_fits(const char* op, const Tensor& mask, const Tensor& x) {
  if (!can_broadcast(mask.sizes(op), x.sizes(op)))
    fail(ErrorKind::runtime, "{}: the mask's shape {} cannot be broadcast to the tensor's shape {}",
         op, shape_text(mask.sizes()), shape_text(x.sizes()));
}

}  // namespace

constinit OpDef kNonzero{
    .name = "nonzero",
    .doc = "The coordinates of the nonzero elements, one row each, in order.",
    .infer = infer_nonzero,
    .eval = eval_nonzero,
    .cost = [](std::span<const Type> in,
               const void*) { return static_cast<double>(element_count(in[0].shape)); },
    .samples = [](const OpDef&, SampleSink&) {}};  // its type depends on values

Tensor nonzero(const Tensor& x) { return apply(kNonzero, {x}); }

std::vector<Tensor> nonzero(const Tensor& x, bool as_tuple) {
  if (!as_tuple) return {nonzero(x)};
  Tensor rows = nonzero(x.dim() ? x : reshape(x, Shape{1}));
  std::vector<Tensor> columns;
  for (int64_t d = 0; d < rows.size(1); ++d) columns.push_back(select(rows, 1, d));
  return columns;
}

Tensor argwhere(const Tensor& x) { return nonzero(x); }
std::vector<Tensor> where(const Tensor& condition) { return nonzero(condition, true); }

Tensor count_nonzero(const Tensor& x, OptInts dim) {
  Tensor set = x.dtype() == DType::bool_ ? x : ne(x, Scalar(0).tensor());
  return sum(set, dim, false, DType::i64);
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  check_mask("masked_select", mask);
  Shape shape = broadcast_shapes("masked_select", x.sizes(), mask.sizes());
  Tensor wide = expand(mask, shape);
  return index(expand(x, shape), {&wide, 1});
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value) {
  check_mask("masked_fill", mask);
  return where(mask, fill_value("masked_fill", value, x.dtype()), x);
}

Tensor masked_fill_(const Tensor& x, const Tensor& mask, const Tensor& value) {
  check_mask("masked_fill_", mask);
  check_fits("masked_fill_", mask, x);
  const Tensor in[] = {mask, fill_value("masked_fill_", value, x.dtype()), x};
  return apply_into(x, kSelect, nullptr, in);
}

Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& source) {
  check_mask("masked_scatter", mask);
  Shape shape = broadcast_shapes("masked_scatter", x.sizes(), mask.sizes());
  Tensor values = matching("masked_scatter", "source", source, x);
  Tensor wide = expand(mask, shape), places = select(nonzero(reshape(wide, Shape{-1})), 1, 0);
  if (places.numel() > values.numel())
    fail(ErrorKind::runtime,
         "masked_scatter: the mask is true at {} places, but source has {} elements",
         places.numel(), values.numel());
  Tensor first = narrow(reshape(values, Shape{-1}), 0, 0, places.numel());
  Tensor flat = reshape(expand(x, shape), Shape{-1});
  return reshape(put_at(flat, {{0}, 0}, {&places, 1}, first), shape);
}

namespace {

/// A tensor, or a tuple with one tensor per dim.
void call_nonzero(Arg* args, Result& result) {
  if (args[1].scalar.i)
    thunk<static_cast<std::vector<Tensor> (*)(const Tensor&, bool)>(&nonzero)>(args, result);
  else thunk<static_cast<Tensor (*)(const Tensor&)>(&nonzero)>(args, result);
}

OpDef* const kOps[] = {&kNonzero};

const Function kFunctions[] = {
    {"nonzero(Tensor input) -> Tensor",
     "The coordinates of the nonzero elements as rows of an int64 matrix.", kFunction | kMethod,
     thunk<static_cast<Tensor (*)(const Tensor&)>(&nonzero)>},
    {"nonzero(Tensor input, *, bool as_tuple) -> Tensor[]",
     "With as_tuple=True one index tensor per dim: x[x.nonzero(as_tuple=True)] are the nonzero elements.",
     kFunction | kMethod, call_nonzero},
    {"argwhere(Tensor input) -> Tensor",
     "The coordinates of the nonzero elements as rows of an int64 matrix.", kFunction | kMethod,
     thunk<&argwhere>},
    {"where(Tensor condition) -> Tensor[]", "nonzero(condition, as_tuple=True).", kFunction,
     thunk<static_cast<std::vector<Tensor> (*)(const Tensor&)>(&where)>},
    {"count_nonzero(Tensor input, int[]? dim=None) -> Tensor",
     "How many elements are nonzero, in all or along dims.", kFunction | kMethod,
     thunk<&count_nonzero>},
    {"masked_select(Tensor input, Tensor mask) -> Tensor",
     "The elements where the bool mask holds, in row-major order, as a 1-dim tensor.",
     kFunction | kMethod | kOut, thunk<&masked_select>},
    {"masked_fill(Tensor input, Tensor mask, Number value) -> Tensor",
     "value where the bool mask holds, else input.", kFunction | kMethod, thunk<&masked_fill>},
    {"masked_fill_(Tensor input, Tensor mask, Number value) -> Tensor",
     "Writes value where the bool mask holds.", kMethod, thunk<&masked_fill_>},
    {"masked_scatter(Tensor input, Tensor mask, Tensor source) -> Tensor",
     "The elements of source, in order, where the bool mask holds, else input.",
     kFunction | kMethod | kInplace, thunk<&masked_scatter>},
};

}  // namespace

extern const OpFile nonzero_ops;
const OpFile nonzero_ops{kOps, kFunctions};

}  // namespace fluxion
