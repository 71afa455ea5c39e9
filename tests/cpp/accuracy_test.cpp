// Every elementwise op that states an accuracy, against long double functions of libm over its samples' domain.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "op_samples.h"
#include "ops/op.h"

namespace fluxion::testing {
namespace {

using Real = long double;

/// The exact result, and the largest of the terms it is a sum of where those cancel: errors count in ULP of that.
struct Exact {
  Real value, term = 0;
  Exact(Real v, Real t = 0) : value(v), term(std::fabs(t)) {}
};
using Reference = Exact (*)(const Real* x, const double* params);

constexpr Real kPi = 3.14159265358979323846264338327950288L, kLn2 = 0.693147180559945309417232L;

Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }
Real softplus(Real x) { return std::fmax(x, Real(0)) + std::log1p(std::exp(-std::fabs(x))); }
Real cdf(Real x) { return 0.5L * std::erfc(-x / std::sqrt(Real(2))); }
Real density(Real x) { return std::exp(-x * x / 2) / std::sqrt(2 * kPi); }
/// By bisection: slow, and independent of the op's formula.
Real erfinv(Real x) {
  Real low = -7, high = 7;
  for (int i = 0; i < 80; ++i) {
    Real middle = (low + high) / 2;
    (std::erf(middle) < x ? low : high) = middle;
  }
  return (low + high) / 2;
}
struct GeluTanh {
  Real s, slope;
  explicit GeluTanh(Real x) {
    Real c = 2 * std::sqrt(2 / kPi);
    s = sigmoid(c * x * (1 + 0.044715L * x * x));
    slope = c * (1 + 3 * 0.044715L * x * x);
  }
};

const std::map<std::string, Reference> kReferences = {
    {"sqrt", [](const Real* x, const double*) -> Exact { return std::sqrt(x[0]); }},
    {"rsqrt", [](const Real* x, const double*) -> Exact { return 1 / std::sqrt(x[0]); }},
    {"reciprocal", [](const Real* x, const double*) -> Exact { return 1 / x[0]; }},
    {"div", [](const Real* x, const double*) -> Exact { return x[0] / x[1]; }},
    {"exp", [](const Real* x, const double*) -> Exact { return std::exp(x[0]); }},
    {"exp2", [](const Real* x, const double*) -> Exact { return std::exp2(x[0]); }},
    {"expm1", [](const Real* x, const double*) -> Exact { return std::expm1(x[0]); }},
    {"log", [](const Real* x, const double*) -> Exact { return std::log(x[0]); }},
    {"log2", [](const Real* x, const double*) -> Exact { return std::log2(x[0]); }},
    {"log10", [](const Real* x, const double*) -> Exact { return std::log10(x[0]); }},
    {"log1p", [](const Real* x, const double*) -> Exact { return std::log1p(x[0]); }},
    {"sin", [](const Real* x, const double*) -> Exact { return std::sin(x[0]); }},
    {"cos", [](const Real* x, const double*) -> Exact { return std::cos(x[0]); }},
    {"tan", [](const Real* x, const double*) -> Exact { return std::tan(x[0]); }},
    {"asin", [](const Real* x, const double*) -> Exact { return std::asin(x[0]); }},
    {"acos", [](const Real* x, const double*) -> Exact { return std::acos(x[0]); }},
    {"atan", [](const Real* x, const double*) -> Exact { return std::atan(x[0]); }},
    {"sinh", [](const Real* x, const double*) -> Exact { return std::sinh(x[0]); }},
    {"cosh", [](const Real* x, const double*) -> Exact { return std::cosh(x[0]); }},
    {"tanh", [](const Real* x, const double*) -> Exact { return std::tanh(x[0]); }},
    {"asinh", [](const Real* x, const double*) -> Exact { return std::asinh(x[0]); }},
    {"acosh", [](const Real* x, const double*) -> Exact { return std::acosh(x[0]); }},
    {"atanh", [](const Real* x, const double*) -> Exact { return std::atanh(x[0]); }},
    {"atan2", [](const Real* x, const double*) -> Exact { return std::atan2(x[0], x[1]); }},
    {"erf", [](const Real* x, const double*) -> Exact { return std::erf(x[0]); }},
    {"erfc", [](const Real* x, const double*) -> Exact { return std::erfc(x[0]); }},
    {"erfinv", [](const Real* x, const double*) -> Exact { return erfinv(x[0]); }},
    {"sigmoid", [](const Real* x, const double*) -> Exact { return sigmoid(x[0]); }},
    {"pow", [](const Real* x, const double*) -> Exact { return std::pow(x[0], x[1]); }},
    {"logaddexp",
     [](const Real* x, const double*) -> Exact {
       return std::fmax(x[0], x[1]) + std::log1p(std::exp(-std::fabs(x[0] - x[1])));
     }},
    {"logaddexp2",
     [](const Real* x, const double*) -> Exact {
       return std::fmax(x[0], x[1]) + std::log1p(std::exp2(-std::fabs(x[0] - x[1]))) / kLn2;
     }},
    {"normal_cdf", [](const Real* x, const double*) -> Exact { return {cdf(x[0]), 1}; }},
    {"gelu", [](const Real* x, const double*) -> Exact { return {x[0] * cdf(x[0]), x[0]}; }},
    {"gelu_backward",
     [](const Real* x, const double*) -> Exact {
       return {x[0] * (cdf(x[1]) + x[1] * density(x[1])), x[0]};
     }},
    {"gelu_tanh", [](const Real* x, const double*) -> Exact { return x[0] * GeluTanh(x[0]).s; }},
    {"gelu_tanh_backward",
     [](const Real* x, const double*) -> Exact {
       GeluTanh t(x[1]);
       return {x[0] * (t.s + x[1] * t.slope * t.s * (1 - t.s)), x[0]};
     }},
    {"silu", [](const Real* x, const double*) -> Exact { return x[0] * sigmoid(x[0]); }},
    {"silu_backward",
     [](const Real* x, const double*) -> Exact {
       Real s = sigmoid(x[1]);
       return {x[0] * s * (1 + x[1] * (1 - s)), x[0]};
     }},
    {"mish",
     [](const Real* x, const double*) -> Exact { return x[0] * std::tanh(softplus(x[0])); }},
    {"mish_backward",
     [](const Real* x, const double*) -> Exact {
       Real t = std::tanh(softplus(x[1]));
       return {x[0] * (t + x[1] * sigmoid(x[1]) * (1 - t * t)), x[0]};
     }},
    {"softplus",
     [](const Real* x, const double* p) -> Exact {
       return x[0] * p[0] > p[1] ? x[0] : softplus(x[0] * p[0]) / p[0];
     }},
    {"softplus_backward",
     [](const Real* x, const double* p) -> Exact {
       return x[1] * p[0] > p[1] ? x[0] : x[0] * sigmoid(x[1] * p[0]);
     }},
    {"logsigmoid", [](const Real* x, const double*) -> Exact { return -softplus(-x[0]); }},
    {"logsigmoid_backward",
     [](const Real* x, const double*) -> Exact { return x[0] * sigmoid(-x[1]); }},
    {"elu",
     [](const Real* x, const double* p) -> Exact {
       return x[0] > 0 ? x[0] * p[1] : p[1] * p[0] * std::expm1(x[0] * p[2]);
     }},
    {"elu_backward",
     [](const Real* x, const double* p) -> Exact {
       return x[1] > 0 ? x[0] * p[1] : x[0] * p[1] * p[0] * p[2] * std::exp(x[1] * p[2]);
     }},
    {"bce",
     [](const Real* x, const double*) -> Exact {
       return -x[1] * std::log(x[0]) - (1 - x[1]) * std::log1p(-x[0]);
     }},
    {"bce_target_backward",
     [](const Real* x, const double*) -> Exact {
       Real a = x[0] * std::log1p(-x[1]), b = x[0] * std::log(x[1]);
       return {a - b, std::fmax(std::fabs(a), std::fabs(b))};
     }},
    {"bce_logits",
     [](const Real* x, const double*) -> Exact {
       return {softplus(x[0]) - x[0] * x[1], softplus(x[0])};
     }},
    {"bce_logits_backward",
     [](const Real* x, const double*) -> Exact { return {x[0] * (sigmoid(x[1]) - x[2]), x[0]}; }},
};

/// The spacing of the format at `v`.
Real spacing(Real v, DType t) {
  int digits = t == DType::f32 ? 24 : 53, lowest = t == DType::f32 ? -149 : -1074, exponent;
  std::frexp(v, &exponent);
  return std::ldexp(Real(1), std::max(exponent - digits, lowest));
}

struct Worst {
  double error = 0;
  std::string at;
};

Worst worst_error(const Sample& sample, Reference reference) {
  Sample many = sample;
  for (SampleSink::Input& i : many.inputs) i.shape = Shape{20000};
  DType t = many.inputs[0].dtype;
  std::vector<Tensor> in = random_inputs(many, 3), out = run(many, in);
  Worst worst;
  for (int64_t i = 0; i < out[0].numel(); ++i) {
    Real x[3] = {};
    for (size_t k = 0; k < in.size(); ++k)
      x[k] = load_double(in[k].data<char>() + i * size_of(t), t);
    Exact exact = reference(x, static_cast<const double*>(many.attr_data()));
    Real got = load_double(out[0].data<char>() + i * size_of(t), t);
    Real unit = spacing(std::fmax(std::fabs(exact.value), exact.term), t);
    auto error = static_cast<double>(std::fabs(got - exact.value) / unit);
    if (error > worst.error || std::isnan(error))
      worst = {std::isnan(error) ? INFINITY : error,
               fmt::format("({}, {}, {}) = {}, exactly {}", static_cast<double>(x[0]),
                           static_cast<double>(x[1]), static_cast<double>(x[2]),
                           static_cast<double>(got), static_cast<double>(exact.value))};
  }
  return worst;
}

TEST(Accuracy, OfEveryElementwiseOpThatStatesOne) {
  std::set<std::string> measured;
  for (const Sample& s : all_samples()) {
    if (!s.op->scalar || s.op->max_ulp == 0 || s.inputs[0].shape.empty()) continue;
    if (s.inputs[0].dtype != DType::f32 && s.inputs[0].dtype != DType::f64) continue;
    if (!measured.insert(std::string(s.op->name) + short_name(s.inputs[0].dtype).data()).second)
      continue;
    auto found = kReferences.find(s.op->name);
    ASSERT_NE(found, kReferences.end()) << s.op->name << " has no reference in this test";
    Worst w = worst_error(s, found->second);
    std::printf("%-20s %s  %.2f of %.1f ULP\n", s.op->name, short_name(s.inputs[0].dtype).data(),
                w.error, s.op->max_ulp);
    EXPECT_LE(w.error, s.op->max_ulp) << s.op->name << w.at;
  }
  EXPECT_EQ(measured.size(), 2 * kReferences.size());
}

}  // namespace
}  // namespace fluxion::testing
