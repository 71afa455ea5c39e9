// Second names of functions, as PyTorch has them.
#include "ops/functions.h"
#include "ops/op.h"

namespace fluxion {

namespace {

constexpr uint16_t kUsual = kFunction | kMethod | kInplace | kOut;

const Function kFunctions[] = {
    {"clip(Tensor input, Number? min=None, Number? max=None) -> Tensor", "clamp.", kUsual,
     thunk<&clamp>},
    {"subtract(Number input, Number other, *, Scalar alpha=1) -> Tensor", "sub.", kUsual,
     thunk<&sub>},
    {"multiply(Number input, Number other) -> Tensor", "mul.", kUsual, thunk<&mul>},
    {"divide(Number input, Number other, *, str? rounding_mode=None) -> Tensor", "div.", kUsual,
     thunk<&div>},
    {"negative(Tensor input) -> Tensor", "neg.", kUsual, thunk<&neg>},
    {"absolute(Tensor input) -> Tensor", "abs.", kUsual, thunk<&abs>},
    {"greater(Number input, Number other) -> Tensor", "gt.", kUsual, thunk<&gt>},
    {"greater_equal(Number input, Number other) -> Tensor", "ge.", kUsual, thunk<&ge>},
    {"less(Number input, Number other) -> Tensor", "lt.", kUsual, thunk<&lt>},
    {"less_equal(Number input, Number other) -> Tensor", "le.", kUsual, thunk<&le>},
    {"not_equal(Number input, Number other) -> Tensor", "ne.", kUsual, thunk<&ne>},
    {"arccos(Tensor input) -> Tensor", "acos.", kUsual, thunk<&acos>},
    {"arcsin(Tensor input) -> Tensor", "asin.", kUsual, thunk<&asin>},
    {"arctan(Tensor input) -> Tensor", "atan.", kUsual, thunk<&atan>},
    {"fix(Tensor input) -> Tensor", "trunc.", kUsual, thunk<&trunc>},
    {"ger(Tensor input, Tensor vec2) -> Tensor", "outer.", kFunction | kMethod, thunk<&outer>},
};

}  // namespace

extern const OpFile alias_functions;
const OpFile alias_functions{{}, kFunctions};

}  // namespace fluxion
