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

constexpr int64_t kBlock = 64;  // results of one row that are worked on together

/// Results whose tap at `offset` lies inside a line of `size`.
Range results_inside(int64_t offset, int64_t stride, int64_t size, Range results) {
  const int64_t first = offset < 0 ? divide_up(-offset, stride) : 0;
  const int64_t end = size > offset ? divide_up(size - offset, stride) : 0;
  return {most(first, results.begin), least(end, results.end)};
}

/// Taps of windows that start from `low` to `high` that can lie inside a line of `size`.
Range taps_inside(int64_t low, int64_t high, int64_t dilation, int64_t size, int64_t taps) {
  const int64_t first = high < 0 ? divide_up(-high, dilation) : 0;
  const int64_t end = size > low ? divide_up(size - low, dilation) : 0;
  return {first, least(end, taps)};
}

/// One tap of every window of the block, so that the loop runs along memory.
template <class T>
void take_larger(const T* x, int64_t stride, int32_t place, int64_t n, T* best, int32_t* at) {
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i * stride];
    const bool wins = (at[i] < 0) | (v > best[i]) | (v != v);
    best[i] = wins ? v : best[i];
    at[i] = wins ? place + static_cast<int32_t>(i * stride) : at[i];
  }
}

template <class T>
void max_block(const PoolShape& s, const T* x, int64_t oy, Range results, T* best, int32_t* at) {
  for (int64_t i = 0; i < results.size(); ++i) best[i] = T{}, at[i] = -1;
  const int64_t top = oy * s.stride_h - s.pad_h, left = results.begin * s.stride_w - s.pad_w,
                right = (results.end - 1) * s.stride_w - s.pad_w;
  const Range rows = taps_inside(top, top, s.dilation_h, s.h, s.kh),
              columns = taps_inside(left, right, s.dilation_w, s.w, s.kw);
  for (int64_t ky = rows.begin; ky < rows.end; ++ky) {
    const int64_t iy = top + ky * s.dilation_h;
    for (int64_t kx = columns.begin; kx < columns.end; ++kx) {
      const int64_t offset = kx * s.dilation_w - s.pad_w;
      const Range r = results_inside(offset, s.stride_w, s.w, results);
      if (r.size() <= 0) continue;
      const int64_t place = iy * s.w + r.begin * s.stride_w + offset;
      take_larger(x + place, s.stride_w, static_cast<int32_t>(place), r.size(),
                  best + r.begin - results.begin, at + r.begin - results.begin);
    }
  }
}

template <class T>
void max_plane(const PoolShape& s, const T* x, T* y, int64_t* place) {
  T best[kBlock];
  int32_t at[kBlock];
  for (int64_t oy = 0; oy < s.oh; ++oy)
    for (int64_t ox = 0; ox < s.ow; ox += kBlock) {
      const Range block{ox, least(ox + kBlock, s.ow)};
      max_block(s, x, oy, block, best, at);
      for (int64_t i = 0; i < block.size(); ++i) {
        y[oy * s.ow + ox + i] = best[i];
        place[oy * s.ow + ox + i] = at[i];
      }
    }
}

double divisor(const PoolShape& s, const Window& y, const Window& x) {
  if (s.divisor) return static_cast<double>(s.divisor);
  const int64_t rows = s.count_include_pad ? y.padded_count : y.end - y.begin,
                columns = s.count_include_pad ? x.padded_count : x.end - x.begin;
  return static_cast<double>(rows) * static_cast<double>(columns);
}

template <class T>
void avg_plane(const PoolShape& s, const T* x, T* y) {
  for (int64_t oy = 0; oy < s.oh; ++oy)
    for (int64_t ox = 0; ox < s.ow; ++ox) {
      const Window v = window(oy, s.stride_h, s.pad_h, s.kh, s.h),
                   u = window(ox, s.stride_w, s.pad_w, s.kw, s.w);
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
      const Window v = window(oy, s.stride_h, s.pad_h, s.kh, s.h),
                   u = window(ox, s.stride_w, s.pad_w, s.kw, s.w);
      const T share = g[oy * s.ow + ox] / static_cast<T>(divisor(s, v, u));
      for (int64_t i = v.begin; i < v.end; ++i)
        for (int64_t j = u.begin; j < u.end; ++j) gx[i * s.w + j] += share;
    }
}

template <class Fn>
void each_plane(const Ctx& ctx, const PoolShape& s, Fn fn) {
  const double taps = static_cast<double>(s.kh) * static_cast<double>(s.kw);
  const double work = static_cast<double>(s.planes * s.oh * s.ow) * taps;
  run_each(ctx, s.planes, work < 1 << 15, [&](int64_t p) {
    if (s.elem == Elem::f64) fn(p, double{});
    else fn(p, float{});
  });
}

}  // namespace

void max_pool(const Ctx& ctx, const PoolShape& s, const void* x, void* y, int64_t* place) {
  each_plane(ctx, s, [&](int64_t p, auto t) {
    using T = decltype(t);
    max_plane(s, static_cast<const T*>(x) + p * s.h * s.w, static_cast<T*>(y) + p * s.oh * s.ow,
              place + p * s.oh * s.ow);
  });
}

void max_pool_gradient(const Ctx& ctx, const PoolShape& s, const void* g, const int64_t* place,
                       void* gx) {
  each_plane(ctx, s, [&](int64_t p, auto t) {
    using T = decltype(t);
    const int64_t windows = s.oh * s.ow;
    const T* from = static_cast<const T*>(g) + p * windows;
    T* to = static_cast<T*>(gx) + p * s.h * s.w;
    for (int64_t i = 0; i < windows; ++i)
      if (place[p * windows + i] >= 0) to[place[p * windows + i]] += from[i];
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
    spread_plane(s, static_cast<const T*>(g) + p * s.oh * s.ow,
                 static_cast<T*>(gx) + p * s.h * s.w);
  });
}

}  // namespace fluxion::kernels
