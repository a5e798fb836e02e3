#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/name_list.h"
#include "planner/strategy.h"

/* The message for a name that no layer has, with the three nearest names, ties by index. */
static ckpt_status unknown(const ckpt_graph *g, const char *item, ckpt_error *err) {
    char near[512] = "";
    int shown[3] = {-1, -1, -1};
    for (int k = 0; k < 3; k++) {
        int best = -1, least = INT_MAX;
        for (int i = 0; i < g->layer_count; i++) {
            const int distance = ckpt_name_distance(item, g->layer[i].name);
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
    if (ckpt_name_range(item, &first, &last)) {
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
        if (ckpt_name_matches(item, g->layer[i].name)) {
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
    for (const char *at = list; at;) {
        char item[CKPT_NAME_ITEM];
        CKPT_TRY(ckpt_name_list_next("--layers", list, &at, item, err));
        CKPT_TRY(choose(graph, item, chosen, err));
    }
    return CKPT_OK;
}
