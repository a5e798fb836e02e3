/* The ways to split a function of table.c, and which of them are tried.
 *
 * One list serves filling, byte figures and traceback. A run of n stages has n - 1 places for its first checkpoint. Trying all of
 * them makes the tables cubic in the number of stages, so a table restricts them in one of two ways:
 *
 * - Window: with as much memory, the best first checkpoint of stages s..t lies where that of s..t-1 lies, where that of s+1..t
 *   lies, or between them. This is Knuth's observation on binary search trees (Acta Informatica 1, 1971), proved by Yao (STOC 1980)
 *   for costs that obey the quadrangle inequality. Equal stages obey it; others nearly do, so a few splits on either side are
 *   tried too. Measured over random chains of 100 stages the loss is below 0.05 % (tests/planner/test_chain.c).
 * - Candidates: splits of schedules that are nearly optimal when memory has a price (price.c), about one in a hundred.
 *
 * A restriction may miss a cheaper program but never a feasible one: the smallest budget comes from all splits.
 */
#include "base/units.h"
#include "planner/chain/chain_table.h"

/* FEW: shorter runs try all splits. SLACK: splits tried on either side of a window. Blocks of 1 to 4 stages lose nothing with 4,
 * at any of 40 budgets of 160 stages (the same test). */
enum { FEW = 16, SLACK = 8, SLACK_OF_BLOCKS = 4 };

typedef struct splits {
    const ckpt_chain_shape *shape;
    const ckpt_chain_ref *of;
    ckpt_chain_split *split;
    int count;
} splits;

static ckpt_chain_split *add_split(splits *list, int run_to, int option, uint64_t cost, uint64_t least) {
    ckpt_chain_split *split = &list->split[list->count++]; /* field by field: there are millions */
    split->run_to = run_to;
    split->option = option;
    split->early = false;
    split->run_cost = cost;
    split->least_bytes = least;
    split->shift_bytes = 0;
    split->right.type = split->left.type = CKPT_FN_NONE;
    return split;
}

static void set_function(ckpt_chain_ref *ref, ckpt_fn_type type, int s, int t, bool dies, int option) {
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

/* Runs nothing: goes on as another function of the same stages. */
static void go_on_as(splits *list, ckpt_fn_type type, int option) {
    const ckpt_chain_ref *of = list->of;
    set_function(&add_split(list, of->s - 1, 0, 0, 0)->left, type, of->s, of->t, of->dies, option);
}

/* Early eviction: of x_t, or of the saved activations of stage t. */
static void evict(splits *list) {
    const ckpt_chain_ref *of = list->of;
    if (of->type == CKPT_FN_H) {
        go_on_as(list, CKPT_FN_R, of->option);
        go_on_as(list, CKPT_FN_K, of->option);
    } else if (of->option && !ckpt_chain_is_early(&list->shape->chain->stage[of->t], of->option)) {
        go_on_as(list, of->type, 0);
    }
}

/* Runs the early part of the last backward, which releases x_t and the saved activations. */
static void run_early(splits *list) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *last = &list->shape->chain->stage[of->t];
    const bool has_output = of->type == CKPT_FN_K;
    if (!last->early || (of->type != CKPT_FN_K && of->type != CKPT_FN_R) || ckpt_chain_is_early(last, of->option)) return;
    const uint64_t bytes = last->option[of->option].early_bytes[has_output];
    if (bytes == CKPT_CHAIN_NEVER) return;
    ckpt_chain_split *split = add_split(list, of->s - 1, 0, 0, bytes);
    split->early = true;
    set_function(&split->left, CKPT_FN_R, of->s, of->t, of->dies, last->option_count);
}

static bool can_run(const ckpt_chain_option *option, bool has_output) {
    return option->recompute_cost[has_output] != CKPT_CHAIN_NEVER;
}

/* s = t: the backward at once, or after a forward run that saves what its mode says. */
static void finish(splits *list) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *stage = &list->shape->chain->stage[of->s];
    const uint64_t resident = of->type == CKPT_FN_R ? stage->gradient_bytes : 0;
    const bool has_output = of->type == CKPT_FN_K;
    for (int o = 0; o < ckpt_chain_options(stage); o++) {
        const ckpt_chain_option *option = &stage->option[o];
        const bool early = ckpt_chain_is_early(stage, o);
        const bool present = of->option || early ? o == of->option : option->kept_bytes == 0;
        if (of->type != CKPT_FN_G && present && can_run(option, has_output))
            set_backward(list, &add_split(list, of->s - 1, 0, 0, 0)->left, o, has_output);
        const bool rerun = (stage->needs_output || o > 0) && !of->option;
        if (early || of->type == CKPT_FN_K || (of->type == CKPT_FN_R && !rerun)) continue;
        if (!can_run(option, stage->needs_output)) continue;
        uint64_t least = resident + option->forward_bytes[0];
        if (of->type == CKPT_FN_G) least = ckpt_max_u64(least, stage->out_bytes + option->kept_bytes + stage->gradient_bytes);
        set_backward(list, &add_split(list, of->s, o, stage->forward_cost, least)->left, o, stage->needs_output);
    }
}

/* Keeps x_j and the saved activations of stage j while the right part runs. x_j stays until the backward of j has read it, or,
 * where the left part can do without it, dies as soon as the right part has read it. */
static void keep_checkpoint(splits *list, int j, int option, uint64_t cost, uint64_t least) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *stage = &list->shape->chain->stage[j];
    const bool same = !list->shape->gains[j + 1]; /* the right part gains nothing when x_j dies: one split covers both */
    for (int dies = 1; dies >= 0; dies--) {
        if (dies ? stage->needs_output && same : !stage->needs_output) continue;
        ckpt_chain_split *split = add_split(list, j, option, cost, least);
        split->shift_bytes = stage->out_bytes + stage->option[option].kept_bytes;
        set_function(&split->right, of->type, j + 1, of->t, dies, of->option);
        set_function(&split->left, dies ? CKPT_FN_R : same ? CKPT_FN_H : CKPT_FN_K, of->s, j, of->dies, option);
    }
}

/* Runs through to x_t without a checkpoint on the way. */
static void run_through(splits *list, int option, uint64_t cost, uint64_t least) {
    const ckpt_chain_ref *of = list->of;
    const ckpt_chain_stage *last = &list->shape->chain->stage[of->t];
    if (of->type == CKPT_FN_G)
        least = ckpt_max_u64(least, last->out_bytes + last->option[option].kept_bytes + last->gradient_bytes);
    for (ckpt_fn_type type = CKPT_FN_R; type <= CKPT_FN_K; type++)
        if (type == CKPT_FN_R ? of->type != CKPT_FN_R : last->needs_output)
            set_function(&add_split(list, of->t, option, cost, least)->right, type, of->s, of->t, of->dies, option);
}

static uint64_t cost_of(const ckpt_chain_shape *shape, int s, int t) {
    return shape->cost[t] - shape->cost[s - 1];
}

/* Peak of forward runs of stages first..last that keep nothing and whose inputs die: two overlapping powers of two. */
static uint64_t peak_of_runs(const ckpt_chain_shape *shape, int first, int last) {
    int i = 0;
    if (first > last) return 0;
    while (2 << i <= last - first + 1) i++;
    return ckpt_max_u64(shape->peak[i][first], shape->peak[i][last - (1 << i) + 1]);
}

/* Peak of forward runs of stages s..j-1, of which x_{j-1} is held at the end. */
static uint64_t peak_before(const splits *list, int j, uint64_t resident) {
    const ckpt_chain_stage *first = &list->shape->chain->stage[list->of->s];
    if (j == list->of->s) return 0;
    return resident + ckpt_max_u64(first->option[0].forward_bytes[0], peak_of_runs(list->shape, list->of->s + 1, j - 1));
}

int ckpt_chain_list_splits(const ckpt_chain_shape *shape, const ckpt_chain_ref *ref, ckpt_chain_range range, ckpt_chain_split *split) {
    splits list = {.shape = shape, .of = ref, .split = split};
    const ckpt_chain_stage *stage = shape->chain->stage, *last = &stage[ref->t];
    evict(&list);
    run_early(&list);
    if (ref->s == ref->t && ref->type != CKPT_FN_H) finish(&list);
    if (ref->s == ref->t || ref->type == CKPT_FN_H) return list.count;
    uint64_t resident = 0;
    if (ref->type != CKPT_FN_G) resident += last->gradient_bytes + last->option[ref->option].kept_bytes;
    if (ref->type == CKPT_FN_K) resident += last->out_bytes;
    uint64_t before = peak_before(&list, range.first, resident);
    for (int j = range.first; j <= range.last; j++) {
        const bool dies = j > ref->s; /* x_{j-1} */
        const bool wanted = !range.window || range.window[j - ref->s].to > 0;
        for (int o = stage[j].option_count - 1; o >= 0 && wanted; o--)
            keep_checkpoint(&list, j, o, cost_of(shape, ref->s, j),
                            ckpt_max_u64(before, resident + stage[j].option[o].forward_bytes[dies]));
        before = ckpt_max_u64(before, resident + stage[j].option[0].forward_bytes[dies]);
    }
    if (!range.through || ref->type == CKPT_FN_K || (ref->type == CKPT_FN_G && shape->loss_is_light) || ref->option) return list.count;
    before = peak_before(&list, ref->t, resident);
    for (int o = last->option_count - 1; o >= 0; o--)
        run_through(&list, o, cost_of(shape, ref->s, ref->t), ckpt_max_u64(before, resident + last->option[o].forward_bytes[1]));
    return list.count;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}
static int smaller(int a, int b) {
    return a < b ? a : b;
}

ckpt_chain_range ckpt_chain_range_all(const ckpt_chain_ref *ref, int longest) {
    return (ckpt_chain_range){ref->s, smaller(ref->t, ref->s + longest) - 1, NULL, ref->t - ref->s < longest};
}

ckpt_chain_range ckpt_chain_range_scope(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref) {
    ckpt_chain_range range = ckpt_chain_range_all(ref, level->longest);
    if (level->scope != CKPT_SCOPE_CANDIDATES) return range;
    const uint32_t run = ckpt_chain_run_of(&tables->shape, ref->s, ref->t);
    for (int j = 0; j < ref->t - ref->s; j++)
        tables->scratch.window[j] = (ckpt_chain_window){0, ckpt_chain_is_candidate(&tables->candidates, run, j) ? INT32_MAX : 0};
    range.window = tables->scratch.window;
    return range;
}

static int slack(const ckpt_chain_shape *shape) {
    return shape->repeated ? SLACK_OF_BLOCKS : SLACK;
}

/* The checkpoint that the best split keeps with so much memory, less s; CKPT_CHAIN_NO_SPLIT: none. */
static int best_at(const ckpt_chain_values *values, int64_t slot) {
    if (slot < values->lo) slot = values->lo;
    if (slot > values->hi) slot = values->hi;
    return (int)values->best[slot - values->lo];
}

ckpt_chain_range ckpt_chain_range_near(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref,
                                       int64_t slot) {
    const ckpt_chain_range all = ckpt_chain_range_scope(tables, level, ref);
    if (level->scope != CKPT_SCOPE_WINDOW || !tables->shape.repeated || ref->t - ref->s < FEW) return all;
    const ckpt_chain_values *values = ckpt_chain_values_of(tables, level, ref, NULL);
    const int best = values ? best_at(values, slot) : CKPT_CHAIN_NO_SPLIT, near = slack(&tables->shape);
    if (best == CKPT_CHAIN_NO_SPLIT) return all;
    return (ckpt_chain_range){larger(ref->s + best - near, all.first), smaller(ref->s + best + near, all.last), NULL, all.through};
}

/* The same function of stages s..t; NULL if it is not filled. */
static const ckpt_chain_values *neighbour(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref,
                                          int s, int t, int option) {
    const bool whole = ref->type == CKPT_FN_G && t < tables->shape.count; /* G ends with the last stage */
    const ckpt_chain_ref other = {.type = whole ? CKPT_FN_R : ref->type, .s = s, .t = t, .option = option, .dies = ref->dies};
    return ckpt_chain_values_of(tables, level, &other, NULL);
}

/* Adds slots [begin, end), for which the neighbours keep a and b. */
static void add_slots(const ckpt_chain_tables *tables, int count, int a, int b, int begin, int end) {
    if (a == CKPT_CHAIN_NO_SPLIT) a = b;
    if (b == CKPT_CHAIN_NO_SPLIT) b = a;
    const bool anywhere = a == CKPT_CHAIN_NO_SPLIT;
    const int low = anywhere ? 0 : larger(smaller(a, b) - slack(&tables->shape), 0);
    const int high = anywhere ? count - 1 : smaller(larger(a, b) + slack(&tables->shape), count - 1);
    for (int j = low; j <= high; j++) {
        ckpt_chain_window *window = &tables->scratch.window[j];
        if (window->to == 0) window->from = begin;
        window->to = end;
    }
}

bool ckpt_chain_range_window(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref,
                             ckpt_chain_range *range) {
    const int count = ref->t - ref->s; /* places for a checkpoint */
    if (level->scope != CKPT_SCOPE_WINDOW || count < FEW) return false;
    const ckpt_chain_stage *stage = tables->shape.chain->stage, *last = &stage[ref->t], *next = &stage[ref->t - 1];
    const bool early = ckpt_chain_is_early(last, ref->option), can_be_early = ref->type != CKPT_FN_G && last->early && !early;
    const ckpt_chain_values *shorter = neighbour(tables, level, ref, ref->s, ref->t - 1, early && next->early ? next->option_count : 0);
    const ckpt_chain_values *later = neighbour(tables, level, ref, ref->s + 1, ref->t, ref->option);
    if (!shorter || !later) return false;
    /* The same run after the early part, for slots where neither neighbour keeps anything before theirs. */
    const ckpt_chain_ref after_early = {.type = CKPT_FN_R, .s = ref->s, .t = ref->t, .option = last->option_count, .dies = ref->dies};
    const ckpt_chain_values *after = can_be_early ? ckpt_chain_values_of(tables, level, &after_early, NULL) : NULL;
    for (int j = 0; j < count; j++) tables->scratch.window[j] = (ckpt_chain_window){0};
    int begin = 0, slot = smaller(shorter->lo, later->lo);
    for (const int end = larger(shorter->hi, later->hi); begin <= end; begin = slot) {
        const int a = best_at(shorter, slot), b = best_at(later, slot), c = after ? best_at(after, slot) : 0;
        do slot++;
        while (slot <= end && best_at(shorter, slot) == a && best_at(later, slot) == b && (!after || best_at(after, slot) == c));
        const bool none = a == CKPT_CHAIN_NO_SPLIT && b == CKPT_CHAIN_NO_SPLIT && after;
        add_slots(tables, count, none ? c : a, b == CKPT_CHAIN_NO_SPLIT ? CKPT_CHAIN_NO_SPLIT : b + 1, begin,
                  slot <= end ? slot : INT32_MAX);
    }
    *range = ckpt_chain_range_all(ref, level->longest);
    while (range->first <= range->last && tables->scratch.window[range->first - ref->s].to == 0) range->first++;
    while (range->first <= range->last && tables->scratch.window[range->last - ref->s].to == 0) range->last--;
    range->window = tables->scratch.window;
    return true;
}
