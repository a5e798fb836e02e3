/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), counted so that
 * nothing but seed and step is ever saved:
 *   key     = seed
 *   counter = (low, high of e/4, stream, step), word e%4
 * where e is the element's index in the whole batch's tensor. cuRAND's curand_init(seed, (step << 32) | stream,
 * e) draws the same numbers. Compiled by the C compiler and by nvcc.
 *
 *     uint32_t word[4];
 *     ckpt_philox(seed, stream, step, e / 4, word);   // word[e % 4] is element e's
 *     keep = word[e % 4] >= ckpt_drop_threshold(p);
 */
#ifndef CKPT_PHILOX_H
#define CKPT_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define CKPT_HD __host__ __device__
#else
#define CKPT_HD
#endif

static inline CKPT_HD void ckpt_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t quad,
                                       uint32_t word[4]) {
    uint32_t c0 = (uint32_t)quad, c1 = (uint32_t)(quad >> 32), c2 = stream, c3 = step;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/* An element is kept when its random word is at least this: T = p * 2^32, for 0 <= p < 1. */
static inline CKPT_HD uint32_t ckpt_drop_threshold(float p) { return (uint32_t)((double)p * 4294967296.0); }

#endif
