#include "base/name_list.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* SEARCHED: among how many names the nearest are looked for. */
enum { ITEM_SIZE = 256, NEAREST = 3, SEARCHED = 4096 };

typedef struct picking {
    const ckpt_name_list *list;
    bool *picked;
    int *order, count;
} picking;

static const char *name_at(const ckpt_name_list *list, int i) { return list->name(list->context, i); }

static void pick(picking *p, int i) {
    if (p->order && !p->picked[i]) p->order[p->count++] = i;
    p->picked[i] = true;
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

/* The message for a name that nothing has, with the nearest names, ties by index. */
static ckpt_status unknown(const ckpt_name_list *list, const char *item, ckpt_error *err) {
    char near[512] = "";
    int shown[NEAREST] = {-1, -1, -1};
    const int searched = list->count < SEARCHED ? list->count : SEARCHED;
    for (int k = 0; k < NEAREST; k++) {
        int best = -1, least = INT_MAX;
        for (int i = 0; i < searched; i++) {
            const int distance = edit_distance(item, name_at(list, i));
            if (distance < least && i != shown[0] && i != shown[1]) {
                best = i;
                least = distance;
            }
        }
        shown[k] = best;
        const size_t used = strlen(near);
        if (best >= 0)
            snprintf(near + used, sizeof near - used, "%s'%.100s' (%d)", k ? ", " : "", name_at(list, best), best);
    }
    return ckpt_fail(err, CKPT_USAGE, "no %s is named '%s' in %s; the nearest are %s", list->what, item, list->option, near);
}

static ckpt_status pick_item(picking *p, const char *item, ckpt_error *err) {
    const ckpt_name_list *list = p->list;
    int first, last, matches = 0;
    for (int i = 0; i < list->count; i++)
        if (strcmp(item, name_at(list, i)) == 0) {
            pick(p, i);
            matches++;
        }
    if (matches) return CKPT_OK;
    if (read_range(item, &first, &last)) {
        if (first > last) return ckpt_fail(err, CKPT_USAGE, "the range '%s' in %s ends before it begins", item, list->option);
        if (last >= list->count)
            return ckpt_fail(err, CKPT_USAGE, "'%s' in %s is out of range: there are %ss 0 to %d", item, list->option, list->what,
                             list->count - 1);
        for (int i = first; i <= last; i++) pick(p, i);
        return CKPT_OK;
    }
    for (int i = 0; i < list->count; i++)
        if (fnmatch(item, name_at(list, i), 0) == 0) {
            pick(p, i);
            matches++;
        }
    return matches ? CKPT_OK : unknown(list, item, err);
}

ckpt_status ckpt_name_list_pick(const ckpt_name_list *list, bool *picked, int *order, int *picked_count, ckpt_error *err) {
    picking p = {.list = list, .picked = picked, .order = order};
    for (const char *at = list->text;; at++) {
        const char *end = strchrnul(at, ','), *stop = end;
        while (at < stop && *at == ' ') at++;
        while (stop > at && stop[-1] == ' ') stop--;
        char item[ITEM_SIZE];
        const size_t length = (size_t)(stop - at);
        if (length == 0 || length >= sizeof item)
            return ckpt_fail(err, CKPT_USAGE, "%s '%.200s' has an item that is %s", list->option, list->text,
                             length ? "longer than any name" : "empty");
        memcpy(item, at, length);
        item[length] = 0;
        CKPT_TRY(pick_item(&p, item, err));
        if (!*end) break;
        at = end;
    }
    if (picked_count) *picked_count = p.count;
    return CKPT_OK;
}
