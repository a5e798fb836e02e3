/* The gradient of ops that have rows in tapes.def: a node for each gradient op, reading what the tape says. */
#include "graph/autodiff.h"
#include "graph/op_rules.h"

#define IN(i) (1u << (i))
#define OUT (1u << 31)

static const struct tape_row {
    ckpt_op op;
    int input;
    ckpt_op gradient;
    unsigned tape;
} rows[] = {
#define X(op, input, gradient, tape) {CKPT_OP_##op, input, CKPT_OP_##gradient, tape},
#include "graph/tapes.def"
#undef X
};
enum { ROWS = sizeof rows / sizeof *rows };

bool ckpt_op_has_gradient(ckpt_op op, int input) {
    const ckpt_op_row *row = ckpt_op_info(op);
    if (row->gradient != ckpt_gradient_taped) return row->gradient != NULL;
    for (int r = 0; r < ROWS; r++)
        if (rows[r].op == op && rows[r].input == input) return true;
    return false;
}

/* One gradient node, for the inputs of rows [first, end). */
static ckpt_status emit(ckpt_autodiff *ad, const ckpt_node *n, int first, int end, ckpt_error *err) {
    int in[CKPT_MAX_IN] = {ad->gradient[n->out[0]]}, out[CKPT_MAX_OUT], in_count = 1, out_count = 0, input[CKPT_MAX_OUT];
    unsigned tape = 0;
    bool any = false;
    for (int r = first; r < end; r++) {
        const int t = rows[r].input < n->in_count ? n->in[rows[r].input] : -1;
        const bool wanted = t >= 0 && ad->wanted[t];
        if (!wanted && rows[r].input >= n->in_count) continue;
        input[out_count] = t;
        out[out_count] = wanted ? ckpt_gradient_tensor(ad, t, err) : -1;
        if (wanted && out[out_count] < 0) return CKPT_NOMEM;
        tape |= rows[r].tape;
        any |= wanted;
        out_count++;
    }
    if (!any) return CKPT_OK;
    for (int i = 0; i < n->in_count; i++)
        if (tape & IN(i)) in[in_count++] = n->in[i];
    if (tape & OUT) in[in_count++] = n->out[0];
    const int node = ckpt_graph_add_node(ad->graph, rows[first].gradient, CKPT_BACKWARD, ad->name, in_count, in, out_count,
                                         out, err);
    if (node < 0) return CKPT_NOMEM;
    ad->graph->node[node].attr = n->attr;
    ad->graph->node[node].layer = ad->layer;
    for (int i = 0; i < out_count; i++)
        if (out[i] >= 0) CKPT_TRY(ckpt_gradient_give(ad, input[i], out[i], err));
    return CKPT_OK;
}

ckpt_status ckpt_gradient_taped(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    for (int first = 0, end; first < ROWS; first = end) {
        for (end = first + 1; end < ROWS; end++)
            if (rows[end].op != rows[first].op || rows[end].gradient != rows[first].gradient) break;
        if (rows[first].op == n.op) CKPT_TRY(emit(ad, &n, first, end, err));
    }
    return CKPT_OK;
}
