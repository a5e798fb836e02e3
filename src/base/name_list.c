#include "base/name_list.h"

#include <fnmatch.h>
#include <limits.h>
#include <string.h>

ckpt_status ckpt_name_list_next(const char *option, const char *list, const char **at, char item[CKPT_NAME_ITEM],
                                ckpt_error *err) {
    const char *from = *at, *end = from + strcspn(from, ","), *stop = end;
    while (from < stop && *from == ' ') from++;
    while (stop > from && stop[-1] == ' ') stop--;
    const size_t length = (size_t)(stop - from);
    if (length == 0 || length >= CKPT_NAME_ITEM)
        return ckpt_fail(err, CKPT_USAGE, "%s '%.200s' has an item that is %s", option, list,
                         length ? "longer than any name" : "empty");
    memcpy(item, from, length);
    item[length] = 0;
    *at = *end ? end + 1 : NULL;
    return CKPT_OK;
}

/* Reads a number at `*text`, advancing it; -1 without one; INT_MAX when it is larger. */
static int read_index(const char **text) {
    int value = -1;
    for (; **text >= '0' && **text <= '9'; ++*text) {
        const int digit = **text - '0';
        if (value < 0) value = 0;
        value = value > (INT_MAX - digit) / 10 ? INT_MAX : 10 * value + digit;
    }
    return value;
}

bool ckpt_name_range(const char *item, int *first, int *last) {
    *first = *last = read_index(&item);
    if (*first < 0) return false;
    if (*item == '-') {
        item++;
        *last = read_index(&item);
    }
    return *last >= 0 && *item == 0;
}

bool ckpt_name_matches(const char *item, const char *name) { return strcmp(item, name) == 0 || fnmatch(item, name, 0) == 0; }

bool ckpt_name_matches_module(const char *item, const char *name) {
    const size_t length = strlen(item);
    if (ckpt_name_matches(item, name)) return true;
    return strncmp(item, name, length) == 0 && (name[length] == '.' || name[length] == '/');
}

int ckpt_name_distance(const char *a, const char *b) {
    enum { MOST = 64 };
    int row[MOST + 1];
    const int m = (int)strnlen(a, MOST), n = (int)strnlen(b, MOST);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}
