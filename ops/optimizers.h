// Optimizer steps: elementwise bodies of (parameter, gradient, state...), swept over many tensors by one op.
#pragma once

#include <array>

#include "ops/expr.h"
#include "ops/kernel_sink.h"
#include "ops/op.h"

namespace fluxion {

inline constexpr size_t kMaxStepLists = 5;  // parameter, gradient and up to three states
inline constexpr size_t kMaxStepParams = 8;
inline constexpr size_t kMaxStepTensors =
    256;  // parameters of one op; longer lists are several ops

/// What stays the same from call to call; the learning rate and the step counters are inputs.
struct StepAttrs {
  double options[6];
  int64_t variant;
};

class StepTensors;

/// One variant's body and how many tensors of a parameter it touches.
struct StepBody {
  uint8_t variant;
  size_t lists;
  void (*scalar)(loops::Body&);
  void (*tensors)(const StepTensors&);
};

template <class T>
using StepParams = std::array<T, kMaxStepParams>;

/// A kind of step as an op. Inputs: list by list the parameters, gradients and states, then a counter for each parameter
/// if it counts, last the rate (0-dim). Outputs: every list but the gradients, then the counters, one higher.
/// The body's parameters are computed in f64 from the attributes, the rate and the new count.
struct StepRule {
  bool counts;
  std::span<const StepBody> bodies;
  StepParams<double> (*numbers)(const StepAttrs&, const double& rate, const double& step);
  StepParams<Expr> (*tensors)(const StepAttrs&, const Expr& rate, const Expr& step);
};

/// What a body sees when it runs on tensors.
class StepTensors {
 public:
  StepTensors(std::span<const Tensor> in, std::span<const Expr> params, std::span<Tensor> out)
      : in_(in), params_(params), out_(out) {}
  Expr in(int k) const { return widen(in_[k]); }
  Expr param(int k) const { return params_[k]; }
  void out(int k, const Expr& v) const { out_[k] = rounded(v.t, in_[k == 0 ? 0 : k + 1].dtype()); }

 private:
  std::span<const Tensor> in_;
  std::span<const Expr> params_;
  std::span<Tensor> out_;
};
template <auto F>
void step_tensors_of(const StepTensors& b) {
  F(b);
}

/// a^exponent and b^exponent as the op `pow` computes them in f64.
std::array<double, 2> powers(double a, double b, double exponent);
std::array<Expr, 2> powers(double a, double b, const Expr& exponent);

/// Members of a step's OpDef.
void infer_step(const TypeRule&, const StepRule&);
void eval_step(const Eval&, const StepRule&);
void compose_step(const Eval&, const StepRule&);
void emit_steps(const OpDef&, KernelSink&, const StepRule&);
size_t step_outputs(size_t inputs, const void* attrs, const StepRule&);
/// Samples of two parameters; `attrs` gives those of a body.
void step_samples(SampleSink&, const StepRule&, FunctionRef<StepAttrs(const StepBody&)> attrs);

/// Completes an OpDef: what steps share.
template <const StepRule& R>
constexpr OpDef step_op(OpDef d) {
  d.inputs = d.outputs = 255;
  d.round = Round::fused;
  d.space = Space::elementwise;
  d.attr_bytes = sizeof(StepAttrs);
  d.infer = [](const TypeRule& t) { infer_step(t, R); };
  if (!d.eval) d.eval = [](const Eval& e) { eval_step(e, R); };
  d.composite = [](const Eval& e) { compose_step(e, R); };
  d.kernels = [](const OpDef& op, KernelSink& sink) { emit_steps(op, sink, R); };
  d.count_outputs = [](size_t inputs, const void* attrs) { return step_outputs(inputs, attrs, R); };
  return d;
}

/// Updates every list but the gradients (the second) in place, and the counters. `rate`: a number or a tensor of one
/// element.
void step_in_place(const OpDef&, const StepAttrs&, std::span<const Tensors> lists, Tensors counters,
                   const Tensor& rate);

/// Raises unless every list has as many tensors as the first, of the same shapes.
void check_lists(const char* op, std::span<const Tensors> lists,
                 std::span<const char* const> names);

}  // namespace fluxion
