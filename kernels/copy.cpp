#include "kernels/copy.h"

#include <cstring>

namespace fluxion::kernels {

namespace {

constexpr int kBlock = 16;  // a block of either side stays in L1

struct Copy {
  int size, rank;
  char* out;
  const char* in;
  int64_t sizes[kMaxLoops];
  int64_t strides[2][kMaxLoops];  // out, in
  int inner, other;               // dims of the innermost plane; other < 0: a line
  int64_t outer;                  // planes or lines
};

/// memcpy, without a call for short lines.
inline void copy_line(char* out, const char* in, size_t bytes) {
  constexpr size_t kVector = 32, kShort = 256;
  if (bytes < kVector || bytes > kShort) {
    std::memcpy(out, in, bytes);
    return;
  }
  for (size_t at = 0; at + kVector < bytes; at += kVector)
    __builtin_memcpy(out + at, in + at, kVector);
  __builtin_memcpy(out + bytes - kVector, in + bytes - kVector,
                   kVector);  // may overlap the one before
}

template <class T>
void plane(const Copy& c, char* out, const char* in) {
  T* o = reinterpret_cast<T*>(out);
  const T* p = reinterpret_cast<const T*>(in);
  int64_t n = c.sizes[c.inner], so = c.strides[0][c.inner], si = c.strides[1][c.inner];
  if (c.other < 0) {
    if (so == 1 && si == 1) {
      copy_line(out, in, static_cast<size_t>(n) * sizeof(T));
    } else if (si == 0) {
      T value = *p;
      for (int64_t i = 0; i < n; ++i) o[i * so] = value;
    } else if (so == 1 && si == -1) {
      for (int64_t i = 0; i < n; ++i) o[i] = p[-i];
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * so] = p[i * si];
    }
    return;
  }
  int64_t m = c.sizes[c.other], to = c.strides[0][c.other], ti = c.strides[1][c.other];
  if (so == 1 && si == 1) {
    for (int64_t j = 0; j < m; ++j)
      copy_line(out + j * to * static_cast<int64_t>(sizeof(T)),
                in + j * ti * static_cast<int64_t>(sizeof(T)), static_cast<size_t>(n) * sizeof(T));
    return;
  }
  for (int64_t jb = 0; jb < m; jb += kBlock)
    for (int64_t ib = 0; ib < n; ib += kBlock) {
      int64_t j_end = jb + kBlock < m ? jb + kBlock : m, i_end = ib + kBlock < n ? ib + kBlock : n;
      for (int64_t j = jb; j < j_end; ++j)
        for (int64_t i = ib; i < i_end; ++i) o[j * to + i * so] = p[j * ti + i * si];
    }
}

/// Where a plane starts on either side; walks from plane to plane.
struct Cursor {
  const Copy& c;
  int64_t at[kMaxLoops] = {}, out = 0, in = 0;

  Cursor(const Copy& copy, int64_t plane) : c(copy) {
    for (int d = c.rank - 1; d >= 0; --d) {
      if (d == c.inner || d == c.other) continue;
      at[d] = plane % c.sizes[d];
      plane /= c.sizes[d];
      out += at[d] * c.strides[0][d];
      in += at[d] * c.strides[1][d];
    }
  }
  void next() {
    for (int d = c.rank - 1; d >= 0; --d) {
      if (d == c.inner || d == c.other) continue;
      out += c.strides[0][d];
      in += c.strides[1][d];
      if (++at[d] < c.sizes[d]) return;
      out -= c.strides[0][d] * c.sizes[d];
      in -= c.strides[1][d] * c.sizes[d];
      at[d] = 0;
    }
  }
};

void run(void* arg, int64_t begin, int64_t end) {
  const Copy& c = *static_cast<Copy*>(arg);
  Cursor cursor(c, begin);
  for (int64_t k = begin; k < end; ++k, cursor.next()) {
    char* out = c.out + cursor.out * c.size;
    const char* in = c.in + cursor.in * c.size;
    switch (c.size) {
      case 1: plane<uint8_t>(c, out, in); break;
      case 2: plane<uint16_t>(c, out, in); break;
      case 4: plane<uint32_t>(c, out, in); break;
      default: plane<uint64_t>(c, out, in); break;
    }
  }
}

/// The dim along which `which` walks in the smallest steps.
int fastest(const Copy& c, int which) {
  int best = c.rank - 1;
  auto step = [&](int d) {
    int64_t s = c.strides[which][d];
    return s < 0 ? -s : s;
  };
  for (int d = c.rank - 1; d >= 0; --d)
    if (step(d) != 0 && (step(best) == 0 || step(d) < step(best))) best = d;
  return best;
}

}  // namespace

void copy_strided(const Ctx& ctx, int size, char* out, const int64_t* out_strides, const char* in,
                  const int64_t* in_strides, int rank, const int64_t* sizes) {
  Copy c{size, 0, out, in, {}, {}, 0, -1, 1};
  int64_t total = 1;
  for (int d = 0; d < rank; ++d) {
    total *= c.sizes[d] = sizes[d];
    c.strides[0][d] = out_strides[d];
    c.strides[1][d] = in_strides[d];
  }
  if (total == 0) return;
  c.rank = merge_dims(2, rank, c.sizes, c.strides);
  c.inner = fastest(c, 0);
  int from = fastest(c, 1);
  if (from != c.inner && c.strides[1][from] != 0) c.other = from;
  else if (c.rank > 2 && c.strides[0][c.inner] == 1 && c.strides[1][c.inner] == 1)
    c.other = c.inner == c.rank - 1 ? c.rank - 2 : c.rank - 1;  // dense lines, many at a time
  for (int d = 0; d < c.rank; ++d)
    if (d != c.inner && d != c.other) c.outer *= c.sizes[d];
  if (c.rank == 1 && total * size > (1 << 18) && ctx.parallel && c.strides[0][0] == 1 &&
      c.strides[1][0] == 1) {
    // One long line: split it so that threads share it.
    constexpr int64_t kPiece = 1 << 14;
    int64_t pieces = total / kPiece;
    Copy head = c;
    head.rank = 2;
    head.sizes[0] = pieces;
    head.sizes[1] = kPiece;
    for (auto& s : head.strides) {
      s[0] = kPiece;
      s[1] = 1;
    }
    head.inner = 1;
    head.outer = pieces;
    ctx.parallel(ctx.pool, pieces, 4, run, &head);
    int64_t done = pieces * kPiece;
    std::memcpy(out + done * size, in + done * size, static_cast<size_t>((total - done) * size));
    return;
  }
  int64_t per = total / c.outer;
  int64_t grain = (1 << 15) / (per < 1 ? 1 : per) + 1;
  if (total < (1 << 16) || !ctx.parallel) run(&c, 0, c.outer);
  else ctx.parallel(ctx.pool, c.outer, grain, run, &c);
}

}  // namespace fluxion::kernels
