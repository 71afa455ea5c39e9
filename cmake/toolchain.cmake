# Compiler, linker and flags, the same for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# The bits are part of the contract: no contraction, no reassociation, one CPU profile.
add_compile_options(-march=x86-64-v3 -ffp-contract=off -fno-math-errno
                    -fno-semantic-interposition -fno-gnu-unique -Wall -Wextra)
add_link_options(-Wl,--as-needed)

if(FLUXION_SANITIZE)
  add_compile_options(-fsanitize=${FLUXION_SANITIZE} -fno-omit-frame-pointer -g1 -O1
                      -fno-sanitize-recover=all)
  # The null checks keep g++ from comparing function addresses in constant expressions (the op table does);
  # a null access is AddressSanitizer's anyway.
  if(FLUXION_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute)
  endif()
  add_link_options(-fsanitize=${FLUXION_SANITIZE})
endif()

include_directories("${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include")

# Sources of folders, relative to the root, without descending.
function(fluxion_sources result)
  set(found)
  foreach(folder IN LISTS ARGN)
    file(GLOB files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cpp")
    list(APPEND found ${files})
  endforeach()
  set(${result} ${found} PARENT_SCOPE)
endfunction()
