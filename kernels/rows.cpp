// Whole rows: out[outer, p, inner] = in[outer, place p, inner], and back.
#include <cstring>

#include "kernels/combine.h"
#include "kernels/index.h"

namespace fluxion::kernels {

namespace {

/// Joins neighbouring loops that one step covers; at least one loop remains.
Loops merged(const Loops& loops) {
  Loops m = loops;
  int64_t strides[1][kMaxLoops];
  for (int d = 0; d < m.rank; ++d) strides[0][d] = m.strides[d];
  m.rank = merge_dims(1, m.rank, m.sizes, strides);
  for (int d = 0; d < m.rank; ++d) m.strides[d] = strides[0][d];
  return m;
}

int64_t offset_of(const Loops& loops, int64_t linear) {
  int64_t offset = 0;
  for (int d = loops.rank - 1; d >= 0; --d) {
    offset += linear % loops.sizes[d] * loops.strides[d];
    linear /= loops.sizes[d];
  }
  return offset;
}

/// line(indexed offset, offset in the row, length, stride) for every innermost line of a row.
template <class Line>
void for_lines(const Loops& inner, Line line) {
  const int last = inner.rank - 1;
  const int64_t n = inner.sizes[last], stride = inner.strides[last];
  if (last == 0) return line(0, 0, n, stride);
  int64_t at[kMaxLoops] = {}, offset = 0, row = 0;
  for (int d = 0; d >= 0;) {
    line(offset, row, n, stride);
    row += n;
    for (d = last - 1; d >= 0; --d) {
      offset += inner.strides[d];
      if (++at[d] < inner.sizes[d]) break;
      offset -= inner.strides[d] * inner.sizes[d];
      at[d] = 0;
    }
  }
}

template <class T>
void take_row(const Loops& inner, const T* indexed, T* row) {
  for_lines(inner, [=](int64_t from, int64_t to, int64_t n, int64_t stride) {
    if (stride == 1) std::memcpy(row + to, indexed + from, static_cast<size_t>(n) * sizeof(T));
    else
      for (int64_t i = 0; i < n; ++i) row[to + i] = indexed[from + i * stride];
  });
}

template <Combine how, class T>
void put_row(const Loops& inner, T* indexed, const T* row, int64_t row_step) {
  for_lines(inner, [=](int64_t at, int64_t from, int64_t n, int64_t stride) {
    T* to = indexed + at;
    if (how == Combine::replace && stride == 1 && row_step == 1)
      std::memcpy(to, row + from, static_cast<size_t>(n) * sizeof(T));
    else if (stride == 1 && row_step == 1)
      for (int64_t i = 0; i < n; ++i) to[i] = combined<how>(to[i], row[from + i]);
    else
      for (int64_t i = 0; i < n; ++i)
        to[i * stride] = combined<how>(to[i * stride], row[(from + i) * row_step]);
  });
}

template <class T>
void take_range(const RowMove& m, const Loops& outer, const Loops& inner, int64_t begin,
                int64_t end) {
  const int64_t width = inner.count();
  const bool single = width == 1;
  T* row = reinterpret_cast<T*>(m.rows) + begin * width;
  for (int64_t r = begin; r < end;) {
    const T* base = reinterpret_cast<const T*>(m.indexed) + offset_of(outer, r / m.positions);
    int64_t p = r % m.positions, stop = p + (end - r) < m.positions ? p + (end - r) : m.positions;
    r += stop - p;
    if (single)
      for (; p < stop; ++p) *row++ = base[m.offsets[p]];
    else
      for (; p < stop; ++p, row += width) take_row(inner, base + m.offsets[p], row);
  }
}

/// Only the places whose offset lies in [low, high): so no two threads write to one, and each sees its rows in order.
template <Combine how, class T>
void put_range(const RowMove& m, const Loops& outer, const Loops& inner, int64_t low,
               int64_t high) {
  const int64_t width = inner.count(), copies = outer.count(), step = m.one_row ? 0 : 1;
  const T* row = reinterpret_cast<const T*>(m.rows);
  for (int64_t o = 0; o < copies; ++o) {
    T* base = reinterpret_cast<T*>(m.indexed) + offset_of(outer, o);
    for (int64_t p = 0; p < m.positions; ++p, row += width * step) {
      const int64_t at = m.offsets[p];
      if (at < low || at >= high) continue;
      if (width == 1) base[at] = combined<how>(base[at], *row);
      else put_row<how>(inner, base + at, row, step);
    }
  }
}

template <Combine how, class T>
void put_typed(const Ctx& ctx, const RowMove& m, const Loops& outer, const Loops& inner) {
  const bool enough = outer.count() * m.positions * inner.count() > 2 * kEnoughWork;
  spread(ctx, m.span, 1, enough, [&](int64_t begin, int64_t end) {
    put_range<how, T>(m, outer, inner, m.low + begin, m.low + end);
  });
}

}  // namespace

void take_rows(const Ctx& ctx, const RowMove& m) {
  const Loops outer = merged(m.outer), inner = merged(m.inner);
  const int64_t width = inner.count(), rows = outer.count() * m.positions;
  if (width * rows == 0) return;
  with_bits(m.elem, [&](auto bits) {
    spread(ctx, rows, kEnoughWork / width + 1, rows * width > 2 * kEnoughWork,
           [&](int64_t begin, int64_t end) {
             take_range<decltype(bits)>(m, outer, inner, begin, end);
           });
  });
}

int put_rows(const Ctx& ctx, const RowMove& m, Combine combine) {
  const Loops outer = merged(m.outer), inner = merged(m.inner);
  if (outer.count() * m.positions * inner.count() == 0) return kOk;
  if (combine == Combine::replace) {
    with_bits(m.elem, [&](auto bits) {
      put_typed<Combine::replace, decltype(bits)>(ctx, m, outer, inner);
    });
    return kOk;
  }
  return with_arithmetic(
             m.elem, [&](auto t) { put_typed<Combine::add, decltype(t)>(ctx, m, outer, inner); })
             ? kOk
             : kNoKernel;
}

}  // namespace fluxion::kernels
