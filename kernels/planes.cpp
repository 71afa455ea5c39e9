#include "kernels/planes.h"

#include <cstring>
#include <type_traits>

#include "kernels/convert.h"
#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

/// Copies n elements that stand `step` apart; short lines, so no call.
template <class From, class To>
inline void copy_line(const From* from, int64_t step, To* to, int64_t n) {
  constexpr int64_t kVector = 32 / sizeof(To);
  if (step != 1 || n < kVector || !std::is_same_v<From, To>) {
    for (int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[i * step]);
    return;
  }
  for (int64_t i = 0; i < n - kVector; i += kVector) copy_vector(from + i, to + i);
  copy_vector(from + n - kVector, to + n - kVector);
}

/// Puts what exists at logical places base + p * step into to[p].
template <class From, class To>
inline void fill_row(const From* from, const Axis& axis, int64_t base, int64_t length, To* to) {
  if (axis.spread > 1) {
    int64_t i = most(0, divide_up(base, axis.spread));
    for (int64_t p = i * axis.spread - base; p < length && i < axis.in; p += axis.spread, ++i)
      to[p] = convert<To>(from[i]);
    return;
  }
  const int64_t begin = base < 0 ? divide_up(-base, axis.step) : 0;
  const int64_t end = least(length, axis.in > base ? divide_up(axis.in - base, axis.step) : 0);
  if (begin < end) copy_line(from + base + begin * axis.step, axis.step, to + begin, end - begin);
}

template <class From, class To>
struct Fill {
  static void run(const void* source, const Planes& s, int64_t first, void* out) {
    const From* from = static_cast<const From*>(source);
    To* to = static_cast<To*>(out);
    std::memset(out, 0, static_cast<size_t>(s.channel_elements()) * sizeof(To));
    const int64_t top = first * s.y.step + s.y.lowest() + s.y.origin,
                  left = s.x.lowest() + s.x.origin;
    for (int64_t py = 0; py < s.y.step; ++py)
      for (int64_t px = 0; px < s.x.step; ++px)
        for (int64_t q = 0; q < s.height(); ++q, to += s.width()) {
          const int64_t place = top + py + q * s.y.step,
                        row = s.y.spread == 1 ? place : place / s.y.spread;
          if (place >= 0 && row < s.y.in && row * s.y.spread == place)
            fill_row(from + row * s.x.in, s.x, left + px, s.width(), to);
        }
  }
};

}  // namespace

void fill_planes(Elem from, const void* source, const Planes& planes, int64_t first, void* out) {
  dispatch<Fill, const void*, const Planes&, int64_t, void*>(from, source, planes, first, out);
}

}  // namespace fluxion::kernels
