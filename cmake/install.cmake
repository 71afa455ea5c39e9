# find_package(fluxion) gives fluxion::fluxion; headers keep their folders below include/fluxion.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS fluxion EXPORT fluxion-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(DIRECTORY include/fluxion DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
        FILES_MATCHING PATTERN "*.h")
foreach(folder base kernels loops tensor ops autograd graph io trace compile nn)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fluxion COMPONENT development
          FILES_MATCHING PATTERN "*.h" PATTERN "llvm" EXCLUDE PATTERN "schema.h" EXCLUDE)
endforeach()

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fluxion)
install(EXPORT fluxion-targets NAMESPACE fluxion:: DESTINATION ${config_dir} COMPONENT development)
configure_package_config_file(cmake/fluxionConfig.cmake.in "${CMAKE_BINARY_DIR}/fluxionConfig.cmake"
                              INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/fluxionConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/fluxionConfig.cmake" "${CMAKE_BINARY_DIR}/fluxionConfigVersion.cmake"
        DESTINATION ${config_dir} COMPONENT development)
