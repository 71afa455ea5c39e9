// Optimizer steps: elementwise bodies of (parameter, gradient, state...), swept over many tensors in one call.
#pragma once

#include "ops/expr.h"
#include "ops/kernel_sink.h"
#include "ops/op.h"

namespace fluxion {

inline constexpr size_t kMaxStepTensors = 5;  // parameter, gradient and up to three states
inline constexpr size_t kMaxStepParams = 8;

/// A step as an op: inputs are the tensors in order, outputs all but the gradient. Attributes: kMaxStepParams doubles,
/// then the variant.
struct StepAttrs {
  double params[kMaxStepParams];
  int64_t variant;
};

/// One variant's body and how many tensors it touches.
struct StepBody {
  uint8_t variant;
  size_t tensors;
  void (*scalar)(loops::Body&);
  void (*composite)(const Eval&);
};

/// What the type rule of a step requires: a known variant, its tensors, all of one shape.
void require_step(const TypeRule&, std::span<const StepBody>);
void emit_step(const OpDef&, KernelSink&, const StepBody&);
void eval_step(const Eval&);
/// The body's meaning in other ops, by the variant in the attributes.
void compose_step(const Eval&, std::span<const StepBody>);

/// Updates lists[k][i] for every k but the gradient (k = 1), in place, for each i; `attrs` gives the attributes of
/// tensor i. Dense f32 and f64 tensors go to the kernel as they are.
void sweep(const OpDef&, std::span<const Tensors> lists, FunctionRef<StepAttrs(size_t i)> attrs);

/// Raises unless every list has as many tensors as the first, of the same shapes.
void check_lists(const char* op, std::span<const Tensors> lists,
                 std::span<const char* const> names);

}  // namespace fluxion
