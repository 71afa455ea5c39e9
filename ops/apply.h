// The one dispatch point: trace the op, or run it now; record it on the tape if a gradient is wanted.
#pragma once

#include "ops/op.h"

namespace fluxion {

class Generator;

/// Records executed ops for differentiation. Implemented by autograd/.
struct Tape {
  virtual ~Tape() = default;
  virtual bool wants(const Tensor& t) = 0;  // slow path: a view whose base has history
  virtual void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
                      std::span<Tensor> out) = 0;
};
/// Writes down what runs on its thread (ThreadState::tracer). Implemented by trace/.
struct Tracer {
  virtual ~Tracer() = default;
  /// Evaluates the op and writes it down.
  virtual void record(const OpDef& op, const void* attrs, std::span<const Tensor> in,
                      std::span<Tensor> out) = 0;
  /// `dst` is about to be overwritten by `value` (already of dst's dtype, broadcastable to its shape), outside of record().
  virtual void write(const Tensor& dst, const Tensor& value) = 0;
  /// `.grad` of a leaf is about to be read, or rebound.
  virtual void touch_grad(const Tensor& leaf, bool rebinds) = 0;
  /// `t` is about to be rebound to other memory (x.data = y).
  virtual void rebind(const Tensor& t) = 0;
  /// `state` holds key and call number of a random call that `generator` just gave out.
  virtual void draw(Generator& generator, const Tensor& state) = 0;
};
void set_tape(Tape* tape);

/// Runs an op's eval alone: no tape, no tracer.
void evaluate(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out);

/// True while a tracer writes down what this thread runs.
bool is_tracing();

/// Runs an op with one result.
Tensor apply(const OpDef& op, const void* attrs, std::span<const Tensor> in);
/// Runs an op; undefined `out` are allocated, defined ones written (no gradient is recorded for those).
void apply(const OpDef& op, const void* attrs, std::span<const Tensor> in, std::span<Tensor> out);

/// A handle in an argument list: borrowed, no count is touched.
struct [[gnu::may_alias]] Borrowed {
  Impl* p = nullptr;
  Borrowed() = default;
  Borrowed(const Tensor& t) : p(t.impl()) {}
};
static_assert(sizeof(Borrowed) == sizeof(Tensor));
inline std::span<const Tensor> as_tensors(std::span<const Borrowed> in) {
  return {reinterpret_cast<const Tensor*>(in.data()), in.size()};
}
inline std::span<const Tensor> as_tensors(std::initializer_list<Borrowed> in) {
  return as_tensors(std::span(in.begin(), in.size()));
}

inline Tensor apply(const OpDef& op, std::initializer_list<Borrowed> in) {
  return apply(op, nullptr, as_tensors(in));
}
template <class A>
  requires(std::is_trivially_copyable_v<A> && !std::is_pointer_v<A> && !std::is_null_pointer_v<A>)
Tensor apply(const OpDef& op, const A& attrs, std::initializer_list<Borrowed> in) {
  return apply(op, &attrs, as_tensors(in));
}

/// Overwrites `dst` (PyTorch's in-place semantics, dst may be a view) with `value`, broadcast and cast;
/// history of dst becomes that of value. A temporary is best moved in: its history is taken over as it is.
/// Raises PyTorch's errors for leaves, overlapping targets, no_grad views and inference tensors.
/// Defined in autograd/inplace.cpp.
void assign(const Tensor& dst, Tensor value);

/// True if gradients are enabled and t has or wants history.
bool tracks_gradient(const Tensor& t);

}  // namespace fluxion
