// Scaled dot product attention and its gradient, a block of rows at a time: exact softmax over
// whole rows, excluded keys absent from every sum. The weights never leave the cache.
#pragma once

#include "kernels/tiles.h"

namespace fluxion::kernels {

/// boolean: true takes part. additive: added to the scaled score; -inf excludes. Either may be
/// combined with `causal`.
enum class MaskKind : uint8_t { none, boolean, additive };
inline constexpr int kMaskKinds = 3;

/// A view of [batch, heads, length, depth]; strides in elements.
struct Sequence {
  const void* data;
  int64_t batch, head, step, depth;
};

struct AttentionArgs {
  int64_t batch, heads, queries, keys, depth, value_depth;
  Elem elem;  // of all sequences: f32, f64, f16 or bf16
  Sequence q, k, v;
  bool causal;  // query i sees keys 0 .. i
  double scale;
  MaskKind mask_kind;
  Sequence
      mask;  // [batch, heads, queries, keys], bools or of the compute dtype; its depth stride is 1
  int threads;  // how many run at once at most
};

/// loops/attention.h: softmax and gradient by mask kind; shift reads rows of `elem`.
struct AttentionKernels {
  ContractionKernels contraction;
  Kernel softmax[kMaskKinds], gradient[kMaskKinds], shift;
};

// Each has a query for the bytes of workspace that it wants, and returns kWorkspaceTooSmall if it
// gets less. The bits of a row depend on its query and the keys and values that it sees, on nothing
// else.

/// out = weights v and, dense [batch, heads, queries] in the compute dtype, the logsumexp of each
/// row's scores. Sums over keys go by logical key index (chunks of tiles.h). A row that excludes
/// every key is zero, its logsumexp -inf.
size_t attention_workspace(const AttentionArgs&, const AttentionKernels&);
int attention(Ctx&, const AttentionArgs&, const AttentionKernels&, const Sequence& out,
              void* logsumexp);

/// Gradients of q, k and v, from the weights recomputed. With shift = sum of out * grad_out -
/// grad_logsumexp in each row, the scores' gradient is weights * (grad_out v^T - shift) * scale.
/// Sums over keys and over queries go in chunks of tiles.h, from +0.
struct AttentionGradient {
  Sequence out, grad_out;                  // depth stride 1
  const void *logsumexp, *grad_logsumexp;  // the latter may be null: zero
  Sequence grad_q, grad_k, grad_v;         // depth stride 1
};
size_t attention_gradient_workspace(const AttentionArgs&, const AttentionKernels&);
int attention_gradient(Ctx&, const AttentionArgs&, const AttentionKernels&,
                       const AttentionGradient&);

}  // namespace fluxion::kernels
