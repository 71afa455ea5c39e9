# C++ of the FlatBuffers schemas, for io/ only, and what its files say about their producer.
find_program(FLATC flatc)
if(NOT FLATC)
  message(FATAL_ERROR "flatc not found: install flatbuffers-compiler and libflatbuffers-dev (tools/packages.txt)")
endif()
set(schema_dir "${CMAKE_BINARY_DIR}/generated/schema")
add_custom_command(
  OUTPUT "${schema_dir}/graph_generated.h"
  COMMAND ${FLATC} --cpp --scoped-enums -o "${schema_dir}" "${PROJECT_SOURCE_DIR}/io/graph.fbs"
  DEPENDS "${PROJECT_SOURCE_DIR}/io/graph.fbs"
  COMMENT "Generating graph_generated.h" VERBATIM)
target_sources(fluxion_core PRIVATE "${schema_dir}/graph_generated.h")
target_include_directories(fluxion_core SYSTEM PRIVATE "${schema_dir}")
set_source_files_properties(io/model_file.cpp PROPERTIES
                            COMPILE_DEFINITIONS "FLUXION_VERSION=\"${PROJECT_VERSION}\"")
