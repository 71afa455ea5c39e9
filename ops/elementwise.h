// The elementwise family: broadcasting, promotion, one scalar body.
#pragma once

#include "loops/elementwise.h"
#include "loops/math.h"
#include "ops/apply.h"
#include "ops/op.h"

namespace fluxion {

void infer_elementwise(const TypeRule&);
void eval_elementwise(const Eval&);
void elementwise_kernels(const OpDef&, KernelSink&);
void elementwise_samples(const OpDef&, SampleSink&);
double cheap_cost(std::span<const Type>, const void*);           // 1 an element
double division_cost(std::span<const Type>, const void*);        // 2: division, square root
double transcendental_cost(std::span<const Type>, const void*);  // 5

/// Completes an elementwise op: what the family shares. Attributes of elementwise ops are PODs of doubles.
constexpr OpDef elementwise(OpDef d) {
  d.space = Space::elementwise;
  d.in_place = true;
  d.infer = infer_elementwise;
  if (!d.eval) d.eval = eval_elementwise;
  d.kernels = elementwise_kernels;
  if (!d.samples) d.samples = elementwise_samples;
  if (!d.cost)
    d.cost = d.max_ulp > 0.5 ? transcendental_cost : d.max_ulp > 0 ? division_cost : cheap_cost;
  return d;
}

/// Which values a gradient rule reads.
inline constexpr SaveRule kSaveInput[] = {{1, 0}};
inline constexpr SaveRule kSaveOutput[] = {{0, 1}};
inline constexpr SaveRule kSaveBoth[] = {{3, 0}};           // both inputs, for either gradient
inline constexpr SaveRule kSaveOther[] = {{2, 0}, {1, 0}};  // the other input
inline constexpr SaveRule kSaveAll[] = {{kAllInputs, 0}};

extern OpDef kAdd, kMul, kPow, kLogaddexp;

/// Runs the body of `op` on operands that are already known to fit; for optimizers and copies.
void run_elementwise(const OpDef& op, const void* params, DType compute, std::span<const Tensor> in,
                     std::span<const Tensor> out, Ints shape);

}  // namespace fluxion
