// The driver of column programs, and the choice between rows and columns.
#include <algorithm>

#include "ops/kernel_sink.h"
#include "ops/program_operands.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr int64_t kColumnBlock = 64;

/// Where block `column` of outer index `o` starts in an operand of extent e, in elements.
int64_t column_offset(Extent e, int64_t o, int64_t red, int64_t inner, int64_t column) {
  switch (e) {
    case Extent::element: return o * red * inner + column;
    case Extent::column: return o * inner + column;
    case Extent::row: return o * red;
    default: return 0;
  }
}

}  // namespace

void emit(const OpDef& op, KernelSink& sink, const ColumnProgram& p) {
  for (DType t : {DType::f32, DType::f64})
    sink.add(op, t, p.variant, [&](std::string symbol) {
      return loops::columns(std::move(symbol), t, loop_operands(p.slots, t), p.body);
    });
}

void run(const OpDef& op, const ColumnProgram& p, DType compute, int64_t outer, int64_t red,
         int64_t inner, const TensorRefs& given, const double* params) {
  ProgramOperands operands(p.slots, p.inputs, compute, given);
  if (!operands.write_anything()) return;
  char* data[kMaxSlots];
  for (size_t k = 0; k < operands.count(); ++k) data[k] = operands.whole(k).data<char>();
  kernels::Kernel kernel = require_kernel(op, compute, p.variant);
  const int64_t element[] = {red * inner, inner}, column[] = {inner, 0}, row[] = {red, 1},
                scalar[] = {0, 0};
  const int64_t* const strides[] = {element, column, row, scalar};
  const int64_t blocks = (inner + kColumnBlock - 1) / kColumnBlock;
  double block_cost = p.nanoseconds * static_cast<double>(std::max<int64_t>(
                                          red * std::min(inner, kColumnBlock), 1));
  LongWork work(block_cost * static_cast<double>(outer * blocks));
  int64_t grain = std::max<int64_t>(1, static_cast<int64_t>(kChunkNanoseconds / block_cost));
  parallel(outer * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end;) {  // neighbouring blocks of one outer index in one call
      int64_t o = task / blocks, first = task % blocks, last = std::min(blocks, first + end - task);
      int64_t at = first * kColumnBlock;
      int64_t sizes[] = {1, red, std::min(inner, last * kColumnBlock) - at};
      kernels::Buf args[kMaxSlots];
      for (size_t k = 0; k < operands.count(); ++k)
        args[k] = {data[k] + column_offset(operands.extent(k), o, red, inner, at) *
                                 size_of(operands.dtype(k)),
                   strides[static_cast<int>(operands.extent(k))]};
      kernel(args, sizes, params);
      task += last - first;
    }
  });
  operands.write_back();
}

AlongDim along(Ints shape, int64_t dim) {
  AlongDim a{1, 1, 1, dim + 1 >= static_cast<int64_t>(shape.size())};
  for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d) {
    int64_t& part = d < dim ? a.outer : d == dim ? a.n : a.inner;
    if (__builtin_mul_overflow(part, shape[d], &part)) part = 0;  // another size is 0
  }
  return a;
}

void emit(const OpDef& op, KernelSink& sink, const AlongPrograms& p) {
  emit(op, sink, p.rows);
  emit(op, sink, p.columns);
}

void run(const OpDef& op, const AlongPrograms& p, DType compute, const AlongDim& a,
         const TensorRefs& operands, const double* params) {
  if (a.last) run(op, p.rows, compute, a.outer, a.n, operands, params);
  else run(op, p.columns, compute, a.outer, a.n, a.inner, operands, params);
}

Shape without_dim(Ints shape, int64_t dim, bool keepdim) {
  Shape out(shape);
  if (keepdim && !shape.empty()) out[dim] = 1;
  else if (!shape.empty()) out.erase(dim);
  return out;
}

}  // namespace fluxion
