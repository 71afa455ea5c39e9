// Cross entropy of logits with class indices: log-softmax, pick, weigh, smooth and reduce in one op.
#include "ops/cross_entropy.h"

#include "ops/copy.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"

namespace fluxion {

using loops::Mask;
using loops::Term;
using loops::Value;

namespace {

/// Kernel parameters.
struct Params {
  double ignored;              // what checked_classes puts for ignored targets
  double hard, soft, weights;  // 1 - smoothing, smoothing / classes, sum of the weights
};

struct Target {
  Value place;  // class number, 0 where ignored
  Mask counted;
};
template <class L>
Target load_target(const L& l, int arg) {
  Value t = l.load_as_stored(arg);
  Mask counted = t != loops::cast(l.builder().param(0), loops::Elem::i64);
  return {loops::select(counted, t, 0), counted};
}

/// Whether the classes at place i are the target.
Mask is_target(const Row& r, const loops::Index& i, Value place) {
  return r.column(i) == loops::cast(place, loops::int_elem(r.elem()));
}
Mask is_target(const Column& c, Value i, Value place) {
  auto whole = loops::int_elem(c.elem());
  return loops::cast(place, whole) == loops::cast(i, whole);
}

/// The element of operand `arg` at the target class.
Value picked(const Row& r, int arg, Value place) { return r.load_at(arg, place); }
Value picked(const Column& c, int arg, Value place) {
  return c.reduce_sum([&](const auto& i) -> Term {
    return loops::select(is_target(c, i, place), c.load(arg, i), 0);
  });
}

/// logits, target, weights -> loss, logsumexp, weight of the target
template <class L, bool Smooth>
void forward(L& l) {
  Value most = largest(l);
  Value log_sum = loops::log(sum_of_exponentials(l, most));
  Target t = load_target(l, 1);
  Value weight = picked(l, 2, t.place);
  Value loss = -((picked(l, 0, t.place) - most - log_sum) * weight);
  if constexpr (Smooth) {
    Value spread = l.reduce_sum(
        [&](const auto& i) -> Term { return (l.load(0, i) - most - log_sum) * l.load(2, i); });
    loss = loss * l.param(1) - spread * l.param(2);
  }
  store_result(l, 3, loops::select(t.counted, loss, 0));
  store_result(l, 4, log_sum + most);
  store_result(l, 5, loops::select(t.counted, weight, 0));
}

/// gradient per entry, logits, target, logsumexp, weights -> gradient of the logits
template <class L, bool Smooth>
void gradient(L& l) {
  Value lse = l.load(3);
  Target t = load_target(l, 2);
  Value g = loops::select(t.counted, l.load(0), 0), weight = picked(l, 4, t.place);
  Value mass = Smooth ? weight * l.param(1) + l.param(3) * l.param(2) : weight;
  l.each([&](const auto& i) {
    Value share = loops::select(is_target(l, i, t.place), weight, 0);
    if constexpr (Smooth) share = share * l.param(1) + l.load(4, i) * l.param(2);
    l.store(5, i, (loops::exp(l.load(1, i) - lse) * mass - share) * g);
  });
}

constexpr auto element = Extent::element, column = Extent::column, row = Extent::row;
constexpr Slot kForwardRows[] = {element, {row, DType::i64}, column, row, row, row};
constexpr Slot kForwardColumns[] = {element, {column, DType::i64}, row, column, column, column};
constexpr Slot kGradientRows[] = {row, element, {row, DType::i64}, row, column, element};
constexpr Slot kGradientColumns[] = {column, element, {column, DType::i64}, column, row, element};

constexpr AlongPrograms kForward[] = {{{0, 3, kForwardRows, forward<Row, false>, 1},
                                       {1, 3, kForwardColumns, forward<Column, false>, 1}},
                                      {{2, 3, kForwardRows, forward<Row, true>, 1},
                                       {3, 3, kForwardColumns, forward<Column, true>, 1}}};
constexpr AlongPrograms kGradient[] = {{{0, 5, kGradientRows, gradient<Row, false>, 1},
                                        {1, 5, kGradientColumns, gradient<Column, false>, 1}},
                                       {{2, 5, kGradientRows, gradient<Row, true>, 1},
                                        {3, 5, kGradientColumns, gradient<Column, true>, 1}}};

template <const AlongPrograms (&P)[2]>
void kernels_of(const OpDef& op, KernelSink& sink) {
  for (const AlongPrograms& p : P) emit(op, sink, p);
}

Params params_of(const CrossEntropyAttrs& a, int64_t classes) {
  return {-1, 1 - a.label_smoothing, a.label_smoothing / static_cast<double>(classes), 0};
}

void eval(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<CrossEntropyAttrs>();
  const Tensor& x = e.in[0];
  AlongDim along_classes = along(x.sizes(), class_dim(x));
  DType compute = row_compute(x.dtype());
  Tensor target = checked_classes("cross_entropy", e.in[1], along_classes.n, a.ignore_index);
  Tensor weights = class_weights(a.has_weight ? &e.in[2] : nullptr, along_classes, compute);
  Tensor entries = empty(target.sizes(), compute), weight = empty(target.sizes(), compute);
  ensure(e.out[1], target.sizes(), compute);
  Params p = params_of(a, along_classes.n);
  const AlongPrograms& programs = kForward[a.label_smoothing != 0];
  run(e.op, programs, compute, along_classes, {&x, &target, &weights, &entries, &e.out[1], &weight},
      &p.ignored);
  if (a.reduction == kReduceMean) e.out[2] = sum(flatten(weight), Ints({0}));
  e.out[0] = to_dtype(reduce_entries(entries, e.out[2], a.reduction), x.dtype());
}

/// Classes as bools: the target's class; and whether the entry counts.
struct Picks {
  Tensor chosen, counted;
};
Picks picks(const Tensor& x, const Tensor& target, int64_t ignore_index) {
  Tensor classes = reshape(arange(Scalar(0), Scalar(x.size(class_dim(x)))), class_shape(x));
  Tensor counted = ne(target, Scalar(ignore_index).tensor());
  return {eq(classes, unsqueeze(where(counted, target, Scalar(0).tensor()), class_dim(x))),
          counted};
}

Tensor weights_over(const Tensor& x, const Tensor* weight) {
  DType compute = row_compute(x.dtype());
  return weight ? reshape(widen(*weight), class_shape(x)) : ones(class_shape(x), compute);
}

void compose(const Eval& e) {
  const auto& a = e.attrs<CrossEntropyAttrs>();
  Tensor x = widen(e.in[0]), target = to_dtype(e.in[1], DType::i64), zero = zeros({}, x.dtype());
  int64_t dim = class_dim(x);
  Params p = params_of(a, x.size(dim));
  auto [chosen, counted] = picks(x, target, a.ignore_index);
  Tensor weights = weights_over(x, a.has_weight ? &e.in[2] : nullptr), log_p = log_softmax(x, dim);
  auto pick = [&](const Tensor& t) { return sum(where(chosen, t, zero), Ints(&dim, 1)); };
  Tensor weight = pick(weights), entries = neg(mul(pick(log_p), weight));
  if (a.label_smoothing != 0)
    entries = sub(mul(entries, number(p.hard)),
                  mul(sum(mul(log_p, weights), Ints(&dim, 1)), number(p.soft)));
  if (a.reduction == kReduceMean) e.out[2] = sum(flatten(where(counted, weight, zero)), Ints({0}));
  e.out[1] = logsumexp(x, Ints(&dim, 1));
  e.out[0] = to_dtype(reduce_entries(where(counted, entries, zero), e.out[2], a.reduction),
                      e.in[0].dtype());
}

void eval_gradient(const Eval& e) {
  NoGrad plain;
  const auto& a = e.attrs<CrossEntropyAttrs>();
  const Tensor &x = e.in[1], &total = e.in[4];
  AlongDim along_classes = along(x.sizes(), class_dim(x));
  DType compute = row_compute(x.dtype());
  Tensor target =
      checked_classes("cross_entropy_backward", e.in[2], along_classes.n, a.ignore_index);
  Tensor weights = class_weights(a.has_weight ? &e.in[5] : nullptr, along_classes, compute);
  Tensor g = entry_gradients(widen(e.in[0]), total, a.reduction, target.sizes());
  ensure(e.out[0], x.sizes(), x.dtype());
  Params p = params_of(a, along_classes.n);
  if (a.label_smoothing != 0)
    p.weights =
        a.has_weight ? sum(widen(e.in[5]), Ints({0})).item() : static_cast<double>(along_classes.n);
  const AlongPrograms& programs = kGradient[a.label_smoothing != 0];
  run(e.op, programs, compute, along_classes, {&g, &x, &target, &e.in[3], &weights, &e.out[0]},
      &p.ignored);
}

void compose_gradient(const Eval& e) {
  const auto& a = e.attrs<CrossEntropyAttrs>();
  Tensor x = widen(e.in[1]), target = to_dtype(e.in[2], DType::i64), zero = zeros({}, x.dtype());
  int64_t dim = class_dim(x);
  Params p = params_of(a, x.size(dim));
  auto [chosen, counted] = picks(x, target, a.ignore_index);
  Tensor weights = weights_over(x, a.has_weight ? &e.in[5] : nullptr);
  Tensor share = where(chosen, weights, zero), mass = sum(share, Ints(&dim, 1), true);
  if (a.label_smoothing != 0) {
    Tensor all = sum(flatten(weights), Ints({0}));
    mass = add(mul(mass, number(p.hard)), mul(all, number(p.soft)));
    share = add(mul(share, number(p.hard)), mul(weights, number(p.soft)));
  }
  Tensor g =
      where(counted, entry_gradients(widen(e.in[0]), e.in[4], a.reduction, target.sizes()), zero);
  Tensor probability = exp(sub(x, unsqueeze(e.in[3], dim)));
  e.out[0] = rounded(mul(sub(mul(probability, mass), share), unsqueeze(g, dim)), e.in[1].dtype());
}

/// Logits of some classes, a class per entry, a weight per class.
void require_classes(const TypeRule& t, size_t logits, size_t target, size_t weight) {
  const auto& a = t.attrs<CrossEntropyAttrs>();
  require_rank(t, logits, 1);
  require_floating(t, logits);
  Ints x = t.in[logits].shape;
  int64_t dim = x.size() > 1 ? 1 : 0;
  require_shape(t, target, without_dim(x, dim, false));
  require(t, is_integral(t.in[target].dtype), "the target must hold classes");
  if (a.has_weight) require_shape(t, weight, Shape{x[static_cast<size_t>(dim)]});
  require(t, a.reduction >= 0 && a.reduction <= 2, "no such reduction");
  constexpr int64_t kExact = int64_t{1} << 53;  // kernels read it as a double
  require(t, a.ignore_index >= -kExact && a.ignore_index <= kExact, "ignore_index is out of range");
}

constexpr SaveRule kSaves[] = {{7, 6}, {}, {7, 7}};

/// Gradient of the class weights: through the entries, and through the total that a mean divides by.
Tensor weight_gradient(const Vjp& v) {
  const auto& a = v.attrs<CrossEntropyAttrs>();
  const Tensor &x = v.in[0], &lse = v.out[1], &total = v.out[2];
  Tensor target = to_dtype(v.in[1], DType::i64), zero = zeros({}, lse.dtype()), share;
  int64_t dim = class_dim(x);
  Params p = params_of(a, x.size(dim));
  auto [chosen, counted] = picks(x, target, a.ignore_index);
  Tensor of_total = v.grad[2];
  if (v.grad[0].defined()) {
    Tensor g =
        where(counted, entry_gradients(widen(v.grad[0]), total, a.reduction, target.sizes()), zero);
    Tensor mass = add(where(chosen, full({}, p.hard, lse.dtype()), zero), number(p.soft));
    share = mul(mul(sub(unsqueeze(lse, dim), x), mass), unsqueeze(g, dim));
    if (a.reduction == kReduceMean) {
      Tensor through = neg(mul(widen(v.grad[0]), div(v.out[0], total)));
      of_total = of_total.defined() ? add(of_total, through) : through;
    }
  }
  if (of_total.defined()) {
    Tensor more = where(logical_and(chosen, unsqueeze(counted, dim)), of_total, zero);
    share = share.defined() ? add(share, more) : more;
  }
  return share.defined() ? reshape(sum_to_size(share, class_shape(x)), Ints({x.size(dim)})) : share;
}

void samples(const OpDef& op, SampleSink& sink) {
  using Input = SampleSink::Input;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (int64_t variant = 0; variant < 12; ++variant) {
      CrossEntropyAttrs a{variant & 1 ? 0.25 : 0.0, 2, variant / 4, variant >> 1 & 1};
      bool spatial = variant % 3 == 0;
      Shape shape = spatial ? Shape{4, 5, 3} : Shape{6, 5},
            entries = spatial ? Shape{4, 3} : Shape{6};
      DType s = row_compute(t);
      Input x{shape, t, -3, 3}, target{entries, DType::i64, 0, 4}, weight{Shape{5}, t, 0.5, 1.5};
      Input g{a.reduction ? Shape{} : entries, t, 0.5, 1.5}, lse{entries, s, 3, 5},
          total{Shape{}, s, 3, 6};
      const Input forward[] = {x, target, weight}, backward[] = {g, x, target, lse, total, weight};
      auto n = static_cast<size_t>(a.has_weight);
      sink.add(op.outputs == 3 ? std::span(forward, 2 + n) : std::span(backward, 5 + n), &a,
               sizeof a);
    }
}

}  // namespace

constinit OpDef kCrossEntropyBackward{
    .name = "cross_entropy_backward",
    .doc =
        "(mass * exp(x - logsumexp) - share) * g of (g, logits, target, logsumexp, total weight, [weight]).",
    .inputs = 255,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(CrossEntropyAttrs),
    .fields = kCrossEntropyFields,
    .infer =
        [](const TypeRule& t) {
          require_count(t, 5 + t.attrs<CrossEntropyAttrs>().has_weight);
          require_classes(t, 1, 2, 5);
          int64_t entries = element_count(t.in[2].shape);
          require_elements(t, 0, t.attrs<CrossEntropyAttrs>().reduction ? 1 : entries);
          require_elements(t, 3, entries);
          require_elements(t, 4, 1);
          t.out[0] = t.in[1];
        },
    .eval = eval_gradient,
    .composite = compose_gradient,
    .kernels = kernels_of<kGradient>,
    .cost = rowwise_cost,
    .samples = samples,
    .max_ulp = 64};

constinit OpDef kCrossEntropy{
    .name = "cross_entropy",
    .doc =
        "-log(softmax(logits))[target] weighed, smoothed and reduced; also logsumexp and the total weight (of mean).",
    .inputs = 255,
    .outputs = 3,
    .round = Round::fused,
    .space = Space::rowwise,
    .attr_bytes = sizeof(CrossEntropyAttrs),
    .fields = kCrossEntropyFields,
    .infer =
        [](const TypeRule& t) {
          const auto& a = t.attrs<CrossEntropyAttrs>();
          require_count(t, 2 + a.has_weight);
          require_classes(t, 0, 1, 2);
          DType compute = row_compute(t.in[0].dtype);
          t.out[0] = {t.in[0].dtype, false, a.reduction ? Shape{} : t.in[1].shape};
          t.out[1] = {compute, false, t.in[1].shape};
          if (a.reduction == kReduceMean) t.out[2] = {compute, false, Shape{}};
        },
    .eval = eval,
    .vjp =
        [](const Vjp& v) {
          const auto& a = v.attrs<CrossEntropyAttrs>();
          if (a.has_weight && v.needs(2)) v.result[2] = weight_gradient(v);
          if (!v.needs(0)) return;
          const Tensor &x = v.in[0], &lse = v.out[1];
          Tensor dx;
          if (v.grad[0].defined()) {
            Tensor total = v.out[2].defined() ? v.out[2] : ones({}, lse.dtype());
            const Tensor in[] = {v.grad[0], x,     v.in[1],
                                 lse,       total, a.has_weight ? v.in[2] : Tensor()};
            dx = apply(kCrossEntropyBackward, &a,
                       std::span(in, 5 + static_cast<size_t>(a.has_weight)));
          }
          if (v.grad[1]
                  .defined()) {  // of logsumexp; arrives when a gradient of ours is differentiated
            int64_t dim = class_dim(x);
            Tensor more = mul(unsqueeze(v.grad[1], dim), exp(sub(x, unsqueeze(lse, dim))));
            dx = dx.defined() ? add(dx, more) : more;
          }
          v.result[0] = dx;
        },
    .saves = kSaves,
    .composite = compose,
    .kernels = kernels_of<kForward>,
    .cost = rowwise_cost,
    .samples = samples,
    .max_ulp = 32};

namespace {

OpDef* const kOps[] = {&kCrossEntropy, &kCrossEntropyBackward};

}  // namespace

extern const OpFile cross_entropy_ops;
const OpFile cross_entropy_ops{kOps, {}};

}  // namespace fluxion
