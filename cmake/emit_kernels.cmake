# cmake -D GENERATOR=... -D OUT=... -D AR=... -P emit_kernels.cmake
# Runs the generator in a scratch folder; replaces libkernels.a and kernel_table.cpp only if they differ.
set(scratch "${OUT}/scratch")
file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}")
execute_process(COMMAND "${GENERATOR}" kernels "${scratch}" COMMAND_ERROR_IS_FATAL ANY)

file(GLOB objects RELATIVE "${scratch}" "${scratch}/*.o")
execute_process(COMMAND "${AR}" qcsD libkernels.a ${objects}
                WORKING_DIRECTORY "${scratch}" COMMAND_ERROR_IS_FATAL ANY)
foreach(file libkernels.a kernel_table.cpp)
  file(COPY_FILE "${scratch}/${file}" "${OUT}/${file}" ONLY_IF_DIFFERENT)
endforeach()
file(REMOVE_RECURSE "${scratch}")
