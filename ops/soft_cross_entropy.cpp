// Cross entropy of logits with class probabilities, and what both kinds of targets share.
#include "ops/copy.h"
#include "ops/cross_entropy.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Term;
using loops::Value;

namespace {

/// Kernel parameters: 1 - smoothing, smoothing / classes.
struct Params {
  double hard, soft;
};

/// The weighed target of a class: operands `target` and `weight` at place i.
template <class L, class At>
Value share_at(const L& l, int target, int weight, const At& i) {
  return (l.load(target, i) * l.param(0) + l.param(1)) * l.load(weight, i);
}

/// logits, target, weights -> loss, logsumexp
template <class L>
void forward(L& l) {
  Value most = largest(l);
  Value log_sum = loops::log(sum_of_exponentials(l, most));
  Value loss = l.reduce_sum([&](const auto& i) -> Term {
    return (l.load(0, i) - most - log_sum) * share_at(l, 1, 2, i);
  });
  store_result(l, 3, -loss);
  store_result(l, 4, log_sum + most);
}

/// gradient per entry, logits, target, logsumexp, weights -> gradient of the logits
template <class L>
void gradient(L& l) {
  Value g = l.load(0), lse = l.load(3);
  Value mass = l.reduce_sum([&](const auto& i) -> Term { return share_at(l, 2, 4, i); });
  l.each([&](const auto& i) {
    l.store(5, i, (loops::exp(l.load(1, i) - lse) * mass - share_at(l, 2, 4, i)) * g);
  });
}

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;
constexpr Slot kForwardRows[] = {element, element, column, row, row};
constexpr Slot kForwardColumns[] = {element, element, row, column, column};
constexpr Slot kGradientRows[] = {row, element, element, row, column, element};
constexpr Slot kGradientColumns[] = {column, element, element, column, row, element};
constexpr AlongPrograms kForward{{0, 3, kForwardRows, forward<Row>, 1},
                                 {1, 3, kForwardColumns, forward<Column>, 1}};
constexpr AlongPrograms kGradient{{0, 5, kGradientRows, gradient<Row>, 1},
                                  {1, 5, kGradientColumns, gradient<Column>, 1}};

Params params_of(const CrossEntropyAttrs& a, int64_t classes) {
  return {1 - a.label_smoothing, a.label_smoothing / static_cast<double>(classes)};
}

/// `mean` divides by the number of entries.
Tensor entry_count(Ints entries, DType compute) {
  return full({}, static_cast<double>(element_count(entries)), compute);
}

void eval(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<CrossEntropyAttrs>();
  const Tensor& x = e.in[0];
  AlongDim along_classes = along(x.sizes(), class_dim(x));
  DType compute = row_compute(x.dtype());
  Shape shape = without_dim(x.sizes(), class_dim(x), false);
  Tensor weights = class_weights(a.has_weight ? &e.in[2] : nullptr, along_classes, compute),
         entries = empty(shape, compute);
  ensure(e.out[1], shape, compute);
  Params p = params_of(a, along_classes.n);
  run(e.op, kForward, compute, along_classes, {&x, &e.in[1], &weights, &entries, &e.out[1]},
      &p.hard);
  e.out[0] = to_dtype(reduce_entries(entries, entry_count(shape, compute), a.reduction), x.dtype());
}

/// Weighed target per class, in other ops.
Tensor shares(const Tensor& x, const Tensor& target, const Tensor* weight,
              const CrossEntropyAttrs& a) {
  Params p = params_of(a, x.size(class_dim(x)));
  Tensor share = add(mul(widen(target), number(p.hard)), number(p.soft));
  return weight ? mul(share, reshape(widen(*weight), class_shape(x))) : share;
}

void compose(const Eval& e) {
  const auto& a = e.attrs<CrossEntropyAttrs>();
  Tensor x = widen(e.in[0]), share = shares(x, e.in[1], a.has_weight ? &e.in[2] : nullptr, a);
  int64_t dim = class_dim(x);
  Tensor entries = neg(sum(mul(log_softmax(x, dim), share), Ints(&dim, 1)));
  e.out[1] = logsumexp(x, Ints(&dim, 1));
  e.out[0] = to_dtype(reduce_entries(entries, entry_count(entries.sizes(), x.dtype()), a.reduction),
                      e.in[0].dtype());
}

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<CrossEntropyAttrs>();
  const Tensor& x = e.in[1];
  AlongDim along_classes = along(x.sizes(), class_dim(x));
  DType compute = row_compute(x.dtype());
  Tensor weights = class_weights(a.has_weight ? &e.in[4] : nullptr, along_classes, compute);
  Ints entries = e.in[3].sizes();
  Tensor g = entry_gradients(widen(e.in[0]), entry_count(entries, compute), a.reduction, entries);
  ensure(e.out[0], x.sizes(), x.dtype());
  Params p = params_of(a, along_classes.n);
  run(e.op, kGradient, compute, along_classes, {&g, &x, &e.in[2], &e.in[3], &weights, &e.out[0]},
      &p.hard);
}

/// g of each entry as it broadcasts over the classes.
Tensor over_classes(const Tensor& g, const CrossEntropyAttrs& a, const Tensor& x) {
  Shape entries = without_dim(x.sizes(), class_dim(x), false);
  Tensor count = entry_count(entries, row_compute(x.dtype()));
  return unsqueeze(entry_gradients(widen(g), count, a.reduction, entries), class_dim(x));
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<CrossEntropyAttrs>();
  Tensor x = widen(e.in[1]), share = shares(x, e.in[2], a.has_weight ? &e.in[4] : nullptr, a);
  int64_t dim = class_dim(x);
  Tensor probability = exp(sub(x, unsqueeze(e.in[3], dim))), mass = sum(share, Ints(&dim, 1), true);
  e.out[0] = rounded(mul(sub(mul(probability, mass), share), over_classes(e.in[0], a, x)),
                     e.in[1].dtype());
}

/// Logits, then probabilities of their shape; a weight per class.
void require_soft_classes(const TypeRule& t, size_t logits, size_t weight) {
  const auto& a = t.attrs<CrossEntropyAttrs>();
  require_rank(t, logits, 1);
  require_floating(t, logits);
  Ints x = t.in[logits].shape;
  require_shape(t, logits + 1, x);
  if (a.has_weight) require_shape(t, weight, Shape{x[x.size() > 1 ? 1 : 0]});
  require(t, a.reduction >= 0 && a.reduction <= 2, "no such reduction");
}

constexpr SaveRule kSaves[] = {{7, 2}, {7, 2}, {7, 2}};

void vjp(const Vjp& v);

void samples(const OpDef& op, SampleSink& sink) {
  using Input = SampleSink::Input;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t variant = 0; variant < 6; ++variant) {
      CrossEntropyAttrs a{variant & 1 ? 0.25 : 0.0, -100, variant / 2, variant & 1};
      bool spatial = variant % 3 == 0;
      Shape shape = spatial ? Shape{4, 5, 3} : Shape{6, 5},
            entries = spatial ? Shape{4, 3} : Shape{6};
      Input x{shape, t, -3, 3}, target{shape, t, 0, 1}, weight{Shape{5}, t, 0.5, 1.5};
      Input g{a.reduction ? Shape{} : entries, t, 0.5, 1.5}, lse{entries, row_compute(t), 3, 5};
      const Input forward[] = {x, target, weight}, backward[] = {g, x, target, lse, weight};
      auto n = static_cast<size_t>(a.has_weight);
      sink.add(op.outputs == 2 ? std::span(forward, 2 + n) : std::span(backward, 4 + n), &a,
               sizeof a);
    }
}

}  // namespace

constinit OpDef kSoftCrossEntropyBackward{
    .name = "soft_cross_entropy_backward",
    .doc =
        "(mass * exp(x - logsumexp) - share) * g of (g, logits, probabilities, logsumexp, [weight]).",
    .inputs = 255,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(CrossEntropyAttrs),
    .fields = kCrossEntropyFields,
    .infer =
        [](const TypeRule& t) {
          require_count(t, 4 + t.attrs<CrossEntropyAttrs>().has_weight);
          require_soft_classes(t, 1, 4);
          Ints x = t.in[1].shape;
          Shape entries = without_dim(x, x.size() > 1 ? 1 : 0, false);
          require_shape(t, 3, entries);
          require_elements(t, 0,
                           t.attrs<CrossEntropyAttrs>().reduction ? 1 : element_count(entries));
          t.out[0] = t.in[1];
        },
    .eval = eval_gradient,
    .composite = compose_gradient,
    .kernels = kernels_along<kGradient>,
    .cost = rowwise_cost,
    .samples = samples,
    .max_ulp = 64};

constinit OpDef kSoftCrossEntropy{
    .name = "soft_cross_entropy",
    .doc =
        "-sum(log(softmax(logits)) * target * weight) over the classes, reduced; also logsumexp.",
    .inputs = 255,
    .outputs = 2,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(CrossEntropyAttrs),
    .fields = kCrossEntropyFields,
    .infer =
        [](const TypeRule& t) {
          const Type& x = t.in[0];
          require_count(t, 2 + t.attrs<CrossEntropyAttrs>().has_weight);
          require_soft_classes(t, 0, 2);
          Shape entries = without_dim(x.shape, x.shape.size() > 1 ? 1 : 0, false);
          t.out[0] = {x.dtype, false, t.attrs<CrossEntropyAttrs>().reduction ? Shape{} : entries};
          t.out[1] = {row_compute(x.dtype), false, entries};
        },
    .eval = eval,
    .vjp = vjp,
    .saves = kSaves,
    .composite = compose,
    .kernels = kernels_along<kForward>,
    .cost = rowwise_cost,
    .samples = samples,
    .max_ulp = 32};

namespace {

void vjp(const Vjp& v) {
  const auto& a = v.attrs<CrossEntropyAttrs>();
  const Tensor &x = v.in[0], &lse = v.out[1];
  int64_t dim = class_dim(x);
  auto accumulate = [&](size_t k, const Tensor& t) {
    v.result[k] = v.result[k].defined() ? add(v.result[k], t) : t;
  };
  if (v.needs(0) && v.grad[0].defined()) {
    const Tensor in[] = {v.grad[0], x, v.in[1], lse, a.has_weight ? v.in[2] : Tensor()};
    accumulate(0, apply(kSoftCrossEntropyBackward, &a,
                        std::span(in, 4 + static_cast<size_t>(a.has_weight))));
  }
  if (v.needs(0) &&
      v.grad[1].defined())  // of logsumexp; arrives when a gradient of ours is differentiated
    accumulate(0, mul(unsqueeze(v.grad[1], dim), exp(sub(x, unsqueeze(lse, dim)))));
  if (!v.grad[0].defined()) return;
  Tensor g = over_classes(v.grad[0], a, x);
  if (v.needs(1)) {
    Tensor slope = mul(sub(unsqueeze(lse, dim), x), number(1 - a.label_smoothing));
    v.result[1] = mul(a.has_weight ? mul(slope, reshape(v.in[2], class_shape(x))) : slope, g);
  }
  if (a.has_weight && v.needs(2))
    v.result[2] = reshape(
        sum_to_size(mul(mul(sub(unsqueeze(lse, dim), x), shares(x, v.in[1], nullptr, a)), g),
                    class_shape(x)),
        v.in[2].sizes());
}

}  // namespace

Shape class_shape(const Tensor& logits) {
  Shape shape(static_cast<size_t>(logits.dim() - class_dim(logits)), 1);
  shape[0] = logits.size(class_dim(logits));
  return shape;
}

Tensor class_weights(const Tensor* weight, const AlongDim& a, DType compute) {
  Tensor w = weight ? to_dtype(*weight, compute) : ones(Ints({a.n}), compute);
  return a.last ? w : dense(expand(w, Ints({a.outer, a.n})));
}

Tensor reduce_entries(const Tensor& entries, const Tensor& total, int64_t reduction) {
  if (reduction == kReduceNone) return entries;
  Tensor all = sum(flatten(entries), Ints({0}));
  return reduction == kReduceMean ? div(all, total) : all;
}

Tensor entry_gradients(const Tensor& g, const Tensor& total, int64_t reduction, Ints shape) {
  if (reduction == kReduceNone) return g;
  return expand(reduction == kReduceMean ? div(g, total) : g, shape);
}

Tensor cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight,
                     OptBool size_average, int64_t ignore_index, OptBool reduce,
                     std::string_view reduction, double label_smoothing) {
  const char* op = "cross_entropy";
  if (!is_floating(input.dtype()))
    fail(ErrorKind::runtime,
         "{}: the logits must have a floating dtype, got {}. Cast them with .float() first", op,
         name(input.dtype()));
  if (input.dim() == 0)
    fail(ErrorKind::runtime, "{}: the logits must be (C) or (N, C, ...), got a 0-dim tensor", op);
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    fail(ErrorKind::runtime, "{}: label_smoothing must be between 0 and 1, got {}", op,
         label_smoothing);
  int64_t dim = class_dim(input), classes = input.size(dim);
  if (weight.defined() && (weight.dim() != 1 || weight.numel() != classes))
    fail(ErrorKind::runtime, "{}: weight must have one element per class, shape ({},), got {}", op,
         classes, shape_text(weight.sizes()));
  CrossEntropyAttrs a{label_smoothing, ignore_index,
                      reduction_of(op, reduction, size_average, reduce), weight.defined()};
  bool soft = is_floating(target.dtype());
  Shape wanted = soft ? Shape(input.sizes()) : without_dim(input.sizes(), dim, false);
  if (!std::ranges::equal(target.sizes(), Ints(wanted)))
    fail(ErrorKind::value,
         "{}: for logits of shape {} the target must be {} of shape {}, got {} of shape {}", op,
         shape_text(input.sizes()), soft ? "class probabilities" : "class indices",
         shape_text(wanted), name(target.dtype()), shape_text(target.sizes()));
  const Tensor in[] = {input, target, weight};
  Tensor out[3];
  apply(soft ? kSoftCrossEntropy : kCrossEntropy, &a,
        std::span(in, 2 + static_cast<size_t>(a.has_weight)), std::span(out, soft ? 2 : 3));
  return out[0];
}

namespace {

OpDef* const kOps[] = {&kSoftCrossEntropy, &kSoftCrossEntropyBackward};

const Function kFunctions[] = {
    {"cross_entropy(Tensor input, Tensor target, Tensor? weight=None, bool? size_average=None, int ignore_index=-100, "
     "bool? reduce=None, str reduction='mean', float label_smoothing=0.0) -> Tensor",
     "Cross entropy of logits (N, C, ...) or (C) with class indices (N, ...) or class probabilities of the logits' shape.",
     kFunction | kNN, thunk<&cross_entropy>},
};

}  // namespace

extern const OpFile soft_cross_entropy_ops;
const OpFile soft_cross_entropy_ops{kOps, kFunctions};

}  // namespace fluxion
