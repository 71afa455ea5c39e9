// Test support: the tiles of the contraction drivers, emitted and loaded, and what they must
// compute.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "compiled_kernels.h"
#include "kernels/attention.h"
#include "kernels/tiles.h"
#include "loops/attention.h"
#include "loops/micro.h"
#include "tensor/threads.h"

namespace fluxion {

using kernels::Elem;

using kernels::has_wide_vectors;

/// Names of the kernels below.
inline std::string tile_name(Elem e, int variant) {
  return "tile_" + std::to_string(int(e)) + "_" + std::to_string(variant);
}
inline std::string finish_name(Elem out, int bias) {
  return "finish_" + std::to_string(int(out)) + "_" + std::to_string(bias);
}
inline std::string attention_name(const std::string& what, Elem e, int kind = 0) {
  return "attention_" + what + "_" + std::to_string(int(e)) + "_" + std::to_string(kind);
}

inline std::vector<loops::Function> contraction_functions() {
  std::vector<loops::Function> all;
  for (Elem e : {Elem::f32, Elem::f64, Elem::i32, Elem::i64})
    for (bool wide : {false, true})
      for (int form = 0; form < (loops::is_float(e) ? kernels::kTileForms : 2); ++form)
        for (int rows = 1; rows <= kernels::tile_size(e, wide).rows; ++rows) {
          if (wide && !loops::is_float(e)) continue;
          const auto f = static_cast<kernels::TileForm>(form);
          all.push_back(loops::contraction_tile(tile_name(e, kernels::tile_variant(f, rows, wide)),
                                                e, f, rows, wide));
        }
  for (int out = 1; out < kernels::kElems; ++out)
    for (int bias = 0; bias < kernels::kBiasSides; ++bias) {
      const Elem o = static_cast<Elem>(out), compute = o == Elem::i64 || o == Elem::f64 ? o
                                                       : o >= Elem::f16                 ? Elem::f32
                                                                                        : Elem::i32;
      all.push_back(loops::finish_tile(finish_name(o, bias), compute, o,
                                       static_cast<kernels::BiasSide>(bias)));
    }
  for (Elem e : {Elem::f32, Elem::f64, Elem::f16, Elem::bf16})
    all.push_back(
        loops::attention_shift(attention_name("shift", e), e == Elem::f64 ? e : Elem::f32, e));
  for (Elem e : {Elem::f32, Elem::f64})
    for (int kind = 0; kind < kernels::kMaskKinds; ++kind) {
      const auto k = static_cast<kernels::MaskKind>(kind);
      all.push_back(loops::attention_softmax(attention_name("softmax", e, kind), e, k));
      all.push_back(loops::attention_gradient(attention_name("gradient", e, kind), e, k));
    }
  return all;
}

inline const loops::CompiledKernels& contraction_kernels() {
  static const loops::CompiledKernels all{contraction_functions()};
  return all;
}

inline kernels::Tiles tiles_of(Elem compute, bool wide) {
  wide = wide && loops::is_float(compute);
  kernels::Tiles t{compute, kernels::tile_size(compute, wide), {}};
  for (int form = 0; form < (loops::is_float(compute) ? kernels::kTileForms : 2); ++form)
    for (int rows = 1; rows <= t.size.rows; ++rows)
      t.at[form][rows - 1] = contraction_kernels()[tile_name(
          compute, kernels::tile_variant(static_cast<kernels::TileForm>(form), rows, wide))];
  return t;
}

/// Finishers for results in `out`, of sums in the compute dtype of `in`.
inline kernels::ContractionKernels contraction_of(Elem in, Elem out, bool wide) {
  const Elem compute = in == Elem::f64 || in == Elem::i64 ? in
                       : in >= Elem::f16                  ? Elem::f32
                                                          : Elem::i32;
  kernels::ContractionKernels k{tiles_of(compute, wide), {}};
  for (int side = 0; side < kernels::kBiasSides; ++side)
    k.finish[side] = contraction_kernels()[finish_name(out, side)];
  return k;
}

/// a * b + c: one fma, or wrapping integers.
template <class T>
T multiply_add(T a, T b, T c) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fma(a, b, c);
  } else {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) * static_cast<U>(b) + static_cast<U>(c));
  }
}

/// Sum over k of a(k) * b(k), in chunks of 256 fma chains: the definition. Terms that are not
/// present(k) are left out, and so are chunks without any; `nothing` is the empty sum.
template <class T, class A, class B, class Present>
T contract(int64_t k, const A& a, const B& b, const Present& present, T nothing = 0) {
  T total = nothing;
  bool first = true;
  for (int64_t begin = 0; begin < k; begin += kernels::kChunk) {
    T chunk = 0;
    bool any = false;
    for (int64_t i = begin; i < std::min(k, begin + kernels::kChunk); ++i) {
      if (!present(i)) continue;
      any = true;
      chunk = multiply_add(a(i), b(i), chunk);
    }
    if (any) total = first ? chunk : multiply_add(T(1), chunk, total), first = false;
  }
  return total;
}

template <class T, class A, class B>
T contract(int64_t k, const A& a, const B& b) {
  return contract<T>(k, a, b, [](int64_t) { return true; });
}

template <class T>
std::vector<T> random_values(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) {
    const int number = static_cast<int>(random() % 2001) - 1000;
    x = std::is_floating_point_v<T> ? static_cast<T>(number / 997.0) : static_cast<T>(number);
  }
  return v;
}

/// A context with `bytes` of workspace full of NaN patterns, on `threads` threads while it lives.
class TestContext {
 public:
  TestContext(size_t bytes, int threads) : before_(num_threads()), memory_(bytes + 64, char(0xff)) {
    set_num_threads(threads);
    void* p = memory_.data();
    size_t room = memory_.size();
    std::align(64, bytes, p, room);
    ctx_ = kernel_context(p, bytes);
  }
  ~TestContext() { set_num_threads(before_); }
  kernels::Ctx& operator*() { return ctx_; }

 private:
  int before_;
  std::vector<char> memory_;
  kernels::Ctx ctx_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace fluxion
