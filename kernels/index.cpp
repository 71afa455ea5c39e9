#include "kernels/index.h"

#include "kernels/combine.h"

namespace fluxion::kernels {

namespace {

/// Adds one run of an operand to the offsets; false if an index is out of range.
template <class Int, bool first>
bool add_run(const IndexOperand& o, const Int* index, int64_t stride, int64_t n, int64_t* offsets) {
  bool bad = false;
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = index[i * stride];
    bad |= (v < -o.extent) | (v >= o.extent);
    v += v < 0 ? o.extent : 0;
    offsets[i] = first ? v * o.step : offsets[i] + v * o.step;
  }
  return !bad;
}

template <class Int>
bool add_run(const IndexOperand& o, int64_t at, int64_t stride, int64_t n, int64_t* offsets, bool first) {
  const Int* index = reinterpret_cast<const Int*>(o.data) + at;
  return first ? add_run<Int, true>(o, index, stride, n, offsets) : add_run<Int, false>(o, index, stride, n, offsets);
}

struct Space {
  int rank;
  const int64_t* sizes;
  int64_t inner() const { return rank ? sizes[rank - 1] : 1; }
};

/// Element offset of position p of an operand.
int64_t address(const Space& s, const IndexOperand& o, int64_t p) {
  int64_t at = 0;
  for (int d = s.rank - 1; d >= 0; --d) {
    at += p % s.sizes[d] * o.strides[d];
    p /= s.sizes[d];
  }
  return at;
}

bool add_operand(const Space& s, const IndexOperand& o, int64_t begin, int64_t end, int64_t* offsets, bool first) {
  bool good = true;
  int64_t stride = s.rank ? o.strides[s.rank - 1] : 0, inner = s.inner();
  for (int64_t p = begin; p < end;) {
    int64_t n = inner - p % inner;
    if (n > end - p) n = end - p;
    int64_t at = address(s, o, p);
    good &= o.elem == Elem::i32 ? add_run<int32_t>(o, at, stride, n, offsets + p, first)
                                : add_run<int64_t>(o, at, stride, n, offsets + p, first);
    p += n;
  }
  return good;
}

int64_t value_at(const Space& s, const IndexOperand& o, int64_t p) {
  int64_t at = address(s, o, p);
  return o.elem == Elem::i32 ? reinterpret_cast<const int32_t*>(o.data)[at]
                             : reinterpret_cast<const int64_t*>(o.data)[at];
}

int report(Ctx& ctx, const Space& s, const IndexOperand* operands, int count, int64_t total) {
  for (int k = 0; k < count; ++k)
    for (int64_t p = 0; p < total; ++p) {
      int64_t v = value_at(s, operands[k], p), extent = operands[k].extent;
      if (v >= -extent && v < extent) continue;
      ctx.error[0] = v;
      ctx.error[1] = p;
      ctx.error[2] = extent;
      ctx.error[3] = k;
      return kIndexOutOfRange;
    }
  return kOk;
}

/// Whether the dims of every operand can be walked as one.
bool dense(const Space& s, const IndexOperand* operands, int count) {
  for (int k = 0; k < count; ++k) {
    int64_t expected = 1;
    for (int d = s.rank - 1; d >= 0; --d) {
      if (s.sizes[d] != 1 && operands[k].strides[d] != expected) return false;
      expected *= s.sizes[d];
    }
  }
  return true;
}

}  // namespace

int resolve_indices(Ctx& ctx, const IndexOperand* operands, int count, int rank, const int64_t* sizes,
                    int64_t* offsets) {
  int64_t total = 1;
  for (int d = 0; d < rank; ++d) total *= sizes[d];
  if (total == 0) return kOk;
  Space space{rank, sizes};
  const int64_t one_stride[1] = {1};
  IndexOperand flat[kMaxLoops];
  const IndexOperand* walked = operands;
  Space walk = space;
  if (count <= kMaxLoops && dense(space, operands, count)) {
    for (int k = 0; k < count; ++k) {
      flat[k] = operands[k];
      flat[k].strides = one_stride;
    }
    walk = {1, &total};
    walked = flat;
  }
  int bad = 0;
  spread(ctx, total, kEnoughWork, total > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    for (int k = 0; k < count; ++k)
      if (!add_operand(walk, walked[k], begin, end, offsets, k == 0)) __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
  });
  return bad ? report(ctx, space, operands, count, total) : kOk;
}

namespace {

constexpr int64_t kBlock = 4096;

int64_t count_bytes(const char* mask, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += mask[i] != 0;
  return count;
}

void write_coordinates(const char* mask, int64_t begin, int64_t end, int rank, const int64_t* sizes, int64_t* out) {
  for (int64_t i = begin; i < end; ++i) {
    if (!mask[i]) continue;
    int64_t rest = i;
    for (int d = rank - 1; d > 0; --d) {
      out[d] = rest % sizes[d];
      rest /= sizes[d];
    }
    if (rank) out[0] = rest;
    out += rank;
  }
}

}  // namespace

int64_t count_true(const Ctx& ctx, const char* mask, int64_t n) {
  int64_t total = 0;
  spread(ctx, n, kEnoughWork, n > 8 * kEnoughWork, [&](int64_t begin, int64_t end) {
    __atomic_fetch_add(&total, count_bytes(mask + begin, end - begin), __ATOMIC_RELAXED);
  });
  return total;
}

void true_coordinates(const Ctx& ctx, const char* mask, int rank, const int64_t* sizes, int64_t* out) {
  int64_t n = 1;
  for (int d = 0; d < rank; ++d) n *= sizes[d];
  spread(ctx, n, kEnoughWork, n > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    int64_t before = begin ? count_bytes(mask, begin) : 0;  // counting is far cheaper than writing
    for (int64_t at = begin; at < end; at += kBlock) {
      int64_t stop = at + kBlock < end ? at + kBlock : end, here = count_bytes(mask + at, stop - at);
      if (here) write_coordinates(mask, at, stop, rank, sizes, out + before * rank);
      before += here;
    }
  });
}

}  // namespace fluxion::kernels
