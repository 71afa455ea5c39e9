#include "kernels/scan.h"

#include "kernels/combine.h"
#include "kernels/sort_key.h"

namespace fluxion::kernels {

namespace {

constexpr int kTogether =
    4;  // lines walked side by side: their chains of dependent operations overlap

/// Walks lines of neighbouring elements (inner == 1); a State holds what runs along one line.
template <class State>
void walk_lines(const State& fresh, const ScanShape& s, bool reverse, int64_t begin, int64_t end) {
  const int64_t n = s.length, first = reverse ? n - 1 : 0, pace = reverse ? -1 : 1;
  int64_t l = begin;
  for (; l + kTogether <= end; l += kTogether) {
    State a = fresh, b = fresh, c = fresh, d = fresh;
    int64_t at = l * n + first;
    for (int64_t t = 0; t < n; ++t, at += pace) {
      a.step(at, t);
      b.step(at + n, t);
      c.step(at + 2 * n, t);
      d.step(at + 3 * n, t);
    }
  }
  for (; l < end; ++l) {
    State a = fresh;
    int64_t at = l * n + first;
    for (int64_t t = 0; t < n; ++t, at += pace) a.step(at, t);
  }
}

/// Walks columns (inner > 1): each step is a row of independent elements, whose state lies in the results.
template <class State>
void walk_columns(const State& state, const ScanShape& s, bool reverse, int64_t begin,
                  int64_t end) {
  for (int64_t l = begin; l < end;) {
    const int64_t o = l / s.inner, i = l % s.inner, pace = reverse ? -s.inner : s.inner;
    const int64_t count = s.inner - i < end - l ? s.inner - i : end - l;
    int64_t at = o * s.length * s.inner + i + (reverse ? (s.length - 1) * s.inner : 0);
    for (int64_t t = 0; t < s.length; ++t, at += pace) state.row(t ? at - pace : -1, at, count, t);
    l += count;
  }
}

template <class State>
void along(const Ctx& ctx, const ScanShape& s, bool reverse, const State& state) {
  const int64_t lines = s.outer * s.inner;
  if (lines * s.length == 0) return;
  const int64_t grain = kEnoughWork / s.length + 1;
  spread(ctx, lines, grain, lines * s.length > 2 * kEnoughWork, [&](int64_t begin, int64_t end) {
    s.inner == 1 ? walk_lines(state, s, reverse, begin, end)
                 : walk_columns(state, s, reverse, begin, end);
  });
}

template <Combine how, class T>
struct Running {
  const T* in;
  T* out;
  T sum{};

  void step(int64_t at, int64_t t) { out[at] = sum = t ? combined<how>(sum, in[at]) : in[at]; }
  void row(int64_t before, int64_t at, int64_t n, int64_t) const {
    if (before < 0)
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i];
    else
      for (int64_t i = 0; i < n; ++i) out[at + i] = combined<how>(out[before + i], in[at + i]);
  }
};

template <class T>
struct Linear {
  const T *factor, *in;
  T* out;
  T sum{};

  void step(int64_t at, int64_t t) { out[at] = sum = t ? in[at] + factor[at] * sum : in[at]; }
  void row(int64_t before, int64_t at, int64_t n, int64_t) const {
    if (before < 0)
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i];
    else
      for (int64_t i = 0; i < n; ++i) out[at + i] = in[at + i] + factor[at + i] * out[before + i];
  }
};

/// Whether `next` takes over from `have`; NaN does, and from then on only NaN.
template <bool maximum, class T>
bool takes_over(T have, T next) {
  if constexpr (std::is_arithmetic_v<T>) {
    const bool better = maximum ? next >= have : next <= have;
    return better || next != next;
  } else {
    const auto h = sort_key(have), n = sort_key(next);
    constexpr auto nan = static_cast<SortKey<T>>(~SortKey<T>(0));
    return n == nan || (h != nan && (maximum ? n >= h : n <= h));
  }
}

template <bool maximum, class T>
struct Extremum {
  const T* in;
  T* values;
  int64_t* indices;
  T best{};
  int64_t place = 0;

  void step(int64_t at, int64_t t) {
    const T next = in[at];
    const bool takes = t == 0 || takes_over<maximum>(best, next);
    best = takes ? next : best;
    place = takes ? t : place;
    values[at] = best;
    indices[at] = place;
  }
  void row(int64_t before, int64_t at, int64_t n, int64_t t) const {
    for (int64_t i = 0; i < n; ++i) {
      const bool takes = before < 0 || takes_over<maximum>(values[before + i], in[at + i]);
      values[at + i] = takes ? in[at + i] : values[before + i];
      indices[at + i] = takes ? t : indices[before + i];
    }
  }
};

}  // namespace

int scan(const Ctx& ctx, ScanKind kind, Elem elem, const char* in, char* out, const ScanShape& s,
         bool reverse) {
  if (elem == Elem::bool_) return kNoKernel;
  bool known = with_arithmetic(elem, [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(in);
    T* to = reinterpret_cast<T*>(out);
    kind == ScanKind::sum ? along(ctx, s, reverse, Running<Combine::add, T>{from, to})
                          : along(ctx, s, reverse, Running<Combine::multiply, T>{from, to});
  });
  return known ? kOk : kNoKernel;
}

int scan_linear(const Ctx& ctx, Elem elem, const char* factor, const char* in, char* out,
                const ScanShape& s, bool reverse) {
  auto run = [&](auto t) {
    using T = decltype(t);
    along(ctx, s, reverse,
          Linear<T>{reinterpret_cast<const T*>(factor), reinterpret_cast<const T*>(in),
                    reinterpret_cast<T*>(out)});
    return kOk;
  };
  return elem == Elem::f32 ? run(float()) : elem == Elem::f64 ? run(double()) : kNoKernel;
}

void scan_extremum(const Ctx& ctx, Elem elem, bool maximum, const char* in, char* values,
                   int64_t* indices, const ScanShape& s) {
  with_element(elem, [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(in);
    T* to = reinterpret_cast<T*>(values);
    maximum ? along(ctx, s, false, Extremum<true, T>{from, to, indices})
            : along(ctx, s, false, Extremum<false, T>{from, to, indices});
  });
}

}  // namespace fluxion::kernels
