# The host tool fluxion-generate, the kernels it emits, and libfluxion.so that holds them.
if(NOT FLUXION_GENERATOR)
  add_executable(fluxion-generate tools/generate.cpp tools/no_kernels.cpp)
  target_link_libraries(fluxion-generate PRIVATE fluxion_core fluxion_kernels fluxion_emitter)
  set(generator fluxion-generate)
  set(generator_file $<TARGET_FILE:fluxion-generate>)
else()
  set(generator "${FLUXION_GENERATOR}")
  set(generator_file "${FLUXION_GENERATOR}")
endif()

# The generator writes any number of objects; one archive and one table are what the build sees.
# Both keep their time stamp when nothing changed, so an op's edit does not relink the world.
set(generated "${CMAKE_BINARY_DIR}/generated")
add_custom_command(
  OUTPUT "${generated}/libkernels.a" "${generated}/kernel_table.cpp"
  COMMAND ${CMAKE_COMMAND} -D GENERATOR=${generator_file} -D OUT=${generated} -D AR=${CMAKE_AR}
          -P "${PROJECT_SOURCE_DIR}/cmake/emit_kernels.cmake"
  DEPENDS ${generator} "${PROJECT_SOURCE_DIR}/cmake/emit_kernels.cmake"
  COMMENT "Emitting kernels" VERBATIM)

add_library(fluxion SHARED "${generated}/kernel_table.cpp" "${generated}/libkernels.a")
add_library(fluxion::fluxion ALIAS fluxion)
target_link_libraries(fluxion PRIVATE fluxion_core fluxion_kernels "${generated}/libkernels.a"
                      PUBLIC fmt::fmt-header-only)
target_link_options(fluxion PRIVATE -Wl,-Bsymbolic-functions)
target_include_directories(fluxion INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:include> $<INSTALL_INTERFACE:include/fluxion>)
target_compile_features(fluxion INTERFACE cxx_std_20)
set_target_properties(fluxion PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY "${FLUXION_PYTHON_DIR}" INSTALL_RPATH "$ORIGIN")
