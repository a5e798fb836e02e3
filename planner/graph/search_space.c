#include "planner/graph/search_space.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_PROGRESS = 1024 };

typedef struct numbering {
    int *forward; /* by tensor: its bit; -1: not a forward tensor that may be made again */
    int *own;     /* by tensor: in own[]; -1: not made by a fixed node */
    int *index;   /* by node: in forward[] or fixed[] */
} numbering;

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
}

/* Gives numbers to nodes and to the STEP tensors that they make; false where the graph does not fit. */
static bool number_all(ckpt_space *s, numbering *number) {
    const ckpt_graph *g = s->problem->graph;
    for (int t = 0; t < g->tensor_count; t++) number->forward[t] = number->own[t] = -1;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        const bool again = s->problem->recomputable[n];
        if (s->fixed_count == CKPT_SPACE_FIXED || s->forward_count == CKPT_SPACE_TENSORS) return false;
        number->index[n] = again ? s->forward_count++ : s->fixed_count++;
        for (int i = 0; i < node->in_count; i++)
            if (again && node->in[i] >= 0 && number->own[node->in[i]] >= 0) return false;
        for (int i = 0; i < node->out_count; i++) {
            const int t = node->out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            if (!again) {
                number->own[t] = s->own_count++;
                continue;
            }
            if (s->tensor_count == CKPT_SPACE_TENSORS) return false;
            s->maker[s->tensor_count] = number->index[n];
            s->bytes[s->tensor_count] = s->problem->bytes[t];
            number->forward[t] = s->tensor_count++;
        }
    }
    return true;
}

static bool reads_before(const ckpt_node *node, int i) {
    for (int j = 0; j < i; j++)
        if (node->in[j] == node->in[i]) return true;
    return false;
}

static void describe(const ckpt_space *s, const numbering *number, int n, ckpt_space_node *x) {
    const ckpt_problem *p = s->problem;
    const ckpt_node *node = &p->graph->node[n];
    *x = (ckpt_space_node){.node = n, .cost = p->recomputable[n] ? p->costs->node[n] : 0};
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (t < 0) continue;
        const bool overwrite = p->overwrite[n] >> i & 1;
        if (number->forward[t] >= 0) {
            x->in |= UINT64_C(1) << number->forward[t];
            if (overwrite) x->overwrite |= UINT64_C(1) << number->forward[t];
        } else if (number->own[t] >= 0 && !reads_before(node, i)) {
            if (overwrite) x->own_overwrite |= UINT64_C(1) << x->own_in_count;
            x->own_in[x->own_in_count++] = number->own[t];
            if (!p->recomputable[n]) ckpt_fixed_add(&s->own[number->own[t]].readers, number->index[n]);
        }
    }
    for (int i = 0; i < node->out_count; i++) {
        const int t = node->out[i];
        if (t < 0) continue;
        x->out_bytes += p->bytes[t];
        if (i == 0) x->overwrite_bytes = p->bytes[t];
        if (number->forward[t] >= 0) x->out |= UINT64_C(1) << number->forward[t];
        else if (number->own[t] >= 0) {
            s->own[number->own[t]].bytes = p->bytes[t];
            x->own_out[x->own_out_count++] = number->own[t];
        }
    }
}

/* What has to run before fixed node x, directly and at all, and what must not run again after it. */
static void find_order(ckpt_space *s, const numbering *number, ckpt_space_node *x) {
    const ckpt_problem *p = s->problem;
    for (int i = p->before_first[x->node]; i < p->before_first[x->node + 1]; i++) {
        const int b = p->before[i];
        if (p->recomputable[b]) continue; /* what it makes is held, or its expiry says that it has run */
        ckpt_fixed_add(&x->before, number->index[b]);
        for (int w = 0; w < CKPT_SPACE_WORDS; w++) x->ancestors.word[w] |= s->fixed[number->index[b]].ancestors.word[w];
    }
    ckpt_fixed_add(&x->ancestors, number->index[x->node]);
}

static void find_expiry(ckpt_space *s, const numbering *number) {
    const ckpt_problem *p = s->problem;
    for (int n = 0; n < p->graph->node_count; n++)
        for (int i = p->expires_first[n]; i < p->expires_first[n + 1]; i++)
            s->fixed[number->index[p->expires[i]]].expires |= UINT64_C(1) << number->index[n];
}

static void list_outputs(ckpt_space *s, const numbering *number) {
    const ckpt_graph *g = s->problem->graph;
    for (int i = 0; i < g->output_count; i++) {
        const int t = g->output[i];
        if (t < 0) continue;
        if (number->forward[t] >= 0) s->outputs |= UINT64_C(1) << number->forward[t];
        if (number->own[t] >= 0) s->own[number->own[t]].output = true;
    }
}

static bool is_ready(const ckpt_space *s, const ckpt_progress *at, int f) {
    for (int w = 0; w < CKPT_SPACE_WORDS; w++)
        if (s->fixed[f].before.word[w] & ~at->done.word[w]) return false;
    return true;
}

/* Which fixed nodes can run next, what those that have not run read, and what it is made from. */
static void look_ahead(const ckpt_space *s, ckpt_progress *at) {
    at->read = s->outputs;
    at->ready = (ckpt_fixed_set){0};
    for (int f = 0; f < s->fixed_count; f++) {
        if (ckpt_fixed_has(&at->done, f)) continue;
        at->read |= s->fixed[f].in;
        if (is_ready(s, at, f)) ckpt_fixed_add(&at->ready, f);
    }
    at->useful = at->read;
    for (int i = s->forward_count - 1; i >= 0; i--)
        if (s->forward[i].out & at->useful && !(at->expired >> i & 1)) at->useful |= s->forward[i].in;
}

static uint32_t first_slot(const ckpt_space *s, const ckpt_fixed_set *done) {
    uint64_t hash = 0;
    for (int w = 0; w < CKPT_SPACE_WORDS; w++) {
        hash = (hash ^ done->word[w]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return (uint32_t)hash & (s->slot_count - 1);
}

static void put(ckpt_space *s, uint32_t number) {
    uint32_t i = first_slot(s, &s->progress[number].done);
    while (s->slot[i]) i = (i + 1) & (s->slot_count - 1);
    s->slot[i] = number;
}

static bool grow(ckpt_space *s) {
    const uint32_t capacity = s->progress_capacity ? 2 * s->progress_capacity : LEAST_PROGRESS;
    ckpt_progress *grown = realloc(s->progress, capacity * sizeof *grown);
    if (!grown) return false;
    s->progress = grown;
    uint32_t *slot = calloc(2 * (size_t)capacity, sizeof *slot); /* at most half full */
    if (!slot) return false;
    free(s->slot);
    s->slot = slot;
    s->slot_count = 2 * capacity;
    s->progress_capacity = capacity;
    for (uint32_t i = 1; i < s->progress_count; i++) put(s, i);
    return true;
}

/* The number of a progress, which is added if it is new; 0: no memory. */
static uint32_t intern(ckpt_space *s, const ckpt_progress *at) {
    for (uint32_t i = first_slot(s, &at->done); s->slot[i]; i = (i + 1) & (s->slot_count - 1))
        if (memcmp(&s->progress[s->slot[i]].done, &at->done, sizeof at->done) == 0) return s->slot[i];
    if (s->progress_count == s->progress_capacity && !grow(s)) return 0;
    s->progress[s->progress_count] = *at;
    look_ahead(s, &s->progress[s->progress_count]);
    put(s, s->progress_count);
    return s->progress_count++;
}

/* Whether tensor `own` is dead once f has run too. */
static bool dies(const ckpt_own_tensor *own, const ckpt_fixed_set *done, int f) {
    if (own->output) return false;
    for (int w = 0; w < CKPT_SPACE_WORDS; w++) {
        const uint64_t one = w == f / 64 ? UINT64_C(1) << (f % 64) : 0;
        if (own->readers.word[w] & ~(done->word[w] | one)) return false;
    }
    return true;
}

uint64_t ckpt_space_own_bytes_after(const ckpt_space *s, const ckpt_progress *at, int f, bool *overwrites) {
    const ckpt_space_node *x = &s->fixed[f];
    uint64_t bytes = at->own_bytes;
    *overwrites = false;
    for (int i = 0; i < x->own_in_count; i++) {
        const ckpt_own_tensor *own = &s->own[x->own_in[i]];
        if (!dies(own, &at->done, f)) continue;
        bytes -= own->bytes;
        *overwrites |= x->own_overwrite >> i & 1;
    }
    for (int i = 0; i < x->own_out_count; i++)
        if (!dies(&s->own[x->own_out[i]], &at->done, f)) bytes += s->own[x->own_out[i]].bytes;
    return bytes;
}

uint32_t ckpt_space_advance(ckpt_space *s, uint32_t from, int f) {
    ckpt_progress at = s->progress[from];
    bool overwrites;
    at.own_bytes = ckpt_space_own_bytes_after(s, &at, f, &overwrites);
    ckpt_fixed_add(&at.done, f);
    at.count++;
    at.expired |= s->fixed[f].expires;
    return intern(s, &at);
}

uint64_t ckpt_space_bytes(const ckpt_space *s, uint64_t tensors) {
    uint64_t bytes = 0;
    for (; tensors; tensors &= tensors - 1) bytes += s->bytes[__builtin_ctzll(tensors)];
    return bytes;
}

static bool all_used(const ckpt_space *s) {
    for (int i = 0; i < s->forward_count; i++)
        if (!(s->forward[i].out & s->progress[1].useful)) return false;
    return true;
}

static void describe_all(ckpt_space *s, const numbering *number) {
    const ckpt_graph *g = s->problem->graph;
    for (int n = 0; n < g->node_count; n++)
        describe(s, number, n, &(s->problem->recomputable[n] ? s->forward : s->fixed)[number->index[n]]);
    for (int f = 0; f < s->fixed_count; f++) find_order(s, number, &s->fixed[f]);
    for (int i = 0; i < s->forward_count; i++) {
        s->first_cost += s->forward[i].cost;
        for (uint64_t in = s->forward[i].in; in; in &= in - 1) s->readers[__builtin_ctzll(in)] |= UINT64_C(1) << i;
    }
    find_expiry(s, number);
    list_outputs(s, number);
}

static ckpt_status open(ckpt_space *s, ckpt_pool *scratch, bool *fits, ckpt_error *err) {
    const ckpt_graph *g = s->problem->graph;
    numbering number = {.forward = ckpt_pool_array(scratch, g->tensor_count, int),
                        .own = ckpt_pool_array(scratch, g->tensor_count, int),
                        .index = ckpt_pool_array(scratch, g->node_count, int)};
    if (!number.forward || !number.own || !number.index) return out_of_memory(err);
    *fits = number_all(s, &number);
    if (!*fits) return CKPT_OK;
    s->forward = ckpt_pool_array(&s->pool, s->forward_count, ckpt_space_node);
    s->fixed = ckpt_pool_array(&s->pool, s->fixed_count, ckpt_space_node);
    s->own = ckpt_pool_array(&s->pool, s->own_count, ckpt_own_tensor);
    if (!s->forward || !s->fixed || !s->own || !grow(s)) return out_of_memory(err);
    describe_all(s, &number);
    s->progress_count = 1;
    intern(s, &(ckpt_progress){0});
    *fits = all_used(s);
    return CKPT_OK;
}

ckpt_status ckpt_space_open(const ckpt_problem *problem, ckpt_space *space, bool *fits, ckpt_error *err) {
    ckpt_pool scratch = {0};
    *space = (ckpt_space){.problem = problem};
    *fits = false;
    const ckpt_status status = open(space, &scratch, fits, err);
    ckpt_pool_free(&scratch);
    if (status != CKPT_OK || !*fits) ckpt_space_close(space);
    return status;
}

void ckpt_space_close(ckpt_space *space) {
    ckpt_pool_free(&space->pool);
    free(space->progress);
    free(space->slot);
    *space = (ckpt_space){0};
}
