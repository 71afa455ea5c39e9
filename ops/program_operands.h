// The operands of one run of a row or column program. Private to the two drivers.
#pragma once

#include "ops/copy.h"
#include "ops/rowwise.h"

namespace fluxion {

inline constexpr double kChunkNanoseconds = 8000;  // least work per thread

inline DType reads(const Slot& s, DType compute) {
  return s.dtype < 0 ? compute : static_cast<DType>(s.dtype);
}

inline std::vector<loops::Operand> loop_operands(std::span<const Slot> slots, DType compute) {
  std::vector<loops::Operand> out;
  for (const Slot& s : slots) out.push_back({reads(s, compute), s.extent});
  return out;
}

/// The tensor itself if it is dense in that dtype, else a copy.
inline Tensor brought_to(const Tensor& t, DType dtype) {
  if (t.dtype() == dtype && t.is_contiguous()) return t;
  Tensor copy = empty(t.sizes(), dtype);
  copy_elements(t, copy);
  return copy;
}

/// Temporaries in the kernel's dtype where needed, written back at the end.
class ProgramOperands {
 public:
  ProgramOperands(std::span<const Slot> slots, uint8_t inputs, DType compute,
                  const TensorRefs& given)
      : slots_(slots), inputs_(inputs), compute_(compute), given_(given.data, given.size) {
    invariant(given.size == slots.size() && slots.size() <= kMaxSlots, "operands of a row program");
  }

  size_t count() const { return slots_.size(); }
  bool is_input(size_t k) const { return k < inputs_; }
  DType dtype(size_t k) const { return reads(slots_[k], compute_); }
  Extent extent(size_t k) const { return slots_[k].extent; }
  const Tensor& given(size_t k) const { return *given_[k]; }

  /// Rows without elements may be more than anybody can count.
  bool write_anything() const {
    for (size_t k = inputs_; k < count(); ++k)
      if (given(k).numel()) return true;
    return false;
  }

  /// A dense tensor in the kernel's dtype that stands for operand k.
  const Tensor& whole(size_t k) {
    const Tensor& t = given(k);
    if (t.dtype() == dtype(k) && t.is_contiguous()) return t;
    if (!held_[k].defined())
      held_[k] = is_input(k) ? brought_to(t, dtype(k)) : empty(t.sizes(), dtype(k));
    return held_[k];
  }
  void write_back() {
    for (size_t k = inputs_; k < count(); ++k)
      if (held_[k].defined()) copy_elements(held_[k], given(k));
  }

 private:
  std::span<const Slot> slots_;
  size_t inputs_;
  DType compute_;
  std::span<const Tensor* const> given_;
  Tensor held_[kMaxSlots];
};

}  // namespace fluxion
