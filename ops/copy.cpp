// Conversion and copies.
#include "ops/copy.h"

#include <cmath>

#include "kernels/copy.h"
#include "loops/elementwise.h"
#include "ops/apply.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr Field kCastFields[] = {
    {"dtype", FieldKind::dtype, offsetof(CastAttrs, dtype), "dtype of the result"}};

void cast_kernels(const OpDef& op, KernelSink& sink) {
  for (int from = 0; from < kDTypes; ++from)
    for (int to = 0; to < kDTypes; ++to)
      if (from != to)
        sink.add(op, static_cast<DType>(from), static_cast<uint8_t>(to), [&](std::string symbol) {
          return loops::cast_kernel(std::move(symbol), static_cast<DType>(from),
                                    static_cast<DType>(to));
        });
}

void infer_cast(const TypeRule& t) {
  t.out[0] = {static_cast<DType>(t.attrs<CastAttrs>().dtype), false, t.in[0].shape};
}

void eval_cast(const Eval& e) {
  if (!e.out[0].defined()) {
    auto dtype = static_cast<DType>(e.attrs<CastAttrs>().dtype);
    Tensor like = empty_like_dense(e.in[0]);
    e.out[0] = alias(empty(like.sizes(), dtype), like.sizes(), like.strides(), 0);
  }
  copy_elements(e.in[0], e.out[0]);
}

void cast_samples(const OpDef& op, SampleSink& sink) {
  for (int to = 0; to < kDTypes; ++to) {
    CastAttrs a{to};
    for (int from = 0; from < kDTypes; ++from) {
      SampleSink::Input in{Shape{3, 5}, static_cast<DType>(from), 0, 3};
      sink.add({&in, 1}, &a, op.attr_bytes);
    }
  }
}

void eval_clone(const Eval& e) {
  if (!e.out[0].defined()) e.out[0] = empty_like_dense(e.in[0]);
  copy_elements(e.in[0], e.out[0]);
}

void clone_samples(const OpDef&, SampleSink& sink) {
  SampleSink::Input in{Shape{4, 3}};
  sink.add({&in, 1}, nullptr, 0);
}

}  // namespace

constinit OpDef kCast{
    .name = "cast",
    .doc = "x converted to another dtype.",
    .space = Space::elementwise,
    .attr_bytes = sizeof(CastAttrs),
    .fields = kCastFields,
    .infer = infer_cast,
    .eval = eval_cast,
    .vjp = [](const Vjp& v) { v.result[0] = to_dtype(v.grad[0], v.in[0].dtype()); },
    .kernels = cast_kernels,
    .cost = cheap_cost,
    .samples = cast_samples};

constinit OpDef kClone{.name = "clone",
                       .doc = "A copy of x in memory of its own.",
                       .space = Space::elementwise,
                       .infer = [](const TypeRule& t) { t.out[0] = t.in[0]; },
                       .eval = eval_clone,
                       .vjp = [](const Vjp& v) { v.result[0] = v.grad[0]; },
                       .cost = cheap_cost,
                       .samples = clone_samples};

void copy_elements(const Tensor& src, const Tensor& dst) {
  FloatEnvironment environment;  // writes come here without apply()
  int rank = dst.dim();
  int64_t strides[kernels::kMaxLoops];
  int missing = rank - src.dim();
  for (int d = 0; d < rank; ++d)
    strides[d] = d < missing || src.sizes()[d - missing] == 1 ? 0 : src.strides()[d - missing];
  kernels::Ctx ctx = kernel_context();
  LongWork work(static_cast<double>(dst.numel()) * 0.3);
  if (src.dtype() == dst.dtype())
    return kernels::copy_strided(ctx, static_cast<int>(size_of(dst.dtype())), dst.data<char>(),
                                 dst.strides().data(), src.data<char>(), strides, rank,
                                 dst.sizes().data());
  kernels::TileCall call{};
  call.kernel[0] = require_kernel(kCast, src.dtype(), static_cast<uint8_t>(dst.dtype()));
  call.inputs = call.outputs = 1;
  call.reads[0] = src.dtype();
  call.reads[1] = dst.dtype();
  call.grain = 32768;
  kernels::TileOperand operands[] = {{src.data<char>(), src.dtype(), strides},
                                     {dst.data<char>(), dst.dtype(), dst.strides().data()}};
  invariant(kernels::run_tiles(ctx, call, operands, rank, dst.sizes().data()) == kernels::kOk,
            "copy_elements");
}

constinit OpDef kRowMajor{.name = "contiguous",
                          .doc = "A row-major copy of x.",
                          .space = Space::elementwise,
                          .infer = [](const TypeRule& t) { t.out[0] = t.in[0]; },
                          .eval =
                              [](const Eval& e) {
                                if (!e.out[0].defined())
                                  e.out[0] = empty(e.in[0].sizes(), e.in[0].dtype());
                                copy_elements(e.in[0], e.out[0]);
                              },
                          .vjp = [](const Vjp& v) { v.result[0] = v.grad[0]; },
                          .cost = cheap_cost,
                          .samples = clone_samples};

void check_number(const char* op, double value, bool floating, DType t) {
  if (t == DType::bool_ || t == DType::f64) return;
  double low, high;
  if (fluxion::is_floating(t)) {
    if (!std::isfinite(value)) return;
    high = t == DType::f16 ? 65504 : t == DType::bf16 ? 0x1.fep127 : 0x1.fffffep127;
    low = -high;
  } else {
    double end = std::ldexp(1.0, static_cast<int>(8 * size_of(t)) - (t != DType::u8));
    low = t != DType::u8 ? -end : floating ? 0 : -(end - 1);
    high = t == DType::i64 ? std::nextafter(end, 0.0) : end - 1;
    if (t == DType::i64 && !floating) high = end;
  }
  if (!(value >= low && value <= high))
    fail(ErrorKind::runtime, "{}: the value {} does not fit {}", op, value, name(t));
}

void add_into(const Tensor& dst, const Tensor& src) {
  const Tensor in[] = {dst, src};
  run_elementwise(kAdd, nullptr, dst.dtype(), in, {&dst, 1}, Shape(dst.sizes()));
}

Tensor to_dtype(const Tensor& x, DType dtype) {
  return x.dtype("_to_dtype") == dtype && !x.has(kWeak)
             ? x
             : apply(kCast, CastAttrs{static_cast<int64_t>(dtype)}, {x});
}

Tensor dense(const Tensor& x) {
  if (x.is_contiguous()) return x;
  Tensor copy = empty(x.sizes(), x.dtype());
  copy_elements(x, copy);
  return copy;
}

Tensor at_least_1d(const char* op, const Tensor& x) { return x.dim(op) ? x : reshape(x, {1}); }

void deliver(Tensor& to, const Tensor& result, DType dtype) {
  if (!to.defined()) {
    if (result.dtype() == dtype) {
      to = result;
      return;
    }
    to = empty(result.sizes(), dtype);
  }
  if (!to.is_same(result)) copy_elements(result, to);
}

Tensor identity(const Tensor& x) { return view(x, x.sizes()); }

kernels::Kernel require_kernel(const OpDef& op, DType dtype, uint8_t variant) {
  kernels::Kernel k = kernels::find_kernel(op.id, dtype, variant);
  if (!k) fail(ErrorKind::not_implemented, "{}: no kernel for {}", op.name, name(dtype));
  return k;
}

Tensor clone(const Tensor& x) { return apply(kClone, {x}); }
Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : apply(kRowMajor, {x}); }

namespace {

OpDef* const kOps[] = {&kCast, &kClone, &kRowMajor};
const Function kFunctions[] = {
    {"clone(Tensor input, *, ignored? memory_format=None) -> Tensor",
     "A copy in memory of its own; differentiable.", kFunction | kMethod, thunk<&clone>},
    {"contiguous(Tensor input, ignored? memory_format=None) -> Tensor",
     "The tensor itself if it is row-major, else a row-major copy.", kMethod, thunk<&contiguous>},
    {"_to_dtype(Tensor input, dtype dtype) -> Tensor",
     "The tensor itself if it has that dtype, else a converted copy.", kFunction | kPrivate,
     thunk<&to_dtype>},
};

}  // namespace

extern const OpFile cast_ops;
const OpFile cast_ops{kOps, kFunctions};

}  // namespace fluxion
