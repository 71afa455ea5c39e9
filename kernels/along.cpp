// Element by element along an axis: gather and scatter.
#include "kernels/combine.h"
#include "kernels/index.h"

namespace fluxion::kernels {

namespace {

/// What one loop adds to the three positions.
struct Step {
  int64_t size = 1, index = 0, indexed = 0, plain = 0;
};

/// The loops of a move: planes (axis x line) inside units. Elements that meet lie in one unit and column of a plane.
struct Walk {
  Step axis, line, units[kMaxLoops];
  int unit_rank = 0;
  int64_t unit_count = 1;
  bool axis_inside;  // the axis is the innermost loop

  explicit Walk(const AxisMove& m) : axis_inside(m.axis == m.rank - 1) {
    const int line_dim = axis_inside ? m.rank - 2 : m.rank - 1;
    auto step = [&](int d) {
      return Step{m.sizes[d], m.index.strides[d], d == m.axis ? 0 : m.indexed_strides[d],
                  m.plain_strides[d]};
    };
    axis = step(m.axis);
    if (line_dim >= 0) line = step(line_dim);
    for (int d = 0; d < m.rank; ++d) {
      if (d == m.axis || d == line_dim) continue;
      units[unit_rank++] = step(d);
      unit_count *= m.sizes[d];
    }
  }
  int64_t columns() const { return unit_count * line.size; }
  Step start_of(int64_t unit) const {
    Step at;
    for (int d = unit_rank - 1; d >= 0; --d) {
      const int64_t i = unit % units[d].size;
      unit /= units[d].size;
      at.index += i * units[d].index;
      at.indexed += i * units[d].indexed;
      at.plain += i * units[d].plain;
    }
    return at;
  }
};

/// meet(indexed[k * drift + index[k] * step], plain[k]) for k in [0, n); the innermost loop, strides as they come.
/// False if an index was out of range; it moves nothing.
template <class T, class Int, class Meet>
[[gnu::always_inline]] inline bool meet_line(const Int* index, int64_t pace, int64_t extent,
                                             T* indexed, int64_t drift, int64_t step, T* plain,
                                             int64_t plain_pace, int64_t n, Meet meet) {
  bool good = true;
  for (int64_t k = 0; k < n; ++k) {
    int64_t i = index[k * pace];
    i += i < 0 ? extent : 0;
    if (static_cast<uint64_t>(i) >= static_cast<uint64_t>(extent)) [[unlikely]]
      good = false;
    else meet(indexed[k * drift + i * step], plain[k * plain_pace]);
  }
  return good;
}

/// Columns [begin, end) of one plane.
template <class T, class Int, class Meet>
bool plane(const AxisMove& m, const Walk& w, const Step& at, int64_t begin, int64_t end,
           Meet meet) {
  const Step inner = w.axis_inside ? w.axis : w.line, outer = w.axis_inside ? w.line : w.axis;
  const int64_t first = w.axis_inside ? begin : 0, last = w.axis_inside ? end : outer.size;
  const int64_t start = w.axis_inside ? 0 : begin, n = w.axis_inside ? inner.size : end - begin;
  const int64_t extent = m.index.extent, step = m.index.step;
  const bool dense = inner.index == 1 && inner.plain == 1 && inner.indexed == 0 && step == 1;
  bool good = true;
  for (int64_t r = first; r < last; ++r) {
    const Int* index = reinterpret_cast<const Int*>(m.index.data) + at.index + r * outer.index +
                       start * inner.index;
    T* indexed =
        reinterpret_cast<T*>(m.indexed) + at.indexed + r * outer.indexed + start * inner.indexed;
    T* plain = reinterpret_cast<T*>(m.plain) + at.plain + r * outer.plain + start * inner.plain;
    good &= dense ? meet_line(index, 1, extent, indexed, 0, 1, plain, 1, n, meet)
                  : meet_line(index, inner.index, extent, indexed, inner.indexed, step, plain,
                              inner.plain, n, meet);
  }
  return good;
}

/// meet(indexed element, plain element) for all, the columns shared among threads.
template <class T, class Int, class Meet>
bool walk(const Ctx& ctx, const AxisMove& m, Meet meet) {
  const Walk w(m);
  const int64_t columns = w.columns(), depth = w.axis.size;
  if (columns * depth == 0) return true;
  int bad = 0;
  spread(ctx, columns, kEnoughWork / depth + 1, columns * depth > 2 * kEnoughWork,
         [&](int64_t begin, int64_t end) {
           for (int64_t c = begin; c < end;) {
             const int64_t unit = c / w.line.size, j = c % w.line.size;
             const int64_t stop = j + (end - c) < w.line.size ? j + (end - c) : w.line.size;
             if (!plane<T, Int>(m, w, w.start_of(unit), j, stop, meet))
               __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
             c += stop - j;
           }
         });
  return !bad;
}

template <class T, class Meet>
bool walk(const Ctx& ctx, const AxisMove& m, Meet meet) {
  return m.index.elem == Elem::i32 ? walk<T, int32_t>(ctx, m, meet)
                                   : walk<T, int64_t>(ctx, m, meet);
}

}  // namespace

int gather_along(Ctx& ctx, const AxisMove& m) {
  bool good = true;
  with_bits(m.elem, [&](auto bits) {
    using T = decltype(bits);
    good = walk<T>(ctx, m, [](const T& indexed, T& plain) { plain = indexed; });
  });
  return good ? kOk : check_indices(ctx, &m.index, 1, m.rank, m.sizes);
}

int scatter_along(Ctx& ctx, const AxisMove& m, Combine combine) {
  if (m.check_first)
    if (int status = check_indices(ctx, &m.index, 1, m.rank, m.sizes)) return status;
  bool good = true;
  if (combine == Combine::replace) {
    with_bits(m.elem, [&](auto bits) {
      using T = decltype(bits);
      good = walk<T>(ctx, m, [](T& indexed, const T& plain) { indexed = plain; });
    });
  } else {
    bool known = with_arithmetic(m.elem, [&](auto t) {
      using T = decltype(t);
      with_combine(combine, [&](auto how) {
        good = walk<T>(ctx, m, [](T& indexed, const T& plain) {
          indexed = combined<decltype(how)::value>(indexed, plain);
        });
      });
    });
    if (!known) return kNoKernel;
  }
  return good ? kOk : check_indices(ctx, &m.index, 1, m.rank, m.sizes);
}

}  // namespace fluxion::kernels
