/* The ways to split a function of the tables: one list, read by the tables' making and by the way back. */
#include "planner/chain/chain_table.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

typedef struct splits {
    const ckpt_chain_tables *tables;
    const ckpt_chain_ref *of;
    ckpt_chain_split *split;
    int count;
} splits;

static ckpt_chain_split *add_split(splits *list, int run_to, uint64_t cost, uint64_t least) {
    ckpt_chain_split *split = &list->split[list->count++]; /* field by field: there are millions */
    split->run_to = run_to;
    split->option = 0;
    split->early = false;
    split->run_cost = cost;
    split->least_bytes = least;
    split->shift_bytes = 0;
    split->right.type = split->left.type = CKPT_FN_NONE;
    return split;
}

static void set_function(ckpt_chain_ref *ref, int type, int s, int t, bool dies, int option) {
    ref->type = type;
    ref->s = s;
    ref->t = t;
    ref->dies = dies;
    ref->option = option;
    ref->has_output = false;
}

static void set_backward(const splits *list, ckpt_chain_ref *ref, int option, bool has_output) {
    set_function(ref, CKPT_FN_BACKWARD, list->of->s, list->of->s, list->of->dies, option);
    ref->has_output = has_output;
}

/* The early part of the last stage's backward, after which its output and internals are out of the way. */
static void run_early(splits *list) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *last = &list->tables->chain->stage[of->t];
    const bool has_output = of->type == CKPT_FN_K;
    if (!last->early || (of->type != CKPT_FN_K && of->type != CKPT_FN_R) || ckpt_chain_is_early(last, of->option)) return;
    const uint64_t bytes = last->option[of->option].early_bytes[has_output];
    if (bytes == CKPT_CHAIN_NEVER) return;
    ckpt_chain_split *split = add_split(list, of->s - 1, 0, bytes);
    split->early = true;
    set_function(&split->left, CKPT_FN_R, of->s, of->t, of->dies, last->option_count);
}

static bool can_run(const ckpt_chain_option *option, bool has_output) {
    return option->recompute_cost[has_output] != CKPT_CHAIN_NEVER;
}

/* Keeps x_j and internals of j over the right part. x_j stays until the backward of j is done with it, or
 * only as long as the right part reads it, so that the left part makes do without. */
static void keep_checkpoint(splits *list, int j, int option, uint64_t cost, uint64_t least) {
    const ckpt_chain_tables *tables = list->tables;
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *stage = &tables->chain->stage[j];
    uint64_t shift = stage->out_bytes + stage->option[option].kept_bytes;
    bool both = !tables->gains[j + 1]; /* one split says it all */
    if (!stage->needs_output || !both) {
        ckpt_chain_split *split = add_split(list, j, cost, least);
        split->option = option;
        split->shift_bytes = shift;
        set_function(&split->right, of->type, j + 1, of->t, true, of->option);
        set_function(&split->left, CKPT_FN_R, of->s, j, of->dies, option);
    }
    if (stage->needs_output) {
        ckpt_chain_split *split = add_split(list, j, cost, least);
        split->option = option;
        split->shift_bytes = shift;
        set_function(&split->right, of->type, j + 1, of->t, false, of->option);
        set_function(&split->left, both ? CKPT_FN_H : CKPT_FN_K, of->s, j, of->dies, option);
    }
}

/* s = t: the backward at once, or after a forward run that keeps what the option asks for. */
static void finish(splits *list) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *stage = &list->tables->chain->stage[of->s];
    uint64_t resident = of->type == CKPT_FN_R ? stage->gradient_bytes : 0;
    bool has_output = of->type == CKPT_FN_K;
    for (int o = 0; o < ckpt_chain_options(stage); o++) {
        const ckpt_chain_option *option = &stage->option[o];
        const bool early = ckpt_chain_is_early(stage, o);
        bool at_hand = of->option || early ? o == of->option : option->kept_bytes == 0;
        if (of->type != CKPT_FN_G && at_hand && can_run(option, has_output))
            set_backward(list, &add_split(list, of->s - 1, 0, 0)->left, o, has_output);
        if (early) continue;
        bool rerun = (stage->needs_output || o > 0) && !of->option;
        if (of->type == CKPT_FN_K || (of->type == CKPT_FN_R && !rerun)) continue;
        if (!can_run(option, stage->needs_output)) continue;
        uint64_t least = resident + option->forward_bytes[0];
        if (of->type == CKPT_FN_G)
            least = larger(least, stage->out_bytes + option->kept_bytes + stage->gradient_bytes);
        ckpt_chain_split *split = add_split(list, of->s, stage->forward_cost, least);
        split->option = o;
        set_backward(list, &split->left, o, stage->needs_output);
    }
}

/* Runs through to x_t without a checkpoint on the way. */
static void run_through(splits *list, int option, uint64_t cost, uint64_t least) {
    const ckpt_chain_tables *tables = list->tables;
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *last = &tables->chain->stage[of->t];
    if (of->type == CKPT_FN_K || (of->type == CKPT_FN_G && tables->loss_is_light) || of->option) return;
    if (of->t - of->s >= tables->longest) return;
    if (of->type == CKPT_FN_G)
        least = larger(least, last->out_bytes + last->option[option].kept_bytes + last->gradient_bytes);
    for (int type = CKPT_FN_R; type <= CKPT_FN_K; type++) {
        if (type == CKPT_FN_K && !last->needs_output) continue;
        if (type == CKPT_FN_R && of->type == CKPT_FN_R) continue;
        ckpt_chain_split *split = add_split(list, of->t, cost, least);
        split->option = option;
        set_function(&split->right, type, of->s, of->t, of->dies, option);
    }
}

/* Ways that run nothing. */
static void give_up(splits *list) {
    const ckpt_chain_ref *of = list->of;
    if (of->type == CKPT_FN_H) {
        for (int type = CKPT_FN_R; type <= CKPT_FN_K; type++)
            set_function(&add_split(list, of->s - 1, 0, 0)->left, type, of->s, of->t, of->dies, of->option);
    } else if (of->option && !ckpt_chain_is_early(&list->tables->chain->stage[of->t], of->option)) {
        set_function(&add_split(list, of->s - 1, 0, 0)->left, of->type, of->s, of->t, of->dies, 0);
    }
}

static uint64_t cost_of(const ckpt_chain_tables *tables, int s, int t) {
    return tables->cost[t] - tables->cost[s - 1];
}

/* Most at once in forward runs of stages first..last that keep nothing and whose inputs die. */
static uint64_t most_in_runs(const ckpt_chain_tables *tables, int first, int last) {
    int i = 0;
    if (first > last) return 0;
    while (2 << i <= last - first + 1) i++;
    return larger(tables->run[i][first], tables->run[i][last - (1 << i) + 1]);
}

/* Most at once in forward runs of stages s..j-1, x_{j-1} held at the end. */
static uint64_t most_before(const splits *list, int j, uint64_t resident) {
    const ckpt_chain_stage *first = &list->tables->chain->stage[list->of->s];
    if (j == list->of->s) return 0;
    return resident + larger(first->option[0].forward_bytes[0], most_in_runs(list->tables, list->of->s + 1, j - 1));
}

int ckpt_chain_list_splits(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, ckpt_chain_range range,
                           ckpt_chain_split *split) {
    splits list = {.tables = tables, .of = ref, .split = split};
    const ckpt_chain_stage *stage = tables->chain->stage, *last = &stage[ref->t];
    give_up(&list);
    run_early(&list);
    if (ref->type == CKPT_FN_H) return list.count;
    if (ref->s == ref->t) {
        finish(&list);
        return list.count;
    }
    uint64_t resident = 0;
    if (ref->type != CKPT_FN_G) resident += last->gradient_bytes + last->option[ref->option].kept_bytes;
    if (ref->type == CKPT_FN_K) resident += last->out_bytes;
    uint64_t before = most_before(&list, range.first, resident);
    for (int j = range.first; j <= range.last; j++) {
        const bool dies = j > ref->s; /* x_{j-1} */
        const bool wanted = (!tables->likely || ckpt_chain_likely_has(tables->likely, ref->s, ref->t, j)) &&
                            (!range.window || range.window[j - ref->s].to > 0);
        for (int o = stage[j].option_count - 1; o >= 0 && wanted; o--)
            keep_checkpoint(&list, j, o, cost_of(tables, ref->s, j),
                            larger(before, resident + stage[j].option[o].forward_bytes[dies]));
        before = larger(before, resident + stage[j].option[0].forward_bytes[dies]);
    }
    before = most_before(&list, ref->t, resident);
    for (int o = last->option_count - 1; o >= 0; o--)
        run_through(&list, o, cost_of(tables, ref->s, ref->t), larger(before, resident + last->option[o].forward_bytes[1]));
    return list.count;
}
