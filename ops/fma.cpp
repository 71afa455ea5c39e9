// a * b + c in one rounding: a primitive, because no sequence of other ops rounds like it.
#include "ops/elementwise.h"
#include "ops/functions.h"

namespace fluxion {

namespace {
constexpr SaveRule kFmaSaves[] = {{2, 0}, {1, 0}, {}};
}

constinit OpDef kFma = elementwise(
    {.name = "fma",
     .doc = "a * b + c, rounded once.",
     .inputs = 3,
     .promotion = Promotion::floating,
     .vjp =
         [](const Vjp& v) {
           if (v.needs(0)) v.result[0] = mul(v.grad[0], v.in[1]);
           if (v.needs(1)) v.result[1] = mul(v.grad[0], v.in[0]);
           if (v.needs(2)) v.result[2] = v.grad[0];
         },
     .saves = kFmaSaves,
     .scalar = [](loops::Body& b) { b.out(0, loops::fma(b.in(0), b.in(1), b.in(2))); }});

Tensor _fma(const Tensor& input, const Tensor& other, const Tensor& addend) {
  return apply(kFma, {input, other, addend});
}

namespace {

OpDef* const kOps[] = {&kFma};

const Function kFunctions[] = {
    {"_fma(Tensor input, Tensor other, Tensor addend) -> Tensor",
     "input * other + addend in one rounding.", kFunction | kPrivate, thunk<&_fma>},
};

}  // namespace

extern const OpFile fma_ops;
const OpFile fma_ops{kOps, kFunctions};

}  // namespace fluxion
