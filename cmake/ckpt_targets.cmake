# ckpt_library(NAME [DIR folder] [AS path] [HEADERS ...] [SOURCES ...] [DEPS ...] [USES ...])
#   A static library ckpt_NAME from DIR. Its headers are included as "NAME/header.h", or "path/header.h", by it and by targets
#   that link it, through a folder of links in the build tree: a target sees only what it links.
#   HEADERS: these of DIR and no others are seen. SOURCES are in DIR.
#   DEPS: what its headers include, visible to whoever links it. USES: what only its sources include.
# ckpt_headers(NAME FOLDER HEADER...)
#   An interface target ckpt_NAME: of the current folder these headers and no others, included as
#   "FOLDER/HEADER", for targets that need a library's types and call none of its functions.
# ckpt_flags(TARGET)
#   Warnings, sanitizers and the floating-point rules of this project.

function(ckpt_flags target)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE CKPT_VERSION="${PROJECT_VERSION}")
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wconversion -Wshadow
    -Wstrict-prototypes -Wno-sign-conversion
    # The same source gives the same bits from gcc and clang: contraction only where fma is written.
    -ffp-contract=off -fno-math-errno -fno-trapping-math>)
  if(CKPT_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Werror>)
  endif()
  if(CKPT_FUZZ) # the fuzzers steer by the coverage of everything they call
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fsanitize=fuzzer-no-link>)
  endif()
  if(CKPT_SANITIZE)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fsanitize=${CKPT_SANITIZE}
      -fno-sanitize-recover=all -fno-omit-frame-pointer>)
    target_link_options(${target} PRIVATE -fsanitize=${CKPT_SANITIZE})
  endif()
endfunction()

# A link that an earlier configuration left where a folder of links is to be would lead into the sources: links made in it would
# replace the headers there.
function(ckpt_drop_link root path)
  string(REGEX MATCH "^[^/]+" top ${path})
  if(IS_SYMLINK ${root}/${top})
    file(REMOVE ${root}/${top})
  endif()
endfunction()

function(ckpt_library name)
  cmake_parse_arguments(arg "" "DIR;AS" "HEADERS;SOURCES;DEPS;USES" ${ARGN})
  if(NOT arg_DIR)
    set(arg_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  if(arg_AS)
    list(TRANSFORM arg_SOURCES PREPEND ${arg_DIR}/)
  else()
    set(arg_AS ${name})
  endif()
  set(root ${PROJECT_BINARY_DIR}/include/${name})
  ckpt_drop_link(${root} ${arg_AS})
  if(arg_HEADERS)
    file(MAKE_DIRECTORY ${root}/${arg_AS})
    foreach(header ${arg_HEADERS})
      file(CREATE_LINK ${arg_DIR}/${header} ${root}/${arg_AS}/${header} SYMBOLIC)
    endforeach()
  else()
    cmake_path(GET arg_AS PARENT_PATH above)
    file(MAKE_DIRECTORY ${root}/${above})
    file(CREATE_LINK ${arg_DIR} ${root}/${arg_AS} SYMBOLIC)
  endif()
  add_library(ckpt_${name} STATIC ${arg_SOURCES})
  target_include_directories(ckpt_${name} PUBLIC ${root})
  target_link_libraries(ckpt_${name} PUBLIC ${arg_DEPS} PRIVATE ${arg_USES})
  ckpt_flags(ckpt_${name})
endfunction()

function(ckpt_headers name folder)
  set(root ${PROJECT_BINARY_DIR}/include/${name})
  ckpt_drop_link(${root} ${folder})
  foreach(header ${ARGN})
    cmake_path(GET header PARENT_PATH inner)
    file(MAKE_DIRECTORY ${root}/${folder}/${inner})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${header} ${root}/${folder}/${header} SYMBOLIC)
  endforeach()
  add_library(ckpt_${name} INTERFACE)
  target_include_directories(ckpt_${name} INTERFACE ${root})
endfunction()
