#include "pack_csv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t capacity_in(const char *path) {
    const char *end = strrchr(path, '.'), *start = end;
    while (start && start > path && start[-1] >= '0' && start[-1] <= '9') start--;
    return start && start < end ? strtoull(start, NULL, 10) : 0;
}

static bool grow(pack_csv *p, int room) {
    int64_t *lower = realloc(p->lower, (size_t)room * sizeof *lower);
    if (lower) p->lower = lower;
    int64_t *upper = realloc(p->upper, (size_t)room * sizeof *upper);
    if (upper) p->upper = upper;
    uint64_t *size = realloc(p->size, (size_t)room * sizeof *size);
    if (size) p->size = size;
    return lower && upper && size;
}

const char *pack_csv_read(const char *path, pack_csv *p) {
    *p = (pack_csv){.capacity = capacity_in(path)};
    FILE *file = fopen(path, "r");
    if (!file) return "cannot be opened";
    char line[256];
    const char *wrong = NULL;
    if (!fgets(line, sizeof line, file) || strncmp(line, "id,lower,upper,size", 19) != 0)
        wrong = "does not begin with id,lower,upper,size";
    while (!wrong && fgets(line, sizeof line, file)) {
        if (p->count % 256 == 0 && !grow(p, p->count + 256)) {
            wrong = "is too large";
            break;
        }
        const int k = p->count;
        if (sscanf(line, "%*[^,],%" SCNd64 ",%" SCNd64 ",%" SCNu64, &p->lower[k], &p->upper[k], &p->size[k]) != 3)
            wrong = "has a line that is not id,lower,upper,size";
        else if (p->lower[k] >= p->upper[k] || p->size[k] >= UINT64_MAX >> 24)
            wrong = "has a buffer that never lives or is larger than any memory";
        else
            p->count++;
    }
    fclose(file);
    if (wrong) pack_csv_free(p);
    return wrong;
}

void pack_csv_free(pack_csv *p) {
    free(p->lower);
    free(p->upper);
    free(p->size);
    *p = (pack_csv){0};
}

bool pack_csv_valid(const pack_csv *p, const uint64_t *offset, uint64_t height) {
    for (int i = 0; i < p->count; i++) {
        if (p->size[i] > height || offset[i] > height - p->size[i]) return false;
        for (int j = 0; j < i; j++)
            if (p->lower[i] < p->upper[j] && p->lower[j] < p->upper[i] && offset[i] < offset[j] + p->size[j] &&
                offset[j] < offset[i] + p->size[i])
                return false;
    }
    return true;
}
