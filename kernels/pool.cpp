#include "kernels/pool.h"

#include "kernels/workspace.h"

namespace fluxion::kernels {

namespace {

/// Rows or columns of one window that lie inside the plane.
struct Window {
  int64_t begin, end;    // without padding
  int64_t padded_count;  // elements with padding, as PyTorch counts them
};

Window window(int64_t out, int64_t stride, int64_t pad, int64_t taps, int64_t size) {
  const int64_t start = out * stride - pad, stop = least(start + taps, size + pad);
  return {most(start, 0), least(stop, size), stop - start};
}

template <class T>
void max_plane(const PoolShape& s, const T* x, T* y, int64_t* place) {
  for (int64_t oy = 0; oy < s.oh; ++oy)
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      T best{};
      int64_t at = -1;
      for (int64_t ky = 0; ky < s.kh; ++ky) {
        const int64_t iy = oy * s.stride_h - s.pad_h + ky * s.dilation_h;
        if (iy < 0 || iy >= s.h) continue;
        for (int64_t kx = 0; kx < s.kw; ++kx) {
          const int64_t ix = ox * s.stride_w - s.pad_w + kx * s.dilation_w;
          if (ix < 0 || ix >= s.w) continue;
          const T v = x[iy * s.w + ix];
          if (at < 0 || v > best || v != v) {
            best = v;
            at = iy * s.w + ix;
          }
        }
      }
      y[oy * s.ow + ox] = best;
      place[oy * s.ow + ox] = at;
    }
}

int64_t divisor(const PoolShape& s, const Window& y, const Window& x) {
  if (s.divisor) return s.divisor;
  return s.count_include_pad ? y.padded_count * x.padded_count : (y.end - y.begin) * (x.end - x.begin);
}

template <class T>
void avg_plane(const PoolShape& s, const T* x, T* y) {
  for (int64_t oy = 0; oy < s.oh; ++oy)
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      const Window v = window(oy, s.stride_h, s.pad_h, s.kh, s.h), u = window(ox, s.stride_w, s.pad_w, s.kw, s.w);
      T sum = 0;
      for (int64_t i = v.begin; i < v.end; ++i)
        for (int64_t j = u.begin; j < u.end; ++j) sum += x[i * s.w + j];
      y[oy * s.ow + ox] = sum / static_cast<T>(divisor(s, v, u));
    }
}

template <class T>
void spread_plane(const PoolShape& s, const T* g, T* gx) {
  for (int64_t oy = 0; oy < s.oh; ++oy)
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      const Window v = window(oy, s.stride_h, s.pad_h, s.kh, s.h), u = window(ox, s.stride_w, s.pad_w, s.kw, s.w);
      const T share = g[oy * s.ow + ox] / static_cast<T>(divisor(s, v, u));
      for (int64_t i = v.begin; i < v.end; ++i)
        for (int64_t j = u.begin; j < u.end; ++j) gx[i * s.w + j] += share;
    }
}

template <class Fn>
void each_plane(const Ctx& ctx, const PoolShape& s, Fn fn) {
  run_each(ctx, s.planes, s.planes * s.oh * s.ow * s.kh * s.kw < 1 << 15, [&](int64_t p) {
    if (s.elem == Elem::f64) fn(p, double{});
    else fn(p, float{});
  });
}

}  // namespace

void max_pool(const Ctx& ctx, const PoolShape& s, const void* x, void* y, int64_t* place) {
  each_plane(ctx, s, [&](int64_t p, auto t) {
    using T = decltype(t);
    max_plane(s, static_cast<const T*>(x) + p * s.h * s.w, static_cast<T*>(y) + p * s.oh * s.ow, place + p * s.oh * s.ow);
  });
}

void avg_pool(const Ctx& ctx, const PoolShape& s, const void* x, void* y) {
  each_plane(ctx, s, [&](int64_t p, auto t) {
    using T = decltype(t);
    avg_plane(s, static_cast<const T*>(x) + p * s.h * s.w, static_cast<T*>(y) + p * s.oh * s.ow);
  });
}

void avg_pool_gradient(const Ctx& ctx, const PoolShape& s, const void* g, void* gx) {
  each_plane(ctx, s, [&](int64_t p, auto t) {
    using T = decltype(t);
    spread_plane(s, static_cast<const T*>(g) + p * s.oh * s.ow, static_cast<T*>(gx) + p * s.h * s.w);
  });
}

}  // namespace fluxion::kernels
