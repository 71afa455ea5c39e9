// Losses of elementwise differences and probabilities. mse_loss is one fused op; the others are an elementwise op and
// a reduction.
#include "ops/losses.h"

#include <cmath>

#include "loops/math.h"
#include "ops/activation.h"
#include "ops/copy.h"
#include "ops/index.h"
#include "ops/kernel_sink.h"
#include "ops/promotion.h"
#include "ops/requirements.h"
#include "ops/rowwise.h"

namespace fluxion {

using loops::Term;
using loops::Value;

namespace {

// mse_loss: the sum of squared differences, times 1 / count for the mean

struct MseAttrs {
  int64_t reduction;
  bool mean() const { return reduction == kReduceMean; }
};
constexpr Field kMseFields[] = {
    {"reduction", FieldKind::integer, offsetof(MseAttrs, reduction), "1 mean, 2 sum"}};

void check_reduction(const TypeRule& t) {
  const int64_t r = t.attrs<MseAttrs>().reduction;
  if (r != kReduceMean && r != kReduceSum)
    fail(ErrorKind::value, "{}: reduction must be 1 (mean) or 2 (sum), got {}", t.op.name, r);
}

void squares(Row& r) {
  r.store_row(2, r.reduce_sum([&](const auto& i) -> Term {
    Value d = r.load(0, i) - r.load(1, i);
    return d * d;
  }));
}
/// g, x, target -> (x - target) * (g * param)
void slopes(Row& r) {
  Value scale = r.load(0) * r.param(0);
  r.each([&](const auto& i) { r.store(3, i, (r.load(1, i) - r.load(2, i)) * scale); });
}
constexpr Slot kSquaresSlots[] = {Extent::element, Extent::element, Extent::row};
constexpr Slot kSlopesSlots[] = {Extent::scalar, Extent::element, Extent::element, Extent::element};
constexpr RowProgram kSquares{0, 2, kSquaresSlots, squares, 0.3},
    kSlopes{0, 3, kSlopesSlots, slopes, 0.3};

void eval_mse(const Eval& e) {
  Tensor x = dense(e.in[0]), target = dense(e.in[1]);
  DType compute = row_compute(x.dtype());
  Tensor partials = empty(Ints({flat_rows(x.numel())}), compute);
  run_flat(e.op, kSquares, compute, x.numel(), {&x, &target, &partials});
  double total = sum_in_order(partials), count = static_cast<double>(x.numel());
  if (e.attrs<MseAttrs>().mean())
    total = compute == DType::f64 ? total / count
                                  : static_cast<float>(total) / static_cast<float>(count);
  ensure(e.out[0], {}, x.dtype());
  store_double(e.out[0].data<char>(), e.out[0].dtype(), total);
}

double slope_factor(const MseAttrs& a, const Tensor& x) {
  return a.mean() ? 2 / static_cast<double>(x.numel()) : 2;
}

void eval_mse_gradient(const Eval& e) {
  Tensor x = dense(e.in[1]), target = dense(e.in[2]);
  double factor = slope_factor(e.attrs<MseAttrs>(), x);
  Tensor dx =
      e.out[0].defined() && e.out[0].is_contiguous() ? e.out[0] : empty(x.sizes(), x.dtype());
  run_flat(e.op, kSlopes, row_compute(x.dtype()), x.numel(), {&e.in[0], &x, &target, &dx}, &factor);
  if (!e.out[0].defined()) e.out[0] = dx;
  else if (!e.out[0].is_same(dx)) copy_elements(dx, e.out[0]);
}

void mse_samples(const OpDef& op, SampleSink& sink) {
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t reduction : {kReduceMean, kReduceSum}) {
      MseAttrs a{reduction};
      const SampleSink::Input in[] = {{Shape{}, t, 0.5, 1.5}, {Shape{5, 9}, t}, {Shape{5, 9}, t}};
      sink.add(std::span(in).last(op.inputs), &a, sizeof a);
    }
}

}  // namespace

constinit OpDef kMseLossBackward{
    .name = "mse_loss_backward",
    .doc = "(x - target) * (g * 2 / count) of (g, x, target).",
    .version = 2,
    .inputs = 3,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(MseAttrs),
    .fields = kMseFields,
    .infer =
        [](const TypeRule& t) {
          check_reduction(t);
          require_elements(t, 0, 1);
          require_shape(t, 2, t.in[1].shape);
          t.out[0] = t.in[1];
        },
    .eval = eval_mse_gradient,
    .composite =
        [](const Eval& e) {
          Tensor x = widen(e.in[1]),
                 scale = mul(widen(e.in[0]), number(slope_factor(e.attrs<MseAttrs>(), e.in[1])));
          e.out[0] = rounded(mul(sub(x, widen(e.in[2])), scale), e.in[1].dtype());
        },
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kSlopes); },
    .cost = cheap_cost,
    .samples = mse_samples,
    .max_ulp = 2};

constinit OpDef kMseLoss{
    .name = "mse_loss",
    .doc = "The sum or mean of (x - target)^2.",
    .version = 2,
    .inputs = 2,
    .round = Round::fused,
    .space = Space::opaque,
    .attr_bytes = sizeof(MseAttrs),
    .fields = kMseFields,
    .infer =
        [](const TypeRule& t) {
          check_reduction(t);
          require_shape(t, 1, t.in[0].shape);
          t.out[0] = {t.in[0].dtype, false, Shape{}};
        },
    .eval = eval_mse,
    .vjp =
        [](const Vjp& v) {
          Tensor dx = apply(kMseLossBackward, v.attrs<MseAttrs>(), {v.grad[0], v.in[0], v.in[1]});
          if (v.needs(0)) v.result[0] = dx;
          if (v.needs(1)) v.result[1] = neg(dx);
        },
    .saves = kSaveBoth,
    .composite =
        [](const Eval& e) {
          Tensor d = sub(widen(e.in[0]), widen(e.in[1])),
                 total = sum(flatten(mul(d, d)), Ints({0}));
          if (e.attrs<MseAttrs>().mean())
            total = div(total, number(static_cast<double>(d.numel())));
          e.out[0] = rounded(total, e.in[0].dtype());
        },
    .kernels = [](const OpDef& op, KernelSink& sink) { emit(op, sink, kSquares); },
    .cost = cheap_cost,
    .samples = mse_samples,
    .max_ulp = 16};

Reduction reduction_of(const char* op, std::string_view text, OptBool size_average,
                       OptBool reduce) {
  if (size_average || reduce) {
    if (!reduce.value_or(true)) return kReduceNone;
    return size_average.value_or(true) ? kReduceMean : kReduceSum;
  }
  if (text == "mean") return kReduceMean;
  if (text == "sum") return kReduceSum;
  if (text == "none") return kReduceNone;
  fail(ErrorKind::value, "{}: reduction must be 'none', 'mean' or 'sum', got '{}'", op, text);
}

Tensor checked_classes(const char* op, const Tensor& target, int64_t classes,
                       int64_t ignore_index) {
  Tensor t = dense(to_dtype(target, DType::i64)), result;
  const auto* values = t.data<int64_t>();
  for (int64_t k = 0; k < t.numel(); ++k) {
    if (values[k] == ignore_index) {
      if (!result.defined() && ignore_index != -1) result = clone(t.detach());
      if (result.defined()) result.data<int64_t>()[k] = -1;
    } else if (values[k] < 0 || values[k] >= classes) [[unlikely]] {
      fail(ErrorKind::index,
           "{}: target {} is out of range for {} classes{}. Entries equal to ignore_index "
           "({}) do not count",
           op, values[k], classes, position_text(target.sizes(), k), ignore_index);
    }
  }
  return result.defined() ? result : t;
}

namespace {

struct ClassesAttrs {
  int64_t classes, ignore_index;
};
constexpr Field kClassesFields[] = {
    {"classes", FieldKind::integer, offsetof(ClassesAttrs, classes), "number of classes"},
    {"ignore_index", FieldKind::integer, offsetof(ClassesAttrs, ignore_index),
     "the one other value that is allowed"}};

}  // namespace

/// A primitive, because a cast has no value that it refuses.
constinit OpDef kClassTargets{
    .name = "class_targets",
    .doc =
        "Class indices as int64, -1 where they are ignore_index; raises for others outside of [0, classes).",
    .space = Space::elementwise,
    .attr_bytes = sizeof(ClassesAttrs),
    .fields = kClassesFields,
    .infer =
        [](const TypeRule& t) {
          require(t, !is_floating(t.in[0].dtype), "class indices must be integers");
          t.out[0] = {DType::i64, false, t.in[0].shape};
        },
    .eval =
        [](const Eval& e) {
          const auto& a = e.attrs<ClassesAttrs>();
          Tensor t = checked_classes("nll_loss", e.in[0], a.classes, a.ignore_index);
          ensure(e.out[0], e.in[0].sizes(), DType::i64);
          copy_elements(t, e.out[0]);
        },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          ClassesAttrs a{3, -100};
          for (DType t : {DType::i64, DType::u8}) {
            const SampleSink::Input in[] = {{Shape{3, 5}, t, 0, 2}};
            sink.add(in, &a, sizeof a);
          }
        }};

Tensor reduced(const Tensor& values, Reduction r) {
  return r == kReduceNone ? values : r == kReduceMean ? mean(values) : sum(values);
}

namespace {

/// Losses want one shape; PyTorch broadcasts.
void fit(const char* op, Tensor& x, Tensor& target) {
  if (std::ranges::equal(x.sizes(op), target.sizes(op))) return;
  Shape shape = broadcast_shapes(op, x.sizes(), target.sizes());
  x = expand(x, shape), target = expand(target, shape);
}

Tensor weighed(const Tensor& values, const Tensor& weight, Reduction r) {
  return reduced(weight.defined() ? mul(values, weight) : values, r);
}

}  // namespace

Tensor mse_loss(const Tensor& input, const Tensor& target, OptBool size_average, OptBool reduce,
                std::string_view reduction, const Tensor& weight) {
  Reduction r = reduction_of("mse_loss", reduction, size_average, reduce);
  Tensor x = input, t = target;
  fit("mse_loss", x, t);
  const Tensor both[] = {x, t};
  DType dtype = common_dtype(both);
  if (r == kReduceNone || weight.defined() || !is_floating(dtype)) {
    Tensor d = sub(x, t), values = mul(d, d);
    if (r != kReduceMean || !weight.defined()) return weighed(values, weight, r);
    return div(sum(mul(values, weight)), sum(expand(weight, values.sizes())));
  }
  return apply(kMseLoss, MseAttrs{r}, {to_dtype(x, dtype), to_dtype(t, dtype)});
}

Tensor l1_loss(const Tensor& input, const Tensor& target, OptBool size_average, OptBool reduce,
               std::string_view reduction, const Tensor& weight) {
  Reduction r = reduction_of("l1_loss", reduction, size_average, reduce);
  Tensor values = abs(sub(input, target));
  if (r != kReduceMean || !weight.defined()) return weighed(values, weight, r);
  return div(sum(mul(values, weight)), sum(expand(weight, values.sizes())));
}

Tensor kl_div(const Tensor& input, const Tensor& target, OptBool size_average, OptBool reduce,
              std::string_view reduction, bool log_target) {
  Tensor values;
  if (log_target) {
    values = mul(exp(target), sub(target, input));
  } else {  // 0 * log(0) is 0
    Tensor positive = gt(target, number(0));
    values = sub(mul(target, log(where(positive, target, ones({}, target.dtype())))),
                 mul(target, input));
  }
  if (reduction == "batchmean" && !size_average && !reduce)
    return div(sum(values), number(static_cast<double>(input.dim() ? input.size(0) : 1)));
  return reduced(values, reduction_of("kl_div", reduction, size_average, reduce));
}

Tensor nll_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                OptBool size_average, int64_t ignore_index, OptBool reduce,
                std::string_view reduction) {
  const char* op = "nll_loss";
  Reduction r = reduction_of(op, reduction, size_average, reduce);
  if (input.dim() == 0)
    fail(ErrorKind::runtime, "{}: the input must be (C) or (N, C, ...), got a 0-dim tensor", op);
  int64_t dim = input.dim() > 1 ? 1 : 0, classes = input.size(dim);
  Shape wanted = without_dim(input.sizes(), dim, false);
  if (is_floating(target.dtype()) || !std::ranges::equal(target.sizes(), Ints(wanted)))
    fail(
        ErrorKind::value,
        "{}: for input of shape {} the target must be class indices of shape {}, got {} of shape {}",
        op, shape_text(input.sizes()), shape_text(wanted), name(target.dtype()),
        shape_text(target.sizes()));
  Tensor t = apply(kClassTargets, ClassesAttrs{classes, ignore_index}, {target});
  Tensor counted = ge(t, Scalar(0).tensor()), safe = where(counted, t, Scalar(0).tensor());
  Tensor zero = zeros({}, input.dtype()),
         values = neg(squeeze(gather(input, dim, unsqueeze(safe, dim)), OptInts(Ints(&dim, 1))));
  Tensor factor = weight.defined() ? reshape(index_select(weight, 0, flatten(safe)), safe.sizes())
                                   : ones({}, input.dtype());
  values = where(counted, mul(values, factor), zero);
  if (r != kReduceMean) return reduced(values, r);
  return div(sum(values), sum(where(counted, factor, zero)));
}

namespace {

OpDef* const kOps[] = {&kMseLoss, &kMseLossBackward, &kClassTargets};

const Function kFunctions[] = {
    {"mse_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', Tensor? weight=None) -> Tensor",
     "(input - target)^2, reduced.", kFunction | kNN, thunk<&mse_loss>},
    {"l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', Tensor? weight=None) -> Tensor",
     "|input - target|, reduced.", kNN, thunk<&l1_loss>},
    {"kl_div(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, str reduction='mean', bool log_target=False) -> Tensor",
     "target * (log(target) - input) of log probabilities input; 'batchmean' divides the sum by the batch size.",
     kFunction | kNN, thunk<&kl_div>},
    {"nll_loss(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, int ignore_index=-100, bool? reduce=None, str reduction='mean') -> Tensor",
     "-input at the target class of log probabilities (N, C, ...) or (C), weighed and reduced.",
     kNN, thunk<&nll_loss>},
};

}  // namespace

extern const OpFile loss_ops;
const OpFile loss_ops{kOps, kFunctions};

}  // namespace fluxion
