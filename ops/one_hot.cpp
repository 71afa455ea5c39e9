// Class numbers: as rows of zeros with a one, and counted.
#include "base/checked.h"
#include "ops/apply.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/requirements.h"
#include "ops/scatter.h"

namespace fluxion {

namespace {

struct OneHotAttrs {
  int64_t classes;
};
constexpr Field kOneHotFields[] = {
    {"classes", FieldKind::integer, offsetof(OneHotAttrs, classes), "length of the new last dim"}};

Shape one_hot_shape(Ints classes, const OneHotAttrs& a) {
  Shape shape(classes);
  shape.push_back(a.classes);
  return shape;
}

Tensor rows_of_zeros_with_a_one(const Tensor& classes, const OneHotAttrs& a) {
  return scatter_into_zeros(one_hot_shape(classes.sizes(), a), classes.dim(),
                            unsqueeze(classes, -1), scalar(int64_t{1}, DType::i64));
}

void eval_one_hot(const Eval& e) {
  const auto& a = e.attrs<OneHotAttrs>();
  if (e.in[0].numel()) {
    int64_t low = amin(e.in[0]).item_int(), high = amax(e.in[0]).item_int();
    if (low < 0) fail(ErrorKind::runtime, "one_hot: classes must not be negative, got {}", low);
    if (high >= a.classes)
      fail(ErrorKind::runtime, "one_hot: class {} needs num_classes > {}, got {}", high, high,
           a.classes);
  }
  deliver(e.out[0], rows_of_zeros_with_a_one(e.in[0], a), DType::i64);
}

}  // namespace

constinit OpDef kOneHot{
    .name = "one_hot",
    .doc = "Zeros with a 1 at the class number along a new last dim; raises for other classes.",
    .round = Round::fused,
    .attr_bytes = sizeof(OneHotAttrs),
    .fields = kOneHotFields,
    .infer =
        [](const TypeRule& t) {
          require_indices(t, 0);
          require(t, t.attrs<OneHotAttrs>().classes > 0 && moderate(t.attrs<OneHotAttrs>().classes),
                  "there must be classes");
          t.out[0] = {DType::i64, false, one_hot_shape(t.in[0].shape, t.attrs<OneHotAttrs>())};
        },
    .eval = eval_one_hot,
    .composite =
        [](const Eval& e) { e.out[0] = rows_of_zeros_with_a_one(e.in[0], e.attrs<OneHotAttrs>()); },
    .cost = cheap_cost,
    .samples =
        [](const OpDef&, SampleSink& sink) {
          OneHotAttrs a{4};
          for (DType t : {DType::i64, DType::i32}) {
            const SampleSink::Input in[] = {{Shape{3, 5}, t, 0, 3}};
            sink.add(in, &a, sizeof a);
          }
        }};

Tensor one_hot(const Tensor& classes, int64_t num_classes) {
  check_index_dtype("one_hot", classes);
  if (num_classes == 0 || num_classes < -1)
    fail(ErrorKind::runtime,
         "one_hot: num_classes must be positive (or -1: one more than the greatest class), got {}",
         num_classes);
  if (classes.numel() == 0 && num_classes < 0)
    fail(ErrorKind::runtime, "one_hot: num_classes must be given for a tensor without elements");
  if (num_classes < 0) num_classes = checked_add(std::max<int64_t>(amax(classes).item_int(), 0), 1);
  return apply(kOneHot, OneHotAttrs{num_classes}, {classes});
}

Tensor bincount(const Tensor& x, const Tensor& weights, int64_t minlength) {
  if (x.dim() != 1 || is_floating(x.dtype()) || x.dtype() == DType::bool_)
    fail(ErrorKind::runtime, "bincount: needs a 1-dim integer tensor, got {}", type_text(x));
  if (minlength < 0)
    fail(ErrorKind::runtime, "bincount: minlength must not be negative, got {}", minlength);
  if (weights.defined() && !std::ranges::equal(weights.sizes(), x.sizes()))
    fail(ErrorKind::runtime, "bincount: weights must have the input's shape {}, got {}",
         shape_text(x.sizes()), shape_text(weights.sizes()));
  int64_t bins = minlength;
  if (x.numel()) {
    int64_t low = amin(x).item_int();
    if (low < 0) fail(ErrorKind::runtime, "bincount: needs non-negative numbers, got {}", low);
    bins = std::max(bins, checked_add(amax(x).item_int(), 1));
  }
  Tensor each = scalar(int64_t{1}, DType::i64);
  if (weights.defined())
    each = to_dtype(weights, weights.dtype() == DType::f32 ? DType::f32 : DType::f64);
  return scatter_into_zeros(Shape{bins}, 0, to_dtype(x, DType::i64), each);
}

namespace {

OpDef* const kOps[] = {&kOneHot};

const Function kFunctions[] = {
    {"bincount(Tensor input, Tensor? weights=None, int minlength=0) -> Tensor",
     "How often each number from 0 on occurs; with weights, the sum of theirs.",
     kFunction | kMethod, thunk<&bincount>},
    {"one_hot(Tensor input, int num_classes=-1) -> Tensor",
     "An int64 tensor with one more dim: 1 at the class number, else 0.", kPrivate | kNN,
     thunk<&one_hot>},
};

}  // namespace

extern const OpFile one_hot_ops;
const OpFile one_hot_ops{kOps, kFunctions};

}  // namespace fluxion
