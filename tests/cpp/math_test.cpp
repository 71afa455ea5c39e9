// Accuracy of loops/math.h against MPFR: function, domain, largest error in ULP; and special values
// against libm.
#include <gtest/gtest.h>
#include <mpfr.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "loops/elementwise.h"
#include "loops/math.h"
#include "tests/cpp/compiled_kernels.h"

namespace fluxion::loops {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

using Exact = int (*)(mpfr_t, const mpfr_t, mpfr_rnd_t);

int exact_sigmoid(mpfr_t y, const mpfr_t x, mpfr_rnd_t r) {
  mpfr_neg(y, x, r);
  mpfr_exp(y, y, r);
  mpfr_add_ui(y, y, 1, r);
  return mpfr_ui_div(y, 1, y, r);
}
int exact_rsqrt(mpfr_t y, const mpfr_t x, mpfr_rnd_t r) { return mpfr_rec_sqrt(y, x, r); }

double libm_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double libm_rsqrt(double x) { return 1 / std::sqrt(x); }

struct Row {
  const char* name;
  Value (*function)(Value);
  Exact exact;
  double (*libm)(double);
  double low, high;  // sampled evenly over the floats between
  double max_ulp32, max_ulp64;
};

const Row kTable[] = {
    {"exp", exp, mpfr_exp, std::exp, -750, 720, 0.95, 0.95},
    {"exp2", exp2, mpfr_exp2, std::exp2, -1080, 1030, 0.95, 0.95},
    {"expm1", expm1, mpfr_expm1, std::expm1, -50, 720, 1.0, 1.1},
    {"log", log, mpfr_log, std::log, 0, 1e300, 0.95, 0.95},
    {"log2", log2, mpfr_log2, std::log2, 0, 1e300, 1.2, 1.0},
    {"log10", log10, mpfr_log10, std::log10, 0, 1e300, 1.1, 1.0},
    {"log1p", log1p, mpfr_log1p, std::log1p, -1, 1e300, 1.0, 1.0},
    {"sin", sin, mpfr_sin, std::sin, -1e300, 1e300, 0.95, 0.95},
    {"cos", cos, mpfr_cos, std::cos, -1e300, 1e300, 0.95, 0.95},
    {"tan", tan, mpfr_tan, std::tan, -1e300, 1e300, 1.25, 1.25},
    {"asin", asin, mpfr_asin, std::asin, -1, 1, 1.0, 1.0},
    {"acos", acos, mpfr_acos, std::acos, -1, 1, 1.0, 1.0},
    {"atan", atan, mpfr_atan, std::atan, -1e300, 1e300, 1.25, 1.25},
    {"sinh", sinh, mpfr_sinh, std::sinh, -720, 720, 1.75, 1.75},
    {"cosh", cosh, mpfr_cosh, std::cosh, -720, 720, 1.5, 1.5},
    {"tanh", tanh, mpfr_tanh, std::tanh, -50, 50, 0.8, 0.8},
    {"erf", erf, mpfr_erf, std::erf, -50, 50, 1.0, 1.0},
    {"erfc", erfc, mpfr_erfc, std::erfc, -30, 30, 4.0, 4.0},
    {"sigmoid", sigmoid, exact_sigmoid, libm_sigmoid, -750, 750, 2.5, 2.5},
    {"rsqrt", rsqrt, exact_rsqrt, libm_rsqrt, 0, 1e300, 1.6, 1.6},
};

std::string kernel_name(const std::string& function, Elem e) {
  return function + (e == Elem::f32 ? "_f32" : "_f64");
}

/// All functions of the table and pow in both dtypes.
const CompiledKernels& kernels() {
  static const auto compiled = [] {
    std::vector<Function> functions;
    for (Elem e : {Elem::f32, Elem::f64}) {
      for (const Row& row : kTable)
        functions.push_back(elementwise(kernel_name(row.name, e), std::vector{e}, std::vector{e}, e,
                                        0u, [&](Body& b) { b.out(0, row.function(b.in(0))); }));
      functions.push_back(elementwise(kernel_name("pow", e), std::vector{e, e}, std::vector{e}, e,
                                      0u, [](Body& b) { b.out(0, pow(b.in(0), b.in(1))); }));
      functions.push_back(elementwise(kernel_name("exp_nonpositive", e), std::vector{e},
                                      std::vector{e}, e, 0u,
                                      [](Body& b) { b.out(0, exp_nonpositive(b.in(0))); }));
    }
    return std::make_unique<CompiledKernels>(functions);
  }();
  return *compiled;
}

template <class T>
constexpr Elem elem_of() {
  return sizeof(T) == 4 ? Elem::f32 : Elem::f64;
}

template <class T>
std::vector<T> run(const std::string& name, std::vector<T> x, std::vector<T> y = {}) {
  std::vector<T> out(x.size());
  std::vector<kernels::Buf> args{{x.data(), nullptr}};
  if (!y.empty()) args.push_back({y.data(), nullptr});
  args.push_back({out.data(), nullptr});
  const int64_t n = static_cast<int64_t>(x.size());
  loops::kernels()[kernel_name(name, elem_of<T>())](args.data(), &n, nullptr);
  return out;
}

/// Floats as integers in their order.
template <class T>
int64_t order(T v) {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  const Int bits = std::bit_cast<Int>(v);
  return bits < 0 ? static_cast<int64_t>(std::numeric_limits<Int>::min() - bits) : bits;
}
template <class T>
T from_order(int64_t i) {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  return std::bit_cast<T>(i < 0 ? static_cast<Int>(std::numeric_limits<Int>::min() - i)
                                : static_cast<Int>(i));
}

template <class T>
std::vector<T> samples(double low, double high, int count, uint64_t seed) {
  constexpr double most = std::numeric_limits<T>::max();
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int64_t> bits(order(static_cast<T>(std::max(low, -most))),
                                              order(static_cast<T>(std::min(high, most))));
  std::uniform_real_distribution<double> values(std::max(low, -100.0), std::min(high, 100.0));
  std::vector<T> x(count);
  for (int i = 0; i < count; ++i)
    x[i] = i % 2 ? from_order<T>(bits(random)) : static_cast<T>(values(random));
  return x;
}

/// |y - exact| in units of the spacing of T at exact; overflow counts as the next power of two.
template <class T>
double ulp_error(T y, const mpfr_t exact) {
  if (mpfr_nan_p(exact)) return std::isnan(y) ? 0 : kInf;
  const T rounded = sizeof(T) == 4 ? static_cast<T>(mpfr_get_flt(exact, MPFR_RNDN))
                                   : static_cast<T>(mpfr_get_d(exact, MPFR_RNDN));
  if (std::isinf(rounded) || std::isinf(y)) return y == rounded ? 0 : kInf;
  if (std::isnan(y)) return kInf;
  const int lowest = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits;
  const int exponent =
      mpfr_zero_p(exact)
          ? lowest
          : std::max<int>(static_cast<int>(mpfr_get_exp(exact)) - std::numeric_limits<T>::digits,
                          lowest);
  mpfr_t error;
  mpfr_init2(error, 200);
  mpfr_sub_d(error, exact, static_cast<double>(y), MPFR_RNDN);
  mpfr_mul_2si(error, error, -exponent, MPFR_RNDN);
  const double result = std::fabs(mpfr_get_d(error, MPFR_RNDN));
  mpfr_clear(error);
  return result;
}

struct Worst {
  double error = 0, x = 0, y = 0, result = 0;
  void see(double e, double at, double second, double r) {
    if (e > error || std::isnan(e)) error = e, x = at, y = second, result = r;
  }
};

int sample_count() {
  const char* text = std::getenv("FLUXION_MATH_SAMPLES");
  return text ? std::atoi(text) : 20000;
}

template <class T>
void check_accuracy(const Row& row, double limit) {
  const std::vector<T> x = samples<T>(row.low, row.high, sample_count(), 1),
                       y = run<T>(row.name, x);
  mpfr_t in, exact;
  mpfr_inits2(160, in, exact, nullptr);
  Worst worst;
  for (size_t i = 0; i < x.size(); ++i) {
    mpfr_set_d(in, x[i], MPFR_RNDN);
    row.exact(exact, in, MPFR_RNDN);
    worst.see(ulp_error(y[i], exact), x[i], 0, y[i]);
  }
  mpfr_clears(in, exact, nullptr);
  std::printf("%-8s %s  [%g, %g]  %.3f ULP at %a\n", row.name, sizeof(T) == 4 ? "f32" : "f64",
              row.low, row.high, worst.error, worst.x);
  EXPECT_LE(worst.error, limit) << row.name << "(" << worst.x << ") = " << worst.result;
}

template <class T>
void check_pow(double limit) {
  const int count = sample_count();
  std::vector<T> x = samples<T>(0, 1e300, count, 2), y = samples<T>(-1e4, 1e4, count, 3);
  for (int i = 0; i < count; i += 2)
    y[i] = static_cast<T>(y[i] * (std::is_same_v<T, float> ? 0.5 : 4) /
                          std::max(0.05, std::fabs(std::log2(double(x[i])))));
  for (int i = 0; i < count; i += 7) y[i] = std::round(y[i]), x[i] = -x[i];
  const std::vector<T> z = run<T>("pow", x, y);
  mpfr_t a, b, exact;
  mpfr_inits2(160, a, b, exact, nullptr);
  Worst worst;
  for (int i = 0; i < count; ++i) {
    mpfr_set_d(a, x[i], MPFR_RNDN), mpfr_set_d(b, y[i], MPFR_RNDN);
    mpfr_pow(exact, a, b, MPFR_RNDN);
    worst.see(ulp_error(z[i], exact), x[i], y[i], z[i]);
  }
  mpfr_clears(a, b, exact, nullptr);
  std::printf("pow      %s  %.3f ULP at %a ^ %a\n", sizeof(T) == 4 ? "f32" : "f64", worst.error,
              worst.x, worst.y);
  EXPECT_LE(worst.error, limit) << worst.x << " ^ " << worst.y << " = " << worst.result;
}

TEST(Math, AccuracyF32) {
  for (const Row& row : kTable) check_accuracy<float>(row, row.max_ulp32);
  check_pow<float>(0.6);
}

TEST(Math, AccuracyF64) {
  for (const Row& row : kTable) check_accuracy<double>(row, row.max_ulp64);
  check_pow<double>(1.0);
}

template <class T>
bool same_special(T ours, T reference) {
  if (std::isnan(reference)) return std::isnan(ours);
  return ours == reference && std::signbit(ours) == std::signbit(reference);
}

template <class T>
const std::vector<T>& special_values() {
  using L = std::numeric_limits<T>;
  static const std::vector<T> values{0,
                                     1,
                                     L::infinity(),
                                     L::quiet_NaN(),
                                     L::denorm_min(),
                                     L::min(),
                                     L::max(),
                                     T(0.5),
                                     2,
                                     3,
                                     T(2.5),
                                     -0.0,
                                     -1,
                                     -L::infinity(),
                                     -L::denorm_min(),
                                     -L::min(),
                                     -L::max(),
                                     T(-0.5),
                                     -2,
                                     -3,
                                     T(-2.5)};
  return values;
}

/// Where the argument or the exact result is special (NaN, infinite, zero), libm is matched.
template <class T>
void check_specials(const Row& row) {
  const std::vector<T>& x = special_values<T>();
  const std::vector<T> y = run<T>(row.name, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const T expected = static_cast<T>(row.libm(x[i]));
    const bool ordinary = std::isnormal(x[i]) && std::isnormal(expected);
    EXPECT_TRUE(ordinary || same_special(y[i], expected))
        << row.name << "(" << x[i] << ") = " << y[i] << ", not " << expected;
  }
}

template <class T>
void check_pow_specials() {
  for (T y : special_values<T>()) {
    const std::vector<T>& x = special_values<T>();
    const std::vector<T> z = run<T>("pow", x, std::vector<T>(x.size(), y));
    for (size_t i = 0; i < x.size(); ++i) {
      const T expected = static_cast<T>(std::pow(double(x[i]), double(y)));
      const bool ordinary = std::isfinite(expected) && expected != 0;
      EXPECT_TRUE(ordinary ? std::fabs(z[i] - expected) <= std::fabs(expected) * 4e-7
                           : same_special(z[i], expected))
          << x[i] << " ^ " << y << " = " << z[i] << ", not " << expected;
    }
  }
}

TEST(Math, SpecialValues) {
  for (const Row& row : kTable) check_specials<float>(row), check_specials<double>(row);
  check_pow_specials<float>();
  check_pow_specials<double>();
}

template <class T>
void check_exp_nonpositive() {
  std::vector<T> x = samples<T>(-1e3, -0.0, 100000, 4);
  for (T v : {T(0), -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()})
    x.push_back(v);
  const std::vector<T> full = run<T>("exp", x), limited = run<T>("exp_nonpositive", x);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(same_special(limited[i], full[i])) << x[i];
}

TEST(Math, ExpNonpositiveHasTheBitsOfExp) {
  check_exp_nonpositive<float>();
  check_exp_nonpositive<double>();
}

}  // namespace
}  // namespace fluxion::loops
