#include "ops/rowwise.h"

#include <algorithm>

#include "ops/copy.h"
#include "ops/kernel_sink.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr int64_t kBlockElements = 8192;  // of a converted block of rows
constexpr int64_t kColumnBlock = 64;
constexpr double kChunkNanoseconds = 8000;  // least work per thread

DType reads(const Slot& s, DType compute) {
  return s.dtype < 0 ? compute : static_cast<DType>(s.dtype);
}

std::vector<loops::Operand> loop_operands(std::span<const Slot> slots, DType compute) {
  std::vector<loops::Operand> out;
  for (const Slot& s : slots) out.push_back({reads(s, compute), s.extent});
  return out;
}

/// Distance of consecutive rows if the last n elements are contiguous and all rows evenly spaced, else -1.
int64_t row_stride(const Tensor& t, int64_t n) {
  if (t.is_contiguous()) return n;
  int d = t.dim();
  for (int64_t inner = 1; inner < n; inner *= t.sizes()[d]) {
    if (--d < 0 || (t.sizes()[d] != 1 && t.strides()[d] != inner)) return -1;
  }
  int64_t stride = n, expected = -1;
  for (--d; d >= 0; --d) {
    if (t.sizes()[d] == 1) continue;
    if (expected < 0) stride = t.strides()[d];
    else if (t.strides()[d] != expected) return -1;
    expected = t.strides()[d] * t.sizes()[d];
  }
  return stride;
}

/// The tensor itself if it is dense in that dtype, else a copy.
Tensor brought_to(const Tensor& t, DType dtype) {
  if (t.dtype() == dtype && t.is_contiguous()) return t;
  Tensor copy = empty(t.sizes(), dtype);
  copy_elements(t, copy);
  return copy;
}

/// The operands of one run: temporaries in the kernel's dtype where needed, written back at the end.
class Operands {
 public:
  Operands(std::span<const Slot> slots, uint8_t inputs, DType compute, const TensorRefs& given)
      : slots_(slots), inputs_(inputs), compute_(compute), given_(given.data, given.size) {
    invariant(given.size == slots.size() && slots.size() <= kMaxSlots, "operands of a row program");
  }

  size_t count() const { return slots_.size(); }
  bool is_input(size_t k) const { return k < inputs_; }
  DType dtype(size_t k) const { return reads(slots_[k], compute_); }
  Extent extent(size_t k) const { return slots_[k].extent; }
  const Tensor& given(size_t k) const { return *given_[k]; }

  /// A dense tensor in the kernel's dtype that stands for operand k.
  const Tensor& whole(size_t k) {
    const Tensor& t = given(k);
    if (t.dtype() == dtype(k) && t.is_contiguous()) return t;
    if (!held_[k].defined())
      held_[k] = is_input(k) ? brought_to(t, dtype(k)) : empty(t.sizes(), dtype(k));
    return held_[k];
  }
  void write_back() {
    for (size_t k = inputs_; k < count(); ++k)
      if (held_[k].defined()) copy_elements(held_[k], given(k));
  }

 private:
  std::span<const Slot> slots_;
  size_t inputs_;
  DType compute_;
  std::span<const Tensor* const> given_;
  Tensor held_[kMaxSlots];
};

/// One operand of a row program as the kernel finds it.
struct RowOperand {
  char* data;
  int64_t stride;  // element operands: between rows, in elements
  DType stored;
  bool converts;  // element operands of another dtype: a block of rows at a time
};

class RowRun {
 public:
  RowRun(const OpDef& op, const RowProgram& p, DType compute, int64_t rows, int64_t n,
         const TensorRefs& given, const double* params)
      : operands_(p.slots, p.inputs, compute, given),
        rows_(rows),
        n_(n),
        params_(params),
        kernel_(require_kernel(op, compute, p.variant)) {
    for (size_t k = 0; k < operands_.count(); ++k) bind(k);
  }

  void run(double nanoseconds) {
    double row_cost = nanoseconds * static_cast<double>(std::max<int64_t>(n_, 1));
    LongWork work(row_cost * static_cast<double>(rows_));
    int64_t grain = std::max<int64_t>(1, static_cast<int64_t>(kChunkNanoseconds / row_cost));
    parallel(rows_, grain, [&](int64_t begin, int64_t end) {
      converts_ ? by_blocks(begin, end) : call(begin, end);
    });
    operands_.write_back();
  }

 private:
  void bind(size_t k) {
    const Tensor& t = operands_.given(k);
    RowOperand& o = bound_[k];
    if (operands_.extent(k) == Extent::element) {
      o.stride = row_stride(t, n_);
      if (o.stride >= 0 && (t.dtype() == operands_.dtype(k) || n_ <= 4 * kBlockElements)) {
        o.converts = t.dtype() != operands_.dtype(k);
        converts_ |= o.converts;
        o.data = t.data<char>();
        o.stored = t.dtype();
        return;
      }
    }
    const Tensor& dense = operands_.whole(k);
    o = {dense.data<char>(), n_, dense.dtype(), false};
  }

  char* at(size_t k, int64_t row) const {
    const RowOperand& o = bound_[k];
    int64_t offset = operands_.extent(k) == Extent::element ? row * o.stride
                     : operands_.extent(k) == Extent::row   ? row
                                                            : 0;
    return o.data + offset * size_of(o.stored);
  }

  void call(int64_t begin, int64_t end, char* const* replaced = nullptr) {
    kernels::Buf args[kMaxSlots];
    for (size_t k = 0; k < operands_.count(); ++k) {
      bool scratch = replaced && replaced[k];
      args[k] = {scratch ? replaced[k] : at(k, begin), scratch ? &n_ : &bound_[k].stride};
    }
    int64_t sizes[] = {end - begin, n_};
    kernel_(args, sizes, params_);
  }

  void convert(size_t k, int64_t row, int64_t count, char* scratch, bool in) {
    const RowOperand& o = bound_[k];
    DType from = in ? o.stored : operands_.dtype(k), to = in ? operands_.dtype(k) : o.stored;
    kernels::Kernel f = require_kernel(kCast, from, static_cast<uint8_t>(to));
    int64_t run = o.stride == n_ ? count * n_ : n_;
    for (int64_t r = 0; r < (o.stride == n_ ? 1 : count); ++r) {
      char* mine = scratch + r * n_ * size_of(operands_.dtype(k));
      kernels::Buf args[] = {{in ? at(k, row + r) : mine, nullptr},
                             {in ? mine : at(k, row + r), nullptr}};
      f(args, &run, nullptr);
    }
  }

  void by_blocks(int64_t begin, int64_t end) {
    int64_t block = std::clamp<int64_t>(kBlockElements / std::max<int64_t>(n_, 1), 1, end - begin);
    char* scratch[kMaxSlots] = {};
    Ref<Storage> memory[kMaxSlots];
    for (size_t k = 0; k < operands_.count(); ++k)
      if (bound_[k].converts) {
        memory[k] = allocate(static_cast<size_t>(block * n_ * size_of(operands_.dtype(k))));
        scratch[k] = memory[k]->data;
      }
    for (int64_t row = begin; row < end; row += block) {
      int64_t count = std::min(block, end - row);
      for (size_t k = 0; k < operands_.count(); ++k)
        if (scratch[k] && operands_.is_input(k)) convert(k, row, count, scratch[k], true);
      call(row, row + count, scratch);
      for (size_t k = 0; k < operands_.count(); ++k)
        if (scratch[k] && !operands_.is_input(k)) convert(k, row, count, scratch[k], false);
    }
  }

  Operands operands_;
  RowOperand bound_[kMaxSlots];
  int64_t rows_, n_;
  const double* params_;
  kernels::Kernel kernel_;
  bool converts_ = false;
};

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

void emit(const OpDef& op, KernelSink& sink, const RowProgram& p) {
  for (DType t : {DType::f32, DType::f64})
    sink.add(op, t, p.variant, [&](std::string symbol) {
      return loops::rows(std::move(symbol), t, loop_operands(p.slots, t), p.body);
    });
}

void emit(const OpDef& op, KernelSink& sink, const ColumnProgram& p) {
  for (DType t : {DType::f32, DType::f64})
    sink.add(op, t, p.variant, [&](std::string symbol) {
      return loops::columns(std::move(symbol), t, loop_operands(p.slots, t), p.body);
    });
}

void run(const OpDef& op, const RowProgram& p, DType compute, int64_t rows, int64_t n,
         const TensorRefs& operands, const double* params) {
  RowRun(op, p, compute, rows, n, operands, params).run(p.nanoseconds);
}

void run(const OpDef& op, const ColumnProgram& p, DType compute, int64_t outer, int64_t red,
         int64_t inner, const TensorRefs& given, const double* params) {
  Operands operands(p.slots, p.inputs, compute, given);
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

void run_flat(const OpDef& op, const RowProgram& p, DType compute, int64_t n,
              const TensorRefs& operands, const double* params) {
  auto part = [&](int64_t first_row, int64_t rows, int64_t columns) {
    Tensor views[kMaxSlots];
    TensorRefs refs{};
    for (size_t k = 0; k < operands.size; ++k) {
      const Tensor& t = *operands.data[k];
      Extent e = p.slots[k].extent;
      bool element = e == Extent::element, along_rows = element || e == Extent::row;
      int64_t skip = !along_rows ? 0 : element ? first_row * kFlatRow : first_row;
      int64_t count = element ? rows * columns : e == Extent::row ? rows : t.numel();
      views[k] = alias(t, Ints({count}), Ints({1}), t.storage_offset() + skip);
      refs.add_if(true, &views[k]);
    }
    run(op, p, compute, rows, columns, refs, params);
  };
  int64_t full = n / kFlatRow, rest = n % kFlatRow;
  if (full) part(0, full, kFlatRow);
  if (rest) part(full, 1, rest);
}

double sum_in_order(const Tensor& partials) {
  auto fold = [&](auto total) -> double {
    const auto* p = partials.data<decltype(total)>();
    for (int64_t k = 0; k < partials.numel(); ++k) total += p[k];
    return total;
  };
  return partials.dtype() == DType::f64 ? fold(0.0) : fold(0.0f);
}

AlongDim along(Ints shape, int64_t dim) {
  AlongDim a{1, 1, 1, dim + 1 >= static_cast<int64_t>(shape.size())};
  for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d)
    (d < dim ? a.outer : d == dim ? a.n : a.inner) *= shape[d];
  return a;
}

void run(const OpDef& op, const RowProgram& rows, const ColumnProgram& columns, DType compute,
         const AlongDim& a, const TensorRefs& operands, const double* params) {
  if (a.last) run(op, rows, compute, a.outer, a.n, operands, params);
  else run(op, columns, compute, a.outer, a.n, a.inner, operands, params);
}

Shape without_dim(Ints shape, int64_t dim, bool keepdim) {
  Shape out(shape);
  if (keepdim && !shape.empty()) out[dim] = 1;
  else if (!shape.empty()) out.erase(dim);
  return out;
}

RowShape rows_of(Ints shape, size_t dims) {
  RowShape r;
  for (size_t d = 0; d < shape.size(); ++d) (d + dims < shape.size() ? r.rows : r.n) *= shape[d];
  return r;
}

void ensure(Tensor& out, Ints shape, DType dtype) {
  if (!out.defined()) out = empty(shape, dtype);
}

double rowwise_cost(std::span<const Type> in, const void*) {
  double n = 10;
  for (int64_t s : in[0].shape) n *= static_cast<double>(s);
  return n;
}

}  // namespace fluxion
