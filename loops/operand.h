// What row and column programs share: how an argument extends over the loops, what a pass adds up.
#pragma once

#include <functional>
#include <vector>

#include "loops/builder.h"

namespace fluxion::loops {

/// Which loops an argument runs along.
enum class Extent : uint8_t {
  element,  // [row, column]
  column,   // [column]
  row,      // [row]
  scalar,   // []
};

struct Operand {
  Elem elem;
  Extent extent = Extent::element;
};

/// What one step of a pass adds to an accumulator: `value`, or `value * factor` by one fma.
struct Term {
  Value value, factor;
  Term(Value v) : value(v) {}
  Term(Value v, Value f) : value(v), factor(f) {}
};

/// `acc op term`, in the order the numerics contract fixes.
Value accumulate(Binary op, Value acc, const Term&);

}  // namespace fluxion::loops
