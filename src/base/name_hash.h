/* A hash of names that no file can be made against: SipHash-2-4 (Aumasson and Bernstein 2012) under a random key. What is
 * stored under it may be looked up but never listed, so that nothing depends on the key.
 *
 *     ckpt_name_key key;
 *     ckpt_name_key_make(&key);
 *     slot = ckpt_name_hash(&key, name) & mask;
 */
#ifndef CKPT_NAME_HASH_H
#define CKPT_NAME_HASH_H

#include <stdint.h>

typedef struct ckpt_name_key {
    uint64_t word[2];
} ckpt_name_key;

void ckpt_name_key_make(ckpt_name_key *key);
uint64_t ckpt_name_hash(const ckpt_name_key *key, const char *name);

#endif
