# fluxion_kernels (freestanding), fluxion_core, fluxion_emitter (LLVM): objects that the generator,
# libfluxion.so and the tests share.
find_package(TBB REQUIRED)
find_package(fmt REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# An object library of whatever stands in its folders; a folder without sources is none.
function(fluxion_objects name)
  fluxion_sources(sources ${ARGN})
  if(NOT sources)
    file(WRITE "${CMAKE_BINARY_DIR}/empty/${name}.cpp" "")
    set(sources "${CMAKE_BINARY_DIR}/empty/${name}.cpp")
  endif()
  add_library(${name} OBJECT ${sources})
endfunction()

fluxion_objects(fluxion_kernels kernels)
target_compile_options(fluxion_kernels PRIVATE -fno-exceptions -fno-rtti -fno-threadsafe-statics)

fluxion_objects(fluxion_core base loops tensor ops autograd io nn)
target_link_libraries(fluxion_core PUBLIC TBB::tbb fmt::fmt-header-only Threads::Threads)

fluxion_objects(fluxion_emitter loops/llvm)
target_link_libraries(fluxion_emitter PUBLIC fluxion_llvm_library fmt::fmt-header-only)
set_target_properties(fluxion_emitter PROPERTIES EXCLUDE_FROM_ALL ON)
