#include "ops/apply.h"

#include "ops/undefined.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

Tape* tape = nullptr;

bool any_tracks(std::span<const Tensor> in) {
  for (const Tensor& t : in)
    if (t.defined() && tracks_gradient(t)) return true;
  return false;
}

}  // namespace

void set_tape(Tape* t) { tape = t; }

bool is_tracing() { return thread_state().tracer; }

bool tracks_gradient(const Tensor& t) {
  const Impl* p = t.impl();
  if (p->base) [[unlikely]]
    return tape->wants(t);  // its history may be older than its base's
  return p->flags & kRequiresGrad;
}

void evaluate(const OpDef& op, const void* attrs, std::span<const Tensor> in,
              std::span<Tensor> out) try {
  if (op.view) return op.eval({op, attrs, in, out});  // computes nothing
  FloatEnvironment environment;
  op.eval({op, attrs, in, out});
} catch (const UndefinedTensor&) {
  name_undefined(op.name, in);
}

void apply(const OpDef& op, const void* attrs, std::span<const Tensor> in, std::span<Tensor> out) {
  ThreadState& ts = thread_state();
  if (ts.tracer) [[unlikely]]
    ts.tracer->record(op, attrs, in, out);
  else evaluate(op, attrs, in, out);
  if (ts.grad_enabled && (op.vjp || op.composite) && any_tracks(in))
    tape->record(op, attrs, in, out);
}

Tensor apply(const OpDef& op, const void* attrs, std::span<const Tensor> in) {
  Tensor out;
  apply(op, attrs, in, std::span(&out, 1));
  return out;
}

Type type_of(const Tensor& t) { return {t.dtype(), t.has(kWeak), Shape(t.sizes())}; }

Dims::Dims(Ints s) {
  if (s.size() > kMaxRank)
    fail(ErrorKind::runtime, "a tensor may have at most {} dims, got {}", kMaxRank, s.size());
  n = static_cast<uint8_t>(s.size());
  for (size_t i = 0; i < s.size(); ++i) v[i] = s[i];
}

}  // namespace fluxion
