# tigon_torch: LibTorch as the PyPI wheel carries it. The wheel's own CMake package is not used: it insists on a CUDA
# toolkit even for a program that links only the CPU half.
if(NOT TIGON_TORCH_DIR)
  file(GLOB torch_candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(LENGTH torch_candidates torch_count)
  if(torch_count EQUAL 0)
    message(FATAL_ERROR "No torch wheel in ${PROJECT_SOURCE_DIR}/.venv: run scripts/setup.sh, or set TIGON_TORCH_DIR")
  endif()
  list(GET torch_candidates 0 TIGON_TORCH_DIR)
endif()
message(STATUS "LibTorch: ${TIGON_TORCH_DIR}")
file(STRINGS ${TIGON_TORCH_DIR}/version.py torch_version_line REGEX "^__version__")
string(REGEX MATCH "[0-9][^']*" TIGON_TORCH_VERSION "${torch_version_line}")

function(tigon_import_torch_library name)
  add_library(${name} SHARED IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${TIGON_TORCH_DIR}/lib/lib${name}.so)
endfunction()
tigon_import_torch_library(c10)
tigon_import_torch_library(torch_cpu)

add_library(tigon_torch INTERFACE)
target_include_directories(tigon_torch SYSTEM INTERFACE ${TIGON_TORCH_DIR}/include ${TIGON_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(tigon_torch INTERFACE tigon_flags torch_cpu c10)

# The wheel carries headers of another fmt than the one spdlog and tigon link: the system's must be found first.
find_path(TIGON_FMT_INCLUDE fmt/format.h REQUIRED)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/system_fmt)
file(CREATE_LINK ${TIGON_FMT_INCLUDE}/fmt ${PROJECT_BINARY_DIR}/system_fmt/fmt SYMBOLIC)
target_include_directories(tigon_torch BEFORE INTERFACE ${PROJECT_BINARY_DIR}/system_fmt)

if(TIGON_WITH_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES ${TIGON_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  tigon_import_torch_library(c10_cuda)
  tigon_import_torch_library(torch_cuda)
  # torch_cuda registers its kernels when it is loaded; nothing refers to its symbols, so the linker must be told to keep it.
  target_link_libraries(tigon_torch INTERFACE
    -Wl,--push-state,--no-as-needed torch_cuda c10_cuda -Wl,--pop-state $<LINK_ONLY:CUDA::cudart>)
  message(STATUS "tigon: CUDA build for ${TIGON_CUDA_ARCHITECTURES}")
else()
  message(STATUS "tigon: CPU-only build (-DTIGON_WITH_CUDA=ON for the GPU)")
endif()

# Precompiled headers: 5 s a file instead of 15 s. tigon_tensor_pch, tensors, JSON and formatted text, is read in half the time of
# tigon_autograd_pch, which adds autograd and the registration of ops. The umbrella torch/torch.h is left out, because every file
# would instantiate its templates again. Tests and apps/ have headers of their own, with what they see besides.
if(NOT EXISTS ${PROJECT_BINARY_DIR}/pch.cpp)
  file(WRITE ${PROJECT_BINARY_DIR}/pch.cpp "")
endif()
# tigon_precompile(NAME HEADERS... [LIBRARIES...]): a target whose header others reuse; they must be compiled alike.
function(tigon_precompile target)
  cmake_parse_arguments(pch "" "" "HEADERS;LIBRARIES" ${ARGN})
  add_library(${target} OBJECT ${PROJECT_BINARY_DIR}/pch.cpp)
  target_link_libraries(${target} PUBLIC ${pch_LIBRARIES})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} PRIVATE ${pch_HEADERS})
endfunction()
set(tigon_autograd_headers
  <ATen/ATen.h> <torch/csrc/autograd/autograd.h> <torch/csrc/autograd/custom_function.h> <torch/library.h>)
tigon_precompile(tigon_tensor_pch HEADERS <ATen/ATen.h> <ATen/core/grad_mode.h> <algorithm> <filesystem> <nlohmann/json.hpp>
  <spdlog/spdlog.h> <fmt/ranges.h> LIBRARIES tigon_torch nlohmann_json::nlohmann_json spdlog::spdlog fmt)
tigon_precompile(tigon_autograd_pch HEADERS ${tigon_autograd_headers} LIBRARIES tigon_torch)

# tigon_uses_precompiled(TARGET NAME): the header serves only targets compiled alike: -fPIC everywhere (CMake gives executables
# -fPIE), no export define.
function(tigon_uses_precompiled target name)
  set_target_properties(${target} PROPERTIES DEFINE_SYMBOL "" POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} REUSE_FROM ${name})
endfunction()

# tigon_uses_torch(TARGET [NAME]): link LibTorch and reuse a precompiled header, by default tigon_tensor_pch.
function(tigon_uses_torch target)
  set(name tigon_tensor_pch)
  if(ARGC GREATER 1)
    set(name ${ARGV1})
  endif()
  target_link_libraries(${target} PUBLIC tigon_torch)
  tigon_uses_precompiled(${target} ${name})
endfunction()

# tigon_sees_cuda_headers(FILE): the toolkit's headers for one source file, in a CUDA build. All others compile alike in both
# builds, so that ccache serves one from the other.
function(tigon_sees_cuda_headers file)
  if(TIGON_WITH_CUDA)
    set_property(SOURCE ${file} APPEND PROPERTY INCLUDE_DIRECTORIES ${CUDAToolkit_INCLUDE_DIRS})
  endif()
endfunction()
