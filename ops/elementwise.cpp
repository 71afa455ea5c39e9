#include "ops/elementwise.h"

#include <algorithm>
#include <cstring>

#include "kernels/tile.h"
#include "ops/copy.h"
#include "ops/kernel_sink.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "tensor/split_loops.h"
#include "tensor/threads.h"

namespace fluxion {

using kernels::find_kernel;
using kernels::Kernel;

namespace {

/// The dtype operands are brought to before the body, and the dtype of the result.
struct Plan {
  DType common, result;
};

Plan plan_for(const OpDef& op, DType common) {
  switch (op.promotion) {
    case Promotion::floating:
      if (!is_floating(common)) common = default_dtype();
      return {common, common};
    case Promotion::compare: return {common, DType::bool_};
    case Promotion::bitwise:
      if (is_floating(common))
        fail(ErrorKind::runtime, "{}: needs integer or bool tensors, got {}. Cast with .to() first",
             op.name, name(common));
      return {common, common};
    default: return {common, common};
  }
}

template <class T>
DType common_of(const OpDef& op, std::span<const T> in) {
  if (op.promotion == Promotion::choose) return common_dtype(in.subspan(1));
  if (op.promotion == Promotion::gradient) return common_dtype(in.first(1));
  return common_dtype(in);
}

/// Of one element.
double cost_of(const OpDef& op) {
  static const Type one[kernels::kMaxOperands] = {};
  return op.cost({one, op.inputs}, nullptr);
}
int64_t grain_for(const OpDef& op) {
  return chunk_grain(static_cast<int64_t>(32768 / cost_of(op)));
}

Kernel converter(DType from, DType to) {
  return find_kernel(kCast.id, from, static_cast<uint8_t>(to));
}

/// Whether a number changes when it is rounded to half precision.
bool loses_bits(const Tensor& number, DType half) {
  char stored[2];
  double v = load_double(number.data<char>(), number.dtype());
  store_double(stored, half, v);
  return load_double(stored, half) != static_cast<double>(static_cast<float>(v)) && v == v;
}

/// A half tensor meets a number (or 0-dim tensor of another dtype) that is more than a half.
bool meets_wide_number(const OpDef& op, DType common, std::span<const Tensor> in) {
  if (!is_half(common) || !op.wide_numbers) return false;
  return std::ranges::any_of(in, [&](const Tensor& t) {
    return t.dim() == 0 && t.dtype() != common && loses_bits(t, common);
  });
}

/// Broadcast strides of `t` over `shape`.
void strides_over(const Tensor& t, Ints shape, int64_t* out) {
  size_t missing = shape.size() - t.dim();
  for (size_t d = 0; d < shape.size(); ++d)
    out[d] = d < missing || t.sizes()[d - missing] == 1 ? 0 : t.strides()[d - missing];
}

DType operand_dtype(const OpDef& op, size_t k, DType compute) {
  return op.promotion == Promotion::choose && k == 0 ? DType::bool_ : compute;
}

/// PyTorch keeps the layout of a dense permuted operand.
Tensor allocate_result(std::span<const Tensor> in, Ints shape, DType dtype) {
  for (const Tensor& t : in)
    if (std::ranges::equal(t.sizes(), shape)) {
      if (t.is_contiguous()) break;
      Tensor out = empty_like_dense(t);
      if (out.dtype() == dtype) return out;
      Tensor other = empty(shape, dtype);
      return alias(other, shape, out.strides(), 0);
    }
  return empty(shape, dtype);
}

/// Dense operands of one shape and dtype: one call of the kernel.
bool run_dense(const Eval& e) {
  const Tensor& first = e.in[0];
  DType dtype = first.dtype();
  const OpDef& op = e.op;
  if (!first.is_contiguous() || first.has(kWeak) || first.numel() > grain_for(op)) return false;
  uint8_t variant = kernels::kDense;
  char converted[8];
  const void* data[3] = {first.data(), nullptr, nullptr};
  size_t n_in = e.in.size();
  if (n_in > 3 || op.promotion == Promotion::choose) return false;
  for (size_t k = 1; k < n_in; ++k) {
    const Tensor& t = e.in[k];
    if (t.has(kWeak) && n_in == 2 && category(t.dtype()) <= category(dtype) && first.dim() > 0) {
      if (op.wide_numbers && is_half(dtype) && loses_bits(t, dtype)) return false;
      variant = kernels::kScalarRight;
      if (is_floating(dtype))
        store_double(converted, dtype, load_double(static_cast<char*>(t.data()), t.dtype()));
      else store_int(converted, dtype, load_int(static_cast<char*>(t.data()), t.dtype()));
      data[k] = converted;
      continue;
    }
    if (t.dtype() != dtype || !t.is_contiguous() || t.has(kWeak) ||
        !std::ranges::equal(t.sizes(), first.sizes()))
      return false;
    data[k] = t.data();
  }
  if (op.promotion == Promotion::floating && !is_floating(dtype)) return false;
  Kernel f = find_kernel(op.id, dtype, variant);
  if (!f) return false;
  DType result = op.promotion == Promotion::compare ? DType::bool_ : dtype;
  if (!e.out[0].defined()) e.out[0] = empty(first.sizes(), result);
  else if (!e.out[0].is_contiguous() || e.out[0].dtype() != result) return false;
  kernels::Buf args[4];
  for (size_t k = 0; k < n_in; ++k) args[k] = {const_cast<void*>(data[k]), nullptr};
  args[n_in] = {e.out[0].data(), nullptr};
  int64_t n = first.numel();
  f(args, &n, e.attr_data);
  return true;
}

}  // namespace

double cheap_cost(std::span<const Type> in, const void*) {
  double n = 1;
  for (int64_t s : in[0].shape) n *= static_cast<double>(s);
  return n;
}
double division_cost(std::span<const Type> in, const void* a) { return 2 * cheap_cost(in, a); }
double transcendental_cost(std::span<const Type> in, const void* a) {
  return 5 * cheap_cost(in, a);
}

void infer_elementwise(const TypeRule& t) {
  if (t.op.promotion == Promotion::gradient) require_floating(t, 0);
  Shape shape = t.in[0].shape;
  bool weak = t.in[0].weak;
  for (size_t i = 1; i < t.in.size(); ++i) {
    shape = broadcast_shapes(t.op.name, shape, t.in[i].shape);
    weak = weak && t.in[i].weak;
  }
  Plan p = plan_for(t.op, common_of(t.op, t.in));
  t.out[0] = {p.result, weak && p.result != DType::bool_, shape};
}

void run_elementwise(const OpDef& op, const void* params, DType common, std::span<const Tensor> in,
                     std::span<const Tensor> out, Ints shape) {
  FloatEnvironment environment;  // also reached without apply()
  bool direct = find_kernel(op.id, common, 0) && !meets_wide_number(op, common, in);
  DType compute = direct ? common : compute_dtype(common);
  if (compute == DType::bool_) compute = DType::i32;
  kernels::TileCall call{};
  for (int c = 0; c < 3; ++c)
    call.kernel[c] = c == 0 || in.size() == 2 ? find_kernel(op.id, compute, c) : nullptr;
  invariant(call.kernel[0] != nullptr, op.name);
  call.params = params;
  call.inputs = static_cast<int>(in.size());
  call.outputs = static_cast<int>(out.size());
  call.grain = grain_for(op);
  call.convert = converter;
  kernels::TileOperand operands[kernels::kMaxOperands];
  int64_t strides[kernels::kMaxOperands][kernels::kMaxLoops];
  bool boolean = op.promotion == Promotion::compare;
  size_t k = 0;
  for (const Tensor& t : in) {
    call.reads[k] = operand_dtype(op, k, compute);
    strides_over(t, shape, strides[k]);
    operands[k] = {static_cast<char*>(t.data()), t.dtype(), strides[k]};
    ++k;
  }
  for (const Tensor& t : out) {
    call.reads[k] = boolean ? DType::bool_ : compute;
    strides_over(t, shape, strides[k]);
    operands[k] = {static_cast<char*>(t.data()), t.dtype(), strides[k]};
    ++k;
  }
  int64_t total = element_count(shape);
  LongWork work(static_cast<double>(total) * cost_of(op) * kCheapNanoseconds);
  kernels::Ctx ctx = kernel_context();
  int status =
      kernels::run_tiles(ctx, call, operands, static_cast<int>(shape.size()), shape.data());
  invariant(status == kernels::kOk, op.name);
}

void eval_elementwise(const Eval& e) {
  if (run_dense(e)) return;
  Shape shape(e.in[0].sizes());
  bool weak = e.in[0].has(kWeak);
  for (size_t i = 1; i < e.in.size(); ++i) {
    if (!std::ranges::equal(e.in[i].sizes(), Ints(shape)))
      shape = broadcast_shapes(e.op.name, shape, e.in[i].sizes());
    weak = weak && e.in[i].has(kWeak);
  }
  Plan p = plan_for(e.op, common_of(e.op, e.in));
  bool allocated = !e.out[0].defined();
  if (allocated) e.out[0] = allocate_result(e.in, shape, p.result);
  run_elementwise(e.op, e.attr_data, p.common, e.in, e.out, shape);
  if (allocated && weak) e.out[0].impl()->flags |= kWeak;
}

void elementwise_kernels(const OpDef& op, KernelSink& sink) {
  static constexpr DType all[] = {DType::f32, DType::f64, DType::i32,
                                  DType::i64, DType::f16, DType::bf16};
  for (DType t : all) {
    bool floats_only = op.promotion == Promotion::floating;
    if (floats_only && !is_floating(t)) continue;
    if (op.promotion == Promotion::gradient && !is_floating(t)) continue;
    if (op.promotion == Promotion::bitwise && is_floating(t)) continue;
    if (is_half(t) && op.cost == transcendental_cost) continue;  // go through tiles
    DType compute = compute_dtype(t);
    for (uint8_t variant = 0; variant < (op.inputs == 2 ? 3 : 1); ++variant)
      sink.add(op, t, variant, [&](std::string symbol) {
        loops::Elem in[kernels::kMaxOperands], out[1];
        for (int k = 0; k < op.inputs; ++k) in[k] = operand_dtype(op, k, t);
        out[0] = op.promotion == Promotion::compare ? DType::bool_ : t;
        return loops::elementwise(std::move(symbol), std::span(in, op.inputs), out, compute,
                                  static_cast<kernels::ElementwiseClass>(variant), op.scalar);
      });
  }
}

void elementwise_samples(const OpDef& op, SampleSink& sink) {
  using Input = SampleSink::Input;
  auto add = [&](std::initializer_list<int64_t> first, std::initializer_list<int64_t> rest,
                 DType t) {
    std::vector<Input> in;
    for (int k = 0; k < op.inputs; ++k)
      in.push_back({Shape(k == 0 ? first : rest), operand_dtype(op, k, t), 0.25,
                    is_floating(t) ? 0.95 : 2.0});
    sink.add(in, nullptr, 0);
  };
  for (DType t : {DType::f32, DType::f64, DType::i32, DType::i64, DType::f16, DType::bf16,
                  DType::u8, DType::i8, DType::i16, DType::bool_}) {
    if (is_floating(t) && op.promotion == Promotion::bitwise) continue;
    if (!is_floating(t) && op.promotion == Promotion::gradient) continue;
    add({3, 5}, {3, 5}, t);
    add({2, 3, 7}, {3, 1}, t);
    add({}, {}, t);
    add({0, 4}, {4}, t);
  }
}

}  // namespace fluxion
