// Class numbers: as rows of zeros with a one, and counted.
#include "base/checked.h"
#include "ops/copy.h"
#include "ops/functions.h"
#include "ops/index.h"
#include "ops/scatter.h"

namespace fluxion {

Tensor one_hot(const Tensor& classes, int64_t num_classes) {
  check_index_dtype("one_hot", classes);
  if (num_classes == 0 || num_classes < -1)
    fail(ErrorKind::runtime,
         "one_hot: num_classes must be positive (or -1: one more than the greatest class), got {}",
         num_classes);
  if (classes.numel() == 0 && num_classes < 0)
    fail(ErrorKind::runtime, "one_hot: num_classes must be given for a tensor without elements");
  if (classes.numel()) {
    int64_t low = amin(classes).item_int(), high = amax(classes).item_int();
    if (low < 0) fail(ErrorKind::runtime, "one_hot: classes must not be negative, got {}", low);
    if (num_classes < 0) num_classes = checked_add(high, 1);
    if (high >= num_classes)
      fail(ErrorKind::runtime, "one_hot: class {} needs num_classes > {}, got {}", high, high,
           num_classes);
  }
  Shape shape(classes.sizes());
  shape.push_back(num_classes);
  return scatter_into_zeros(shape, classes.dim(), unsqueeze(classes, -1),
                            scalar(int64_t{1}, DType::i64));
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
const OpFile one_hot_ops{{}, kFunctions};

}  // namespace fluxion
