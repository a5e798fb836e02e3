# The CUDA backend as it is built for a device, label gpu: skipped (77) where there is none. scripts/gpu-check runs them.
ckpt_test(cuda_device SOURCES test_cuda_device.c DEPS ckpt_cuda LABELS gpu)
foreach(suite golden steps train batchnorm)
  ckpt_test(${suite}_cuda SOURCES test_${suite}.c DEPS ckpt_test_support ckpt_cuda LABELS gpu)
  target_compile_definitions(test_${suite}_cuda PRIVATE CKPT_TEST_BACKEND=ckpt_backend_cuda)
  target_compile_options(test_${suite}_cuda PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_suite.h)
endforeach()
ckpt_test(cuda_numbers SOURCES test_cuda_numbers.c cuda_rig.c DEPS ckpt_test_support ckpt_cuda ckpt_cpu LABELS gpu)
set_source_files_properties(test_cuda_numbers.c PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_suite.h")
add_test(NAME weights_cuda COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_weights.sh $<TARGET_FILE:ckpttrain>
  ${PROJECT_SOURCE_DIR}/models 100)
set_tests_properties(weights_cuda PROPERTIES SKIP_RETURN_CODE 77 LABELS gpu TIMEOUT 600)
