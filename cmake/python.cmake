# The extension fluxion._C, beside libfluxion.so in the package's folder.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
                OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
find_package(nanobind CONFIG REQUIRED)

fluxion_sources(sources python/src)
if(sources)
  nanobind_add_module(_C NB_STATIC NOMINSIZE NB_DOMAIN fluxion ${sources})
  target_link_libraries(_C PRIVATE fluxion)
  set_target_properties(_C PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${FLUXION_PYTHON_DIR}"
                        BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN")
  install(TARGETS _C fluxion LIBRARY DESTINATION fluxion COMPONENT python)
  # The wheel carries the one shared library it needs.
  get_target_property(tbb TBB::tbb IMPORTED_LOCATION_RELEASE)
  if(NOT tbb)
    get_target_property(tbb TBB::tbb IMPORTED_LOCATION_NONE)
  endif()
  file(REAL_PATH "${tbb}" tbb)
  install(FILES "${tbb}" DESTINATION fluxion COMPONENT python RENAME libtbb.so.12)
endif()
