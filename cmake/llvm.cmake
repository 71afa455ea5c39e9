# LLVM 19 as a shared library, for the generator and the tests of the emitter only: never for the product.
find_program(LLVM_CONFIG NAMES llvm-config-19 PATHS /usr/lib/llvm-19/bin)
add_library(fluxion_llvm_library INTERFACE)
if(LLVM_CONFIG)
  execute_process(COMMAND ${LLVM_CONFIG} --includedir
                  OUTPUT_VARIABLE include OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${LLVM_CONFIG} --link-shared --libs
                  OUTPUT_VARIABLE libs OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${LLVM_CONFIG} --libdir
                  OUTPUT_VARIABLE libdir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  target_include_directories(fluxion_llvm_library SYSTEM INTERFACE "${include}")
  target_link_directories(fluxion_llvm_library INTERFACE "${libdir}")
  target_link_libraries(fluxion_llvm_library INTERFACE ${libs})
elseif(NOT FLUXION_GENERATOR OR FLUXION_TESTS)
  message(FATAL_ERROR "llvm-config-19 not found: install llvm-19-dev (tools/packages.txt)")
endif()
