#include "base/name_pick.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/name_list.h"

/* SEARCHED: among how many names the nearest are looked for. */
enum { NEAREST = 3, SEARCHED = 4096 };

typedef struct picking {
    const ckpt_name_choice *from;
    bool *picked;
    int *order, count;
} picking;

static const char *name_at(const ckpt_name_choice *from, int i) { return from->name(from->context, i); }

static void pick(picking *p, int i) {
    if (p->order && !p->picked[i]) p->order[p->count++] = i;
    p->picked[i] = true;
}

/* The message for a name that nothing has, with the nearest names, ties by index. */
static ckpt_status unknown(const ckpt_name_choice *from, const char *item, ckpt_error *err) {
    char near[512] = "";
    int shown[NEAREST] = {-1, -1, -1};
    const int searched = from->count < SEARCHED ? from->count : SEARCHED;
    for (int k = 0; k < NEAREST; k++) {
        int best = -1, least = INT_MAX;
        for (int i = 0; i < searched; i++) {
            const int distance = ckpt_name_distance(item, name_at(from, i));
            if (distance < least && i != shown[0] && i != shown[1]) {
                best = i;
                least = distance;
            }
        }
        shown[k] = best;
        const size_t used = strlen(near);
        if (best >= 0)
            snprintf(near + used, sizeof near - used, "%s'%.100s' (%d)", k ? ", " : "", name_at(from, best), best);
    }
    return ckpt_fail(err, CKPT_USAGE, "no %s is named '%s' in %s; the nearest are %s", from->what, item, from->option, near);
}

static ckpt_status pick_range(picking *p, const char *item, int first, int last, ckpt_error *err) {
    const ckpt_name_choice *from = p->from;
    if (first > last) return ckpt_fail(err, CKPT_USAGE, "the range '%s' in %s ends before it begins", item, from->option);
    if (last >= from->count)
        return ckpt_fail(err, CKPT_USAGE, "'%s' in %s is out of range: there are %ss 0 to %d", item, from->option, from->what,
                         from->count - 1);
    for (int i = first; i <= last; i++) pick(p, i);
    return CKPT_OK;
}

static ckpt_status pick_item(picking *p, const char *item, ckpt_error *err) {
    const ckpt_name_choice *from = p->from;
    int first, last, matches = 0;
    for (int i = 0; i < from->count; i++)
        if (strcmp(item, name_at(from, i)) == 0) {
            pick(p, i);
            matches++;
        }
    if (matches) return CKPT_OK;
    if (ckpt_name_range(item, &first, &last)) return pick_range(p, item, first, last, err);
    for (int i = 0; i < from->count; i++)
        if (ckpt_name_matches(item, name_at(from, i))) {
            pick(p, i);
            matches++;
        }
    return matches ? CKPT_OK : unknown(from, item, err);
}

ckpt_status ckpt_name_pick(const ckpt_name_choice *choice, bool *picked, int *order, int *picked_count, ckpt_error *err) {
    picking p = {.from = choice, .picked = picked, .order = order};
    for (const char *at = choice->text; at;) {
        char item[CKPT_NAME_ITEM];
        CKPT_TRY(ckpt_name_list_next(choice->option, choice->text, &at, item, err));
        CKPT_TRY(pick_item(&p, item, err));
    }
    if (picked_count) *picked_count = p.count;
    return CKPT_OK;
}
