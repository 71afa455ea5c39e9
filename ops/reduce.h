// The reduction family: some dims vanish. Order of accumulation by design section 8, rule 6.
#pragma once

#include "loops/columns.h"
#include "loops/rows.h"
#include "ops/apply.h"
#include "ops/op.h"

namespace fluxion {

/// Attributes of every reduction. `correction` is a kernel parameter (var), so it comes first.
struct ReduceAttrs {
  double correction;
  int64_t keepdim;
  Dims dims;  // sorted, unique, non-negative; never empty unless the tensor is 0-dim
};
inline constexpr Field kReduceFields[] = {
    {"correction", FieldKind::real, offsetof(ReduceAttrs, correction),
     "subtracted from the element count (var, std)"},
    {"keepdim", FieldKind::boolean, offsetof(ReduceAttrs, keepdim),
     "keep reduced dims with size 1"},
    {"dims", FieldKind::dims, offsetof(ReduceAttrs, dims), "reduced dims, ascending"},
};

/// Variants of a reduction kernel.
enum ReduceVariant : uint8_t { kByRows = 0, kByColumns = 1 };

/// Resolves `dim` (none or empty: all dims). Raises for repeated or out-of-range dims.
ReduceAttrs reduce_attrs(const char* op, const Tensor& x, OptInts dim, bool keepdim);
Shape reduced_shape(Ints shape, const ReduceAttrs& a);
/// What the type rule of a reduction requires.
void require_reduction(const TypeRule& t);

/// Brings x to [outer, red, inner] (columns) or [rows, n] (rows) and calls the op's kernel for its dtype.
void run_reduction(const OpDef& op, const ReduceAttrs& a, const Tensor& x,
                   std::span<const Tensor> out);

/// g (of the reduced shape) as it broadcasts against the input's shape.
Tensor unreduce(const Tensor& g, const ReduceAttrs& a, Ints shape);

double reduce_cost(std::span<const Type>, const void*);
void reduce_samples(const OpDef&, SampleSink&);

}  // namespace fluxion
