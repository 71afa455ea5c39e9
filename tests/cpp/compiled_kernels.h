// Test support: emits loop functions, links them with the system linker and loads them.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>

#include "loops/llvm/emit.h"

namespace fluxion::loops {

class CompiledKernels {
 public:
  explicit CompiledKernels(std::span<const Function> functions) {
    char directory[] = "/tmp/kernels.XXXXXX";
    if (!mkdtemp(directory)) throw std::runtime_error("mkdtemp");
    const std::string base = directory, object = base + "/k.o", library = base + "/k.so";
    std::ofstream(object, std::ios::binary) << emit_object(functions);
    const int status = std::system(("cc -shared -o " + library + " " + object + " -lm").c_str());
    if (status == 0) handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    unlink(object.c_str()), unlink(library.c_str()), rmdir(directory);
    if (!handle_) throw std::runtime_error("cannot link or load the kernels");
  }
  ~CompiledKernels() { dlclose(handle_); }
  CompiledKernels(const CompiledKernels&) = delete;

  kernels::Kernel operator[](const std::string& name) const {
    auto* kernel = reinterpret_cast<kernels::Kernel>(dlsym(handle_, name.c_str()));
    if (!kernel) throw std::runtime_error("no kernel " + name);
    return kernel;
  }

 private:
  void* handle_ = nullptr;
};

}  // namespace fluxion::loops
