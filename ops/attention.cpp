// Scaled dot product attention as a transparent composite of products and a softmax.
#include <cmath>

#include "ops/copy.h"
#include "ops/functions.h"

namespace fluxion {

/// Vaswani et al. 2017: softmax(q k^T * scale + mask) v; excluded keys get weight 0.
Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& attn_mask,
                                    double dropout_p, bool is_causal, OptDouble scale, bool enable_gqa) {
  if (query.dim() < 2 || key.dim() < 2 || value.dim() < 2)
    fail(ErrorKind::runtime, "scaled_dot_product_attention: query, key and value need at least 2 dims, got {}, {} and {}",
         shape_text(query.sizes()), shape_text(key.sizes()), shape_text(value.sizes()));
  if (is_causal && attn_mask.defined())
    fail(ErrorKind::runtime, "scaled_dot_product_attention: give attn_mask or is_causal=True, not both");
  Tensor k = key, v = value;
  if (enable_gqa && query.dim() >= 3) {
    int64_t repeats = query.size(-3) / key.size(-3);
    k = repeat_interleave(key, repeats, -3);
    v = repeat_interleave(value, repeats, -3);
  }
  double factor = scale.value_or(1 / std::sqrt(static_cast<double>(query.size(-1))));
  Tensor scores = mul(matmul(query, transpose(k, -2, -1)), number(factor));
  Tensor mask = attn_mask;
  if (is_causal) mask = tril(ones(Shape{query.size(-2), k.size(-2)}, DType::bool_));
  if (mask.defined()) {
    if (mask.dtype() == DType::bool_) scores = where(mask, scores, number(-INFINITY));
    else scores = add(scores, mask);
  }
  Tensor weights = softmax(scores, -1);
  if (dropout_p > 0) weights = dropout(weights, dropout_p, true);
  return matmul(weights, v);
}

namespace {

const Function kFunctions[] = {
    {"scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
     "softmax(query key^T * scale + mask) value over [..., length, depth]; a bool mask keeps where true.", kFunction | kNN,
     thunk<&scaled_dot_product_attention>},
};

}  // namespace

extern const OpFile attention_ops;
const OpFile attention_ops{{}, kFunctions};

}  // namespace fluxion
