#include "cpu/cpu_philox.h"

#include "runtime/philox.h"

static void draw_plain(uint64_t seed, uint32_t stream, uint32_t step, uint64_t first, int quads, uint32_t *word) {
    for (int q = 0; q < quads; q++) ckpt_philox(seed, stream, step, first + (uint64_t)q, word + 4 * q);
}

#if defined(__x86_64__) && !defined(CKPT_CPU_BASELINE)
#include <immintrin.h>

/* One quad in each 64-bit lane, its counter words in the low halves: the 32-bit multiply ignores the high halves,
 * so the products' low words stay where they are. By hand because gcc's own vectors of the plain loop are 4 times
 * slower (it cannot know that the high halves do not matter). */
__attribute__((target("avx2"))) static void draw_avx2(uint64_t seed, uint32_t stream, uint32_t step, uint64_t first,
                                                      int quads, uint32_t *word) {
    enum { VECTORS = CKPT_PHILOX_GROUP / 4 };
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53u), m1 = _mm256_set1_epi64x(0xCD9E8D57u);
    const __m256i low = _mm256_set1_epi64x(0xFFFFFFFFu), lane = _mm256_setr_epi64x(0, 1, 2, 3);
    for (int q = 0; q < quads; q += CKPT_PHILOX_GROUP) {
        __m256i c0[VECTORS], c1[VECTORS], c2[VECTORS], c3[VECTORS];
        for (int i = 0; i < VECTORS; i++) {
            c0[i] = _mm256_add_epi64(_mm256_set1_epi64x((long long)(first + (uint64_t)(q + 4 * i))), lane);
            c1[i] = _mm256_srli_epi64(c0[i], 32);
            c2[i] = _mm256_set1_epi64x(stream);
            c3[i] = _mm256_set1_epi64x(step);
        }
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
            for (int i = 0; i < VECTORS; i++) {
                const __m256i p0 = _mm256_mul_epu32(c0[i], m0), p1 = _mm256_mul_epu32(c2[i], m1);
                c0[i] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[i]), key0);
                c2[i] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[i]), key1);
                c1[i] = p1;
                c3[i] = p0;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        for (int i = 0; i < VECTORS; i++) {
            const __m256i words01 = _mm256_or_si256(_mm256_and_si256(c0[i], low), _mm256_slli_epi64(c1[i], 32));
            const __m256i words23 = _mm256_or_si256(_mm256_and_si256(c2[i], low), _mm256_slli_epi64(c3[i], 32));
            const __m256i even = _mm256_unpacklo_epi64(words01, words23); /* quads 0 and 2 */
            const __m256i odd = _mm256_unpackhi_epi64(words01, words23);  /* quads 1 and 3 */
            __m256i *to = (__m256i *)(void *)(word + 4 * (q + 4 * i));
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
        }
    }
}

void ckpt_cpu_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t first, int quads, uint32_t *word) {
    if (__builtin_cpu_supports("avx2"))
        draw_avx2(seed, stream, step, first, quads, word);
    else
        draw_plain(seed, stream, step, first, quads, word);
}
#else
void ckpt_cpu_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t first, int quads, uint32_t *word) {
    draw_plain(seed, stream, step, first, quads, word);
}
#endif
