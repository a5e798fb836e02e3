/* What the fuzz targets share. Each is one function over bytes:
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
 *
 * libFuzzer's main calls it in the preset fuzz; elsewhere fuzz_replay.c's main calls it with the files of the corpora,
 * so that every build, the sanitizer builds above all, repeats what the fuzzers have found. tests/fuzz/README.md says
 * how to run a campaign.
 */
#ifndef CKPT_FUZZ_TARGET_H
#define CKPT_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Where a mutator is ours: a new input in place of `bytes`, at most `max_size` long; the same for the same seed. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own mutations of plain bytes. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max_size);

/* What must never happen, whatever the bytes: the fuzzer takes it as a finding. */
#define FUZZ_EXPECT(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition)) __builtin_trap();                                                                  \
    } while (0)

#endif
