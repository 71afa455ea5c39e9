#include "kernels/scan.h"

#include "kernels/combine.h"
#include "kernels/sort_key.h"

namespace fluxion::kernels {

namespace {

/// step(first element of the line block, element before or -1, element, count) along the middle dim, for blocks of
/// neighbouring lines; threads share the lines.
template <class Step>
void along(const Ctx& ctx, const ScanShape& s, bool reverse, Step step) {
  const int64_t lines = s.outer * s.inner;
  if (lines * s.length == 0) return;
  const int64_t grain = kEnoughWork / s.length + 1;
  spread(ctx, lines, grain, lines * s.length > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    for (int64_t l = begin; l < end;) {
      const int64_t o = l / s.inner, i = l % s.inner;
      const int64_t count = s.inner - i < end - l ? s.inner - i : end - l;
      const int64_t base = o * s.length * s.inner + i, pace = reverse ? -s.inner : s.inner;
      int64_t at = base + (reverse ? (s.length - 1) * s.inner : 0);
      for (int64_t t = 0; t < s.length; ++t, at += pace) step(t ? at - pace : -1, at, count, t);
      l += count;
    }
  });
}

template <Combine how, class T>
void scan_typed(const Ctx& ctx, const T* in, T* out, const ScanShape& s, bool reverse) {
  along(ctx, s, reverse, [=](int64_t before, int64_t at, int64_t n, int64_t) {
    if (before < 0)
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i];
    else
      for (int64_t i = 0; i < n; ++i) out[at + i] = combined<how>(out[before + i], in[at + i]);
  });
}

template <class T>
void linear_typed(const Ctx& ctx, const T* factor, const T* in, T* out, const ScanShape& s, bool reverse) {
  along(ctx, s, reverse, [=](int64_t before, int64_t at, int64_t n, int64_t) {
    if (before < 0)
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i];
    else
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i] + factor[at + i] * out[before + i];
  });
}

/// Whether `next` takes over from `have`.
template <bool maximum, class T>
bool takes_over(T have, T next) {
  using Key = SortKey<T>;
  constexpr Key nan = static_cast<Key>(~Key(0));
  const Key h = sort_key(have), n = sort_key(next);
  if (has_nan<T> && (h == nan || n == nan)) return n == nan;
  return maximum ? n >= h : n <= h;
}

template <bool maximum, class T>
void extremum_typed(const Ctx& ctx, const T* in, T* values, int64_t* indices, const ScanShape& s) {
  along(ctx, s, false, [=](int64_t before, int64_t at, int64_t n, int64_t t) {
    for (int64_t i = 0; i < n; ++i) {
      const bool next = before < 0 || takes_over<maximum>(values[before + i], in[at + i]);
      values[at + i] = next ? in[at + i] : values[before + i];
      indices[at + i] = next ? t : indices[before + i];
    }
  });
}

}  // namespace

int scan(const Ctx& ctx, ScanKind kind, Elem elem, const char* in, char* out, const ScanShape& s, bool reverse) {
  if (elem == Elem::bool_) return kNoKernel;
  bool known = with_arithmetic(elem, [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(in);
    T* to = reinterpret_cast<T*>(out);
    kind == ScanKind::sum ? scan_typed<Combine::add>(ctx, from, to, s, reverse)
                          : scan_typed<Combine::multiply>(ctx, from, to, s, reverse);
  });
  return known ? kOk : kNoKernel;
}

int scan_linear(const Ctx& ctx, Elem elem, const char* factor, const char* in, char* out, const ScanShape& s,
                bool reverse) {
  auto run = [&](auto t) {
    using T = decltype(t);
    linear_typed(ctx, reinterpret_cast<const T*>(factor), reinterpret_cast<const T*>(in), reinterpret_cast<T*>(out), s,
                 reverse);
    return kOk;
  };
  return elem == Elem::f32 ? run(float()) : elem == Elem::f64 ? run(double()) : kNoKernel;
}

void scan_extremum(const Ctx& ctx, Elem elem, bool maximum, const char* in, char* values, int64_t* indices,
                   const ScanShape& s) {
  with_element(elem, [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(in);
    T* to = reinterpret_cast<T*>(values);
    maximum ? extremum_typed<true>(ctx, from, to, indices, s) : extremum_typed<false>(ctx, from, to, indices, s);
  });
}

}  // namespace fluxion::kernels
