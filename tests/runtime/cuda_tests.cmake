# The CUDA backend as it is built for a device, label gpu: skipped (77) where there is none. scripts/gpu-check runs them.
ckpt_test(cuda_device SOURCES test_cuda_device.c DEPS ckpt_cuda LABELS gpu)
foreach(suite golden steps train)
  ckpt_test(${suite}_cuda SOURCES test_${suite}.c DEPS ckpt_test_support ckpt_cuda LABELS gpu)
  target_compile_definitions(test_${suite}_cuda PRIVATE CKPT_TEST_BACKEND=ckpt_backend_cuda)
  target_compile_options(test_${suite}_cuda PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_suite.h)
endforeach()
ckpt_test(products_cuda SOURCES test_cuda_products.c DEPS ckpt_test_support ckpt_cuda LABELS gpu)
target_compile_options(test_products_cuda PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_suite.h)
foreach(suite golden steps)
  ckpt_test(${suite}_bf16_cuda SOURCES test_${suite}.c DEPS ckpt_test_support ckpt_cuda LABELS gpu)
  target_compile_definitions(test_${suite}_bf16_cuda PRIVATE CKPT_TEST_BACKEND=ckpt_backend_cuda CKPT_TEST_BF16=1)
  target_compile_options(test_${suite}_bf16_cuda PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_suite.h)
endforeach()
add_test(NAME weights_cuda COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_weights.sh $<TARGET_FILE:ckpttrain>
  ${PROJECT_SOURCE_DIR}/models 100)
set_tests_properties(weights_cuda PROPERTIES SKIP_RETURN_CODE 77 LABELS gpu TIMEOUT 600
  ENVIRONMENT XDG_CACHE_HOME=${PROJECT_BINARY_DIR}/test_cache)
