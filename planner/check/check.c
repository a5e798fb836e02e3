#include "planner/check/check.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "graph/op.h"

/* Bytes [lo, hi) of the step region were last written by instance `owner`. */
typedef struct span {
    uint64_t lo, hi;
    int owner;
} span;

typedef struct replay {
    const ckpt_graph *graph;
    const ckpt_plan *plan;
    ckpt_pool scratch;
    int *writer;       /* instance -> step, -1 before one is found */
    int *last_use;     /* instance -> the last step that reads it, or its writer */
    int *newest;       /* tensor -> its newest production, -1 before */
    int *runs;         /* node -> times run */
    int *version;      /* tensor -> writes so far, for those that outlive the step */
    int *expected_in;  /* node * CKPT_MAX_IN + i -> version that the graph's order shows input i */
    int *expected_out; /* node * CKPT_MAX_OUT + i -> writes that come before it in the graph's order */
    bool *touched;     /* tensor -> a node has used it that runs in later micro-batches, too */
    bool *closed;      /* tensor -> a node of the last micro-batch has written it */
    span *map;         /* disjoint, by lo */
    int map_count;
    uint64_t live;
    ckpt_check_seen *seen;
} replay;

static const char *tensor_name(const replay *r, int tensor) {
    return r->graph->tensor[tensor].name;
}

/* "step 12 (fc1) ..." */
#define FAIL_AT(r, s, ...)                                                                                   \
    (ckpt_fail(err, CKPT_FAILED, __VA_ARGS__),                                                               \
     ckpt_fail_in(err, "step %d (%s)", (s), (r)->graph->node[(r)->plan->step[s].node].name))

static ckpt_status check_instance(const ckpt_graph *g, const ckpt_plan *p, int k, ckpt_error *err) {
    const ckpt_instance *x = &p->instance[k];
    if (x->tensor < 0 || x->tensor >= g->tensor_count || g->tensor[x->tensor].role != CKPT_ROLE_STEP)
        return ckpt_fail(err, CKPT_FAILED, "instance %d is of tensor %d, which no step makes", k, x->tensor);
    const char *name = g->tensor[x->tensor].name;
    const uint64_t bytes = ckpt_tensor_bytes(&g->tensor[x->tensor]);
    if (x->bytes != bytes)
        return ckpt_fail(err, CKPT_FAILED, "instance %d of '%s' has %" PRIu64 " bytes instead of %" PRIu64, k,
                         name, x->bytes, bytes);
    if (x->offset % p->alignment_bytes != 0 || x->offset > p->memory.arena ||
        bytes > p->memory.arena - x->offset)
        return ckpt_fail(err, CKPT_FAILED,
                         "instance %d of '%s' at offset %" PRIu64 " is not aligned or not inside the "
                         "arena",
                         k, name, x->offset);
    if (x->first < 0 || x->first >= x->end || x->end > p->step_count)
        return ckpt_fail(err, CKPT_FAILED, "instance %d of '%s' lives in no steps: [%d, %d)", k, name,
                         x->first, x->end);
    if (x->reuses < -1 || x->reuses >= p->instance_count || x->reuses == k)
        return ckpt_fail(err, CKPT_FAILED, "instance %d of '%s' reuses no instance: %d", k, name, x->reuses);
    return CKPT_OK;
}

/* One in- or output of a step: an instance of the node's tensor where that is a STEP tensor, otherwise -1. */
static ckpt_status check_slot(const replay *r, int s, const char *what, int i, int tensor, int instance,
                              ckpt_error *err) {
    const bool wanted = tensor >= 0 && r->graph->tensor[tensor].role == CKPT_ROLE_STEP;
    if (wanted ? instance < 0 || instance >= r->plan->instance_count : instance != -1)
        return FAIL_AT(r, s, "%s %d is instance %d, which is none of its tensor", what, i, instance);
    if (wanted && r->plan->instance[instance].tensor != tensor)
        return FAIL_AT(r, s, "%s %d is an instance of '%s' instead of '%s'", what, i,
                       tensor_name(r, r->plan->instance[instance].tensor), tensor_name(r, tensor));
    return CKPT_OK;
}

static ckpt_status check_step(replay *r, int s, ckpt_error *err) {
    const ckpt_plan_step *step = &r->plan->step[s];
    if (step->node < 0 || step->node >= r->graph->node_count)
        return ckpt_fail(err, CKPT_FAILED, "step %d runs node %d of %d", s, step->node, r->graph->node_count);
    const ckpt_node *node = &r->graph->node[step->node];
    if (step->in_count != node->in_count) return FAIL_AT(r, s, "has %d inputs of %d", step->in_count, node->in_count);
    for (int i = 0; i < node->in_count; i++) {
        CKPT_TRY(check_slot(r, s, "input", i, node->in[i], step->in[i], err));
        if (step->in[i] >= 0) r->last_use[step->in[i]] = s;
    }
    for (int i = 0; i < CKPT_MAX_OUT; i++) {
        CKPT_TRY(check_slot(r, s, "output", i, i < node->out_count ? node->out[i] : -1, step->out[i], err));
        const int k = step->out[i];
        if (k < 0) continue;
        if (r->writer[k] >= 0) return FAIL_AT(r, s, "writes instance %d a second time", k);
        r->writer[k] = s;
        if (r->last_use[k] < s) r->last_use[k] = s;
    }
    return CKPT_OK;
}

/* A graph's outputs are read when the last step has run: the newest production of each. */
static void use_outputs_at_end(replay *r) {
    for (int i = 0; i < r->graph->output_count; i++) {
        int newest = -1;
        for (int k = 0; k < r->plan->instance_count; k++)
            if (r->plan->instance[k].tensor == r->graph->output[i] && (newest < 0 || r->writer[k] > r->writer[newest]))
                newest = k;
        if (newest >= 0) r->last_use[newest] = r->plan->step_count - 1;
    }
}

/* Shapes of everything, so that the replay may index freely; lifetimes as the steps themselves imply them. */
static ckpt_status check_structure(replay *r, ckpt_error *err) {
    const ckpt_plan *p = r->plan;
    for (int k = 0; k < p->instance_count; k++) {
        CKPT_TRY(check_instance(r->graph, p, k, err));
        r->writer[k] = r->last_use[k] = -1;
    }
    for (int s = 0; s < p->step_count; s++) CKPT_TRY(check_step(r, s, err));
    use_outputs_at_end(r);
    for (int k = 0; k < p->instance_count; k++) {
        const ckpt_instance *x = &p->instance[k];
        if (r->writer[k] != x->first || r->last_use[k] + 1 != x->end)
            return ckpt_fail(err, CKPT_FAILED,
                             "instance %d of '%s' is stated to live in steps [%d, %d) but lives in [%d, %d)",
                             k, tensor_name(r, x->tensor), x->first, x->end, r->writer[k],
                             r->last_use[k] + 1);
    }
    return CKPT_OK;
}

/* What the graph's own order shows every node of the tensors that outlive the step. */
static void find_expected_versions(replay *r) {
    const ckpt_graph *g = r->graph;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0) r->expected_in[n * CKPT_MAX_IN + i] = r->version[node->in[i]];
        for (int i = 0; i < node->out_count; i++)
            if (node->out[i] >= 0 && g->tensor[node->out[i]].role != CKPT_ROLE_STEP)
                r->expected_out[n * CKPT_MAX_OUT + i] = r->version[node->out[i]]++;
    }
    memset(r->version, 0, sizeof *r->version * (size_t)g->tensor_count);
}

static ckpt_status check_repetition(replay *r, int s, ckpt_error *err) {
    const ckpt_plan_step *step = &r->plan->step[s];
    const ckpt_node *node = &r->graph->node[step->node];
    const bool again = r->runs[step->node]++ > 0;
    if (step->recompute != again)
        return FAIL_AT(r, s, "is %s as a recomputation", again ? "not marked" : "wrongly marked");
    if (!again) return CKPT_OK;
    if (node->phase != CKPT_FORWARD) return FAIL_AT(r, s, "runs twice, which only forward nodes may");
    if (node->op == CKPT_OP_LOSS || node->when != CKPT_ALWAYS) return FAIL_AT(r, s, "must run once");
    for (int i = 0; i < node->out_count; i++)
        if (node->out[i] >= 0 && r->graph->tensor[node->out[i]].role != CKPT_ROLE_STEP)
            return FAIL_AT(r, s, "runs twice although it has an effect on '%s'",
                           tensor_name(r, node->out[i]));
    return CKPT_OK;
}

/* Index of the first span that ends behind `lo`. */
static int find_span(const replay *r, uint64_t lo) {
    int low = 0, high = r->map_count;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (r->map[middle].hi <= lo)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static ckpt_status check_read(replay *r, int s, int i, ckpt_error *err) {
    const ckpt_plan_step *step = &r->plan->step[s];
    const ckpt_node *node = &r->graph->node[step->node];
    const int t = node->in[i], k = step->in[i];
    if (t < 0) return CKPT_OK;
    if (k < 0) {
        if (r->version[t] != r->expected_in[step->node * CKPT_MAX_IN + i])
            return FAIL_AT(r, s, "reads '%s' %s it is updated", tensor_name(r, t),
                           r->version[t] > r->expected_in[step->node * CKPT_MAX_IN + i] ? "after" : "before");
        return CKPT_OK;
    }
    if (r->newest[t] != k)
        return FAIL_AT(r, s, "reads instance %d of '%s', but the newest is %d", k, tensor_name(r, t),
                       r->newest[t]);
    const ckpt_node *producer = &r->graph->node[r->plan->step[r->writer[k]].node];
    if (producer->when != CKPT_ALWAYS && producer->when != node->when)
        return FAIL_AT(r, s, "reads '%s', which is not made in every micro-batch", tensor_name(r, t));
    const ckpt_instance *x = &r->plan->instance[k];
    if (x->bytes == 0) return CKPT_OK;
    const int m = find_span(r, x->offset);
    if (m == r->map_count || r->map[m].lo != x->offset || r->map[m].hi != x->offset + x->bytes ||
        r->map[m].owner != k)
        return FAIL_AT(r, s, "reads '%s' at offset %" PRIu64 ", which has been written over",
                       tensor_name(r, t), x->offset);
    return CKPT_OK;
}

/* May output instance `k` of step s be written over the instance that it says it reuses? */
static ckpt_status check_reuse(const replay *r, int s, int k, ckpt_error *err) {
    const ckpt_plan_step *step = &r->plan->step[s];
    const ckpt_instance *x = &r->plan->instance[k];
    const ckpt_instance *over = &r->plan->instance[x->reuses];
    const uint64_t mask = ckpt_op_info(r->graph->node[step->node].op)->inplace;
    int permitted = 0, forbidden = 0;
    for (int i = 0; i < step->in_count; i++) {
        if (step->in[i] != x->reuses) continue;
        if (mask >> i & 1)
            permitted++;
        else
            forbidden++;
    }
    if (k != step->out[0] || !permitted || forbidden)
        return FAIL_AT(r, s, "may not write '%s' over '%s'", tensor_name(r, x->tensor),
                       tensor_name(r, over->tensor));
    if (r->last_use[x->reuses] != s)
        return FAIL_AT(r, s, "writes over '%s', which step %d still reads", tensor_name(r, over->tensor),
                       r->last_use[x->reuses]);
    if (over->offset != x->offset || over->bytes != x->bytes)
        return FAIL_AT(r, s, "'%s' is not where '%s' is, which it reuses", tensor_name(r, x->tensor),
                       tensor_name(r, over->tensor));
    return CKPT_OK;
}

/* Writes instance k into the map. Whatever it covers must be dead: not used in this step or later, but for a
 * permitted reuse. */
static ckpt_status write_instance(replay *r, int s, int k, ckpt_error *err) {
    const ckpt_instance *x = &r->plan->instance[k];
    if (x->reuses >= 0) CKPT_TRY(check_reuse(r, s, k, err));
    r->newest[x->tensor] = k;
    if (x->bytes == 0) return CKPT_OK;
    const uint64_t lo = x->offset, hi = lo + x->bytes;
    const int from = find_span(r, lo);
    int to = from;
    for (; to < r->map_count && r->map[to].lo < hi; to++)
        if (r->last_use[r->map[to].owner] >= s && r->map[to].owner != x->reuses)
            return FAIL_AT(r, s, "writes '%s' over '%s' (instance %d), which step %d still uses",
                           tensor_name(r, x->tensor),
                           tensor_name(r, r->plan->instance[r->map[to].owner].tensor), r->map[to].owner,
                           r->last_use[r->map[to].owner]);
    span piece[3];
    int pieces = 0;
    if (from < to && r->map[from].lo < lo) piece[pieces++] = (span){r->map[from].lo, lo, r->map[from].owner};
    piece[pieces++] = (span){lo, hi, k};
    if (from < to && r->map[to - 1].hi > hi)
        piece[pieces++] = (span){hi, r->map[to - 1].hi, r->map[to - 1].owner};
    memmove(r->map + from + pieces, r->map + to, (size_t)(r->map_count - to) * sizeof *r->map);
    memcpy(r->map + from, piece, (size_t)pieces * sizeof *piece);
    r->map_count += pieces - (to - from);
    if (hi > r->seen->highest) r->seen->highest = hi;
    return CKPT_OK;
}

/* Tensors that outlive the step: writes come in the graph's order, and nodes of the first and of the last
 * micro-batch have all others behind and before them. */
static ckpt_status check_effects(replay *r, int s, ckpt_error *err) {
    const int n = r->plan->step[s].node;
    const ckpt_node *node = &r->graph->node[n];
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (t < 0 || r->graph->tensor[t].role == CKPT_ROLE_STEP) continue;
        if (r->closed[t] && node->when != CKPT_LAST_MICRO)
            return FAIL_AT(r, s, "reads '%s' after the last micro-batch has changed it", tensor_name(r, t));
        r->touched[t] |= node->when != CKPT_FIRST_MICRO;
    }
    for (int i = 0; i < node->out_count; i++) {
        const int t = node->out[i];
        if (t < 0 || r->graph->tensor[t].role == CKPT_ROLE_STEP) continue;
        if (r->version[t] != r->expected_out[n * CKPT_MAX_OUT + i])
            return FAIL_AT(r, s, "writes '%s' out of order", tensor_name(r, t));
        if (node->when == CKPT_FIRST_MICRO && r->touched[t])
            return FAIL_AT(r, s, "prepares '%s' after it has been used", tensor_name(r, t));
        if (node->when != CKPT_LAST_MICRO && r->closed[t])
            return FAIL_AT(r, s, "writes '%s' after the last micro-batch has changed it", tensor_name(r, t));
        r->version[t]++;
        r->touched[t] |= node->when != CKPT_FIRST_MICRO;
        r->closed[t] |= node->when == CKPT_LAST_MICRO;
    }
    return CKPT_OK;
}

static uint64_t padded(const replay *r, int k) {
    const uint64_t a = r->plan->alignment_bytes, bytes = r->plan->instance[k].bytes;
    return bytes % a == 0 ? bytes : bytes - bytes % a + a;
}

/* Live bytes while step s runs, then without what it used last. A buffer that is reused stays counted. */
static void count_live(replay *r, int s) {
    const ckpt_plan_step *step = &r->plan->step[s];
    int inherited = -1;
    for (int i = 0; i < CKPT_MAX_OUT; i++) {
        if (step->out[i] < 0) continue;
        if (r->plan->instance[step->out[i]].reuses >= 0)
            inherited = r->plan->instance[step->out[i]].reuses;
        else
            r->live += padded(r, step->out[i]);
    }
    if (r->live > r->seen->live_peak) r->seen->live_peak = r->live;
    for (int i = 0; i < r->graph->node[step->node].in_count; i++) {
        const int k = step->in[i];
        if (k < 0 || k == inherited || r->last_use[k] != s) continue;
        bool counted = false;
        for (int j = 0; j < i; j++) counted |= step->in[j] == k;
        if (!counted) r->live -= padded(r, k);
    }
    for (int i = 0; i < CKPT_MAX_OUT; i++)
        if (step->out[i] >= 0 && r->last_use[step->out[i]] == s) r->live -= padded(r, step->out[i]);
}

static ckpt_status replay_steps(replay *r, ckpt_error *err) {
    for (int s = 0; s < r->plan->step_count; s++) {
        const ckpt_plan_step *step = &r->plan->step[s];
        const ckpt_node *node = &r->graph->node[step->node];
        CKPT_TRY(check_repetition(r, s, err));
        for (int i = 0; i < node->in_count; i++) CKPT_TRY(check_read(r, s, i, err));
        CKPT_TRY(check_effects(r, s, err));
        for (int i = 0; i < node->out_count; i++)
            if (step->out[i] >= 0) CKPT_TRY(write_instance(r, s, step->out[i], err));
        count_live(r, s);
    }
    for (int n = 0; n < r->graph->node_count; n++)
        if (r->runs[n] == 0)
            return ckpt_fail(err, CKPT_FAILED, "node %d (%s) never runs", n, r->graph->node[n].name);
    return CKPT_OK;
}

static bool allocate(replay *r) {
    const size_t tensors = (size_t)r->graph->tensor_count, nodes = (size_t)r->graph->node_count;
    const size_t instances = (size_t)r->plan->instance_count;
    ckpt_pool *pool = &r->scratch;
    r->writer = ckpt_pool_array(pool, instances, int);
    r->last_use = ckpt_pool_array(pool, instances, int);
    r->newest = ckpt_pool_array(pool, tensors, int);
    r->runs = ckpt_pool_array(pool, nodes, int);
    r->version = ckpt_pool_array(pool, tensors, int);
    r->expected_in = ckpt_pool_array(pool, nodes * CKPT_MAX_IN, int);
    r->expected_out = ckpt_pool_array(pool, nodes * CKPT_MAX_OUT, int);
    r->touched = ckpt_pool_array(pool, tensors, bool);
    r->closed = ckpt_pool_array(pool, tensors, bool);
    r->map = ckpt_pool_array(pool, 2 * instances + 3, span); /* each write adds at most two */
    if (!r->writer || !r->last_use || !r->newest || !r->runs || !r->version || !r->expected_in ||
        !r->expected_out || !r->touched || !r->closed || !r->map)
        return false;
    for (size_t t = 0; t < tensors; t++) r->newest[t] = -1;
    return true;
}

ckpt_status ckpt_check_replay(const ckpt_graph *graph, const ckpt_plan *plan, ckpt_check_seen *seen,
                              ckpt_error *err) {
    *seen = (ckpt_check_seen){0};
    const uint64_t a = plan->alignment_bytes;
    if (a == 0 || (a & (a - 1)) != 0)
        return ckpt_fail(err, CKPT_FAILED, "an alignment of %" PRIu64 " is no power of two", a);
    if (plan->tensor_count != graph->tensor_count || strcmp(plan->graph_hash, graph->hash) != 0)
        return ckpt_fail(err, CKPT_FAILED, "the plan was made for another graph: %.16s instead of %.16s",
                         plan->graph_hash, graph->hash);
    if (plan->step_count < 0 || plan->instance_count < 0 || plan->memory.arena > UINT64_MAX / 2)
        return ckpt_fail(err, CKPT_FAILED, "the plan's counts are out of range");
    replay r = {.graph = graph, .plan = plan, .seen = seen};
    ckpt_status status =
        allocate(&r) ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory while checking a plan");
    if (status == CKPT_OK) status = check_structure(&r, err);
    if (status == CKPT_OK) {
        find_expected_versions(&r);
        status = replay_steps(&r, err);
    }
    ckpt_pool_free(&r.scratch);
    return status;
}

ckpt_status ckpt_plan_check(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *eval,
                            ckpt_error *err) {
    ckpt_check_seen seen;
    CKPT_TRY(ckpt_check_replay(graph, plan, &seen, err));
    return ckpt_check_totals(graph, plan, eval, &seen, err);
}
