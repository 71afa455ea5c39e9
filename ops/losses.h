// What losses share: the reduction argument.
#pragma once

#include "ops/function.h"
#include "tensor/tensor.h"

namespace fluxion {

enum Reduction : int64_t { kReduceNone = 0, kReduceMean = 1, kReduceSum = 2 };

/// PyTorch's reduction names and its two older flags. Raises for another name.
Reduction reduction_of(const char* op, std::string_view text, OptBool size_average = {},
                       OptBool reduce = {});
/// The values, their mean or their sum.
Tensor reduced(const Tensor& values, Reduction r);
/// Class indices as dense int64, -1 where they are ignore_index; raises for others outside of [0, classes).
Tensor checked_classes(const char* op, const Tensor& target, int64_t classes, int64_t ignore_index);

}  // namespace fluxion
