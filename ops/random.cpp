// Random tensors: uniform, normal, integers and coin flips.
#include "ops/random.h"
#include "tensor/thread_state.h"

#include <cmath>

#include "loops/math.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"

namespace fluxion {

using loops::Body;
using loops::Value;

namespace {

constexpr Field kUniformFields[] = {
    {"low", FieldKind::real, offsetof(DrawAttrs, a), "least value"},
    {"range", FieldKind::real, offsetof(DrawAttrs, b), "upper bound minus least value"},
    {"dtype", FieldKind::dtype, offsetof(DrawAttrs, dtype), "dtype of the result"},
    {"shape", FieldKind::dims, offsetof(DrawAttrs, shape), "shape of the result"}};
constexpr Field kNormalFields[] = {
    {"mean", FieldKind::real, offsetof(DrawAttrs, a), "mean"},
    {"std", FieldKind::real, offsetof(DrawAttrs, b), "standard deviation"},
    {"dtype", FieldKind::dtype, offsetof(DrawAttrs, dtype), "dtype of the result"},
    {"shape", FieldKind::dims, offsetof(DrawAttrs, shape), "shape of the result"}};

int uniform_streams(DType t) { return t == DType::f64 ? 2 : 1; }
int normal_streams(DType t) { return t == DType::f64 ? 4 : 2; }

/// params: low, range, and the bits that a half of that dtype holds below 1: 2^-bits, 2^bits.
struct UniformParams {
  double low, range, step, steps;
};
void uniform_body(Body& b) {
  Value u = uniform_of(b, 0);
  u = loops::floor(u * b.param(3)) * b.param(2);
  b.out(0, loops::fma(u, b.param(1), b.param(0)));
}

/// Box & Muller 1958, one of the pair. The radius uses 31 bits and more near 0, so tails reach 6.5 (f64: 8.5).
void normal_body(Body& b) {
  bool wide = b.elem() == loops::Elem::f64;
  Value near = loops::cast(loops::shift_right_logical(b.in_as_stored(0), 1), b.elem());
  if (wide)
    near = loops::fma(loops::cast(loops::shift_right_logical(b.in_as_stored(3), 1), b.elem()),
                      0x1p-31, near) +
           0x1p-32;
  else near = near + 1;
  Value radius = loops::sqrt(loops::log(near * 0x1p-31) * -2);
  Value angle = uniform_of(b, 1) * 6.283185307179586;
  b.out(0, loops::fma(radius * loops::cos(angle), b.param(1), b.param(0)));
}

void bernoulli_body(Body& b) {
  int probability = b.elem() == loops::Elem::f64 ? 2 : 1;
  b.out(0, loops::select(uniform_of(b, 0) < b.in(probability), b.constant(1), b.constant(0)));
}

UniformParams uniform_params(const DrawAttrs& a) {
  auto t = static_cast<DType>(a.dtype);
  int bits = t == DType::f64 ? 53 : t == DType::f32 ? 24 : t == DType::f16 ? 11 : 8;
  return {a.a, a.b, std::ldexp(1.0, -bits), std::ldexp(1.0, bits)};
}

/// The destination if it is dense, else a temporary to be copied there.
class Destination {
 public:
  Destination(Tensor& out, Ints shape, DType dtype) : out_(out) {
    if (!out.defined()) out = empty(shape, dtype);
    dense_ = out.is_contiguous() ? out : empty(out.sizes(), out.dtype());
  }
  const Tensor& dense() const { return dense_; }
  void deliver() const {
    if (!dense_.is_same(out_)) copy_elements(dense_, out_);
  }

 private:
  Tensor& out_;
  Tensor dense_;
};

void eval_uniform(const Eval& e) {
  const auto& a = e.attrs<DrawAttrs>();
  auto t = static_cast<DType>(a.dtype);
  Destination d(e.out[0], a.shape, t);
  UniformParams p = uniform_params(a);
  run_random({e.op, t, uniform_streams(t), e.in[0], {&d.dense()}, &p});
  d.deliver();
}
void eval_normal(const Eval& e) {
  const auto& a = e.attrs<DrawAttrs>();
  auto t = static_cast<DType>(a.dtype);
  Destination d(e.out[0], a.shape, t);
  run_random({e.op, t, normal_streams(t), e.in[0], {&d.dense()}, &a.a});
  d.deliver();
}
void eval_bernoulli(const Eval& e) {
  NoGrad plain;
  Tensor p = dense(e.in[0]);
  if (p.numel() && !all(logical_and(ge(p, number(0)), le(p, number(1)))).item_int())
    fail(ErrorKind::runtime, "bernoulli: probabilities must be between 0 and 1");
  Destination d(e.out[0], p.sizes(), p.dtype());
  run_random({e.op, p.dtype(), uniform_streams(p.dtype()), e.in[1], {&p, &d.dense()}});
  d.deliver();
}

void require_draw_shape(const TypeRule& t, Ints shape) {
  require(t, std::ranges::all_of(shape, [](int64_t s) { return s >= 0; }),
          "sizes must not be negative");
}

void infer_draw(const TypeRule& t) {
  const auto& a = t.attrs<DrawAttrs>();
  require_state(t, 0);
  require_draw_shape(t, a.shape);
  require(t, is_floating(static_cast<DType>(a.dtype)), "the dtype must be floating");
  t.out[0] = {static_cast<DType>(a.dtype), false, Shape(a.shape)};
}

SampleSink::Input state_input() { return {Shape{2}, DType::i64, 0, 1000}; }

void draw_samples(const OpDef&, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    DrawAttrs a{0.5, 1.5, static_cast<int64_t>(t), {3, 35}};
    const SampleSink::Input in[] = {state_input()};
    sink.add(in, &a, sizeof a);
  }
}

// Integers: range up to 2^32 by multiplication of one word, beyond that by remainder of 63 bits.

struct RandintAttrs {
  int64_t low, range;
  Dims shape;
};
constexpr Field kRandintFields[] = {
    {"low", FieldKind::integer, offsetof(RandintAttrs, low), "least value"},
    {"range", FieldKind::integer, offsetof(RandintAttrs, range), "number of values"},
    {"shape", FieldKind::dims, offsetof(RandintAttrs, shape), "shape of the result"}};

void randint_kernels(const OpDef& op, KernelSink& sink) {
  const loops::Elem words[] = {loops::Elem::i32, loops::Elem::i32}, out = loops::Elem::i64;
  for (int streams : {1, 2})  // keyed by the dtype of a draw
    sink.add(op, streams == 1 ? DType::i32 : DType::i64, 0, [&](std::string symbol) {
      return loops::elementwise(
          std::move(symbol), std::span(words, static_cast<size_t>(streams)), {&out, 1}, out, 0u,
          [&](Body& b) {
            Value w = b.in(0) & int64_t{0xffffffff};
            Value low = w.builder().size(2), range = w.builder().size(3);
            if (streams == 1) return b.out(0, loops::shift_right_logical(w * range, 32) + low);
            Value wide = loops::shift_right_logical(loops::shift_left(b.in(1), 32) | w, 1);
            b.out(0, loops::rem(wide, loops::splat(range, wide.lanes())) + low);
          });
    });
}

void eval_randint(const Eval& e) {
  const auto& a = e.attrs<RandintAttrs>();
  Destination d(e.out[0], a.shape, DType::i64);
  bool narrow = a.range <= int64_t{1} << 32;
  run_random({e.op,
              narrow ? DType::i32 : DType::i64,
              narrow ? 1 : 2,
              e.in[0],
              {&d.dense()},
              nullptr,
              {a.low, a.range}});
  d.deliver();
}

}  // namespace

constinit OpDef kUniform{
    .name = "random_uniform",
    .doc = "Uniform in [low, low + range): 24 bits (f64 53, f16 11, bf16 8).",
    .attr_bytes = sizeof(DrawAttrs),
    .fields = kUniformFields,
    .infer = infer_draw,
    .eval = eval_uniform,
    .kernels = [](const OpDef& op,
                  KernelSink& sink) { emit_random(op, sink, 0, uniform_streams, uniform_body); },
    .cost = cheap_cost,
    .samples = draw_samples};

constinit OpDef kNormal{
    .name = "random_normal",
    .doc = "Normal with mean and standard deviation.",
    .attr_bytes = sizeof(DrawAttrs),
    .fields = kNormalFields,
    .infer = infer_draw,
    .eval = eval_normal,
    .kernels = [](const OpDef& op,
                  KernelSink& sink) { emit_random(op, sink, 0, normal_streams, normal_body); },
    .cost = transcendental_cost,
    .samples = draw_samples};

constinit OpDef kBernoulli{
    .name = "bernoulli",
    .doc = "1 with probability p, else 0, of (p, state).",
    .inputs = 2,
    .infer =
        [](const TypeRule& t) {
          require_floating(t, 0);
          require_state(t, 1);
          t.out[0] = t.in[0];
        },
    .eval = eval_bernoulli,
    .vjp = [](const Vjp& v) { v.result[0] = zeros(v.in[0].sizes(), v.in[0].dtype()); },
    .kernels = [](const OpDef& op,
                  KernelSink& sink) { emit_random(op, sink, 1, uniform_streams, bernoulli_body); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
            const SampleSink::Input in[] = {{Shape{3, 35}, t, 0, 1}, state_input()};
            sink.add(in, nullptr, 0);
          }
        }};

constinit OpDef kRandint{
    .name = "random_integers",
    .doc = "Uniform int64 in [low, low + range).",
    .attr_bytes = sizeof(RandintAttrs),
    .fields = kRandintFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<RandintAttrs>();
          require_state(t, 0);
          require_draw_shape(t, a.shape);
          int64_t most;
          require(t, a.range > 0 && !__builtin_add_overflow(a.low, a.range - 1, &most),
                  "the range must be positive and end within 64 bits");
          t.out[0] = {DType::i64, false, Shape(a.shape)};
        },
    .eval = eval_randint,
    .kernels = randint_kernels,
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (int64_t range : {int64_t{7}, int64_t{1} << 40}) {
            RandintAttrs a{-3, range, {3, 35}};
            const SampleSink::Input in[] = {state_input()};
            sink.add(in, &a, sizeof a);
          }
        }};

namespace {

void check_draw(const char* op, Ints size) {
  for (int64_t s : size)
    if (s < 0)
      fail(ErrorKind::runtime, "{}: sizes must not be negative, got {}", op, shape_text(size));
  element_count(size);
}

Tensor draw(const OpDef& op, const char* called, Ints size, double a, double b, DType dtype,
            Generator* g, bool requires_grad = false) {
  check_draw(called, size);
  Tensor t = apply(op, DrawAttrs{a, b, static_cast<int64_t>(check_floating(called, dtype)), size},
                   {next_state(g)});
  if (requires_grad) t.set_requires_grad(true);
  return t;
}

}  // namespace

DType check_floating(const char* op, DType t) {
  if (!is_floating(t)) fail(ErrorKind::runtime, "{}: needs a floating dtype, got {}", op, name(t));
  return t;
}

void check_std(const char* op, double std) {
  if (!(std >= 0)) fail(ErrorKind::runtime, "{}: std must not be negative, got {}", op, std);
}

Tensor rand(Ints size, Generator* generator, OptDType dtype, bool requires_grad) {
  return draw(kUniform, "rand", size, 0, 1, dtype.value_or(default_dtype()), generator,
              requires_grad);
}
Tensor randn(Ints size, Generator* generator, OptDType dtype, bool requires_grad) {
  return draw(kNormal, "randn", size, 0, 1, dtype.value_or(default_dtype()), generator,
              requires_grad);
}
Tensor rand_like(const Tensor& x, OptDType dtype, bool requires_grad) {
  return draw(kUniform, "rand_like", x.sizes(), 0, 1, dtype.value_or(x.dtype()), nullptr,
              requires_grad);
}
Tensor randn_like(const Tensor& x, OptDType dtype, bool requires_grad) {
  return draw(kNormal, "randn_like", x.sizes(), 0, 1, dtype.value_or(x.dtype()), nullptr,
              requires_grad);
}

namespace {

/// Raises unless the dtype can hold every integer in [low, high), up to rounding.
void check_range(DType t, int64_t low, int64_t high) {
  double bits = static_cast<double>(8 * size_of(t) - (t != DType::u8)),
         end = std::ldexp(1.0, static_cast<int>(bits));
  if (t == DType::bool_) end = 2;
  if (t == DType::f16) end = 65520;  // rounds to infinity
  if (t == DType::bf16 || t == DType::f32 || t == DType::f64 || t == DType::i64) return;
  double least = t == DType::bool_ || t == DType::u8 ? 0 : t == DType::f16 ? -end + 1 : -end;
  if (static_cast<double>(low) < least || static_cast<double>(high - 1) >= end)
    fail(ErrorKind::runtime, "randint: integers from {} to {} do not fit {}", low, high - 1,
         name(t));
}

}  // namespace

Tensor randint(int64_t low, int64_t high, Ints size, Generator* generator, OptDType dtype,
               bool requires_grad) {
  check_draw("randint", size);
  if (low >= high) fail(ErrorKind::runtime, "randint: low {} must be below high {}", low, high);
  check_range(dtype.value_or(DType::i64), low, high);
  int64_t range;
  if (__builtin_sub_overflow(high, low, &range))
    fail(ErrorKind::runtime, "randint: high - low must fit in 63 bits, got {} to {}", low, high);
  Tensor t = to_dtype(apply(kRandint, RandintAttrs{low, range, size}, {next_state(generator)}),
                      dtype.value_or(DType::i64));
  if (requires_grad) t.set_requires_grad(true);
  return t;
}
Tensor randint(int64_t high, Ints size, Generator* generator, OptDType dtype, bool requires_grad) {
  return randint(0, high, size, generator, dtype, requires_grad);
}
Tensor randint_like(const Tensor& x, int64_t low, int64_t high, OptDType dtype) {
  return randint(low, high, x.sizes(), nullptr, dtype.value_or(x.dtype()), false);
}
Tensor randint_like(const Tensor& x, int64_t high, OptDType dtype) {
  return randint_like(x, 0, high, dtype);
}

Tensor normal(const Tensor& mean, const Tensor& std, OptInts size, Generator* generator,
              OptDType dtype) {
  if (size && mean.has(kNumber) && std.has(kNumber)) {
    check_std("normal", std.item());
    return draw(kNormal, "normal", *size, mean.item(), std.item(), dtype.value_or(default_dtype()),
                generator);
  }
  if (size) {
    Tensor plain = draw(kNormal, "normal", *size, 0, 1, dtype.value_or(default_dtype()), generator);
    return to_dtype(add(mul(plain, std), mean), plain.dtype());
  }
  Tensor scaled =
      add(zeros(mean.sizes(), is_floating(mean.dtype()) ? mean.dtype() : default_dtype()),
          mul(std, number(0)));
  return add(mean,
             mul(std, draw(kNormal, "normal", scaled.sizes(), 0, 1, scaled.dtype(), generator)));
}

Tensor bernoulli(const Tensor& input, OptDouble p, Generator* generator) {
  Tensor probability =
      p ? full(input.sizes(), *p, check_floating("bernoulli", input.dtype())) : input;
  check_floating("bernoulli", probability.dtype());
  return apply(kBernoulli, {probability, next_state(generator)});
}

namespace {

OpDef* const kOps[] = {&kUniform, &kNormal, &kBernoulli, &kRandint};

const Function kFunctions[] = {
    {"rand(int... size, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Uniform numbers in [0, 1).", kFunction | kOut, thunk<&rand>},
    {"randn(int... size, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Standard normal numbers.", kFunction | kOut, thunk<&randn>},
    {"rand_like(Tensor input, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "Uniform numbers in [0, 1) in the shape and dtype of input.", kFunction, thunk<&rand_like>},
    {"randn_like(Tensor input, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, bool requires_grad=False, ignored? memory_format=None) -> Tensor",
     "Standard normal numbers in the shape and dtype of input.", kFunction, thunk<&randn_like>},
    {"randint(int low, int high, int[] size, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Uniform integers in [low, high).", kFunction,
     thunk<static_cast<Tensor (*)(int64_t, int64_t, Ints, Generator*, OptDType, bool)>(&randint)>},
    {"randint(int high, int[] size, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? pin_memory=None, bool requires_grad=False) -> Tensor",
     "Uniform integers in [0, high).", kFunction,
     thunk<static_cast<Tensor (*)(int64_t, Ints, Generator*, OptDType, bool)>(&randint)>},
    {"randint_like(Tensor input, int low, int high, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? memory_format=None) -> Tensor",
     "Uniform integers in [low, high) in the shape and dtype of input.", kFunction,
     thunk<static_cast<Tensor (*)(const Tensor&, int64_t, int64_t, OptDType)>(&randint_like)>},
    {"randint_like(Tensor input, int high, *, dtype? dtype=None, ignored? layout=None, ignored? device=None, ignored? memory_format=None) -> Tensor",
     "Uniform integers in [0, high) in the shape and dtype of input.", kFunction,
     thunk<static_cast<Tensor (*)(const Tensor&, int64_t, OptDType)>(&randint_like)>},
    {"normal(Number mean, Number std=1.0, int[]? size=None, *, Generator? generator=None, dtype? dtype=None, ignored? layout=None, ignored? device=None) -> Tensor",
     "Normal numbers with given mean and standard deviation (tensors, or numbers and a size).",
     kFunction, thunk<&normal>},
    {"bernoulli(Tensor input, float? p=None, *, Generator? generator=None) -> Tensor",
     "1 with probability input (or p), else 0.", kFunction | kMethod, thunk<&bernoulli>},
};

}  // namespace

extern const OpFile random_ops;
const OpFile random_ops{kOps, kFunctions};

}  // namespace fluxion
