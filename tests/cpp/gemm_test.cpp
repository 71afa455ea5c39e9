// Matrix products against the definition of a contraction, bit for bit: shapes, strides, dtypes,
// threads, batches.
#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include "contraction_kernels.h"
#include "kernels/pack.h"
#include "loops/half.h"

namespace fluxion {
namespace {

using namespace kernels;

template <class T>
constexpr Elem elem_of = std::is_same_v<T, float>     ? Elem::f32
                         : std::is_same_v<T, double>  ? Elem::f64
                         : std::is_same_v<T, int64_t> ? Elem::i64
                         : std::is_same_v<T, int32_t> ? Elem::i32
                                                      : Elem::i8;

enum Layout { kRowMajor, kColumnMajor, kSpread };

Matrix matrix(const void* data, int64_t rows, int64_t columns, Layout layout) {
  switch (layout) {
    case kRowMajor: return {data, columns, 1, {rows * columns}};
    case kColumnMajor: return {data, 1, rows, {rows * columns}};
    default: return {data, 2 * columns, 2, {2 * rows * columns}};
  }
}

struct Case {
  int64_t batch, m, n, k;
  Layout a, b;
  bool wide;
  int threads;
  BiasSide bias = BiasSide::none;
};

template <class In, class Out>
std::vector<Out> product(const Case& c, Elem in, Elem out, const std::vector<In>& a,
                         const std::vector<In>& b, const void* bias) {
  std::vector<Out> result(static_cast<size_t>(c.batch * c.m * c.n) + 1, Out(77));
  GemmArgs g{1,
             {c.batch},
             c.m,
             c.n,
             c.k,
             in,
             matrix(a.data(), c.m, c.k, c.a),
             matrix(b.data(), c.k, c.n, c.b),
             out,
             matrix(result.data(), c.m, c.n, kRowMajor),
             c.bias,
             bias,
             c.threads};
  const ContractionKernels k = contraction_of(in, out, c.wide);
  TestContext ctx(gemm_workspace(g, k), c.threads);
  EXPECT_EQ(gemm(*ctx, g, k), kOk);
  EXPECT_EQ(result.back(), Out(77)) << "wrote past the end";
  result.pop_back();
  return result;
}

/// In = stored, T = compute dtype; `make` turns small numbers into stored ones, `read` and `write`
/// convert.
template <class T, class In, class Out, class Make, class Read, class Write>
void check(const Case& c, Elem in, Elem out, const Make& make, const Read& read,
           const Write& write) {
  SCOPED_TRACE(testing::Message() << c.batch << " x " << c.m << " x " << c.n << " x " << c.k
                                  << " layouts " << c.a << c.b << " wide " << c.wide << " threads "
                                  << c.threads << " bias " << int(c.bias) << " dtype " << int(in));
  std::vector<In> a, b;
  for (float v : random_values<float>(2 * c.batch * c.m * c.k, 1)) a.push_back(make(v));
  for (float v : random_values<float>(2 * c.batch * c.n * c.k, 2)) b.push_back(make(v));
  const auto bias = random_values<T>(std::max(c.m, c.n), 3);
  const Matrix pa = matrix(nullptr, c.m, c.k, c.a), pb = matrix(nullptr, c.k, c.n, c.b);
  std::vector<Out> expected;
  for (int64_t z = 0; z < c.batch; ++z)
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < c.n; ++j) {
        T sum = contract<T>(
            c.k,
            [&](int64_t k) {
              return T(read(a[z * pa.batch_strides[0] + i * pa.row_stride + k * pa.column_stride]));
            },
            [&](int64_t k) {
              return T(read(b[z * pb.batch_strides[0] + k * pb.row_stride + j * pb.column_stride]));
            });
        if (c.bias == BiasSide::columns) sum = multiply_add(T(1), bias[j], sum);
        if (c.bias == BiasSide::rows) sum = multiply_add(T(1), bias[i], sum);
        expected.push_back(write(sum));
      }
  const auto got = product<In, Out>(c, in, out, a, b, bias.data());
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(Out)), 0)
        << "element " << i << ": " << +got[i] << " is not " << +expected[i];
}

template <class T>
void check(const Case& c) {
  const auto same = [](T v) { return v; };
  const auto make = [](float v) {
    return std::is_floating_point_v<T> ? static_cast<T>(v) : static_cast<T>(v * 0x1p30f);
  };
  check<T, T, T>(c, elem_of<T>, elem_of<T>, make, same, same);
}

std::vector<bool> widths() {
  return has_wide_vectors() ? std::vector<bool>{false, true} : std::vector<bool>{false};
}

TEST(Gemm, OddShapesEqualTheDefinition) {
  for (bool wide : widths())
    for (int64_t m : {1, 2, 5, 7, 17, 65})
      for (int64_t n : {1, 3, 16, 33, 70})
        for (int64_t k : {1, 8, 255, 256, 257, 600}) {
          check<float>({1, m, n, k, kRowMajor, kRowMajor, wide, 1});
          check<float>({1, m, n, k, kRowMajor, kColumnMajor, wide, 2});
          check<double>({1, m, n, k, kColumnMajor, kRowMajor, wide, 1});
        }
}

TEST(Gemm, EveryLayout) {
  for (bool wide : widths())
    for (Layout a : {kRowMajor, kColumnMajor, kSpread})
      for (Layout b : {kRowMajor, kColumnMajor, kSpread}) {
        check<float>({2, 19, 37, 301, a, b, wide, 2});
        check<double>({2, 19, 37, 301, a, b, wide, 2});
      }
}

TEST(Gemm, LargeBlocks) {
  for (bool wide : widths())
    for (int threads : {1, 2}) {
      check<float>({1, 250, 130, 1100, kRowMajor, kRowMajor, wide, threads});
      check<float>({1, 12, 2100, 520, kRowMajor, kColumnMajor, wide, threads});
      check<float>({1, 70, 2100, 40, kColumnMajor, kRowMajor, wide, threads});
      check<double>({1, 130, 260, 700, kColumnMajor, kColumnMajor, wide, threads});
    }
}

TEST(Gemm, BiasIsAddedOnce) {
  for (bool wide : widths())
    for (BiasSide side : {BiasSide::columns, BiasSide::rows})
      for (int64_t n : {1, 50})
        for (int64_t k : {0, 9, 1030}) {
          check<float>({2, 21, n, k, kRowMajor, kColumnMajor, wide, 2, side});
          check<double>({1, 21, n, k, kRowMajor, kRowMajor, wide, 1, side});
        }
}

TEST(Gemm, IntegersWrap) {
  for (Layout b : {kRowMajor, kColumnMajor}) {
    check<int32_t>({2, 9, 21, 300, kRowMajor, b, false, 2});
    check<int64_t>({1, 9, 21, 300, kRowMajor, b, false, 1});
    check<int32_t, int8_t, int8_t>(
        {1, 9, 21, 300, kColumnMajor, b, false, 1}, Elem::i8, Elem::i8,
        [](float v) { return static_cast<int8_t>(100 * v); }, [](int8_t v) { return v; },
        [](int32_t v) { return static_cast<int8_t>(v); });
  }
}

TEST(Gemm, HalvesAreRoundedOnce) {
  for (bool wide : widths())
    for (Layout b : {kRowMajor, kColumnMajor})
      for (int64_t k : {1, 700}) {
        const Case c{2, 33, 300, k, kRowMajor, b, wide, 2, BiasSide::columns};
        check<float, uint16_t, uint16_t>(c, Elem::bf16, Elem::bf16, loops::float_to_bf16,
                                         loops::bf16_to_float, loops::float_to_bf16);
        check<float, uint16_t, uint16_t>(c, Elem::f16, Elem::f16, loops::float_to_f16,
                                         loops::f16_to_float, loops::float_to_f16);
      }
}

TEST(Gemm, EmptyContractionIsZero) {
  check<float>({2, 5, 40, 0, kRowMajor, kRowMajor, false, 2});
  check<float>({1, 5, 1, 0, kRowMajor, kRowMajor, false, 1});
}

TEST(Gemm, NegativeZeroSurvivesOneChunk) {
  const Case c{1, 1, 1, 1, kRowMajor, kRowMajor, false, 1};
  const std::vector<float> tiny{-1e-30f}, other{1e-30f};
  EXPECT_TRUE(
      std::signbit(product<float, float>(c, Elem::f32, Elem::f32, tiny, other, nullptr)[0]));
}

TEST(Gemm, BroadcastBatchReadsOneMatrix) {
  const int64_t m = 7, n = 20, k = 33;
  const auto a = random_values<float>(3 * 2 * m * k, 1), b = random_values<float>(3 * k * n, 2);
  std::vector<float> result(3 * 2 * m * n), one(m * n);
  // a: (3, 2) matrices stored with the batch dims exchanged; b: 3 matrices, each used twice.
  GemmArgs g{2,
             {3, 2},
             m,
             n,
             k,
             Elem::f32,
             {a.data(), k, 1, {m * k, 3 * m * k}},
             {b.data(), n, 1, {k * n, 0}},
             Elem::f32,
             {result.data(), n, 1, {2 * m * n, m * n}},
             BiasSide::none,
             nullptr,
             1};
  const ContractionKernels kernels = contraction_of(Elem::f32, Elem::f32, false);
  TestContext ctx(gemm_workspace(g, kernels), 1);
  ASSERT_EQ(gemm(*ctx, g, kernels), kOk);
  for (int64_t z = 0; z < 6; ++z) {
    GemmArgs s = g;
    s.batch_dims = 0;
    s.a.data = a.data() + (z % 2 * 3 + z / 2) * m * k;
    s.b.data = b.data() + z / 2 * k * n;
    s.c.data = one.data();
    ASSERT_EQ(gemm(*ctx, s, kernels), kOk);
    EXPECT_EQ(std::memcmp(one.data(), result.data() + z * m * n, one.size() * 4), 0) << z;
  }
}

TEST(Gemm, RefusesASmallWorkspace) {
  std::vector<float> a(100 * 100), c(100 * 100);
  GemmArgs g{0,
             {},
             100,
             100,
             100,
             Elem::f32,
             matrix(a.data(), 100, 100, kColumnMajor),
             matrix(a.data(), 100, 100, kRowMajor),
             Elem::f32,
             matrix(c.data(), 100, 100, kRowMajor),
             BiasSide::none,
             nullptr,
             1};
  const ContractionKernels kernels = contraction_of(Elem::f32, Elem::f32, false);
  TestContext ctx(gemm_workspace(g, kernels) - 64, 1);
  EXPECT_EQ(gemm(*ctx, g, kernels), kWorkspaceTooSmall);
}

}  // namespace
}  // namespace fluxion
