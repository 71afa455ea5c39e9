// Elementwise kernels: out[i] = body(in[i]...) over dense operands, sizes = {n}.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loops/builder.h"

namespace fluxion::loops {

/// One vector of elements inside an elementwise kernel.
class Body {
 public:
  int inputs() const { return static_cast<int>(inputs_); }
  Elem elem() const { return compute_; }

  /// Input k converted to the compute dtype.
  Value in(int k);
  /// Input k in its own value dtype.
  Value in_as_stored(int k);
  /// Input k as truth values (nonzero).
  Mask mask(int k);
  /// params[k], a scalar attribute, in the compute dtype.
  Value param(int k);
  /// Number of each element, i64: its place in the vector plus sizes[1].
  Value index();
  /// A constant of the compute dtype.
  Value constant(Value literal);

  /// Output k, converted to its memory dtype. Stored behind the body: inputs stay readable.
  void out(int k, Value);
  void out(int k, Mask);

 private:
  friend struct ElementwiseBuilder;
  Builder* builder_;
  std::span<const Value> scalars_;  // value of every input that is one element, else absent
  size_t inputs_;
  Elem compute_;
  int lanes_;
  Value start_, active_;
  std::vector<std::pair<int, Value>> outputs_;
};

/// Inputs are arguments 0.., outputs follow. Bit k of `scalar_inputs`: input k is a single element.
/// An output may be the same memory as an input. A step is one 32-byte vector of the compute dtype,
/// the last one masked.
Function elementwise(std::string name, std::span<const Elem> in, std::span<const Elem> out,
                     Elem compute, uint32_t scalar_inputs, const std::function<void(Body&)>& body);

constexpr uint32_t scalar_inputs(kernels::ElementwiseClass c) {
  return c == kernels::kScalarRight ? 2 : c == kernels::kScalarLeft ? 1 : 0;
}

inline Function elementwise(std::string name, std::span<const Elem> in, std::span<const Elem> out,
                            Elem compute, kernels::ElementwiseClass c,
                            const std::function<void(Body&)>& body) {
  return elementwise(std::move(name), in, out, compute, scalar_inputs(c), body);
}

/// out = in converted between any two memory dtypes.
Function cast_kernel(std::string name, Elem from, Elem to);

}  // namespace fluxion::loops
