#include "ops/promotion.h"

namespace fluxion {

namespace {

int merge(int have, DType t) {
  return have < 0 ? static_cast<int>(t) : static_cast<int>(promote(static_cast<DType>(have), t));
}

/// `higher` wins unless `lower` is of a higher category.
int combine(int higher, int lower) {
  if (higher < 0) return lower;
  if (lower < 0) return higher;
  auto h = static_cast<DType>(higher), l = static_cast<DType>(lower);
  return category(h) >= category(l) ? higher : static_cast<int>(promote(h, l));
}

}  // namespace

void PromotionState::add(DType t, bool weak, int rank) {
  if (weak) {
    DType number = is_floating(t) ? default_dtype() : t;
    number_ = merge(number_, number);
  } else if (rank == 0) {
    zero_dim_ = merge(zero_dim_, t);
  } else {
    dims_ = merge(dims_, t);
  }
}

DType PromotionState::result() const {
  int r = combine(dims_, combine(zero_dim_, number_));
  return r < 0 ? default_dtype() : static_cast<DType>(r);
}

DType common_dtype(std::span<const Tensor> in) {
  PromotionState s;
  for (const Tensor& t : in)
    if (t.defined()) s.add(t.dtype(), t.has(kWeak), t.dim());
  return s.result();
}

DType common_dtype(std::span<const Type> in) {
  PromotionState s;
  for (const Type& t : in) s.add(t.dtype, t.weak, static_cast<int>(t.shape.size()));
  return s.result();
}

Shape broadcast_shapes(const char* op, Ints a, Ints b) {
  size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      fail(
          ErrorKind::runtime,
          "{}: shapes {} and {} cannot be broadcast together: sizes {} and {} of dim {} (counted from the end) "
          "must be equal, or one of them 1",
          op, shape_text(a), shape_text(b), x, y, i + 1);
    out[rank - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

bool can_broadcast(Ints from, Ints to) {
  if (from.size() > to.size()) return false;
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t x = from[from.size() - 1 - i], y = to[to.size() - 1 - i];
    if (x != y && x != 1) return false;
  }
  return true;
}

}  // namespace fluxion
