# The extension fluxion._C, beside libfluxion.so in the package's folder.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
fluxion_sources(sources python/src)
if(sources)
  Python_add_library(_C MODULE WITH_SOABI ${sources})
  target_link_libraries(_C PRIVATE fluxion)
  set_target_properties(_C PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${FLUXION_PYTHON_DIR}"
                        BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN"
                        CXX_VISIBILITY_PRESET hidden)
  install(TARGETS _C fluxion LIBRARY DESTINATION fluxion COMPONENT python)
  # The wheel carries the one shared library it needs.
  get_target_property(tbb TBB::tbb IMPORTED_LOCATION_RELEASE)
  if(NOT tbb)
    get_target_property(tbb TBB::tbb IMPORTED_LOCATION_NONE)
  endif()
  file(REAL_PATH "${tbb}" tbb)
  install(FILES "${tbb}" DESTINATION fluxion COMPONENT python RENAME libtbb.so.12)
endif()
