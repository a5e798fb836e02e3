#include "plan_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

enum { CELL = 256, MICRO_BATCHES = 2 };

static uint64_t mix(uint64_t a, uint64_t b) { /* splitmix64's finaliser over a running value */
    uint64_t z = a * 0x9e3779b97f4a7c15ull + b + 0x632be59bd9b4e019ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

typedef struct machine {
    const ckpt_graph *graph;
    uint64_t *cell;       /* the step region */
    uint64_t *persistent; /* tensor -> value */
} machine;

static uint64_t cells_of(const ckpt_graph *g, int tensor) {
    return (ckpt_tensor_bytes(&g->tensor[tensor]) + CELL - 1) / CELL;
}

static uint64_t load(const machine *m, int tensor, uint64_t offset) {
    uint64_t value = 1;
    for (uint64_t i = 0; i < cells_of(m->graph, tensor); i++) value = mix(value, m->cell[offset / CELL + i]);
    return value;
}

static void store(machine *m, int tensor, uint64_t offset, uint64_t value) {
    for (uint64_t i = 0; i < cells_of(m->graph, tensor); i++) m->cell[offset / CELL + i] = mix(value, i);
}

/* Whether writing output `o` at `to` spoils input `i` at `from` while the node still reads it. */
static bool spoils(const ckpt_graph *g, const ckpt_node *node, int o, uint64_t to, int i, uint64_t from) {
    const uint64_t size_to = cells_of(g, node->out[o]) * CELL, size_from = cells_of(g, node->in[i]) * CELL;
    if (to >= from + size_from || from >= to + size_to) return false;
    return o != 0 || to != from || !(ckpt_op_info(node->op)->inplace >> i & 1) ||
           ckpt_tensor_bytes(&g->tensor[node->out[0]]) != ckpt_tensor_bytes(&g->tensor[node->in[i]]);
}

/* `in`, `out`: offsets of STEP tensors. */
static void execute(machine *m, int n, const uint64_t *in, const uint64_t *out) {
    const ckpt_graph *g = m->graph;
    const ckpt_node *node = &g->node[n];
    uint64_t value = mix(77, (uint64_t)n);
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (t < 0) continue;
        value = mix(value, ckpt_tensor_is_step(g, t) ? load(m, t, in[i]) : m->persistent[t]);
        for (int o = 0; o < node->out_count && ckpt_tensor_is_step(g, t); o++)
            if (ckpt_tensor_is_step(g, node->out[o]) && spoils(g, node, o, out[o], i, in[i]))
                value = mix(value, 666);
    }
    for (int o = 0; o < node->out_count; o++) {
        const int t = node->out[o];
        if (t < 0) continue;
        uint64_t made = mix(value, (uint64_t)o);
        if (ckpt_tensor_is_step(g, t)) {
            store(m, t, out[o], made);
        } else {
            /* A LOSS adds to its result: what was there counts, as it does for updates, which read it anyway.
             */
            if (node->op == CKPT_OP_LOSS) made = mix(made, m->persistent[t]);
            m->persistent[t] = made;
        }
    }
}

static bool runs_now(const ckpt_node *node, int micro) {
    return node->when == CKPT_ALWAYS || (node->when == CKPT_FIRST_MICRO && micro == 0) ||
           (node->when == CKPT_LAST_MICRO && micro == MICRO_BATCHES - 1);
}

static machine start(const ckpt_graph *g, uint64_t bytes) {
    machine m = {g, calloc(bytes / CELL + 2, sizeof(uint64_t)),
                 calloc((size_t)g->tensor_count, sizeof(uint64_t))};
    for (int t = 0; t < g->tensor_count; t++) m.persistent[t] = mix(5, (uint64_t)t);
    return m;
}

static void next_batch(machine *m, int micro) {
    for (int t = 0; t < m->graph->tensor_count; t++)
        if (m->graph->tensor[t].role == CKPT_ROLE_INPUT || m->graph->tensor[t].role == CKPT_ROLE_TARGET)
            m->persistent[t] = mix((uint64_t)micro, (uint64_t)t);
}

static uint64_t finish(machine *m) {
    uint64_t value = 3;
    for (int t = 0; t < m->graph->tensor_count; t++)
        if (!ckpt_tensor_is_step(m->graph, t)) value = mix(value, m->persistent[t]);
    free(m->cell);
    free(m->persistent);
    return value;
}

uint64_t plan_oracle_run(const ckpt_graph *g, const ckpt_plan *p) {
    machine m = start(g, p->memory.arena);
    for (int micro = 0; micro < MICRO_BATCHES; micro++) {
        next_batch(&m, micro);
        for (int s = 0; s < p->step_count; s++) {
            const ckpt_plan_step *step = &p->step[s];
            const ckpt_node *node = &g->node[step->node];
            uint64_t in[CKPT_MAX_IN] = {0}, out[CKPT_MAX_OUT] = {0};
            if (!runs_now(node, micro)) continue;
            for (int i = 0; i < node->in_count; i++)
                in[i] = step->in[i] >= 0 ? p->instance[step->in[i]].offset : 0;
            for (int o = 0; o < node->out_count; o++)
                out[o] = step->out[o] >= 0 ? p->instance[step->out[o]].offset : 0;
            execute(&m, step->node, in, out);
        }
    }
    return finish(&m);
}

uint64_t plan_oracle_truth(const ckpt_graph *g) {
    uint64_t *home = calloc((size_t)g->tensor_count, sizeof *home), end = 0;
    for (int t = 0; t < g->tensor_count; t++) {
        home[t] = end;
        if (ckpt_tensor_is_step(g, t)) end += cells_of(g, t) * CELL;
    }
    machine m = start(g, end);
    for (int micro = 0; micro < MICRO_BATCHES; micro++) {
        next_batch(&m, micro);
        for (int n = 0; n < g->node_count; n++) {
            const ckpt_node *node = &g->node[n];
            uint64_t in[CKPT_MAX_IN] = {0}, out[CKPT_MAX_OUT] = {0};
            if (!runs_now(node, micro)) continue;
            for (int i = 0; i < node->in_count; i++) in[i] = node->in[i] >= 0 ? home[node->in[i]] : 0;
            for (int o = 0; o < node->out_count; o++) out[o] = node->out[o] >= 0 ? home[node->out[o]] : 0;
            execute(&m, n, in, out);
        }
    }
    free(home);
    return finish(&m);
}
