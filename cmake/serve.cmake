# fluxion_serve: the model server, an archive beside libfluxion.so.
set(Boost_NO_BOOST_CMAKE ON)
find_package(Boost 1.81 REQUIRED)
find_package(simdjson REQUIRED)
find_package(ZLIB REQUIRED)

fluxion_library(fluxion_serve STATIC serve)
target_link_libraries(fluxion_serve PUBLIC fluxion
                      PRIVATE simdjson::simdjson ZLIB::ZLIB Threads::Threads Boost::headers)
target_compile_definitions(fluxion_serve PRIVATE FLUXION_VERSION="${PROJECT_VERSION}"
                           BOOST_ASIO_NO_DEPRECATED)
set_target_properties(fluxion_serve PROPERTIES EXCLUDE_FROM_ALL ON)
if(FLUXION_SANITIZE MATCHES "thread")  # knows no fences
  target_compile_definitions(fluxion_serve PRIVATE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
