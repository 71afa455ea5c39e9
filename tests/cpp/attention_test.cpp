// Attention and its gradient against their definition, bit for bit, and against float64: masks,
// causality, threads, blocks.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include "contraction_kernels.h"
#include "loops/attention.h"
#include "loops/half.h"
#include "loops/interpret.h"

namespace fluxion {
namespace {

using namespace kernels;

struct Case {
  int64_t batch, heads, queries, keys, depth, value_depth;
  bool causal;
  MaskKind mask;
  bool blind_row = false;  // the mask excludes every key of query 1
};

const std::vector<Case> kCases = {
    {1, 1, 1, 1, 1, 1, false, MaskKind::none},
    {2, 3, 17, 17, 8, 8, true, MaskKind::none},
    {1, 2, 70, 90, 16, 24, false, MaskKind::none},
    {1, 1, 300, 300, 33, 40, true, MaskKind::none},
    {1, 1, 20, 600, 8, 8, true, MaskKind::none},
    {1, 2, 40, 10, 5, 7, true, MaskKind::none},
    {2, 2, 9, 530, 16, 16, false, MaskKind::boolean, true},
    {1, 2, 33, 35, 16, 16, false, MaskKind::additive, true},
    {1, 1, 280, 270, 8, 8, true, MaskKind::boolean},
    {1, 1, 5, 0, 4, 4, false, MaskKind::none},
};

/// Stored as In, computed as T.
template <class T, class In>
struct Problem {
  Case c;
  Elem elem;
  double scale;
  std::vector<In> q, k, v, g;
  std::vector<T> additive, gl;
  std::vector<uint8_t> allowed;
  In (*make)(float);
  T (*read)(In);

  Problem(const Case& given, Elem e, In (*m)(float), T (*r)(In))
      : c(given), elem(e), scale(1 / std::sqrt(double(c.depth))), make(m), read(r) {
    const int64_t rows = c.batch * c.heads;
    fill(q, rows * c.queries * c.depth, 1);
    fill(k, rows * c.keys * c.depth, 2);
    fill(v, rows * c.keys * c.value_depth, 3);
    fill(g, rows * c.queries * c.value_depth, 4);
    gl = random_values<T>(rows * c.queries, 6);
    std::mt19937 random(5);
    for (int64_t i = 0; i < c.queries * c.keys; ++i) {
      const bool yes = (c.blind_row && i / c.keys == 1) || random() % 3 == 0 ? false : true;
      allowed.push_back(yes);
      additive.push_back(yes ? T(int(random() % 100) / 50.0f) : T(-INFINITY));
    }
  }
  void fill(std::vector<In>& to, int64_t n, unsigned seed) {
    for (float x : random_values<float>(n, seed)) to.push_back(make(x));
  }

  bool sees(int64_t query, int64_t key) const {
    if (c.causal && key > query) return false;
    return c.mask == MaskKind::none || allowed[query * c.keys + key];
  }
  AttentionArgs args(int threads) const {
    auto dense = [&](const void* data, int64_t length, int64_t depth) {
      return Sequence{data, c.heads * length * depth, length * depth, depth, 1};
    };
    const void* mask =
        c.mask == MaskKind::boolean ? static_cast<const void*>(allowed.data()) : additive.data();
    return {c.batch,
            c.heads,
            c.queries,
            c.keys,
            c.depth,
            c.value_depth,
            elem,
            dense(q.data(), c.queries, c.depth),
            dense(k.data(), c.keys, c.depth),
            dense(v.data(), c.keys, c.value_depth),
            c.causal,
            scale,
            c.mask,
            {mask, 0, 0, c.keys, 1},
            threads};
  }
};

template <class T>
AttentionKernels kernels_for(Elem elem, bool wide) {
  const Elem compute = elem == Elem::f64 ? elem : Elem::f32;
  AttentionKernels k{contraction_of(elem, elem, wide),
                     {},
                     {},
                     contraction_kernels()[attention_name("shift", elem)]};
  for (int kind = 0; kind < kMaskKinds; ++kind) {
    k.softmax[kind] = contraction_kernels()[attention_name("softmax", compute, kind)];
    k.gradient[kind] = contraction_kernels()[attention_name("gradient", compute, kind)];
  }
  return k;
}

template <class T, class In>
struct Results {
  std::vector<In> out, gq, gk, gv;
  std::vector<T> logsumexp;
  explicit Results(const Problem<T, In>& p)
      : out(p.g.size()),
        gq(p.q.size()),
        gk(p.k.size()),
        gv(p.v.size()),
        logsumexp(static_cast<size_t>(p.c.batch * p.c.heads * p.c.queries)) {}
};

template <class T, class In>
Results<T, In> run(const Problem<T, In>& p, bool wide, int threads) {
  const AttentionArgs a = p.args(threads);
  const AttentionKernels k = kernels_for<T>(p.elem, wide);
  Results<T, In> r(p);
  auto like = [](Sequence s, const void* data) {
    s.data = data;
    return s;
  };
  const Sequence out{r.out.data(), p.c.heads * p.c.queries * p.c.value_depth,
                     p.c.queries * p.c.value_depth, p.c.value_depth, 1};
  TestContext forward(attention_workspace(a, k), threads);
  EXPECT_EQ(attention(*forward, a, k, out, r.logsumexp.data()), kOk);
  TestContext backward(attention_gradient_workspace(a, k), threads);
  const AttentionGradient g{out,
                            like(out, p.g.data()),
                            r.logsumexp.data(),
                            p.gl.data(),
                            like(a.q, r.gq.data()),
                            like(a.k, r.gk.data()),
                            like(a.v, r.gv.data())};
  EXPECT_EQ(attention_gradient(*backward, a, k, g), kOk);
  return r;
}

/// A row kernel on one row, node by node.
template <class T>
void on_row(const loops::Function& f, int64_t n, double scale, std::vector<void*> operands) {
  std::vector<Buf> buffers;
  for (void* p : operands) buffers.push_back({p, &n});
  const int64_t sizes[] = {1, n};
  loops::interpret(f, buffers.data(), sizes, &scale);
}

template <class T, class In, class Write>
Results<T, In> expected(const Problem<T, In>& p, const Write& write) {
  const Case& c = p.c;
  const Elem compute = p.elem == Elem::f64 ? Elem::f64 : Elem::f32;
  const auto softmax = loops::attention_softmax("softmax", compute, c.mask),
             gradient = loops::attention_gradient("gradient", compute, c.mask);
  const auto shift_row = loops::attention_shift("shift", compute, p.elem);
  Results<T, In> r(p);
  const T minus_zero = -T(0);
  for (int64_t z = 0; z < c.batch * c.heads; ++z) {
    auto q = [&](int64_t i, int64_t d) { return p.read(p.q[(z * c.queries + i) * c.depth + d]); };
    auto k = [&](int64_t j, int64_t d) { return p.read(p.k[(z * c.keys + j) * c.depth + d]); };
    auto v = [&](int64_t j, int64_t d) {
      return p.read(p.v[(z * c.keys + j) * c.value_depth + d]);
    };
    auto g = [&](int64_t i, int64_t d) {
      return p.read(p.g[(z * c.queries + i) * c.value_depth + d]);
    };
    std::vector<T> weights(c.queries * c.keys), slopes(c.queries * c.keys);
    for (int64_t i = 0; i < c.queries; ++i) {
      const int64_t n = c.causal ? std::min(c.keys, i + 1) : c.keys;
      T* row = weights.data() + i * c.keys;
      T* slope = slopes.data() + i * c.keys;
      for (int64_t j = 0; j < n; ++j) {
        row[j] = contract<T>(
            c.depth, [&](int64_t d) { return q(i, d); }, [&](int64_t d) { return k(j, d); });
        slope[j] = contract<T>(
            c.value_depth, [&](int64_t d) { return g(i, d); }, [&](int64_t d) { return v(j, d); });
      }
      std::vector<T> scores(row, row + n);
      void* mask = c.mask == MaskKind::boolean
                       ? static_cast<void*>(const_cast<uint8_t*>(p.allowed.data()) + i * c.keys)
                       : const_cast<T*>(p.additive.data()) + i * c.keys;
      T& total = r.logsumexp[z * c.queries + i];
      on_row<T>(softmax, n, p.scale, {row, mask, &total});
      bool blind = true;
      for (int64_t j = 0; j < n; ++j) blind = blind && !p.sees(i, j);
      In* out = r.out.data() + (z * c.queries + i) * c.value_depth;
      for (int64_t d = 0; d < c.value_depth; ++d)
        out[d] = write(blind ? T(0)
                             : contract<T>(
                                   c.keys, [&](int64_t j) { return row[j]; },
                                   [&](int64_t j) { return v(j, d); },
                                   [&](int64_t j) { return p.sees(i, j); }, minus_zero));
      T shift;
      on_row<T>(shift_row, c.value_depth, 1,
                {const_cast<In*>(p.g.data()) + (z * c.queries + i) * c.value_depth, out, &shift});
      shift -= p.gl[z * c.queries + i];
      std::copy(scores.begin(), scores.end(), row);
      on_row<T>(gradient, n, p.scale, {row, slope, mask, &total, &shift});
    }
    // Gradients start from +0.
    auto from_zero = [](T sum) { return T(0) + sum; };
    for (int64_t i = 0; i < c.queries; ++i)
      for (int64_t d = 0; d < c.depth; ++d)
        r.gq[(z * c.queries + i) * c.depth + d] = write(from_zero(contract<T>(
            c.keys, [&](int64_t j) { return slopes[i * c.keys + j]; },
            [&](int64_t j) { return k(j, d); }, [&](int64_t j) { return p.sees(i, j); })));
    for (int64_t j = 0; j < c.keys; ++j) {
      auto seen = [&](int64_t i) { return p.sees(i, j); };
      for (int64_t d = 0; d < c.depth; ++d)
        r.gk[(z * c.keys + j) * c.depth + d] = write(from_zero(contract<T>(
            c.queries, [&](int64_t i) { return slopes[i * c.keys + j]; },
            [&](int64_t i) { return q(i, d); }, seen)));
      for (int64_t d = 0; d < c.value_depth; ++d)
        r.gv[(z * c.keys + j) * c.value_depth + d] = write(from_zero(contract<T>(
            c.queries, [&](int64_t i) { return weights[i * c.keys + j]; },
            [&](int64_t i) { return g(i, d); }, seen)));
    }
  }
  return r;
}

template <class T>
void expect_same(const char* what, const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(T)), 0)
        << what << " " << i << ": " << got[i] << " is not " << want[i];
}

template <class T, class In, class Write>
void check(Elem elem, In (*make)(float), T (*read)(In), const Write& write) {
  for (size_t number = 0; number < kCases.size(); ++number) {
    const Problem<T, In> p(kCases[number], elem, make, read);
    const Results<T, In> want = expected(p, write);
    for (bool wide : {false, true})
      for (int threads : {1, 2}) {
        if (wide && !has_wide_vectors()) continue;
        SCOPED_TRACE(testing::Message()
                     << "case " << number << " wide " << wide << " threads " << threads);
        const Results<T, In> got = run(p, wide, threads);
        expect_same("output", got.out, want.out);
        expect_same("logsumexp", got.logsumexp, want.logsumexp);
        expect_same("gradient of q", got.gq, want.gq);
        expect_same("gradient of k", got.gk, want.gk);
        expect_same("gradient of v", got.gv, want.gv);
      }
  }
}

template <class T>
T from_float(float x) {
  return x;
}
template <class T>
T same(T x) {
  return x;
}

TEST(Attention, Float32EqualsTheDefinition) {
  check<float, float>(Elem::f32, from_float<float>, same<float>, same<float>);
}
TEST(Attention, Float64EqualsTheDefinition) {
  check<double, double>(Elem::f64, from_float<double>, same<double>, same<double>);
}
TEST(Attention, HalvesAreRoundedOnce) {
  check<float, uint16_t>(Elem::bf16, loops::float_to_bf16, loops::bf16_to_float,
                         loops::float_to_bf16);
  check<float, uint16_t>(Elem::f16, loops::float_to_f16, loops::f16_to_float, loops::float_to_f16);
}

TEST(Attention, IsNearFloat64) {
  const Problem<float, float> p({1, 2, 150, 150, 32, 32, true, MaskKind::none}, Elem::f32,
                                from_float<float>, same<float>);
  const auto got = run(p, has_wide_vectors(), 2);
  for (int64_t z = 0; z < 2; ++z)
    for (int64_t i = 0; i < p.c.queries; ++i) {
      std::vector<double> w;
      double sum = 0;
      for (int64_t j = 0; j <= i; ++j) {
        double s = 0;
        for (int64_t d = 0; d < 32; ++d)
          s += double(p.q[(z * 150 + i) * 32 + d]) * p.k[(z * 150 + j) * 32 + d];
        w.push_back(std::exp(s * p.scale));
        sum += w.back();
      }
      for (int64_t d = 0; d < 32; ++d) {
        double out = 0;
        for (int64_t j = 0; j <= i; ++j) out += w[j] / sum * p.v[(z * 150 + j) * 32 + d];
        ASSERT_NEAR(got.out[(z * 150 + i) * 32 + d], out, 2e-6);
      }
      ASSERT_NEAR(got.logsumexp[z * 150 + i], std::log(sum), 2e-6);
    }
}

TEST(Attention, WhatARowDoesNotSeeCannotTouchIt) {
  Problem<float, float> p({1, 1, 40, 40, 8, 8, true, MaskKind::none}, Elem::f32, from_float<float>,
                          same<float>);
  const auto clean = run(p, has_wide_vectors(), 1);
  for (int64_t d = 0; d < 8; ++d) p.k[20 * 8 + d] = p.v[20 * 8 + d] = NAN;
  const auto dirty = run(p, has_wide_vectors(), 1);
  EXPECT_EQ(std::memcmp(clean.out.data(), dirty.out.data(), 20 * 8 * sizeof(float)), 0);
  EXPECT_TRUE(std::isnan(dirty.out[20 * 8]));
}

}  // namespace
}  // namespace fluxion
