# fluxion_kernels (freestanding), fluxion_core, fluxion_emitter (LLVM): compiled once for the generator,
# libfluxion.so and the tests.
find_package(TBB REQUIRED)
find_package(fmt REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# A library of whatever stands in its folders, which may still be empty.
function(fluxion_library name kind)
  fluxion_sources(sources ${ARGN})
  if(NOT sources)
    file(WRITE "${CMAKE_BINARY_DIR}/empty/${name}.cpp" "")
    set(sources "${CMAKE_BINARY_DIR}/empty/${name}.cpp")
  endif()
  add_library(${name} ${kind} ${sources})
endfunction()

fluxion_library(fluxion_kernels OBJECT kernels)
# -O2 vectorises only loops of known length; these walk memory of any length.
target_compile_options(fluxion_kernels PRIVATE -fno-exceptions -fno-rtti -fno-threadsafe-statics
                       -fvect-cost-model=dynamic)

fluxion_library(fluxion_core OBJECT base loops tensor ops autograd graph io trace compile nn)
target_link_libraries(fluxion_core PUBLIC TBB::tbb fmt::fmt-header-only Threads::Threads)

# An archive: programs that never call the emitter do not load LLVM.
fluxion_library(fluxion_emitter STATIC loops/llvm)
target_link_libraries(fluxion_emitter PUBLIC fluxion_llvm_library fmt::fmt-header-only)
set_target_properties(fluxion_emitter PROPERTIES EXCLUDE_FROM_ALL ON)
