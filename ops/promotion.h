// PyTorch's result types: tensors with dims outrank 0-dim tensors, which outrank Python numbers, within a category.
#pragma once

#include <span>

#include "ops/op.h"

namespace fluxion {

class PromotionState {
 public:
  void add(DType t, bool weak, int rank);
  DType result() const;

 private:
  static constexpr int kNone = -1;
  int dims_ = kNone, zero_dim_ = kNone, number_ = kNone;
};

DType common_dtype(std::span<const Tensor> in);
DType common_dtype(std::span<const Type> in);

/// NumPy's broadcasting; raises "add: shapes (2, 3) and (4,) cannot be broadcast together ...".
Shape broadcast_shapes(const char* op, Ints a, Ints b);
bool can_broadcast(Ints from, Ints to);

}  // namespace fluxion
