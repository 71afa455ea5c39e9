#include "nn/modules.h"

#include <cmath>

#include "nn/init.h"
#include "ops/apply.h"
#include "ops/operators.h"
#include "tensor/thread_state.h"

namespace fluxion::nn {

Linear::Linear(int64_t in_features, int64_t out_features, bool with_bias) {
  const int64_t shape[] = {out_features, in_features};
  weight = register_parameter("weight", empty(Ints(shape)));
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!with_bias) return;
  bias = register_parameter("bias", empty(Ints(&out_features, 1)));
  double bound = in_features > 0 ? 1 / std::sqrt(static_cast<double>(in_features)) : 0;
  init::uniform_(bias, -bound, bound);
}

namespace {

int64_t channels_per_group(int64_t in_channels, int64_t out_channels, int64_t groups) {
  if (groups < 1 || in_channels % groups || out_channels % groups)
    fail(ErrorKind::value,
         "Conv2d: groups must be positive and divide in_channels {} and out_channels {}, got {}",
         in_channels, out_channels, groups);
  return in_channels / groups;
}

}  // namespace

Conv2d::Conv2d(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t stride,
               int64_t padding, int64_t dilation, int64_t groups, bool with_bias)
    : stride_(stride), padding_(padding), dilation_(dilation), groups_(groups) {
  const int64_t shape[] = {out_channels, channels_per_group(in_channels, out_channels, groups),
                           kernel_size, kernel_size};
  weight = register_parameter("weight", empty(Ints(shape)));
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!with_bias) return;
  bias = register_parameter("bias", empty(Ints(&out_channels, 1)));
  int64_t fan_in = shape[1] * kernel_size * kernel_size;
  double bound = fan_in > 0 ? 1 / std::sqrt(static_cast<double>(fan_in)) : 0;
  init::uniform_(bias, -bound, bound);
}

Tensor Conv2d::forward(const Tensor& x) {
  return conv2d(x, weight, bias, Ints(&stride_, 1), Ints(&padding_, 1), Ints(&dilation_, 1),
                groups_);
}

BatchNorm::BatchNorm(int64_t num_features, double eps, double momentum)
    : eps_(eps), momentum_(momentum) {
  Ints shape(&num_features, 1);
  weight = register_parameter("weight", ones(shape));
  bias = register_parameter("bias", zeros(shape));
  running_mean = register_buffer("running_mean", zeros(shape));
  running_var = register_buffer("running_var", ones(shape));
  num_batches_tracked = register_buffer("num_batches_tracked", zeros({}, DType::i64));
}

Tensor BatchNorm::forward(const Tensor& x) {
  if (is_training()) {
    NoGrad plain;
    assign(num_batches_tracked, num_batches_tracked + 1);
  }
  return batch_norm(x, running_mean, running_var, weight, bias, is_training(), momentum_, eps_);
}

LayerNorm::LayerNorm(std::vector<int64_t> normalized_shape, double eps)
    : shape_(std::move(normalized_shape)), eps_(eps) {
  weight = register_parameter("weight", ones(Ints(shape_)));
  bias = register_parameter("bias", zeros(Ints(shape_)));
}

Embedding::Embedding(int64_t num_embeddings, int64_t embedding_dim) {
  const int64_t shape[] = {num_embeddings, embedding_dim};
  weight = register_parameter("weight", empty(Ints(shape)));
  init::normal_(weight);
}

}  // namespace fluxion::nn
