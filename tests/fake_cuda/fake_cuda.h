/* What the parts of the fake share: its state, and the check of addresses. */
#ifndef CKPT_FAKE_CUDA_H
#define CKPT_FAKE_CUDA_H

#include <cuda_runtime.h>

extern fake_cuda_counts fake_counts;

/* Ends the process with a message: the program did what no device would let pass unnoticed, or what one would. */
[[noreturn]] void fake_cuda_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether [address, address + bytes) lies inside one allocation of the device. */
bool fake_cuda_owns(const void *address, size_t bytes);

/* Whether what is started on the stream is recorded. */
bool fake_cuda_captures(cudaStream_t stream);

/* A number from the environment. */
unsigned long long fake_cuda_number(const char *name, unsigned long long otherwise);

/* What was started takes that much longer than other work. */
void fake_cuda_spend(uint64_t more);

/* A block of threads that may meet, as coroutines (fake_threads.cpp). */
void fake_cuda_run_block(const std::function<void()> &thread);

#endif
