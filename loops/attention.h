// Row kernels of scaled dot product attention (kernels/attention.h): what happens to a row of
// scores.
#pragma once

#include <string>

#include "kernels/attention.h"
#include "loops/ir.h"

namespace fluxion::loops {

/// args: scores -> weights, mask, logsumexp; params = {scale}; sizes = {rows, n}.
/// t = score * scale (+ mask), weight = exp(t - max) * (1 / sum of exp(t - max)), absent where the
/// mask excludes; logsumexp = log(sum) + max.
Function attention_softmax(std::string name, Elem compute, kernels::MaskKind mask);

/// args: scores -> weights, gradient of the weights -> gradient of the scores, mask, logsumexp,
/// shift; params = {scale}; sizes = {rows, n}. weight = exp(t - logsumexp), gradient = weight *
/// (gradient - shift) * scale, absent where excluded.
Function attention_gradient(std::string name, Elem compute, kernels::MaskKind mask);

/// args: two rows of `memory` elements, the sum of their products; sizes = {rows, n}.
Function attention_shift(std::string name, Elem compute, Elem memory);

}  // namespace fluxion::loops
