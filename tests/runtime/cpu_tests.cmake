# The CPU backend's tests: each kernel against double precision, through cpu_rig.
set(CKPT_CPU_TESTS ${CMAKE_CURRENT_LIST_DIR})
function(ckpt_cpu_test name)
  ckpt_test(${name} SOURCES ${CKPT_CPU_TESTS}/test_${name}.c ${CKPT_CPU_TESTS}/cpu_rig.c DEPS ckpt_cpu ckpt_graph Threads::Threads m LABELS cpu)
endfunction()
ckpt_test(cpu_math SOURCES ${CKPT_CPU_TESTS}/test_cpu_math.c DEPS ckpt_test_support m LABELS cpu)
ckpt_test(cpu_team SOURCES ${CKPT_CPU_TESTS}/test_cpu_team.c DEPS ckpt_cpu Threads::Threads m LABELS cpu)
foreach(name cpu_random cpu_pointwise cpu_rows cpu_products cpu_shapes cpu_device)
  ckpt_cpu_test(${name})
endforeach()

# cuRAND's host generator needs no GPU: an oracle for the random numbers where the toolkit is installed.
find_path(CURAND_INCLUDE_DIR curand.h HINTS /usr/local/cuda/include $ENV{CUDA_PATH}/include)
find_library(CURAND_LIBRARY curand HINTS /usr/local/cuda/lib64 $ENV{CUDA_PATH}/lib64)
if(CURAND_INCLUDE_DIR AND CURAND_LIBRARY)
  target_include_directories(test_cpu_random SYSTEM PRIVATE ${CURAND_INCLUDE_DIR})
  target_link_libraries(test_cpu_random PRIVATE ${CURAND_LIBRARY})
  target_compile_definitions(test_cpu_random PRIVATE CKPT_HAVE_CURAND)
endif()
