/* Random numbers as numpy's legacy generator draws them, for comparing dropout with ONNX's reference implementation:
 *     np.random.seed(seed); keep = np.random.uniform(0, 1, shape) >= ratio
 * The generator is MT19937 (Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8, 1998; seeded as in the authors'
 * version of 2002), and a double is made of two of its words, 53 bits.
 *
 *     ckpt_numpy_random r;
 *     ckpt_numpy_start(&r, seed);
 *     ckpt_numpy_seek(&r, seed, 1000);   // element 1000 is next
 *     double u = ckpt_numpy_next(&r);    // in [0, 1)
 *
 * A mask drawn so is a function of the seed and the element's index in the whole batch, like those of Philox: it repeats
 * when it is recomputed, whatever the plan, threads and micro-batches. Unlike those it is the same in every step, for that
 * is what the reference does, and element e costs e draws: it serves comparisons, not training.
 */
#ifndef CKPT_NUMPY_RANDOM_H
#define CKPT_NUMPY_RANDOM_H

#include <stdint.h>

enum { CKPT_MT_WORDS = 624, CKPT_MT_MIDDLE = 397 };

typedef struct ckpt_numpy_random {
    uint64_t element; /* the one that is drawn next */
    int used;         /* words of this round */
    uint32_t word[CKPT_MT_WORDS];
} ckpt_numpy_random;

static inline void ckpt_numpy_start(ckpt_numpy_random *r, uint32_t seed) {
    r->element = 0;
    r->used = CKPT_MT_WORDS;
    r->word[0] = seed;
    for (uint32_t i = 1; i < CKPT_MT_WORDS; i++) r->word[i] = 1812433253u * (r->word[i - 1] ^ r->word[i - 1] >> 30) + i;
}

static inline void ckpt_numpy_twist(ckpt_numpy_random *r) {
    uint32_t *w = r->word;
    for (int i = 0; i < CKPT_MT_WORDS; i++) {
        const uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % CKPT_MT_WORDS] & 0x7fffffffu);
        w[i] = w[(i + CKPT_MT_MIDDLE) % CKPT_MT_WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->used = 0;
}

static inline uint32_t ckpt_numpy_word(ckpt_numpy_random *r) {
    if (r->used == CKPT_MT_WORDS) ckpt_numpy_twist(r);
    uint32_t y = r->word[r->used++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static inline double ckpt_numpy_next(ckpt_numpy_random *r) {
    const uint32_t high = ckpt_numpy_word(r) >> 5, low = ckpt_numpy_word(r) >> 6;
    r->element++;
    return ((double)high * 67108864.0 + (double)low) / 9007199254740992.0;
}

/* Goes on from where it is, or from the start. */
static inline void ckpt_numpy_seek(ckpt_numpy_random *r, uint32_t seed, uint64_t element) {
    if (r->element > element) ckpt_numpy_start(r, seed);
    while (r->element < element) ckpt_numpy_next(r);
}

#endif
