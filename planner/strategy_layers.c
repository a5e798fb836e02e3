#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "planner/strategy.h"

enum { ITEM_SIZE = 256 };

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

/* "3" or "2-5". */
static bool read_range(const char *item, int *first, int *last) {
    *first = *last = read_index(&item);
    if (*first < 0) return false;
    if (*item == '-') {
        item++;
        *last = read_index(&item);
    }
    return *last >= 0 && *item == 0;
}

/* Levenshtein's distance between the first 64 bytes of two names. */
static int edit_distance(const char *a, const char *b) {
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

/* The message for a name that no layer has, with the three nearest names, ties by index. */
static ckpt_status unknown(const ckpt_graph *g, const char *item, ckpt_error *err) {
    char near[512] = "";
    int shown[3] = {-1, -1, -1};
    for (int k = 0; k < 3; k++) {
        int best = -1, least = INT_MAX;
        for (int i = 0; i < g->layer_count; i++) {
            const int distance = edit_distance(item, g->layer[i].name);
            if (distance < least && i != shown[0] && i != shown[1]) {
                best = i;
                least = distance;
            }
        }
        shown[k] = best;
        const size_t used = strlen(near);
        if (best >= 0)
            snprintf(near + used, sizeof near - used, "%s'%.100s' (%d)", k ? ", " : "", g->layer[best].name,
                     best);
    }
    return ckpt_fail(err, CKPT_USAGE, "no layer is named '%s' in --layers; the nearest are %s", item, near);
}

static ckpt_status choose(const ckpt_graph *g, const char *item, bool *chosen, ckpt_error *err) {
    int first, last, matches = 0;
    for (int i = 0; i < g->layer_count; i++)
        if (strcmp(item, g->layer[i].name) == 0) {
            chosen[i] = true;
            matches++;
        }
    if (matches) return CKPT_OK;
    if (read_range(item, &first, &last)) {
        if (first > last)
            return ckpt_fail(err, CKPT_USAGE, "the range '%s' in --layers ends before it begins", item);
        if (last >= g->layer_count)
            return ckpt_fail(err, CKPT_USAGE,
                             "'%s' in --layers is out of range: the model has layers 0 to %d", item,
                             g->layer_count - 1);
        for (int i = first; i <= last; i++) chosen[i] = true;
        return CKPT_OK;
    }
    for (int i = 0; i < g->layer_count; i++)
        if (fnmatch(item, g->layer[i].name, 0) == 0) {
            chosen[i] = true;
            matches++;
        }
    return matches ? CKPT_OK : unknown(g, item, err);
}

ckpt_status ckpt_layers_parse(const ckpt_graph *graph, const char *list, bool *chosen, ckpt_error *err) {
    if (!list || !*list)
        return ckpt_fail(err, CKPT_USAGE,
                         "strategy layers needs --layers LIST: names, globs, indices or ranges, "
                         "separated by commas");
    for (const char *at = list;; at++) {
        const char *end = strchrnul(at, ',');
        const char *stop = end;
        while (at < stop && *at == ' ') at++;
        while (stop > at && stop[-1] == ' ') stop--;
        char item[ITEM_SIZE];
        const size_t length = (size_t)(stop - at);
        if (length == 0 || length >= sizeof item)
            return ckpt_fail(err, CKPT_USAGE, "--layers '%.200s' has an item that is %s", list,
                             length ? "longer than any name" : "empty");
        memcpy(item, at, length);
        item[length] = 0;
        CKPT_TRY(choose(graph, item, chosen, err));
        if (!*end) return CKPT_OK;
        at = end;
    }
}
