# Build helpers found on the machine: ccache, mold, and a bound on parallel compiles so that a build stays under 8 GB.
find_program(TIGON_CCACHE ccache)
if(TIGON_CCACHE)
  # The precompiled header defeats ccache unless it may ignore time stamps and the header's own defines; paths relative to the
  # tree let another clone or preset find the same results.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${TIGON_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

find_program(TIGON_MOLD mold)
if(TIGON_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options(-fuse-ld=mold)
endif()

# A file that sees Torch needs about 1.2 GB to compile.
set_property(GLOBAL PROPERTY JOB_POOLS compile=6 link=2)
set(CMAKE_JOB_POOL_COMPILE compile)
set(CMAKE_JOB_POOL_LINK link)
