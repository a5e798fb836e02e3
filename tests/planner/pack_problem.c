/* Packs MiniMalloc problems and says how well and how fast.
 *
 *   pack_problem [--work STEPS] [--capacity BYTES] [--alignment BYTES] [--smallest] FILE.csv...
 *
 * The capacity is in the file's name unless given. --smallest goes on below it, to the smallest height that can be
 * found. Exit status: 0 all within the capacity, 1 some not, 2 usage or a file that cannot be read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pack_csv.h"
#include "planner/packing/pack.h"

typedef struct options {
    uint64_t work, capacity, alignment;
    bool smallest;
} options;

static int usage(void) {
    fprintf(stderr,
            "usage: pack_problem [--work STEPS] [--capacity BYTES] [--alignment BYTES] [--smallest] FILE.csv...\n");
    return 2;
}

static bool read_number(const char *text, uint64_t *number) {
    char *end;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

static int pack_file(const options *o, const char *path) {
    pack_csv csv;
    const char *wrong = pack_csv_read(path, &csv);
    if (wrong) {
        fprintf(stderr, "pack_problem: %s %s\n", path, wrong);
        return 2;
    }
    const uint64_t capacity = o->capacity ? o->capacity : csv.capacity;
    const ckpt_pack_problem problem = {.count = csv.count,
                                       .lower = csv.lower,
                                       .upper = csv.upper,
                                       .size = csv.size,
                                       .alignment = o->alignment,
                                       .capacity = o->smallest ? 0 : capacity,
                                       .work_limit = o->work};
    ckpt_pool pool = {0};
    ckpt_packing packing;
    ckpt_error err;
    const clock_t start = clock();
    const ckpt_status status = ckpt_pack(&problem, &pool, &packing, &err);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    int result = 2;
    if (status != CKPT_OK) {
        fprintf(stderr, "pack_problem: %s: %s\n", path, err.message);
    } else {
        const bool valid = pack_csv_valid(&csv, packing.offset, packing.height);
        result = valid && (capacity == 0 || packing.height <= capacity) ? 0 : 1;
        const char *name = strrchr(path, '/');
        printf("%-24s %5d buffers  live peak %9" PRIu64 "  height %9" PRIu64 "  bound %9" PRIu64 "  %s  %10" PRIu64
               " steps  %7.3f s\n",
               name ? name + 1 : path, csv.count, packing.live_peak, packing.height, packing.lower_bound,
               !valid   ? "INVALID"
               : result ? "above capacity"
                        : "fits",
               packing.work, seconds);
    }
    ckpt_pool_free(&pool);
    pack_csv_free(&csv);
    return result;
}

int main(int argc, char **argv) {
    options o = {.work = 1000000000, .alignment = 1};
    int worst = argc > 1 ? 0 : usage();
    for (int i = 1; i < argc; i++) {
        uint64_t *number = strcmp(argv[i], "--work") == 0        ? &o.work
                           : strcmp(argv[i], "--capacity") == 0  ? &o.capacity
                           : strcmp(argv[i], "--alignment") == 0 ? &o.alignment
                                                                 : NULL;
        if (strcmp(argv[i], "--smallest") == 0) {
            o.smallest = true;
        } else if (number) {
            if (++i >= argc || !read_number(argv[i], number)) return usage();
            if (o.alignment == 0 || (o.alignment & (o.alignment - 1))) return usage();
        } else if (strncmp(argv[i], "--", 2) == 0) {
            return usage();
        } else {
            const int result = pack_file(&o, argv[i]);
            if (result > worst) worst = result;
        }
    }
    return worst;
}
