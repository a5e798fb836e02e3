#include "planner/chain/chain_exact.h"

#include "planner/graph/chain_search.h"

/* A state: the number of backwards still to run, and above it four bits a stage: whether x_k is there, and which
 * option's internals are held (0: none). The loss's gradient counts as one backward more. */
enum { STAGES = 14, STEP_BITS = 5, STAGE_BITS = 4, OPTIONS = 8, MOST_STATES = 1 << 14 };

/* An act: 1 + has_output + 2 * option + 16 * stage + 512 * ckpt_chain_act. */
enum { ACT_STAGE = 16, ACT_KIND = 512 };

static int shift_of(int k) {
    return STEP_BITS + STAGE_BITS * (k - 1);
}
static bool has(uint64_t state, int k) {
    return k == 0 || (state >> shift_of(k) & 1);
}
static int held(uint64_t state, int k) {
    return (int)(state >> (shift_of(k) + 1)) & (OPTIONS - 1);
}
static uint64_t without(uint64_t state, int k) {
    return k ? state & ~((uint64_t)1 << shift_of(k)) : state;
}
static uint64_t bare(uint64_t state, int k) {
    return state & ~((uint64_t)(OPTIONS - 1) << (shift_of(k) + 1));
}
static uint64_t with(uint64_t state, int k, int option) {
    return state | (uint64_t)(1 + 2 * option) << shift_of(k);
}

bool ckpt_chain_exact_fits(const ckpt_chain *chain) {
    uint64_t product = 1, states = 0;
    if (chain->stage_count > STAGES) return false;
    for (int k = 1; k <= chain->stage_count; k++) {
        const int options = ckpt_chain_options(&chain->stage[k]);
        if (options > OPTIONS) return false;
        product *= 2 * (uint64_t)options;
        states += k < chain->stage_count ? product : 2 * product;
        if (states > MOST_STATES) return false;
    }
    return true;
}

static uint64_t bytes_held(const ckpt_chain *chain, uint64_t state, int upto) {
    uint64_t bytes = 0;
    for (int k = 1; k <= upto; k++) {
        if (has(state, k)) bytes += chain->stage[k].out_bytes;
        if (held(state, k)) bytes += chain->stage[k].option[held(state, k)].kept_bytes;
    }
    return bytes;
}

static void run_forward(ckpt_search *s, const ckpt_chain *chain, uint64_t state, uint64_t live, int k) {
    const ckpt_chain_stage *stage = &chain->stage[k];
    if (has(state, k) || held(state, k) || !has(state, k - 1)) return;
    const uint64_t before = k > 1 ? chain->stage[k - 1].out_bytes : 0;
    for (int o = 0; o < stage->option_count; o++) {
        const ckpt_chain_option *option = &stage->option[o];
        const uint32_t act = (uint32_t)(1 + 2 * o + ACT_STAGE * k);
        if (o > 0 && option->kept_bytes == 0) continue; /* not told apart from holding none */
        ckpt_search_reach(s, with(state, k, o), stage->forward_cost, live + option->forward_bytes[0], act);
        if (k > 1)
            ckpt_search_reach(s, with(without(state, k - 1), k, o), stage->forward_cost,
                              live - before + option->forward_bytes[1], act);
    }
}

static bool is_early(const ckpt_chain *chain, uint64_t state, int k) {
    return held(state, k) && ckpt_chain_is_early(&chain->stage[k], held(state, k));
}

/* The early part of the backward of stage k: x_k and internals are of no use afterwards. */
static void run_early(ckpt_search *s, const ckpt_chain *chain, uint64_t state, int k) {
    const ckpt_chain_stage *stage = &chain->stage[k];
    if (!stage->early || is_early(chain, state, k)) return;
    const uint64_t bytes = stage->option[held(state, k)].early_bytes[has(state, k)];
    if (bytes == CKPT_CHAIN_NEVER) return;
    const uint64_t after = without(with(bare(state, k), k, stage->option_count), k);
    ckpt_search_reach(s, after, 0, bytes_held(chain, state, k - 1) + bytes,
                      (uint32_t)(1 + has(state, k) + 2 * held(state, k) + ACT_STAGE * k + ACT_KIND * CKPT_CHAIN_EARLY));
}

/* What is left of stage k afterwards is of no use. */
static void run_backward(ckpt_search *s, const ckpt_chain *chain, uint64_t state, int k) {
    const ckpt_chain_stage *stage = &chain->stage[k];
    if (!has(state, k - 1)) return;
    const uint64_t others = bytes_held(chain, state, k - 1), after = without(bare(state, k), k) - 1;
    for (int o = 0; o < ckpt_chain_options(stage); o++) {
        const ckpt_chain_option *option = &stage->option[o];
        const bool exactly = held(state, k) || ckpt_chain_is_early(stage, o);
        if (exactly ? o != held(state, k) : option->kept_bytes != 0) continue;
        if (option->recompute_cost[has(state, k)] == CKPT_CHAIN_NEVER) continue;
        const uint32_t act = (uint32_t)(1 + has(state, k) + 2 * o + ACT_STAGE * k + ACT_KIND * CKPT_CHAIN_BACKWARD);
        for (int dies = 0; dies < (k > 1 ? 2 : 1); dies++) /* x_0 outlives the step */
            ckpt_search_reach(s, dies ? without(after, k - 1) : after, option->recompute_cost[has(state, k)],
                              others + option->backward_bytes[has(state, k)][dies], act);
    }
}

/* The backward of each k reads x_{k-1}: what is not there runs at least once more. */
static uint64_t least_ahead(const void *problem, uint64_t state) {
    const ckpt_chain *chain = problem;
    uint64_t cost = 0;
    for (int k = (int)(state & ((1u << STEP_BITS) - 1)) - 1; k >= 1; k--)
        if (!has(state, k)) cost += chain->stage[k].forward_cost;
    return cost;
}

static void expand(ckpt_search *s, uint64_t state) {
    const ckpt_chain *chain = s->problem;
    const int count = chain->stage_count, k = (int)(state & ((1u << STEP_BITS) - 1));
    const int upto = k <= count ? k : count;
    uint64_t live = bytes_held(chain, state, upto);
    if (k <= count) live += chain->stage[k].gradient_bytes;
    for (int i = 1; i <= upto; i++) {
        if (has(state, i)) ckpt_search_reach(s, without(state, i), 0, 0, 0);
        if (held(state, i) && !is_early(chain, state, i)) ckpt_search_reach(s, bare(state, i), 0, 0, 0);
        run_forward(s, chain, state, live, i);
    }
    if (k <= count) {
        run_early(s, chain, state, k);
        run_backward(s, chain, state, k);
    } else if (has(state, count)) {
        ckpt_search_reach(s, state - 1, 0, live + chain->stage[count].gradient_bytes, 0);
    }
}

static ckpt_search search_of(const ckpt_chain *chain, uint64_t budget_bytes) {
    return (ckpt_search){.problem = chain,
                         .expand = expand,
                         .least_ahead = least_ahead,
                         .start = (uint64_t)chain->stage_count + 1,
                         .budget_bytes = budget_bytes};
}

ckpt_status ckpt_chain_exact_least(const ckpt_chain *chain, uint64_t *bytes, ckpt_error *err) {
    ckpt_search s = search_of(chain, UINT64_MAX);
    s.least_bytes = true;
    const ckpt_status status = ckpt_search_run(&s, err);
    *bytes = s.needed_bytes;
    ckpt_search_free(&s);
    return status;
}

static ckpt_status take(const ckpt_search *s, ckpt_pool *pool, ckpt_chain_program *program, ckpt_error *err) {
    *program = (ckpt_chain_program){.count = s->act_count,
                                    .capacity = s->act_count,
                                    .step = ckpt_pool_array(pool, s->act_count, ckpt_chain_step),
                                    .cost = s->cost,
                                    .needed_bytes = s->needed_bytes};
    if (!program->step) return ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d steps", s->act_count);
    for (int i = 0; i < s->act_count; i++) {
        const int act = (int)s->act[i] - 1;
        program->step[i] = (ckpt_chain_step){.act = (ckpt_chain_act)(act / ACT_KIND),
                                             .stage = act % ACT_KIND / ACT_STAGE,
                                             .option = act % ACT_STAGE / 2,
                                             .has_output = act % 2};
    }
    return CKPT_OK;
}

ckpt_status ckpt_chain_exact_solve(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_pool *pool,
                                   ckpt_chain_program *program, ckpt_error *err) {
    ckpt_search s = search_of(chain, budget_bytes);
    ckpt_status status = ckpt_search_run(&s, err);
    if (status == CKPT_OK && s.found && s.needed_bytes < budget_bytes) {
        /* Again with what it needs: which of equal ways is found then no longer depends on what was asked. */
        const uint64_t needed = s.needed_bytes;
        ckpt_search_free(&s);
        s = search_of(chain, needed);
        status = ckpt_search_run(&s, err);
    }
    if (status == CKPT_OK)
        status = s.found ? take(&s, pool, program, err)
                         : ckpt_fail(err, CKPT_INFEASIBLE, "no schedule of %d stages fits %llu bytes",
                                     chain->stage_count, (unsigned long long)budget_bytes);
    ckpt_search_free(&s);
    return status;
}
