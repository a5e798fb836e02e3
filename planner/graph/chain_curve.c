#include "planner/graph/chain_curve.h"

#include "graph/op.h"

/* SHORT: nodes. */
enum { SHORT = 256, TABLE_POINTS = 24, MOST_APART = 32, MOST_PARTS = 256 };

/* Work, in steps of schedules replayed: some ten nanoseconds each (graph_curve.h). */
enum { MOST_SIMPLE = 20000000, MOST_PRICED = 100000000, MOST_MOVES = 250000000 };

/* The same for narrow graphs, whose tables are good already: little is gained but near the smallest budget. */
enum { MOST_NARROW_PRICED = 300000, MOST_NARROW_MOVES = 2000000 };

/* What lies between two checkpoints when the outputs of some stages are always kept. */
typedef enum between { NO_CHECKPOINTS, STAGE_COUNT, STAGE_OUTPUTS, ALL_READ } between;

/* Bytes that a stage adds to what is made again together with it: its output, or all that the backward pass reads. */
static uint64_t stage_bytes(const ckpt_stages *stages, int k, between what, const bool *read) {
    const ckpt_graph *g = stages->graph;
    const ckpt_stage_nodes *nodes = &stages->nodes[k];
    uint64_t bytes = 0;
    if (what == STAGE_COUNT) return 1;
    for (int n = nodes->forward; n < nodes->forward_end; n++)
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (ckpt_tensor_is_step(g, t) && (t == nodes->out || (what == ALL_READ && read[t])))
                bytes += ckpt_tensor_bytes(&g->tensor[t]);
        }
    return bytes;
}

/* Schedules by prices. Checkpoints are `parts` apart: stages, or parts of all bytes. With `twice` what is made again on the way
 * to something else, other than the outputs of stages, is made once more when its own time comes. */
static ckpt_status add_priced(const ckpt_stages *stages, ckpt_graph_curve *curve, between what, int parts, bool twice,
                              uint64_t most_work, ckpt_error *err) {
    const ckpt_graph *g = stages->graph;
    const int count = stages->chain.stage_count;
    ckpt_pool scratch = {0};
    bool *forced = ckpt_pool_array(&scratch, g->tensor_count, bool), *read = ckpt_pool_array(&scratch, g->tensor_count, bool);
    bool *stays = ckpt_pool_array(&scratch, g->tensor_count, bool);
    int *part = ckpt_pool_array(&scratch, g->node_count, int);
    ckpt_status status = CKPT_NOMEM;
    if (forced && read && stays && part) {
        uint64_t all = 0, since = 0;
        for (int n = g->forward_count; n < g->node_count; n++)
            for (int i = 0; i < g->node[n].in_count; i++)
                if (g->node[n].in[i] >= 0) read[g->node[n].in[i]] = true;
        for (int k = 1; k <= count; k++) {
            const ckpt_stage_nodes *nodes = &stages->nodes[k];
            all += stage_bytes(stages, k, what, read);
            for (int n = nodes->backward; n < nodes->backward_end; n++) part[n] = k;
            if (nodes->out >= 0) stays[nodes->out] = true;
        }
        const uint64_t apart = what == STAGE_COUNT ? (uint64_t)parts : all / (uint64_t)parts;
        for (int k = 1; k < count && what != NO_CHECKPOINTS; k++) {
            since += stage_bytes(stages, k, what, read);
            if (stages->nodes[k].out < 0 || since < apart) continue;
            forced[stages->nodes[k].out] = true;
            since = 0;
        }
        const ckpt_graph_habit habit = {.forced = forced, .stays = twice ? stays : NULL, .part = part};
        status = ckpt_graph_curve_price(curve, &habit, most_work, err);
    } else {
        ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning");
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* Schedules of the tables over the whole range, so that they are improved too. */
static ckpt_status add_from_tables(const ckpt_stages *stages, ckpt_chain_tables *tables, ckpt_graph_curve *curve,
                                   ckpt_error *err) {
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    for (uint64_t i = 0; i < TABLE_POINTS; i++) {
        ckpt_pool scratch = {0};
        ckpt_chain_program program;
        ckpt_schedule schedule = {0};
        ckpt_status status = ckpt_chain_solve(tables, least + (most - least) / (TABLE_POINTS - 1) * i, &scratch,
                                              &program, err);
        if (status == CKPT_OK) status = ckpt_stages_emit(stages, &program, &scratch, &schedule, err);
        if (status == CKPT_OK) status = ckpt_graph_curve_add(curve, &schedule, err);
        ckpt_pool_free(&scratch);
        CKPT_TRY(status);
    }
    return CKPT_OK;
}

/* NARROW: a chain but for stages that read their input several times, as skips do: it is there anyway. */
typedef enum shape { CHAIN, NARROW, BRANCHING } shape;

/* Whether some forward tensor is read by several nodes, or some node reads several. `reader`, `outer`: by tensor. */
static shape find_shape(const ckpt_stages *stages, int *reader, bool *outer) {
    const ckpt_graph *g = stages->graph;
    shape found = CHAIN;
    for (int k = 1; k <= stages->chain.stage_count; k++)
        if (stages->nodes[k].out >= 0) outer[stages->nodes[k].out] = true;
    for (int t = 0; t < g->tensor_count; t++) reader[t] = -1;
    for (int n = 0; n < g->forward_count; n++) {
        int inside = -1, outside = -1;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            int *read = outer[t] ? &outside : &inside;
            const bool twice = (*read >= 0 && *read != t) || (reader[t] >= 0 && reader[t] != n);
            if (twice && !outer[t]) return BRANCHING;
            *read = t;
            reader[t] = n;
            if (twice || (inside >= 0 && outside >= 0)) found = NARROW;
        }
    }
    return found;
}

ckpt_status ckpt_chain_curve_build(const ckpt_stages *stages, ckpt_chain_tables *tables, ckpt_graph_curve *curve,
                                   ckpt_error *err) {
    const int count = stages->chain.stage_count;
    ckpt_pool scratch = {0};
    int *reader = ckpt_pool_array(&scratch, stages->graph->tensor_count, int);
    bool *outer = ckpt_pool_array(&scratch, stages->graph->tensor_count, bool);
    const bool room = reader && outer;
    const shape of = room ? find_shape(stages, reader, outer) : CHAIN;
    ckpt_pool_free(&scratch);
    if (!room) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning");
    curve->branching = of == BRANCHING;
    /* The tables are all that a chain needs, and nearly all that long narrow graphs do. */
    const bool narrow = of == NARROW && !stages->deep, narrow_long = narrow && stages->graph->node_count > SHORT;
    if (of == CHAIN || (narrow_long && !stages->thinned)) return CKPT_OK;
    CKPT_TRY(ckpt_graph_curve_descend(curve, err));
    CKPT_TRY(add_from_tables(stages, tables, curve, err));
    if (narrow_long) return CKPT_OK;
    const uint64_t most_work = curve->work + (narrow ? MOST_NARROW_PRICED : MOST_PRICED);
    for (int twice = 0; twice < 2; twice++) {
        CKPT_TRY(add_priced(stages, curve, NO_CHECKPOINTS, 1, twice, most_work, err));
        for (int apart = 1; apart <= count && apart <= MOST_APART; apart += 1 + apart / 3)
            CKPT_TRY(add_priced(stages, curve, STAGE_COUNT, apart, twice, most_work, err));
        for (int parts = 2; parts <= 2 * count && parts < MOST_PARTS; parts *= 2) {
            CKPT_TRY(add_priced(stages, curve, STAGE_OUTPUTS, parts, twice, most_work, err));
            CKPT_TRY(add_priced(stages, curve, ALL_READ, parts, twice, most_work, err));
        }
    }
    return ckpt_graph_curve_move(curve, curve->work + (narrow ? MOST_NARROW_MOVES : MOST_MOVES), err);
}
