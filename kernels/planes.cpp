#include "kernels/planes.h"

#include <cstring>
#include <type_traits>

#include "kernels/convert.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

/// The elements of an axis that exist in one phase: place + i * place_step holds source + i *
/// source_step.
struct Run {
  int64_t place, place_step, source, source_step, count;
};

/// Of the logical places base + p * step, p < length.
Run run_of(const Axis& axis, int64_t base, int64_t length) {
  if (axis.spread > 1) {
    const int64_t first = most(0, divide_up(base, axis.spread)), place = first * axis.spread - base;
    const int64_t fit = place < length ? divide_up(length - place, axis.spread) : 0;
    return {place, axis.spread, first, 1, least(fit, axis.in - first)};
  }
  const int64_t begin = base < 0 ? divide_up(-base, axis.step) : 0;
  const int64_t end = axis.in > base ? divide_up(axis.in - base, axis.step) : 0;
  return {begin, 1, base + begin * axis.step, axis.step, least(length, end) - begin};
}

/// Short lines, so no call.
template <class From, class To>
inline void copy_line(const From* from, const Run& run, To* to) {
  constexpr int64_t kVector = 32 / sizeof(To);
  const int64_t n = run.count;
  from += run.source;
  to += run.place;
  if (run.source_step != 1 || run.place_step != 1 || n < kVector || !std::is_same_v<From, To>) {
    for (int64_t i = 0; i < n; ++i) to[i * run.place_step] = convert<To>(from[i * run.source_step]);
    return;
  }
  for (int64_t i = 0; i < n - kVector; i += kVector) copy_vector(from + i, to + i);
  copy_vector(from + n - kVector, to + n - kVector);
}

template <class From, class To>
struct Fill {
  static void run(const void* source, const Planes& s, int64_t first, void* out) {
    const From* from = static_cast<const From*>(source);
    To* to = static_cast<To*>(out);
    const int64_t width = s.width(), height = s.height();
    const int64_t top = first * s.y.step + s.y.lowest() + s.y.origin,
                  left = s.x.lowest() + s.x.origin;
    std::memset(out, 0, static_cast<size_t>(s.channel_elements()) * sizeof(To));
    for (int64_t py = 0; py < s.y.step; ++py)
      for (int64_t px = 0; px < s.x.step; ++px, to += height * width) {
        const Run rows = run_of(s.y, top + py, height), columns = run_of(s.x, left + px, width);
        for (int64_t i = 0; i < rows.count; ++i)
          copy_line(from + (rows.source + i * rows.source_step) * s.x.in, columns,
                    to + (rows.place + i * rows.place_step) * width);
      }
  }
};

}  // namespace

void fill_planes(Elem from, const void* source, const Planes& planes, int64_t first, void* out) {
  dispatch<Fill, const void*, const Planes&, int64_t, void*>(from, source, planes, first, out);
}

}  // namespace fluxion::kernels
