/* Element functions by value. Exporters write GELU as x * 0.5 * (1 + erf(x / sqrt 2)) in many orders, with constants
 * rounded in many ways; instead of a pattern for each, the group of nodes between two tensors is evaluated in double
 * at sample points and compared with the function itself. */
#include <math.h>
#include <string.h>

#include "graph/op.h"
#include "graph/rewrite.h"

enum { GROUP_LIMIT = 12 };

static double gelu(double x) { return 0.5 * x * (1 + erf(x / sqrt(2))); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))); }
static double silu(double x) { return x / (1 + exp(-x)); }
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double mish(double x) { return x * tanh(softplus(x)); }
static double hard_swish(double x) { return x * fmin(fmax(x / 6 + 0.5, 0), 1); }
static double softsign(double x) { return x / (1 + fabs(x)); }

static const struct {
    ckpt_act act;
    double (*f)(double);
} known[] = {{CKPT_ACT_GELU, gelu}, {CKPT_ACT_GELU_TANH, gelu_tanh}, {CKPT_ACT_SILU, silu},
             {CKPT_ACT_SOFTPLUS, softplus}, {CKPT_ACT_MISH, mish}, {CKPT_ACT_HARD_SWISH, hard_swish}, {CKPT_ACT_SOFTSIGN, softsign}};

static const double samples[] = {-6.5, -3.1, -1.7, -0.9, -0.3, -0.05, 0, 0.04, 0.4, 1.1, 2.3, 4.2, 7};

/* The single number in a constant, or false. */
static bool scalar_of(const ckpt_graph *graph, int tensor, double *value) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    if (t->role != CKPT_ROLE_CONST || t->count != 1 || t->dtype != CKPT_F32 || !t->data) return false;
    *value = (double)*(const float *)t->data;
    return true;
}

/* A node of element functions only: what may lie inside a group. */
static bool is_element_node(const ckpt_graph *graph, const ckpt_node *node) {
    if (node->op == CKPT_OP_ACT) return node->attr.act.drop == 0;
    if (node->op != CKPT_OP_BINARY && node->op != CKPT_OP_COMPARE && node->op != CKPT_OP_SELECT) return false;
    const int64_t count = graph->tensor[node->out[0]].count;
    double unused;
    for (int i = 0; i < node->in_count; i++)
        if (!scalar_of(graph, node->in[i], &unused) && graph->tensor[node->in[i]].count != count) return false;
    return true;
}

static bool act_value(const ckpt_epilogue *e, double x, double *y) {
    switch (e->act) {
    case CKPT_ACT_SIGMOID: *y = 1 / (1 + exp(-x)); return true;
    case CKPT_ACT_TANH: *y = tanh(x); return true;
    case CKPT_ACT_ERF: *y = erf(x); return true;
    case CKPT_ACT_SOFTPLUS: *y = softplus(x); return true;
    case CKPT_ACT_HARD_SIGMOID: *y = fmin(fmax((double)e->alpha * x + (double)e->beta, 0), 1); return true;
    case CKPT_ACT_CLIP: *y = fmin(fmax(x, (double)e->alpha), (double)e->beta); return true;
    case CKPT_ACT_ABS: *y = fabs(x); return true;
    case CKPT_ACT_NEG: *y = -x; return true;
    case CKPT_ACT_SCALE: *y = (double)e->alpha * x + (double)e->beta; return true;
    default: return false; /* not part of any function looked for */
    }
}

typedef struct group {
    const ckpt_graph *graph;
    int node[GROUP_LIMIT], count; /* in falling order */
    int source;
} group;

/* The value of `tensor` when the group's source is x. */
static bool tensor_value(const group *g, int tensor, double x, const double *made, double *value) {
    if (tensor == g->source) {
        *value = x;
        return true;
    }
    if (scalar_of(g->graph, tensor, value)) return true;
    for (int i = 0; i < g->count; i++)
        if (g->graph->node[g->node[i]].out[0] == tensor) {
            *value = made[i];
            return true;
        }
    return false;
}

/* What a node makes of the numbers at its inputs; 1 and 0 for true and false. */
static bool node_value(const ckpt_node *node, const double *in, double *out) {
    if (node->op == CKPT_OP_ACT) return act_value(&node->attr.act, in[0], out);
    if (node->op == CKPT_OP_SELECT) {
        *out = in[0] != 0 ? in[1] : in[2];
        return true;
    }
    if (node->op == CKPT_OP_COMPARE) {
        switch (node->attr.compare.kind) {
        case CKPT_COMPARE_LESS: *out = in[0] < in[1]; return true;
        case CKPT_COMPARE_LESS_EQUAL: *out = in[0] <= in[1]; return true;
        case CKPT_COMPARE_GREATER: *out = in[0] > in[1]; return true;
        case CKPT_COMPARE_GREATER_EQUAL: *out = in[0] >= in[1]; return true;
        default: return false;
        }
    }
    switch (node->attr.binary.kind) {
    case CKPT_BINARY_ADD: *out = in[0] + in[1]; return true;
    case CKPT_BINARY_SUB: *out = in[0] - in[1]; return true;
    case CKPT_BINARY_MUL: *out = in[0] * in[1]; return true;
    case CKPT_BINARY_DIV: *out = in[0] / in[1]; return true;
    default: return false;
    }
}

static bool evaluate(const group *g, double x, double *y) {
    double made[GROUP_LIMIT], in[3] = {0};
    for (int i = g->count - 1; i >= 0; i--) {
        const ckpt_node *node = &g->graph->node[g->node[i]];
        for (int k = 0; k < node->in_count; k++)
            if (!tensor_value(g, node->in[k], x, made, &in[k])) return false;
        if (!node_value(node, in, &made[i])) return false;
    }
    *y = made[0];
    return true;
}

/* The function that the group computes, or CKPT_ACT_COUNT. Constants are rounded to float: 2e-6 tells the two forms
 * of GELU apart (they differ by 5e-4) and forgives the rounding. */
static ckpt_act function_of(const group *g) {
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        bool same = true;
        for (size_t i = 0; same && i < sizeof samples / sizeof *samples; i++) {
            double y;
            const double wanted = known[k].f(samples[i]);
            same = evaluate(g, samples[i], &y) && fabs(y - wanted) <= 2e-6 * (1 + fabs(wanted));
        }
        if (same) return known[k].act;
    }
    return CKPT_ACT_COUNT;
}

/* Adds a computed tensor to the frontier, once. */
static void reach(const ckpt_graph *graph, int *frontier, int *count, int tensor) {
    double unused;
    if (scalar_of(graph, tensor, &unused)) return;
    for (int i = 0; i < *count; i++)
        if (frontier[i] == tensor) return;
    frontier[(*count)++] = tensor;
}

/* Grows a group upwards from node `last`, always through the latest node, until all ways lead through one tensor from
 * which the group is a known function. */
static ckpt_act recognise(const ckpt_graph *graph, int last, int *source) {
    group g = {.graph = graph, .source = -1};
    int frontier[3 * GROUP_LIMIT + 3] = {graph->node[last].out[0]}, count = 1;
    while (g.count < GROUP_LIMIT) {
        int latest = -1, at = -1;
        for (int i = 0; i < count; i++) {
            const int producer = graph->tensor[frontier[i]].producer;
            if (producer > latest) latest = producer, at = i;
        }
        if (latest < 0 || !is_element_node(graph, &graph->node[latest])) return CKPT_ACT_COUNT;
        frontier[at] = frontier[--count];
        g.node[g.count++] = latest;
        for (int i = 0; i < graph->node[latest].in_count; i++) reach(graph, frontier, &count, graph->node[latest].in[i]);
        if (count != 1) continue;
        g.source = frontier[0];
        if (graph->tensor[g.source].count != graph->tensor[graph->node[last].out[0]].count) return CKPT_ACT_COUNT;
        const ckpt_act act = function_of(&g);
        if (act != CKPT_ACT_COUNT) {
            *source = g.source;
            return act;
        }
    }
    return CKPT_ACT_COUNT;
}

ckpt_status ckpt_rewrite_recognise(ckpt_graph *graph, ckpt_error *err) {
    (void)err;
    for (int n = 0; n < graph->node_count; n++) {
        ckpt_node *node = &graph->node[n];
        int source;
        if (node->op != CKPT_OP_BINARY && node->op != CKPT_OP_SELECT) continue;
        const ckpt_act act = recognise(graph, n, &source);
        if (act == CKPT_ACT_COUNT) continue;
        /* What lay inside the group is dead now, unless read elsewhere; ckpt_rewrite_fuse drops it. */
        node->op = CKPT_OP_ACT;
        memset(&node->attr, 0, sizeof node->attr);
        node->attr.act.act = act;
        node->in_count = 1;
        node->in[0] = source;
    }
    return CKPT_OK;
}
