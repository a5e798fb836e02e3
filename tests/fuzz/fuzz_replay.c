/* The main of a fuzz target where there is no libFuzzer: runs the target over every file of the folders given, and over a
 * few mutations of each that are the same in every run.
 *
 *     replay_model tests/fuzz/seeds/model tests/fuzz/regressions/model
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_target.h"

enum { MOST_BYTES = 1 << 16, MUTATIONS = 40 };

__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed);

static uint64_t rng_state = 20250101;

/* xorshift64 (Marsaglia 2003). */
static size_t draw(size_t below) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return below ? (size_t)(rng_state >> 16) % below : 0;
}

/* In the place of libFuzzer's: a bit, a byte, or a run cut out or doubled. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max_size) {
    const size_t at = draw(size), left = size - at, run = left ? 1 + draw(left < 8 ? left : 8) : 0;
    if (size == 0) return 0;
    switch (draw(4)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << draw(8));
        return size;
    case 1:
        bytes[at] = (uint8_t)draw(256);
        return size;
    case 2:
        memmove(bytes + at, bytes + at + run, left - run);
        return size - run;
    default:
        if (size + run > max_size) return size;
        memmove(bytes + at + run, bytes + at, left);
        return size + run;
    }
}

/* On a copy of exactly `size` bytes, so that a sanitizer sees any read beyond it. */
static bool run(const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return false;
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return true;
}

/* Each mutation is of the one before. */
static bool replay(const char *path) {
    static uint8_t bytes[MOST_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    if (size == sizeof bytes) {
        fprintf(stderr, "%s: is larger than %d bytes\n", path, MOST_BYTES);
        return false;
    }
    bool done = run(bytes, size);
    for (unsigned i = 0; done && i < MUTATIONS; i++) {
        size = LLVMFuzzerCustomMutator ? LLVMFuzzerCustomMutator(bytes, size, sizeof bytes, (unsigned)draw(1u << 31))
                                       : LLVMFuzzerMutate(bytes, size, sizeof bytes);
        done = run(bytes, size);
    }
    return done;
}

static int is_input(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static int replay_folder(const char *folder) {
    struct dirent **entries;
    const int count = scandir(folder, &entries, is_input, alphasort);
    int done = 0;
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        done += replay(path);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    printf("%s: %d of %d inputs, each with %d mutations\n", folder, done, count, MUTATIONS);
    return count > 0 && done == count;
}

int main(int argc, char **argv) {
    int good = argc > 1;
    for (int i = 1; i < argc; i++) good &= replay_folder(argv[i]);
    return good ? 0 : 1;
}
