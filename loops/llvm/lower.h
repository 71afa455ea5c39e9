// One loop function to LLVM IR.
#pragma once

#include "loops/ir.h"

namespace llvm {
class Module;
}

namespace fluxion::loops {

/// Adds `int name(const Buf* args, const int64_t* sizes, const void* params)` to the module.
void lower(const Function&, llvm::Module&);

}  // namespace fluxion::loops
