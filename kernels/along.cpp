// Element by element along an axis: gather and scatter.
#include "kernels/combine.h"
#include "kernels/index.h"

namespace fluxion::kernels {

namespace {

/// What one loop adds to the three positions.
struct Step {
  int64_t size = 1, offset = 0, indexed = 0, plain = 0;
};

/// The loops of a move: planes (axis x line) inside units. Elements that meet lie in one unit and column of a plane.
struct Walk {
  Step axis, line, units[kMaxLoops];
  int unit_rank = 0;
  int64_t unit_count = 1;
  bool axis_inside;  // the axis is the innermost loop

  explicit Walk(const AxisMove& m) : axis_inside(m.axis == m.rank - 1) {
    const int line_dim = axis_inside ? m.rank - 2 : m.rank - 1;
    int64_t dense = 1;
    Step steps[kMaxLoops];
    for (int d = m.rank - 1; d >= 0; --d) {
      steps[d] = {m.sizes[d], dense, d == m.axis ? 0 : m.indexed_strides[d], m.plain_strides[d]};
      dense *= m.sizes[d];
    }
    axis = steps[m.axis];
    if (line_dim >= 0) line = steps[line_dim];
    for (int d = 0; d < m.rank; ++d) {
      if (d == m.axis || d == line_dim) continue;
      units[unit_rank++] = steps[d];
      unit_count *= steps[d].size;
    }
  }
  int64_t columns() const { return unit_count * line.size; }
};

template <class T, class Meet>
void plane(const AxisMove& m, const Walk& w, const Step& at, int64_t begin, int64_t end, Meet meet) {
  const int64_t* offsets = m.offsets + at.offset;
  T* indexed = reinterpret_cast<T*>(m.indexed) + at.indexed;
  T* plain = reinterpret_cast<T*>(m.plain) + at.plain;
  auto one = [&](int64_t a, int64_t j) {
    meet(indexed[j * w.line.indexed + offsets[a * w.axis.offset + j * w.line.offset]],
         plain[a * w.axis.plain + j * w.line.plain]);
  };
  if (w.axis_inside)
    for (int64_t j = begin; j < end; ++j)
      for (int64_t a = 0; a < w.axis.size; ++a) one(a, j);
  else
    for (int64_t a = 0; a < w.axis.size; ++a)
      for (int64_t j = begin; j < end; ++j) one(a, j);
}

/// meet(indexed element, plain element) for all, the columns shared among threads.
template <class T, class Meet>
void walk(const Ctx& ctx, const AxisMove& m, Meet meet) {
  const Walk w(m);
  const int64_t columns = w.columns(), depth = w.axis.size;
  if (columns * depth == 0) return;
  spread(ctx, columns, kEnoughWork / depth + 1, columns * depth > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end;) {
      int64_t unit = c / w.line.size, j = c % w.line.size;
      int64_t stop = j + (end - c) < w.line.size ? j + (end - c) : w.line.size;
      Step at;
      for (int d = w.unit_rank - 1; d >= 0; --d) {
        int64_t i = unit % w.units[d].size;
        unit /= w.units[d].size;
        at.offset += i * w.units[d].offset;
        at.indexed += i * w.units[d].indexed;
        at.plain += i * w.units[d].plain;
      }
      plane<T>(m, w, at, j, stop, meet);
      c += stop - j;
    }
  });
}

}  // namespace

void gather_along(const Ctx& ctx, const AxisMove& m) {
  with_bits(m.elem, [&](auto bits) {
    using T = decltype(bits);
    walk<T>(ctx, m, [](const T& indexed, T& plain) { plain = indexed; });
  });
}

int scatter_along(const Ctx& ctx, const AxisMove& m, Combine combine) {
  if (combine == Combine::replace) {
    with_bits(m.elem, [&](auto bits) {
      using T = decltype(bits);
      walk<T>(ctx, m, [](T& indexed, const T& plain) { indexed = plain; });
    });
    return kOk;
  }
  bool known = with_arithmetic(m.elem, [&](auto t) {
    using T = decltype(t);
    with_combine(combine, [&](auto how) {
      walk<T>(ctx, m, [](T& indexed, const T& plain) { indexed = combined<decltype(how)::value>(indexed, plain); });
    });
  });
  return known ? kOk : kNoKernel;
}

}  // namespace fluxion::kernels
