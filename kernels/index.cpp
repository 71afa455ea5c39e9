#include "kernels/index.h"

#include "kernels/combine.h"

namespace fluxion::kernels {

namespace {

/// What is done with one run of indices; false if one is out of range.
enum class Use : uint8_t { check, set, add };

template <class Int, Use use>
bool run(const IndexOperand& o, const Int* index, int64_t stride, int64_t n, int64_t* offsets) {
  bool bad = false;
  const int64_t extent = o.extent, step = o.step;
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = index[i * stride];
    bad |= (v < -extent) | (v >= extent);
    v += v < 0 ? extent : 0;
    if (use == Use::set) offsets[i] = v * step;
    if (use == Use::add) offsets[i] += v * step;
  }
  return !bad;
}

template <class Int, Use use>
bool run_strided(const IndexOperand& o, int64_t at, int64_t stride, int64_t n, int64_t* offsets) {
  const Int* index = reinterpret_cast<const Int*>(o.data) + at;
  return stride == 1 ? run<Int, use>(o, index, 1, n, offsets)
                     : run<Int, use>(o, index, stride, n, offsets);
}

template <class Int>
bool run(const IndexOperand& o, int64_t at, int64_t stride, int64_t n, int64_t* offsets, Use use) {
  switch (use) {
    case Use::check: return run_strided<Int, Use::check>(o, at, stride, n, offsets);
    case Use::set: return run_strided<Int, Use::set>(o, at, stride, n, offsets);
    default: return run_strided<Int, Use::add>(o, at, stride, n, offsets);
  }
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

bool run_operand(const Space& s, const IndexOperand& o, int64_t begin, int64_t end,
                 int64_t* offsets, Use use) {
  bool good = true;
  int64_t stride = s.rank ? o.strides[s.rank - 1] : 0, inner = s.inner();
  for (int64_t p = begin; p < end;) {
    int64_t n = inner - p % inner;
    if (n > end - p) n = end - p;
    int64_t at = address(s, o, p);
    good &= o.elem == Elem::i32 ? run<int32_t>(o, at, stride, n, offsets + p, use)
                                : run<int64_t>(o, at, stride, n, offsets + p, use);
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

/// `offsets` null: only checks.
int walk(Ctx& ctx, const IndexOperand* operands, int count, int rank, const int64_t* sizes,
         int64_t* offsets) {
  int64_t total = 1;
  for (int d = 0; d < rank; ++d) total *= sizes[d];
  if (total == 0) return kOk;
  const Space space{rank, sizes};
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
    for (int k = 0; k < count; ++k) {
      const Use use = !offsets ? Use::check : k == 0 ? Use::set : Use::add;
      if (!run_operand(walk, walked[k], begin, end, offsets, use))
        __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
    }
  });
  return bad ? report(ctx, space, operands, count, total) : kOk;
}

}  // namespace

int resolve_indices(Ctx& ctx, const IndexOperand* operands, int count, int rank,
                    const int64_t* sizes, int64_t* offsets) {
  return walk(ctx, operands, count, rank, sizes, offsets);
}

int check_indices(Ctx& ctx, const IndexOperand* operands, int count, int rank,
                  const int64_t* sizes) {
  return walk(ctx, operands, count, rank, sizes, nullptr);
}

namespace {

constexpr int64_t kBlock = 1024;

int64_t count_bytes(const char* mask, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += mask[i] != 0;
  return count;
}

/// Positions of ascending order as coordinates; divides once a line.
class Coordinates {
 public:
  Coordinates(int rank, const int64_t* sizes) : rank_(rank), sizes_(sizes) {}

  void write(int64_t position, int64_t* out) {
    if (position >= line_end_) enter_line(position);
    for (int d = 0; d < rank_ - 1; ++d) out[d] = at_[d];
    if (rank_) out[rank_ - 1] = position - line_begin_;
  }

 private:
  void enter_line(int64_t position) {
    const int64_t length = rank_ ? sizes_[rank_ - 1] : 1;
    int64_t line = position / length;
    line_begin_ = line * length;
    line_end_ = line_begin_ + length;
    for (int d = rank_ - 2; d >= 0; --d) {
      at_[d] = line % sizes_[d];
      line /= sizes_[d];
    }
  }

  int rank_;
  const int64_t* sizes_;
  int64_t at_[kMaxLoops], line_begin_ = 0, line_end_ = 0;
};

/// Fills `positions` (room for one more than there are) without branching on the mask. Returns how many.
int64_t true_positions(const char* mask, int64_t begin, int64_t end, int64_t* positions) {
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i) {
    positions[count] = i;
    count += mask[i] != 0;
  }
  return count;
}

}  // namespace

int64_t count_true(const Ctx& ctx, const char* mask, int64_t n) {
  int64_t total = 0;
  spread(ctx, n, kEnoughWork, n > 8 * kEnoughWork, [&](int64_t begin, int64_t end) {
    __atomic_fetch_add(&total, count_bytes(mask + begin, end - begin), __ATOMIC_RELAXED);
  });
  return total;
}

void true_coordinates(const Ctx& ctx, const char* mask, int rank, const int64_t* sizes,
                      int64_t* out) {
  int64_t n = 1;
  for (int d = 0; d < rank; ++d) n *= sizes[d];
  spread(ctx, n, kEnoughWork, n > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    int64_t before = begin ? count_bytes(mask, begin) : 0;  // counting is far cheaper than writing
    int64_t positions[kBlock + 1];
    Coordinates coordinates(rank, sizes);
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t here =
          true_positions(mask, at, at + kBlock < end ? at + kBlock : end, positions);
      for (int64_t k = 0; k < here; ++k) coordinates.write(positions[k], out + (before + k) * rank);
      before += here;
    }
  });
}

}  // namespace fluxion::kernels
