// The family of activations: elementwise ops whose gradient is one elementwise op of (gradient, saved value).
#pragma once

#include "ops/elementwise.h"
#include "ops/expr.h"

namespace fluxion {

/// The gradient rule that runs G(gradient, input).
template <OpDef& G>
void vjp_of_input(const Vjp& v) {
  const Tensor in[] = {v.grad[0], v.in[0]};
  v.result[0] = apply(G, v.attr_data, in);
}
/// The gradient rule that runs G(gradient, output).
template <OpDef& G>
void vjp_of_output(const Vjp& v) {
  const Tensor in[] = {v.grad[0], v.out[0]};
  v.result[0] = apply(G, v.attr_data, in);
}

/// Samples around zero, with the attributes A (a struct of doubles; int for none).
template <auto A>
void activation_samples(const OpDef& op, SampleSink& sink) {
  static constexpr auto attrs = A;
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 7}, Shape{}, Shape{0, 4}}) {
      const SampleSink::Input in[] = {{shape, t, -4, 4}, {shape, t, -4, 4}};
      sink.add(std::span(in, op.inputs), op.attr_bytes ? &attrs : nullptr, op.attr_bytes);
    }
}

/// An activation with body F, where F(b) is a function of b.in(0), its gradient op G and attributes A.
template <auto F, OpDef& G, auto A = 0>
constexpr OpDef activation(OpDef d) {
  d.promotion = d.promotion == Promotion::none ? Promotion::floating : d.promotion;
  d.round = Round::fused;
  d.vjp = d.vjp ? d.vjp : vjp_of_input<G>;
  if (d.saves.empty()) d.saves = kSaveInput;
  d.scalar = scalar_of<F>;
  d.composite = composite_of<F>;
  d.samples = activation_samples<A>;
  return elementwise(d);
}

/// The gradient op of an activation with body F of b.in(0), the gradient, and b.in(1); differentiable through F.
template <auto F, auto A = 0>
constexpr OpDef activation_gradient(OpDef d) {
  d.inputs = 2;
  d.promotion = Promotion::gradient;
  d.round = Round::fused;
  d.scalar = scalar_of<F>;
  d.composite = composite_of<F>;
  d.samples = activation_samples<A>;
  return elementwise(d);
}

}  // namespace fluxion
