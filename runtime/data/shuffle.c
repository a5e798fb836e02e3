#include "data/counter_random.h"
#include "data/dataset.h"

/* Words of one (seed, epoch), taken in order. */
typedef struct draws {
    uint64_t seed, used;
    uint32_t epoch, word[4];
} draws;

static uint32_t next_word(draws *d) {
    if (d->used % 4 == 0) ckpt_counter_random(d->seed, CKPT_STREAM_SHUFFLE, d->epoch, d->used / 4, d->word);
    return d->word[d->used++ % 4];
}

/* Uniform in [0, bound). The 2^32 mod bound lowest words are rejected: what remains divides evenly. */
static uint32_t next_below(draws *d, uint32_t bound) {
    uint32_t reject = -bound % bound, word;
    do word = next_word(d);
    while (word < reject);
    return word % bound;
}

void ckpt_shuffle(uint32_t *order, uint32_t n, uint64_t seed, uint32_t epoch) {
    draws d = {.seed = seed, .epoch = epoch};
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t other = next_below(&d, i), kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}
