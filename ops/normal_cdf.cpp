// P(Z <= x) of a standard normal Z. A primitive: gelu needs it small in absolute error and fast, which 1 + erf is not.
#include "ops/normal_cdf.h"

#include "ops/elementwise.h"
#include "ops/functions.h"

namespace fluxion {

namespace loops {
namespace {

/// (P(Z <= x) - 1/2) / x = N(x^2) / D(x^2) for |x| <= kBound, where x N / D rounds to 1/2.
constexpr double kBound = 0x1.4e978ep+2;
constexpr double kNumerator[] = {0x1.988450p-2,  0x1.134f28p-5,  0x1.31a278p-8,
                                 0x1.5d3232p-13, 0x1.aa7354p-18, 0x1.8c3dc2p-26};
constexpr double kDenominator[] = {
    1, 0x1.00edap-2, 0x1.d3171ep-6, 0x1.ea8f2cp-10, 0x1.322dc2p-14, 0x1.43f57ap-20};

Value horner(Value x, std::span<const double> c) {
  Value sum = x.like(c.back());
  for (size_t k = c.size() - 1; k-- > 0;) sum = fma(sum, x, c[k]);
  return sum;
}

}  // namespace

Value normal_cdf(Value x) {
  if (x.elem() == Elem::f64) return (erf(x * 0.7071067811865476) + 1) * 0.5;
  const Value bounded = minimum(kBound, maximum(-kBound, x)), square = bounded * bounded;
  return bounded * (horner(square, kNumerator) / horner(square, kDenominator)) + 0.5;
}

}  // namespace loops

constinit OpDef kNormalCdf = elementwise(
    {.name = "normal_cdf",
     .doc = "P(Z <= x) of a standard normal Z.",
     .promotion = Promotion::floating,
     .vjp =
         [](const Vjp& v) {
           const Tensor& x = v.in[0];
           v.result[0] =
               mul(v.grad[0], mul(exp(mul(mul(x, x), number(-0.5))), number(0.3989422804014327)));
         },
     .saves = kSaveInput,
     .scalar = [](loops::Body& b) { b.out(0, loops::normal_cdf(b.in(0))); },
     .max_ulp = 4});

namespace {
OpDef* const kOps[] = {&kNormalCdf};
}

extern const OpFile normal_cdf_ops;
const OpFile normal_cdf_ops{kOps, {}};

}  // namespace fluxion
