// dropout: the mask follows from (key, call, element), so its gradient is dropout of the gradient with the same state.
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/expr.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/random.h"
#include "ops/requirements.h"

namespace fluxion {

namespace {

struct DropoutAttrs {
  double p, scale;
};
constexpr Field kFields[] = {
    {"p", FieldKind::real, offsetof(DropoutAttrs, p), "probability of a zero"},
    {"scale", FieldKind::real, offsetof(DropoutAttrs, scale), "factor of what is kept"}};

void body(loops::Body& b) {
  auto u = loops::cast(loops::shift_right_logical(b.in_as_stored(0), 8), b.elem()) * 0x1p-24;
  b.out(0, loops::select(u >= b.param(0), b.in(1) * b.param(1), b.constant(0)));
}

void eval(const Eval& e) {
  Tensor x = dense(e.in[0]);
  bool direct = e.out[0].defined() && e.out[0].is_contiguous();
  Tensor y = direct ? e.out[0] : empty(x.sizes(), x.dtype());
  run_random({e.op, x.dtype(), 1, e.in[1], {&x, &y}, e.attr_data});
  if (e.out[0].defined() && !direct) copy_elements(y, e.out[0]);
  else e.out[0] = y;
}

void compose(const Eval& e) {
  const auto& a = e.attrs<DropoutAttrs>();
  Tensor x = widen(e.in[0]), words = apply(kRngBits, Dims(x.sizes()), {e.in[1]});
  Tensor bits =
      bitwise_and(bitwise_right_shift(words, Scalar(8).tensor()), Scalar(0xffffff).tensor());
  Tensor u = mul(to_dtype(bits, x.dtype()), number(0x1p-24));
  e.out[0] = rounded(where(ge(u, number(a.p)), mul(x, number(a.scale)), zeros({}, x.dtype())),
                     e.in[0].dtype());
}

constexpr SaveRule kSaves[] = {{2, 0}, {}};

}  // namespace

constinit OpDef kDropout{
    .name = "dropout",
    .doc = "x * scale, or 0 with probability p, of (x, state).",
    .inputs = 2,
    .round = Round::fused,
    .space = Space::elementwise,
    .attr_bytes = sizeof(DropoutAttrs),
    .fields = kFields,
    .infer =
        [](const TypeRule& t) {
          require_floating(t, 0);
          require_state(t, 1);
          t.out[0] = t.in[0];
        },
    .eval = eval,
    .vjp =
        [](const Vjp& v) {
          v.result[0] = apply(kDropout, v.attrs<DropoutAttrs>(), {v.grad[0], v.in[1]});
        },
    .saves = kSaves,
    .composite = compose,
    .kernels = [](const OpDef& op,
                  KernelSink& sink) { emit_random(op, sink, 1, [](DType) { return 1; }, body); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
            DropoutAttrs a{0.25, 1 / 0.75};
            const SampleSink::Input in[] = {{Shape{5, 30}, t}, {Shape{2}, DType::i64, 0, 1000}};
            sink.add(in, &a, sizeof a);
          }
        }};

namespace {

Tensor drop(const char* op, const Tensor& x, double p, Generator* generator) {
  if (!(p >= 0 && p <= 1))
    fail(ErrorKind::value, "{}: p must be a probability between 0 and 1, got {}", op, p);
  if (!is_floating(x.dtype(op)))
    fail(ErrorKind::runtime,
         "{}: needs a floating point tensor, got {}. Cast it with .float() first", op,
         name(x.dtype()));
  return apply(kDropout, DropoutAttrs{p, p < 1 ? 1 / (1 - p) : 0}, {x, next_state(generator)});
}

}  // namespace

Tensor dropout(const Tensor& x, double p, bool training) {
  if (!training || p == 0) return x;
  return drop("dropout", x, p, nullptr);
}

Tensor feature_dropout(const Tensor& x, double p, bool training) {
  if (!training || p == 0) return x;
  if (x.dim() < 2)
    fail(ErrorKind::runtime, "feature_dropout: needs a tensor (N, C, ...), got shape {}",
         shape_text(x.sizes()));
  Shape features(static_cast<size_t>(x.dim()), 1);
  features[0] = x.size(0), features[1] = x.size(1);
  return mul(x, drop("feature_dropout", ones(features, x.dtype()), p, nullptr));
}

namespace {

OpDef* const kOps[] = {&kDropout};

const Function kFunctions[] = {
    {"dropout(Tensor input, float p=0.5, bool training=True) -> Tensor",
     "In training, zeroes each element with probability p and scales the others by 1 / (1 - p).",
     kFunction | kNN | kInplace, thunk<&dropout>},
    {"feature_dropout(Tensor input, float p=0.5, bool training=True) -> Tensor",
     "dropout of whole channels of (N, C, ...).", kFunction, thunk<&feature_dropout>},
};

}  // namespace

extern const OpFile dropout_ops;
const OpFile dropout_ops{kOps, kFunctions};

}  // namespace fluxion
