/* Which algorithm of cublasLt a matrix product runs with: what was chosen once is used ever after, by this process and by
 * later ones on the same machine, so that the same run repeats its bits.
 *
 *     ckpt_cuda_algorithms *known = ckpt_cuda_algorithms_open(identity);     // never fails but for memory
 *     const ckpt_cuda_choice *choice = ckpt_cuda_algorithms_find(known, &key);
 *     if (!choice) choice = ckpt_cuda_algorithms_add(known, &fresh);
 *     ckpt_cuda_algorithms_save(known);                                      // what is new, to disk
 *     ckpt_cuda_algorithms_close(known);
 *
 * The file is DIRECTORY/ckpt/algorithms-HASH.bin, where DIRECTORY is $XDG_CACHE_HOME or ~/.cache and HASH is of the
 * identity: device, its capability and cublasLt's version. It holds that identity and ends with a SHA-256 of all before
 * it. Devices that are open at once share what is known. A file that is damaged, of another identity or of another layout is as none; where no file can be written, none is.
 * It is a cache: it may be deleted at any time, at the price of a new choice.
 */
#ifndef CKPT_CUDA_ALGORITHMS_H
#define CKPT_CUDA_ALGORITHMS_H

#include <stdbool.h>
#include <stdint.h>

/* Everything that a choice may depend on. Compared as bytes: begin with memset. Alignments are those of the first
 * matrices: buffers are aligned to 256 bytes, so they follow from the shape and not from where a plan puts a tensor. */
typedef struct ckpt_cuda_key {
    int64_t m, n, k, batch, loops, step_a, step_b;
    uint64_t workspace_bytes;
    uint32_t align_a, align_b, align_c, align_d;
    int32_t compute, type_in, type_out, trans_a, trans_b, adds, epilogue;
    int32_t alone; /* the epilogue can also be a pass of its own, and what that does */
} ckpt_cuda_key;

typedef struct ckpt_cuda_choice {
    ckpt_cuda_key key;
    uint64_t algo[8]; /* cublasLtMatmulAlgo_t */
    uint64_t workspace_bytes;
    int32_t fused; /* the epilogue is the product's */
    int32_t timed; /* by measurement; else cublasLt's first that runs */
    int32_t parts; /* k is summed in parts: cublasLt offered nothing else */
    int32_t reserved;
} ckpt_cuda_choice;

typedef struct ckpt_cuda_algorithms ckpt_cuda_algorithms;

enum { CKPT_CUDA_IDENTITY = 512 };

/* With what the file of this identity (a text below CKPT_CUDA_IDENTITY bytes) holds. NULL when memory runs out. */
ckpt_cuda_algorithms *ckpt_cuda_algorithms_open(const char *identity);
void ckpt_cuda_algorithms_close(ckpt_cuda_algorithms *known);

/* NULL where there is none. Stays valid until close. */
const ckpt_cuda_choice *ckpt_cuda_algorithms_find(const ckpt_cuda_algorithms *known, const ckpt_cuda_key *key);
/* In place of one with the same key. NULL when memory runs out. */
const ckpt_cuda_choice *ckpt_cuda_algorithms_add(ckpt_cuda_algorithms *known, const ckpt_cuda_choice *choice);

/* Writes the file if anything was added, together with what other processes have put there meanwhile; theirs counts less. */
void ckpt_cuda_algorithms_save(ckpt_cuda_algorithms *known);

#endif
