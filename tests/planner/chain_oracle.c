#include "chain_oracle.h"

#include <assert.h>
#include <stdlib.h>

/* State: a bit a stage k, x_k there, and where it has options 2 for the one whose internals are held; above
 * them all whether the early part of the next backward is done, and the backward that is next. */
typedef struct search {
    const ckpt_chain *chain;
    uint64_t budget;
    uint64_t *best;
    int at[10]; /* lowest bit of stage k; at[count + 1]: of the next backward */
    struct entry {
        uint64_t cost;
        uint32_t state;
    } * heap;
    size_t heap_count, heap_capacity;
} search;

static bool has(const search *s, uint32_t state, int k) {
    return k == 0 || (state >> s->at[k] & 1);
}
static uint32_t options(const search *s, int k) {
    return s->at[k + 1] - s->at[k] > 1 ? 6u << s->at[k] : 0;
}
static int held(const search *s, uint32_t state, int k) {
    return (int)((state & options(s, k)) >> s->at[k] >> 1);
}
static uint32_t without(const search *s, uint32_t state, int k) {
    return state & ~(k ? 1u << s->at[k] : 0u);
}
static uint32_t bare(const search *s, uint32_t state, int k) {
    return state & ~options(s, k);
}
static uint32_t with(const search *s, uint32_t state, int k, int option) {
    return state | (1u + 2u * (uint32_t)option) << s->at[k];
}

static void reach(search *s, uint64_t cost, uint32_t state) {
    if (cost >= s->best[state]) return;
    s->best[state] = cost;
    if (s->heap_count == s->heap_capacity) {
        s->heap_capacity = s->heap_capacity ? 2 * s->heap_capacity : 1024;
        s->heap = realloc(s->heap, s->heap_capacity * sizeof *s->heap);
        assert(s->heap);
    }
    size_t i = s->heap_count++;
    for (; i > 0 && s->heap[(i - 1) / 2].cost > cost; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = (struct entry){cost, state};
}

static struct entry nearest(search *s) {
    struct entry top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && s->heap[child + 1].cost < s->heap[child].cost) child++;
        if (s->heap[child].cost >= last.cost) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

static uint64_t bytes_held(const search *s, uint32_t state, int upto) {
    const ckpt_chain *chain = s->chain;
    uint64_t bytes = 0;
    for (int k = 1; k <= upto; k++) {
        if (has(s, state, k)) bytes += chain->stage[k].out_bytes;
        bytes += chain->stage[k].option[held(s, state, k)].kept_bytes;
    }
    return bytes;
}

static void run_forward(search *s, uint64_t cost, uint32_t state, uint32_t next, uint64_t live, int i) {
    const ckpt_chain_stage *stage = &s->chain->stage[i];
    if (has(s, state, i) || held(s, state, i) || !has(s, state, i - 1)) return;
    uint64_t before = i > 1 ? s->chain->stage[i - 1].out_bytes : 0;
    for (int o = 0; o < stage->option_count; o++) {
        const ckpt_chain_option *option = &stage->option[o];
        if (o > 0 && option->kept_bytes == 0) continue;
        if (live + option->forward_bytes[0] <= s->budget)
            reach(s, cost + stage->forward_cost, with(s, state, i, o) | next);
        if (i > 1 && live - before + option->forward_bytes[1] <= s->budget)
            reach(s, cost + stage->forward_cost, with(s, without(s, state, i - 1), i, o) | next);
    }
}

static void run_backward(search *s, uint64_t cost, uint32_t state, int k, uint32_t next) {
    const ckpt_chain_stage *stage = &s->chain->stage[k];
    if (!has(s, state, k - 1)) return;
    uint64_t others = bytes_held(s, state, k - 1);
    for (int o = 0; o < stage->option_count; o++) {
        if (held(s, state, k) ? o != held(s, state, k) : stage->option[o].kept_bytes != 0) continue;
        uint64_t recompute = stage->option[o].recompute_cost[has(s, state, k)];
        if (recompute == CKPT_CHAIN_NEVER) continue;
        for (int dies = 0; dies < 2; dies++)
            if (others + stage->option[o].backward_bytes[has(s, state, k)][dies] <= s->budget) {
                uint32_t after = without(s, bare(s, state, k), k);
                reach(s, cost + recompute, (dies ? without(s, after, k - 1) : after) | next);
            }
    }
}

/* With the early part of the backward of k done, stage k has nothing but what that left: it is not run any more. */
static void go_on_early(search *s, uint64_t cost, uint32_t state, int k, uint32_t same, uint32_t next) {
    const ckpt_chain_stage *stage = &s->chain->stage[k];
    const ckpt_chain_option *left = &stage->option[stage->option_count];
    const uint64_t others = bytes_held(s, state, k - 1);
    for (int i = 1; i < k; i++) {
        if (has(s, state, i)) reach(s, cost, without(s, state, i) | same);
        if (held(s, state, i)) reach(s, cost, bare(s, state, i) | same);
        run_forward(s, cost, state, same, others + stage->gradient_bytes + left->kept_bytes, i);
    }
    for (int dies = 0; dies < 2 && has(s, state, k - 1); dies++)
        if (others + left->backward_bytes[0][dies] <= s->budget)
            reach(s, cost + left->recompute_cost[0], (dies ? without(s, state, k - 1) : state) | next);
}

static void run_early(search *s, uint64_t cost, uint32_t state, int k, uint32_t early) {
    const ckpt_chain_stage *stage = &s->chain->stage[k];
    const uint64_t bytes = stage->option[held(s, state, k)].early_bytes[has(s, state, k)];
    if (stage->early && bytes != CKPT_CHAIN_NEVER && bytes_held(s, state, k - 1) + bytes <= s->budget)
        reach(s, cost, without(s, bare(s, state, k), k) | early);
}

uint64_t ckpt_chain_oracle(const ckpt_chain *chain, uint64_t budget_bytes) {
    int count = chain->stage_count, shift = 0;
    assert(count <= 8);
    search s = {.chain = chain, .budget = budget_bytes};
    for (int k = 1; k <= count; k++) {
        assert(chain->stage[k].option_count <= 4);
        s.at[k] = shift;
        shift += chain->stage[k].option_count > 1 ? 3 : 1;
    }
    s.at[count + 1] = shift;
    const uint32_t early = 1u << shift++;
    size_t states = (size_t)(count + 2) << shift;
    s.best = malloc(states * sizeof *s.best);
    assert(s.best);
    for (size_t i = 0; i < states; i++) s.best[i] = UINT64_MAX;
    uint64_t answer = CKPT_CHAIN_NEVER;
    reach(&s, 0, (uint32_t)(count + 1) << shift);
    while (s.heap_count) {
        struct entry at = nearest(&s);
        if (s.best[at.state] < at.cost) continue;
        int k = (int)(at.state >> shift);
        uint32_t state = at.state & (early - 1), same = at.state - state;
        if (k == 0) {
            answer = at.cost;
            break;
        }
        uint32_t next = (uint32_t)(k - 1) << shift;
        if (same & early) {
            go_on_early(&s, at.cost, state, k, same, next);
            continue;
        }
        int upto = k <= count ? k : count;
        uint64_t live = bytes_held(&s, state, upto) + (k <= count ? chain->stage[k].gradient_bytes : 0);
        for (int i = 1; i <= upto; i++) {
            if (has(&s, state, i)) reach(&s, at.cost, without(&s, state, i) | same);
            if (held(&s, state, i)) reach(&s, at.cost, bare(&s, state, i) | same);
            run_forward(&s, at.cost, state, same, live, i);
        }
        if (k <= count) {
            run_early(&s, at.cost, state, k, same | early);
            run_backward(&s, at.cost, state, k, next);
        } else if (has(&s, state, count) && live + chain->stage[count].gradient_bytes <= budget_bytes)
            reach(&s, at.cost, state | next);
    }
    free(s.best);
    free(s.heap);
    return answer;
}

/* State of the persistent search: a bit a stage k, x_k kept; above them the output that was made last and is not yet kept
 * (0: none), in four bits, and the backward that is next. */
enum { MADE_AT = 8, NEXT_AT = 12 };

static uint32_t kept_bit(int k) {
    return k ? 1u << (k - 1) : 0;
}
static int made(uint32_t state) {
    return (int)(state >> MADE_AT & 15);
}
static bool is_there(uint32_t state, int k) {
    return k == 0 || made(state) == k || (state & kept_bit(k));
}
static uint32_t keep_made(uint32_t state) {
    return (state | kept_bit(made(state))) & ~(15u << MADE_AT);
}

static uint64_t bytes_there(const ckpt_chain *chain, uint32_t state, int upto) {
    uint64_t bytes = 0;
    for (int k = 1; k <= upto; k++)
        if (is_there(state, k)) bytes += chain->stage[k].out_bytes;
    return bytes;
}

/* x_{i-1} dies where it was only made for this run, or has been read by the backward of i already. */
static void run_persistent(search *s, uint64_t cost, uint32_t state, uint64_t live, int i, int next) {
    const ckpt_chain_stage *stage = &s->chain->stage[i];
    if (is_there(state, i) || !is_there(state, i - 1)) return;
    const uint64_t before = i > 1 ? s->chain->stage[i - 1].out_bytes : 0;
    const uint32_t making = (uint32_t)i << MADE_AT;
    if (live + stage->option[0].forward_bytes[0] <= s->budget)
        reach(s, cost + stage->forward_cost, keep_made(state) | making);
    if (i == 1 || (made(state) != i - 1 && i - 1 < next)) return;
    if (live - before + stage->option[0].forward_bytes[1] > s->budget) return;
    const uint32_t rest = made(state) == i - 1 ? state & ~(15u << MADE_AT) : keep_made(state) & ~kept_bit(i - 1);
    reach(s, cost + stage->forward_cost, rest | making);
}

static void back_persistent(search *s, uint64_t cost, uint32_t state, int k) {
    const ckpt_chain_option *option = &s->chain->stage[k].option[0];
    if (!is_there(state, k - 1) || option->recompute_cost[is_there(state, k)] == CKPT_CHAIN_NEVER) return;
    const uint64_t others = bytes_there(s->chain, state, k - 1);
    const uint32_t after = (keep_made(state) & ~kept_bit(k)) - (1u << NEXT_AT);
    for (int dies = 0; dies < 2; dies++)
        if (others + option->backward_bytes[is_there(state, k)][dies] <= s->budget)
            reach(s, cost + option->recompute_cost[is_there(state, k)], dies ? after & ~kept_bit(k - 1) : after);
}

uint64_t ckpt_chain_oracle_persistent(const ckpt_chain *chain, uint64_t budget_bytes) {
    const int count = chain->stage_count;
    assert(count <= MADE_AT);
    search s = {.chain = chain, .budget = budget_bytes};
    const size_t states = (size_t)(count + 2) << NEXT_AT;
    s.best = malloc(states * sizeof *s.best);
    assert(s.best);
    for (size_t i = 0; i < states; i++) s.best[i] = UINT64_MAX;
    uint64_t answer = CKPT_CHAIN_NEVER;
    reach(&s, 0, (uint32_t)(count + 1) << NEXT_AT);
    while (s.heap_count && answer == CKPT_CHAIN_NEVER) {
        const struct entry at = nearest(&s);
        if (s.best[at.state] < at.cost) continue;
        const int k = (int)(at.state >> NEXT_AT), upto = k <= count ? k : count;
        const uint64_t live = bytes_there(chain, at.state, upto) + (k <= count ? chain->stage[k].gradient_bytes : 0);
        if (k == 0) answer = at.cost;
        for (int i = 1; i <= upto; i++) {
            if ((at.state & kept_bit(i)) && i >= k) reach(&s, at.cost, at.state & ~kept_bit(i));
            run_persistent(&s, at.cost, at.state, live, i, k);
        }
        if (made(at.state) >= k && k > 0) reach(&s, at.cost, at.state & ~(15u << MADE_AT));
        if (k > 0 && k <= count) back_persistent(&s, at.cost, at.state, k);
        if (k > count && is_there(at.state, count) && live + chain->stage[count].gradient_bytes <= budget_bytes)
            reach(&s, at.cost, keep_made(at.state) - (1u << NEXT_AT));
    }
    free(s.best);
    free(s.heap);
    return answer;
}

uint64_t ckpt_chain_tables_cost(ckpt_chain_tables *tables, uint64_t budget_bytes) {
    ckpt_pool pool = {0};
    ckpt_chain_program program;
    ckpt_error err;
    uint64_t cost = CKPT_CHAIN_NEVER;
    if (ckpt_chain_solve(tables, budget_bytes, &pool, &program, &err) == CKPT_OK) cost = program.cost;
    ckpt_pool_free(&pool);
    return cost;
}

uint64_t ckpt_chain_replay(const ckpt_chain *chain, const ckpt_chain_program *program) {
    uint64_t cost = 0;
    bool there[CKPT_ORACLE_STAGES + 1] = {true};
    int option[CKPT_ORACLE_STAGES + 1] = {0}; /* whose internals a stage's last run kept */
    int next = chain->stage_count, early = 0;
    for (int i = 0; i < program->count; i++) {
        const ckpt_chain_step *step = &program->step[i];
        const ckpt_chain_stage *stage = &chain->stage[step->stage];
        bool right = step->act == CKPT_CHAIN_EARLY || there[step->stage - 1];
        if (step->act == CKPT_CHAIN_FORWARD) {
            cost += stage->forward_cost;
            there[step->stage] = true;
            option[step->stage] = step->option;
        } else if (step->act == CKPT_CHAIN_EARLY) {
            right &= step->stage == next && early != next && (!step->has_output || there[next]);
            right &= stage->option[step->option].early_bytes[step->has_output] != CKPT_CHAIN_NEVER;
            right &= step->option == 0 || option[next] == step->option;
            early = next;
        } else {
            right &= step->stage == next && ckpt_chain_is_early(stage, step->option) == (early == next);
            right &= !step->has_output || there[step->stage];
            right &= early == next || stage->option[step->option].kept_bytes == 0 || option[next] == step->option;
            next--;
            cost += stage->option[step->option].recompute_cost[step->has_output];
        }
        if (!right) return CKPT_CHAIN_NEVER;
    }
    return next == 0 ? cost : CKPT_CHAIN_NEVER;
}

uint64_t ckpt_random_between(ckpt_random_chain *random, uint64_t low, uint64_t high) {
    uint64_t x = random->state; /* xorshift64*, Vigna 2016 */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return low + (x * 0x2545F4914F6CDD1Dull >> 16) % (high - low + 1);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static ckpt_chain_stage *start(ckpt_random_chain *random, int k) {
    ckpt_chain_stage *stage = &random->stage[k];
    *stage = (ckpt_chain_stage){.option_count = 1, .option = random->option[k], .kind = k};
    return stage;
}

void ckpt_chain_make_plain(ckpt_random_chain *random, int count, const uint64_t *bytes,
                           const uint64_t *cost) {
    random->chain = (ckpt_chain){count, random->stage};
    random->stage[0] = (ckpt_chain_stage){0};
    for (int k = 1; k <= count; k++) {
        ckpt_chain_stage *stage = start(random, k);
        uint64_t before = k > 1 ? bytes[k - 1] : 0;
        uint64_t peak = 2 * bytes[k] + before;
        stage->out_bytes = stage->gradient_bytes = bytes[k];
        stage->forward_cost = cost[k];
        stage->needs_output = true;
        random->option[k][0] = (ckpt_chain_option){.forward_bytes = {bytes[k], before + bytes[k]},
                                                   .recompute_cost = {CKPT_CHAIN_NEVER, 0},
                                                   .backward_bytes = {{peak, peak}, {peak, peak}}};
        for (int j = 1; j < k; j++) {
            uint64_t before_j = j > 1 ? bytes[j - 1] : 0;
            if (bytes[j] == bytes[k] && cost[j] == cost[k] && before_j == before) stage->kind = j;
            if (stage->kind != k) break;
        }
    }
}

void ckpt_chain_make_plain_random(ckpt_random_chain *random, int count, uint64_t most) {
    uint64_t bytes[CKPT_ORACLE_STAGES + 1] = {0}, cost[CKPT_ORACLE_STAGES + 1] = {0};
    for (int k = 1; k <= count; k++) {
        bytes[k] = ckpt_random_between(random, 1, most);
        cost[k] = ckpt_random_between(random, 1, most);
    }
    ckpt_chain_make_plain(random, count, bytes, cost);
}

/* Backward of x -> internals -> y: y's mask over the gradient, remade internals, the weight's gradient while
 * x is there, then x's. */
static void make_option(const ckpt_chain_stage *stage, ckpt_chain_option *option, uint64_t before,
                        uint64_t weight, uint64_t inside, uint64_t kept, uint64_t remake) {
    uint64_t out = stage->out_bytes, grad = stage->gradient_bytes;
    option->kept_bytes = kept;
    for (int there = 0; there < 2; there++) {
        bool again = stage->needs_output && !there;
        option->recompute_cost[there] = remake + (again ? stage->forward_cost : 0);
        uint64_t held_out = there || stage->needs_output ? out : 0;
        uint64_t peak = larger(held_out + grad + inside, grad + inside + weight);
        if (again) peak = larger(peak, grad + option->forward_bytes[0]);
        for (int dies = 0; dies < 2; dies++) {
            uint64_t last = grad + before;
            option->backward_bytes[there][dies] = larger(peak, dies ? larger(last, before) - before : last);
        }
    }
}

void ckpt_chain_make_real_random(ckpt_random_chain *random, int count, uint64_t most, int options) {
    random->chain = (ckpt_chain){count, random->stage};
    random->stage[0] = (ckpt_chain_stage){0};
    for (int k = 1; k <= count; k++) {
        ckpt_chain_stage *stage = start(random, k);
        uint64_t before = k > 1 ? random->stage[k - 1].out_bytes : 0;
        bool loss = k == count, inplace = ckpt_random_between(random, 0, 3) == 0;
        stage->out_bytes = stage->gradient_bytes = loss ? 0 : ckpt_random_between(random, 1, most);
        stage->forward_cost = ckpt_random_between(random, 1, most);
        stage->needs_output = !loss && ckpt_random_between(random, 0, 1);
        uint64_t transient = loss ? 0 : ckpt_random_between(random, 0, most / 2);
        uint64_t sum = before + stage->out_bytes;
        uint64_t weight = loss ? 0 : ckpt_random_between(random, 0, most);
        uint64_t inside = loss ? 0 : ckpt_random_between(random, 0, most);
        if (loss) {
            random->option[k][0] = (ckpt_chain_option){.backward_bytes = {{before, 0}, {before, 0}}};
            continue;
        }
        stage->option_count =
            options > 1 && inside ? (int)ckpt_random_between(random, 1, (uint64_t)options) : 1;
        for (int o = 0; o < stage->option_count; o++) {
            uint64_t kept = o == 0 ? 0 : ckpt_random_between(random, 1, inside);
            uint64_t remake = o == 0 && options > 1 ? stage->forward_cost / 2 + 1 : 0;
            if (stage->option_count == 1) remake = 0;
            random->option[k][o].forward_bytes[0] = stage->out_bytes + transient + kept;
            random->option[k][o].forward_bytes[1] =
                (inplace && before == stage->out_bytes ? before : sum) + transient + kept;
            make_option(stage, &random->option[k][o], before, weight, inside, kept, remake);
        }
    }
}

/* Where a stage reads its output: its mask over the gradient, then the rest. */
void ckpt_chain_make_early_random(ckpt_random_chain *random, int count, uint64_t most, int options) {
    ckpt_chain_make_real_random(random, count, most, options);
    for (int k = 2; k < count; k++) {
        ckpt_chain_stage *stage = &random->stage[k];
        ckpt_chain_option *option = random->option[k];
        stage->early = stage->needs_output && stage->option_count < CKPT_ORACLE_OPTIONS && ckpt_random_between(random, 0, 3) > 0;
        if (!stage->early) continue;
        ckpt_chain_option *left = &option[stage->option_count];
        *left = (ckpt_chain_option){.recompute_cost = {option[0].recompute_cost[1], CKPT_CHAIN_NEVER},
                                    .early_bytes = {CKPT_CHAIN_NEVER, CKPT_CHAIN_NEVER},
                                    .kept_bytes = ckpt_random_between(random, 0, 3) ? 0 : ckpt_random_between(random, 0, most / 2)};
        for (int o = 0; o < stage->option_count; o++) {
            const bool alone = o > 0 && ckpt_random_between(random, 0, 1);
            const uint64_t bytes = option[o].kept_bytes + stage->gradient_bytes + left->kept_bytes;
            option[o].early_bytes[0] = alone ? bytes : CKPT_CHAIN_NEVER;
            option[o].early_bytes[1] = bytes + stage->out_bytes;
        }
        const uint64_t less = ckpt_random_between(random, 0, stage->out_bytes);
        for (int dies = 0; dies < 2; dies++) {
            const uint64_t whole = option[0].backward_bytes[1][dies];
            const uint64_t least = stage->gradient_bytes + left->kept_bytes;
            left->backward_bytes[0][dies] = larger(whole > less ? whole - less : 0, least);
            left->backward_bytes[1][dies] = left->backward_bytes[0][dies];
        }
    }
}

const char *ckpt_chain_kind_name(ckpt_chain_kind kind) {
    static const char *const name[CKPT_CHAIN_KINDS] = {"reference model", "flags and transients", "equal stages",
                                                       "internals",       "early parts",          "internals and early parts"};
    return name[kind];
}

void ckpt_chain_make(ckpt_random_chain *random, ckpt_chain_kind kind, int count, uint64_t most) {
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    if (kind == CKPT_CHAIN_PLAIN) ckpt_chain_make_plain_random(random, count, most);
    if (kind == CKPT_CHAIN_REAL) ckpt_chain_make_real_random(random, count, most, 1);
    if (kind == CKPT_CHAIN_INTERNALS) ckpt_chain_make_real_random(random, count, most, 3);
    if (kind == CKPT_CHAIN_EARLY_PARTS) ckpt_chain_make_early_random(random, count, most, 1);
    if (kind == CKPT_CHAIN_EARLY_INTERNALS) ckpt_chain_make_early_random(random, count, most, 2);
    if (kind != CKPT_CHAIN_EQUAL) return;
    for (int k = 1; k <= count; k++) bytes[k] = 3, cost[k] = 7;
    ckpt_chain_make_plain(random, count, bytes, cost);
}
