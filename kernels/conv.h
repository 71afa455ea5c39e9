// 2-D convolution of dense NCHW tensors (cross-correlation, as in deep learning), and its
// gradients, as contractions over patches that are read where they stand: no patch matrix is ever
// built.
#pragma once

#include "kernels/tiles.h"

namespace fluxion::kernels {

/// input [n, c, h, w], weight [oc, c / groups, kh, kw], output [n, oc, oh, ow]; what the output
/// reads beyond the input is zero.
struct ConvShape {
  int64_t n, c, h, w, oc, oh, ow, kh, kw, groups;
  int64_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  Elem elem;    // of all tensors: f32, f64, f16 or bf16
  int threads;  // how many run at once at most
};

// Each has a query for the bytes of workspace that it wants, and returns kWorkspaceTooSmall if it
// gets less. Bits depend on the contracted elements and their number, not on batch neighbours,
// threads or the other channels.

/// output = sum over (kh, kw, c), then bias[oc] (compute dtype; may be null).
size_t conv_workspace(const ConvShape&, const ContractionKernels&);
int conv(Ctx&, const ConvShape&, const ContractionKernels&, const void* input, const void* weight,
         const void* bias, void* output);

/// grad_input = sum over (kh, kw, oc) of grad_output * weight; taps that meet no output count as
/// zeros.
size_t conv_input_gradient_workspace(const ConvShape&, const ContractionKernels&);
int conv_input_gradient(Ctx&, const ConvShape&, const ContractionKernels&, const void* grad_output,
                        const void* weight, void* grad_input);

/// grad_weight = sum over (n, oh, ow) of grad_output * input, the input's padding as zeros.
size_t conv_weight_gradient_workspace(const ConvShape&, const ContractionKernels&);
int conv_weight_gradient(Ctx&, const ConvShape&, const ContractionKernels&, const void* grad_output,
                         const void* input, void* grad_weight);

}  // namespace fluxion::kernels
