/* SHA-256 (FIPS 180-4), for weights_sha256 and graph hashes.
 *
 *     ckpt_sha256 hash;
 *     ckpt_sha256_start(&hash);
 *     ckpt_sha256_add(&hash, bytes, n);
 *     char text[65];
 *     ckpt_sha256_hex(&hash, text);
 */
#ifndef CKPT_SHA256_H
#define CKPT_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct ckpt_sha256 {
    uint32_t state[8];
    uint64_t length_bytes;
    unsigned char block[64];
} ckpt_sha256;

void ckpt_sha256_start(ckpt_sha256 *hash);
void ckpt_sha256_add(ckpt_sha256 *hash, const void *bytes, size_t count);
/* Ends the message and writes 64 lowercase hexadecimal digits and a terminator. */
void ckpt_sha256_hex(ckpt_sha256 *hash, char text[65]);

#endif
