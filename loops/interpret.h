// Executes a Function node by node on real memory: the oracle of emitted code, equal in every bit
// (NaN payloads aside).
#pragma once

#include "loops/ir.h"

namespace fluxion::loops {

int interpret(const Function&, const kernels::Buf* args, const int64_t* sizes, const void* params);

}  // namespace fluxion::loops
