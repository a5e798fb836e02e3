#include "base/name_pick.h"
#include "planner/strategies/strategy.h"

static const char *layer_name(const void *graph, int i) { return ((const ckpt_graph *)graph)->layer[i].name; }

ckpt_status ckpt_layers_parse(const ckpt_graph *graph, const char *list, bool *chosen, ckpt_error *err) {
    if (!list || !*list)
        return ckpt_fail(err, CKPT_USAGE,
                         "strategy layers needs --layers LIST: names, globs, indices or ranges, "
                         "separated by commas");
    const ckpt_name_choice names = {.text = list, .option = "--layers", .what = "layer", .count = graph->layer_count,
                                  .name = layer_name, .context = graph};
    return ckpt_name_pick(&names, chosen, NULL, NULL, err);
}
