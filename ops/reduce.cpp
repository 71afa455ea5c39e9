#include "ops/reduce.h"

#include <algorithm>
#include <cstring>

#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/kernel_sink.h"
#include "ops/requirements.h"
#include "tensor/thread_state.h"
#include "tensor/threads.h"

namespace fluxion {

namespace {

bool reduces(const ReduceAttrs& a, int64_t d) {
  return std::ranges::find(Ints(a.dims), d) != Ints(a.dims).end();
}

/// x as [outer, red, inner] or [rows, n], dense or with the strides a kernel can walk.
struct Layout {
  Tensor x;  // keeps a copy alive
  int64_t outer, red, inner;
  int64_t strides[2];  // columns: outer, red; rows: row stride
};

/// Whether dims [begin, end) of the permuted geometry collapse into one with stride `*stride`.
bool collapses(const int64_t* sizes, const int64_t* strides, size_t begin, size_t end,
               int64_t* stride) {
  int64_t expected = 0;
  bool first = true;
  for (size_t i = end; i-- > begin;) {
    if (sizes[i] == 1) continue;
    if (first) *stride = strides[i];
    else if (strides[i] != expected) return false;
    expected = strides[i] * sizes[i];
    first = false;
  }
  if (first) *stride = 1;
  return true;
}

struct Order {
  int64_t dims[kMaxRank];
  size_t n = 0;
  void push(int64_t d) { dims[n++] = d; }
};

/// Kept dims before, reduced dims, kept dims after; reduced dims that are not neighbours come first.
Order column_order(const Tensor& x, const ReduceAttrs& a, size_t* outer, size_t* red) {
  Order o;
  bool neighbours =
      a.dims[a.dims.size() - 1] - a.dims[0] + 1 == static_cast<int64_t>(a.dims.size());
  for (int64_t d = 0; neighbours && d < a.dims[0]; ++d) o.push(d);
  *outer = o.n;
  for (int64_t d : Ints(a.dims)) o.push(d);
  *red = o.n;
  for (int64_t d = 0; d < x.dim(); ++d)
    if (!reduces(a, d) && (!neighbours || d > a.dims[0])) o.push(d);
  return o;
}

Layout lay_out(const Tensor& x, const Order& o, size_t outer_end, size_t red_end) {
  int64_t sizes[kMaxRank], strides[kMaxRank];
  Layout l{x, 1, 1, 1, {0, 0}};
  for (size_t i = 0; i < o.n; ++i) {
    sizes[i] = x.sizes()[o.dims[i]];
    strides[i] = x.strides()[o.dims[i]];
    (i < outer_end ? l.outer : i < red_end ? l.red : l.inner) *= sizes[i];
  }
  int64_t inner_stride, last;
  bool walks = collapses(sizes, strides, 0, outer_end, &l.strides[0]) &&
               collapses(sizes, strides, outer_end, red_end, &l.strides[1]) &&
               collapses(sizes, strides, red_end, o.n, &inner_stride);
  last = red_end == o.n ? (l.red == 1 ? 1 : l.strides[1]) : (l.inner == 1 ? 1 : inner_stride);
  if (walks && last == 1) return l;
  NoGrad plain;
  l.x = empty(Ints(sizes, o.n), x.dtype());
  copy_elements(alias(x, {sizes, o.n}, {strides, o.n}, x.storage_offset()), l.x);
  l.strides[0] = l.red * l.inner;
  l.strides[1] = l.inner;
  return l;
}

void run_columns(const OpDef& op, const ReduceAttrs& a, const Tensor& x,
                 std::span<const Tensor> out) {
  size_t outer, red;
  Order o = column_order(x, a, &outer, &red);
  Layout l = lay_out(x, o, outer, red);
  kernels::Kernel f = require_kernel(op, x.dtype(), kByColumns);
  constexpr int64_t kBlock = 256;
  int64_t blocks = (l.inner + kBlock - 1) / kBlock;
  int64_t work = std::max<int64_t>(l.red * std::min(l.inner, kBlock), 1);
  LongWork busy(static_cast<double>(x.numel()) * 0.2);
  parallel(l.outer * blocks, std::max<int64_t>(1, 32768 / work), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      int64_t at = k / blocks, column = k % blocks * kBlock;
      int64_t sizes[] = {1, l.red, std::min(kBlock, l.inner - column)};
      int64_t out_stride = l.inner;
      kernels::Buf args[4] = {
          {l.x.data<char>() + (at * l.strides[0] + column) * size_of(x.dtype()), l.strides}};
      for (size_t i = 0; i < out.size(); ++i)
        args[i + 1] = {out[i].data<char>() + (at * l.inner + column) * size_of(out[i].dtype()),
                       &out_stride};
      f(args, sizes, &a);
    }
  });
}

/// Chunks of one long row on several threads, chunk results added left to right: the bits of the serial row.
bool run_long_row(const OpDef& op, const Layout& l, kernels::Kernel f, const ReduceAttrs& a,
                  std::span<const Tensor> out) {
  constexpr int64_t kChunk = 4096;
  bool combines = op.composite == nullptr && out.size() == 1 && out[0].dtype() == l.x.dtype() &&
                  !is_half(l.x.dtype());
  if (l.outer != 1 || l.red < 16 * kChunk || !combines || num_threads() == 1) return false;
  int64_t full = l.red / kChunk, rest = l.red - full * kChunk, parts = full + (rest > 0);
  Tensor partial = empty(Ints(&parts, 1), l.x.dtype());
  parallel(parts, 4, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      int64_t sizes[] = {1, k < full ? kChunk : rest}, stride = kChunk;
      kernels::Buf args[] = {{l.x.data<char>() + k * kChunk * size_of(l.x.dtype()), &stride},
                             {partial.data<char>() + k * size_of(l.x.dtype()), nullptr}};
      f(args, sizes, &a);
    }
  });
  kernels::Kernel one = f;  // a row of one element is that element; fold pairs in order
  Tensor pair = empty(Shape{2}, l.x.dtype());
  int64_t size = size_of(l.x.dtype()), sizes[] = {1, 2}, stride = 2;
  std::memcpy(pair.data<char>(), partial.data<char>(), size);
  for (int64_t k = 1; k < parts; ++k) {
    std::memcpy(pair.data<char>() + size, partial.data<char>() + k * size, size);
    kernels::Buf args[] = {{pair.data(), &stride}, {pair.data(), nullptr}};
    one(args, sizes, &a);
  }
  std::memcpy(out[0].data<char>(), pair.data<char>(), size);
  return true;
}

void run_rows(const OpDef& op, const ReduceAttrs& a, const Tensor& x, std::span<const Tensor> out) {
  Order o;
  for (int64_t d = 0; d < x.dim(); ++d)
    if (!reduces(a, d)) o.push(d);
  size_t kept = o.n;
  for (int64_t d : Ints(a.dims)) o.push(d);
  Layout l = lay_out(x, o, kept, o.n);
  kernels::Kernel f = require_kernel(op, x.dtype(), kByRows);
  LongWork busy(static_cast<double>(x.numel()) * 0.2);
  if (run_long_row(op, l, f, a, out)) return;
  parallel(l.outer, std::max<int64_t>(1, 32768 / std::max<int64_t>(l.red, 1)),
           [&](int64_t begin, int64_t end) {
             int64_t sizes[] = {end - begin, l.red};
             kernels::Buf args[4] = {
                 {l.x.data<char>() + begin * l.strides[0] * size_of(x.dtype()), l.strides}};
             for (size_t i = 0; i < out.size(); ++i)
               args[i + 1] = {out[i].data<char>() + begin * size_of(out[i].dtype()), nullptr};
             f(args, sizes, &a);
           });
}

}  // namespace

ReduceAttrs reduce_attrs(const char* op, const Tensor& x, OptInts dim, bool keepdim) {
  ReduceAttrs a{0, keepdim, {}};
  int rank = x.dim(op);
  if (!dim || dim->empty()) {
    a.dims.n = static_cast<uint8_t>(rank);
    for (int d = 0; d < rank; ++d) a.dims.v[d] = d;
    return a;
  }
  for (int64_t d : *dim) {
    int64_t w = wrap_dim(d, rank, op);
    if (reduces(a, w))
      fail(ErrorKind::runtime, "{}: dim {} appears twice in {}", op, w, shape_text(*dim));
    a.dims.v[a.dims.n++] = w;
  }
  std::sort(a.dims.v, a.dims.v + a.dims.n);
  if (rank == 0) a.dims.n = 0;
  return a;
}

Shape reduced_shape(Ints shape, const ReduceAttrs& a) {
  Shape out;
  for (size_t d = 0; d < shape.size(); ++d) {
    bool gone = reduces(a, static_cast<int64_t>(d));
    if (gone && !a.keepdim) continue;
    out.push_back(gone ? 1 : shape[d]);
  }
  return out;
}

void require_reduction(const TypeRule& t) {
  const auto& a = t.attrs<ReduceAttrs>();
  size_t rank = t.in[0].shape.size();
  require_ascending(t, a.dims, rank);
  require(t, rank == 0 || a.dims.size() > 0, "some dim must be reduced");
}

void run_reduction(const OpDef& op, const ReduceAttrs& a, const Tensor& x,
                   std::span<const Tensor> out) {
  if (out[0].numel() == 0) return;
  bool last = a.dims.size() == 0 || a.dims[a.dims.size() - 1] == x.dim() - 1;
  if (last) run_rows(op, a, x, out);
  else run_columns(op, a, x, out);
}

Tensor unreduce(const Tensor& g, const ReduceAttrs& a, Ints shape) {
  Tensor wide = g;
  if (!a.keepdim && a.dims.size()) {
    ReduceAttrs keep = a;
    keep.keepdim = 1;
    wide = reshape(g, reduced_shape(shape, keep));
  }
  return wide;
}

double reduce_cost(std::span<const Type> in, const void* attrs) { return cheap_cost(in, attrs); }

void reduce_samples(const OpDef& op, SampleSink& sink) {
  auto add = [&](std::initializer_list<int64_t> shape, std::initializer_list<int64_t> dims,
                 DType t) {
    ReduceAttrs a{op.composite ? 1.0 : 0.0, 0, {dims}};
    SampleSink::Input x{Shape(shape), t, 0.25, 2.0};
    sink.add({&x, 1}, &a, op.attr_bytes);
  };
  for (DType t : {DType::f32, DType::f64, DType::i32, DType::i64, DType::f16, DType::bf16,
                  DType::u8, DType::i8, DType::i16, DType::bool_}) {
    if (op.promotion == Promotion::floating && !is_floating(t)) continue;
    add({3, 7}, {1}, t);
    add({3, 7}, {0}, t);
    add({2, 3, 4}, {0, 2}, t);
    add({5}, {0}, t);
  }
}

}  // namespace fluxion
