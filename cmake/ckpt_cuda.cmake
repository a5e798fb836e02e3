# ckpt_find_cuda(RESULT)
#   Sets RESULT to whether the CUDA backend is to be built, and then loads FindCUDAToolkit and enables CUDA.
#   CKPT_CUDA=ON: a toolkit >= 12 with its compiler must be there; AUTO: it is looked for; OFF: it is not.
#   Architectures: what the toolkit supports of 75, 80, 90 and 100, unless CMAKE_CUDA_ARCHITECTURES is given.
# ckpt_cuda_flags(TARGET)
#   Warnings and floating-point rules of CUDA sources.
include(CheckLanguage)

macro(ckpt_find_cuda result)
  set(${result} OFF)
  if(CKPT_CUDA)
    find_package(CUDAToolkit 12 QUIET)
    # A toolkit beside the usual place may have its compiler off the PATH.
    if(CUDAToolkit_FOUND AND NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
      ckpt_cuda_architectures()
      check_language(CUDA)
      if(CMAKE_CUDA_COMPILER)
        set(${result} ON)
      endif()
    endif()
    if(NOT ${result} AND NOT CKPT_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "CKPT_CUDA=${CKPT_CUDA} needs a CUDA toolkit 12 or later with nvcc and cuBLAS; "
        "-DCUDAToolkit_ROOT=DIR says where it is, -DCKPT_CUDA=OFF builds without it")
    endif()
  endif()
  if(${result})
    enable_language(CUDA)
    message(STATUS "CUDA backend: toolkit ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  else()
    message(STATUS "CUDA backend: not built (CKPT_CUDA=${CKPT_CUDA})")
  endif()
endmacro()

# Machine code for each; for devices to come, the last one's PTX too.
macro(ckpt_cuda_architectures)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    execute_process(COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} --list-gpu-arch OUTPUT_VARIABLE supported ERROR_QUIET)
    set(architectures)
    foreach(architecture 75 80 90 100)
      if(supported MATCHES "compute_${architecture}(\n|$)")
        list(APPEND architectures ${architecture}-real)
        set(newest ${architecture})
      endif()
    endforeach()
    set(CMAKE_CUDA_ARCHITECTURES ${architectures} ${newest}-virtual)
  endif()
endmacro()

function(ckpt_cuda_flags target)
  target_compile_features(${target} PRIVATE cuda_std_17)
  # No fused multiply-add: the same bits as the CPU's kernels. Division and square root stay IEEE by default.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xcompiler=-Wall,-Wextra,-Wshadow>)
  if(CKPT_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>)
  endif()
endfunction()
