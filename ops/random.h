// Ops that draw random numbers: kernels over the words of a counter-based generator. Element e of an op uses word e of
// up to four streams of one call (Philox blocks e / 4 of the stream), whatever the threads and tiles.
#pragma once

#include <functional>

#include "loops/elementwise.h"
#include "ops/apply.h"
#include "ops/function.h"
#include "ops/op.h"

namespace fluxion {

/// Attributes of the two floating distributions.
struct DrawAttrs {
  double a, b;  // low, high - low; mean, std
  int64_t dtype;
  Dims shape;
};
extern OpDef kUniform, kNormal;  // (state) {a, b, dtype, shape}
extern OpDef kRngBits;           // (state) {shape} -> int32 words of stream 0

/// The dtype itself; raises unless it is floating.
DType check_floating(const char* op, DType t);
void check_std(const char* op, double std);

/// The input that random ops draw from: int64 (key, call). Reserves a call of the generator, the default one if null.
Tensor next_state(Generator* generator);

/// Kernels of a random op for the floating dtypes. Arguments: `streams(t)` int32 words, `inputs` operands, one output.
void emit_random(const OpDef&, KernelSink&, int inputs, int (*streams)(DType),
                 void (*body)(loops::Body&));

/// What emit_random's kernels run on. Operands: inputs, then the output; dense, of one element per word.
struct RandomRun {
  const OpDef& op;
  DType dtype;  // selects the kernel
  int streams;
  const Tensor& state;
  std::initializer_list<const Tensor*> operands;
  const void* params = nullptr;
  int64_t extra[2] = {};  // sizes[2], sizes[3] of the kernel
};
void run_random(const RandomRun& r);

/// In [0, 1): 24 bits of word k for f32; for f64 53 bits of words k and k + 1.
loops::Value uniform_of(loops::Body& b, int k);

}  // namespace fluxion
