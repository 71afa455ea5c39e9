#include "loops/operand.h"

namespace fluxion::loops {

Value accumulate(Binary op, Value acc, const Term& t) {
  if (t.factor.exists()) return fma(t.value, t.factor, acc);
  switch (op) {
    case Binary::add: return acc + t.value;
    case Binary::mul: return acc * t.value;
    case Binary::max: return maximum(acc, t.value);
    case Binary::min: return minimum(acc, t.value);
    case Binary::bit_and: return acc & t.value;
    case Binary::bit_or: return acc | t.value;
    default: return acc ^ t.value;
  }
}

}  // namespace fluxion::loops
