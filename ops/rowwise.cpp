#include "ops/rowwise.h"

#include <algorithm>
#include <cstring>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/program_operands.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

constexpr int64_t kBlockElements = 8192;  // of a converted block of rows
constexpr int64_t kSumRows = 128;         // rows that are summed into one partial sum

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

/// The one row of n elements that a broadcast tensor repeats, or an undefined tensor.
Tensor repeated_row(const Tensor& t, int64_t n) {
  int d = t.dim();
  for (int64_t inner = 1; inner < n && d > 0; inner *= t.sizes()[d]) --d;
  for (int k = 0; k < d; ++k)
    if (t.sizes()[k] != 1 && t.strides()[k] != 0) return {};
  auto rest = static_cast<size_t>(t.dim() - d);
  return dense(alias(t, t.sizes().last(rest), t.strides().last(rest), t.storage_offset()));
}

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
    if (!operands_.write_anything()) return;
    double row_cost = cost_of_row(nanoseconds);
    LongWork work(row_cost * static_cast<double>(rows_));
    int64_t grain = std::max<int64_t>(1, static_cast<int64_t>(kChunkNanoseconds / row_cost));
    parallel(rows_, grain, [&](int64_t begin, int64_t end) { rows(begin, end); });
    operands_.write_back();
  }

  /// Column outputs are sums over the rows: one partial sum per chunk of rows, added in order.
  void run_sums(double nanoseconds) {
    if (!operands_.write_anything()) return;
    double row_cost = cost_of_row(nanoseconds);
    LongWork work(row_cost * static_cast<double>(rows_));
    int64_t chunks = (rows_ + kSumRows - 1) / kSumRows;
    std::vector<Tensor> partials(operands_.count());
    for (size_t k = 0; k < operands_.count(); ++k)
      if (is_sum(k)) {
        partials[k] = zeros(Ints({chunks, n_}), operands_.dtype(k));
        bound_[k] = {partials[k].data<char>(), n_, operands_.dtype(k), false};
      }
    sums_ = true;
    int64_t grain =
        std::max<int64_t>(1, static_cast<int64_t>(kChunkNanoseconds / (row_cost * kSumRows)));
    parallel(chunks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) rows(c * kSumRows, std::min(rows_, (c + 1) * kSumRows));
    });
    for (size_t k = 0; k < operands_.count(); ++k)
      if (is_sum(k)) add_up(partials[k], operands_.whole(k));
    operands_.write_back();
  }

 private:
  void bind(size_t k) {
    const Tensor& t = operands_.given(k);
    RowOperand& o = bound_[k];
    if (operands_.extent(k) == Extent::element) {
      o.stride = row_stride(t, n_);
      if (o.stride < 0 && operands_.is_input(k) && t.dtype() == operands_.dtype(k)) {
        if (Tensor row = repeated_row(t, n_); row.defined()) {
          repeated_[k] = row;
          o = {row.data<char>(), 0, t.dtype(), false};
          return;
        }
      }
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
    if (sums_ && is_sum(k)) offset = row / kSumRows * n_;
    return o.data + offset * size_of(o.stored);
  }

  double cost_of_row(double nanoseconds) const {
    return nanoseconds * static_cast<double>(std::max<int64_t>(n_, 1));
  }
  bool is_sum(size_t k) const {
    return !operands_.is_input(k) && operands_.extent(k) == Extent::column;
  }

  /// total = 0 + first row + second row ...
  static void add_up(const Tensor& partials, const Tensor& total) {
    kernels::Kernel add_rows = require_kernel(kAdd, total.dtype());
    int64_t n = total.numel();
    std::memset(total.data(), 0, static_cast<size_t>(total.nbytes()));
    for (int64_t c = 0; c < partials.size(0); ++c) {
      kernels::Buf args[] = {{total.data(), nullptr},
                             {partials.data<char>() + c * n * size_of(total.dtype()), nullptr},
                             {total.data(), nullptr}};
      add_rows(args, &n, nullptr);
    }
  }

  void rows(int64_t begin, int64_t end) { converts_ ? by_blocks(begin, end) : call(begin, end); }

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

  ProgramOperands operands_;
  RowOperand bound_[kMaxSlots];
  int64_t rows_, n_;
  const double* params_;
  kernels::Kernel kernel_;
  bool converts_ = false, sums_ = false;
  Tensor repeated_[kMaxSlots];
};

}  // namespace

void emit(const OpDef& op, KernelSink& sink, const RowProgram& p) {
  for (DType t : {DType::f32, DType::f64})
    sink.add(op, t, p.variant, [&](std::string symbol) {
      return loops::rows(std::move(symbol), t, loop_operands(p.slots, t), p.body);
    });
}

void run(const OpDef& op, const RowProgram& p, DType compute, int64_t rows, int64_t n,
         const TensorRefs& operands, const double* params) {
  RowRun(op, p, compute, rows, n, operands, params).run(p.nanoseconds);
}

void run_column_sums(const OpDef& op, const RowProgram& p, DType compute, int64_t rows, int64_t n,
                     const TensorRefs& operands, const double* params) {
  RowRun(op, p, compute, rows, n, operands, params).run_sums(p.nanoseconds);
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
