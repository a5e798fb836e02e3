#include "planner/core/liveness.h"

#include "base/units.h"
#include "graph/op.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while finding lifetimes");
}

/* Every step's productions and what its reads mean; lifetimes grow to the last read. `newest` is by tensor, `in` has room for
 * all reads. */
static ckpt_status find_instances(const ckpt_graph *g, const ckpt_schedule *schedule, int *newest, bool *ran, int *in,
                                  ckpt_liveness *live, ckpt_error *err) {
    for (int s = 0; s < schedule->count; s++) {
        const int n = schedule->node[s];
        const ckpt_node *node = &g->node[n];
        ckpt_plan_step *step = &live->step[s];
        step->node = n;
        step->recompute = ran[n];
        step->in_count = node->in_count;
        step->in = in;
        in += node->in_count;
        for (int i = 0; i < node->in_count; i++) step->in[i] = -1;
        for (int i = 0; i < CKPT_MAX_OUT; i++) step->out[i] = -1;
        ran[n] = true;
        for (int i = 0; i < node->in_count; i++) {
            const int t = node->in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            if (newest[t] < 0)
                return ckpt_fail(err, CKPT_FAILED, "step %d (%s) reads '%s' before any step has made it", s,
                                 node->name, g->tensor[t].name);
            step->in[i] = newest[t];
            live->instance[newest[t]].end = s + 1;
        }
        for (int i = 0; i < node->out_count; i++) {
            const int t = node->out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            newest[t] = step->out[i] = live->instance_count;
            live->instance[live->instance_count++] =
                (ckpt_instance){.tensor = t,
                                .first = s,
                                .end = s + 1,
                                .bytes = ckpt_tensor_bytes(&g->tensor[t]),
                                .reuses = -1};
        }
    }
    return CKPT_OK;
}

/* The input instance that output 0 of `step` may be written over, or -1. Reading the dying buffer through
 * another input as well is fine only where the op could be written over that one too: then it works element
 * by element. */
static int dying_input(const ckpt_graph *g, const ckpt_plan_step *step, const ckpt_liveness *live) {
    const ckpt_node *node = &g->node[step->node];
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    if (step->out[0] < 0) return -1;
    const ckpt_instance *out = &live->instance[step->out[0]];
    for (int i = 0; i < node->in_count; i++) {
        const int x = step->in[i];
        if (!(mask >> i & 1) || x < 0 || live->instance[x].end != out->first + 1 ||
            live->instance[x].bytes != out->bytes)
            continue;
        bool read_otherwise = false;
        for (int j = 0; j < node->in_count; j++) read_otherwise |= step->in[j] == x && !(mask >> j & 1);
        if (!read_otherwise) return x;
    }
    return -1;
}

/* live_bytes as running sums of what begins and ends; a reusing instance adds nothing in the step that it
 * shares with its predecessor. */
static void count_live(ckpt_liveness *live, uint64_t alignment_bytes) {
    for (int k = 0; k < live->instance_count; k++) {
        const ckpt_instance *x = &live->instance[k];
        const uint64_t bytes = ckpt_align_up(x->bytes, alignment_bytes);
        live->live_bytes[x->reuses < 0 ? x->first : x->first + 1] += bytes;
        live->live_bytes[x->end] -= bytes; /* may pass below 0, modulo 2^64, until summed */
    }
    uint64_t now = 0;
    for (int s = 0; s < live->step_count; s++) {
        live->live_bytes[s] = now += live->live_bytes[s];
        if (now > live->peak_bytes) {
            live->peak_bytes = now;
            live->peak_step = s;
        }
    }
}

ckpt_status ckpt_liveness_find(const ckpt_graph *graph, const ckpt_schedule *schedule,
                               uint64_t alignment_bytes, ckpt_pool *pool, ckpt_liveness *live,
                               ckpt_error *err) {
    size_t outputs = 0, inputs = 0;
    for (int s = 0; s < schedule->count; s++) {
        outputs += (size_t)graph->node[schedule->node[s]].out_count;
        inputs += (size_t)graph->node[schedule->node[s]].in_count;
    }
    int *in = ckpt_pool_array(pool, inputs, int);
    *live = (ckpt_liveness){.step_count = schedule->count,
                            .step = ckpt_pool_array(pool, schedule->count, ckpt_plan_step),
                            .instance = ckpt_pool_array(pool, outputs, ckpt_instance),
                            .live_bytes = ckpt_pool_array(pool, (size_t)schedule->count + 1, uint64_t)};
    if (!in || !live->step || !live->instance || !live->live_bytes) return out_of_memory(err);

    ckpt_pool scratch = {0};
    int *newest = ckpt_pool_array(&scratch, graph->tensor_count, int);
    bool *ran = ckpt_pool_array(&scratch, graph->node_count, bool);
    ckpt_status status = newest && ran ? CKPT_OK : out_of_memory(err);
    if (status == CKPT_OK) {
        for (int t = 0; t < graph->tensor_count; t++) newest[t] = -1;
        status = find_instances(graph, schedule, newest, ran, in, live, err);
        for (int i = 0; status == CKPT_OK && i < graph->output_count; i++) /* read when all is done */
            if (ckpt_tensor_is_step(graph, graph->output[i]) && newest[graph->output[i]] >= 0)
                live->instance[newest[graph->output[i]]].end = schedule->count;
    }
    ckpt_pool_free(&scratch);
    if (status != CKPT_OK) return status;

    for (int s = 0; s < live->step_count; s++) {
        const int over = dying_input(graph, &live->step[s], live);
        if (over >= 0) live->instance[live->step[s].out[0]].reuses = over;
    }
    count_live(live, alignment_bytes);
    return CKPT_OK;
}
