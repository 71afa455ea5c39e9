// Functions to machine code with LLVM as code generator: no IR passes, no fast-math, no
// contraction.
#pragma once

#include <span>
#include <string>

#include "loops/ir.h"

namespace fluxion::loops {

/// One relocatable ELF object that defines each function under its name, for x86-64-v3.
/// Thread-safe; about 64 functions a call are a good batch. Throws std::runtime_error if the code
/// generator fails.
std::string emit_object(std::span<const Function> functions);

/// The LLVM IR or the assembly, for reading.
std::string emit_llvm(std::span<const Function> functions);
std::string emit_assembly(std::span<const Function> functions);

}  // namespace fluxion::loops
