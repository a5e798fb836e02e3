#include "base/name_hash.h"

#include <string.h>
#include <sys/random.h>

void ckpt_name_key_make(ckpt_name_key *key) {
    /* Without randomness the address of the key will do: it is at least not in the file. */
    if (getrandom(key, sizeof *key, GRND_NONBLOCK) != (ssize_t)sizeof *key)
        *key = (ckpt_name_key){{(uint64_t)(uintptr_t)key, (uint64_t)(uintptr_t)key ^ 0x736f6d6570736575}};
}

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static void mix(uint64_t v[4], int rounds) {
    while (rounds--) {
        v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
        v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
    }
}

uint64_t ckpt_name_hash(const ckpt_name_key *key, const char *name) {
    const uint64_t a = key->word[0], b = key->word[1];
    uint64_t v[4] = {a ^ 0x736f6d6570736575, b ^ 0x646f72616e646f6d, a ^ 0x6c7967656e657261, b ^ 0x7465646279746573};
    const size_t length = strlen(name);
    uint64_t word;
    for (size_t at = 0; at + 8 <= length; at += 8) {
        memcpy(&word, name + at, 8); /* little-endian, as everywhere here */
        v[3] ^= word;
        mix(v, 2);
        v[0] ^= word;
    }
    word = (uint64_t)length << 56;
    for (size_t i = length / 8 * 8; i < length; i++) word |= (uint64_t)(unsigned char)name[i] << (8 * (i % 8));
    v[3] ^= word;
    mix(v, 2);
    v[0] ^= word;
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
