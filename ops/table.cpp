// THE OP TABLE. Adding an op: write its file, add its line here.
#include <vector>

#include "ops/function.h"
#include "ops/op.h"

namespace fluxion {

#define FLUXION_OP_FILES(X) \
  X(unary_ops)              \
  X(binary_ops)             \
  X(special_ops)            \
  X(compare_ops)            \
  X(select_ops)             \
  X(cast_ops)               \
  X(create_ops)             \
  X(view_ops)               \
  X(region_ops)             \
  X(reduce_ops)             \
  X(statistics_ops)         \
  X(arg_reduce_ops)         \
  X(index_ops)              \
  X(fit_ops)                \
  X(advanced_index_ops)     \
  X(index_dim_ops)          \
  X(gather_ops)             \
  X(scatter_ops)            \
  X(nonzero_ops)            \
  X(sort_ops)               \
  X(search_ops)             \
  X(unique_ops)             \
  X(scan_ops)               \
  X(pad_ops)                \
  X(concatenate_ops)        \
  X(split_ops)              \
  X(flip_ops)               \
  X(repeat_ops)             \
  X(triangle_ops)           \
  X(diagonal_ops)           \
  X(window_ops)             \
  X(one_hot_ops)            \
  X(fma_ops)                \
  X(normal_cdf_ops)         \
  X(activation_ops)         \
  X(piecewise_ops)          \
  X(softmax_ops)            \
  X(logsumexp_ops)          \
  X(cross_entropy_ops)      \
  X(soft_cross_entropy_ops) \
  X(loss_ops)               \
  X(pair_loss_ops)          \
  X(layer_norm_ops)         \
  X(rms_norm_ops)           \
  X(group_norm_ops)         \
  X(batch_norm_ops)         \
  X(rng_ops)                \
  X(random_ops)             \
  X(fill_ops)               \
  X(dropout_ops)            \
  X(sampling_ops)           \
  X(embedding_ops)          \
  X(sgd_ops)                \
  X(adam_ops)               \
  X(clip_grad_ops)          \
  X(dot_ops)                \
  X(conv_ops)               \
  X(einsum_ops)             \
  X(pool_ops)               \
  X(attention_ops)          \
  X(alias_functions)

#define FLUXION_DECLARE(file) extern const OpFile file;
FLUXION_OP_FILES(FLUXION_DECLARE)
#undef FLUXION_DECLARE

namespace {

#define FLUXION_ADDRESS(file) &file,
const OpFile* const kFiles[] = {FLUXION_OP_FILES(FLUXION_ADDRESS)};
#undef FLUXION_ADDRESS

std::vector<OpDef*> number_ops() {
  std::vector<OpDef*> all;
  for (const OpFile* f : kFiles)
    for (OpDef* op : f->ops) {
      op->id = static_cast<uint16_t>(all.size());
      all.push_back(op);
    }
  return all;
}

std::vector<const Function*> list_functions() {
  std::vector<const Function*> all;
  for (const OpFile* f : kFiles)
    for (const Function& fn : f->functions) all.push_back(&fn);
  return all;
}

const std::vector<OpDef*> ops =
    number_ops();  // OpDefs are constant-initialised, so this may run at load time

}  // namespace

std::span<OpDef* const> op_table() { return ops; }

std::span<const Function* const> function_table() {
  static const std::vector<const Function*> functions = list_functions();
  return functions;
}

const OpDef* find_op(std::string_view name) {
  for (const OpDef* op : ops)
    if (op->name == name) return op;
  return nullptr;
}

}  // namespace fluxion
