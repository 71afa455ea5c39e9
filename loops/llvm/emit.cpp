#include "loops/llvm/emit.h"

#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>

#include <memory>
#include <mutex>
#include <stdexcept>

#include "loops/llvm/lower.h"

namespace fluxion::loops {
namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

const llvm::Target& x86() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  std::string error;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(kTriple, error);
  if (!target) throw std::runtime_error("loops: " + error);
  return *target;
}

std::unique_ptr<llvm::TargetMachine> machine() {
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  auto* m = x86().createTargetMachine(kTriple, "x86-64-v3", "", options, llvm::Reloc::PIC_,
                                      std::nullopt, llvm::CodeGenOptLevel::Default);
  return std::unique_ptr<llvm::TargetMachine>(m);
}

std::unique_ptr<llvm::Module> module(llvm::LLVMContext& context,
                                     std::span<const Function> functions,
                                     const llvm::TargetMachine& target) {
  auto m = std::make_unique<llvm::Module>("kernels", context);
  m->setTargetTriple(kTriple);
  m->setDataLayout(target.createDataLayout());
  m->setPICLevel(llvm::PICLevel::BigPIC);
  for (const Function& f : functions) lower(f, *m);
  std::string problem;
  llvm::raw_string_ostream out(problem);
  if (llvm::verifyModule(*m, &out)) throw std::runtime_error("loops: invalid LLVM IR: " + problem);
  return m;
}

std::string generate(std::span<const Function> functions, llvm::CodeGenFileType type) {
  llvm::LLVMContext context;
  auto target = machine();
  auto m = module(context, functions, *target);
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream out(bytes);
  llvm::legacy::PassManager passes;
  if (target->addPassesToEmitFile(passes, out, nullptr, type))
    throw std::runtime_error("loops: LLVM cannot emit this file");
  passes.run(*m);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string emit_object(std::span<const Function> functions) {
  return generate(functions, llvm::CodeGenFileType::ObjectFile);
}

std::string emit_assembly(std::span<const Function> functions) {
  return generate(functions, llvm::CodeGenFileType::AssemblyFile);
}

std::string emit_llvm(std::span<const Function> functions) {
  llvm::LLVMContext context;
  auto target = machine();
  std::string text;
  llvm::raw_string_ostream out(text);
  module(context, functions, *target)->print(out, nullptr);
  return text;
}

}  // namespace fluxion::loops
