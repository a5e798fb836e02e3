#include "planner/graph/chain_search.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

typedef struct ckpt_search_node {
    uint64_t state, cost, bytes;
    uint64_t ahead; /* at least to come */
    uint64_t note;
    uint32_t from, act;
} node;

/* Ties go to the state found first, so that the same search always takes the same way. */
typedef struct ckpt_search_entry {
    uint64_t key[2];
    uint32_t node;
} entry;

static entry entry_of(const ckpt_search *s, uint32_t at) {
    const node *n = &s->node[at];
    uint64_t cost = n->cost + n->ahead;
    return s->least_bytes ? (entry){{n->bytes, cost}, at} : (entry){{cost, n->bytes}, at};
}

static bool before(const entry *a, const entry *b) {
    if (a->key[0] != b->key[0]) return a->key[0] < b->key[0];
    if (a->key[1] != b->key[1]) return a->key[1] < b->key[1];
    return a->node < b->node;
}

static void push(ckpt_search *s, entry e) {
    if (s->heap_count == s->heap_capacity) {
        uint32_t room = s->heap_capacity ? 2 * s->heap_capacity : 1024;
        entry *fresh = realloc(s->heap, room * sizeof *fresh);
        if (!fresh) {
            s->out_of_memory = true;
            return;
        }
        s->heap = fresh;
        s->heap_capacity = room;
    }
    uint32_t i = s->heap_count++;
    for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static entry pop(ckpt_search *s) {
    entry top = s->heap[0], last = s->heap[--s->heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Finalizer of MurmurHash3 (Appleby): every bit of the state moves every bit of the slot. */
static uint32_t first_slot(const ckpt_search *s, uint64_t state) {
    state ^= state >> 33;
    state *= 0xff51afd7ed558ccdull;
    state ^= state >> 33;
    state *= 0xc4ceb9fe1a85ec53ull;
    state ^= state >> 33;
    return (uint32_t)state & (s->slot_count - 1);
}

static void put(ckpt_search *s, uint32_t at) {
    uint32_t i = first_slot(s, s->node[at].state);
    while (s->slot[i] != NONE) i = (i + 1) & (s->slot_count - 1);
    s->slot[i] = at;
}

static bool grow(ckpt_search *s) {
    uint32_t room = s->node_capacity ? 2 * s->node_capacity : 4096;
    node *fresh = realloc(s->node, room * sizeof *fresh);
    if (!fresh) return false;
    s->node = fresh;
    uint32_t *slot = malloc(2 * (size_t)room * sizeof *slot); /* at most half full */
    if (!slot) return false;
    free(s->slot);
    s->slot = slot;
    s->slot_count = 2 * room;
    s->node_capacity = room;
    memset(slot, 0xff, 2 * (size_t)room * sizeof *slot);
    for (uint32_t at = 0; at < s->node_count; at++) put(s, at);
    return true;
}

bool ckpt_search_hopeless(const ckpt_search *s, uint64_t state, uint64_t cost) {
    return s->below_cost && s->node[s->now].cost + cost + s->least_ahead(s->problem, state) >= s->below_cost;
}

/* The node of a state; NONE where a way of this cost to it is of no interest. */
static uint32_t find(ckpt_search *s, uint64_t state, uint64_t cost) {
    uint32_t i = first_slot(s, state);
    for (; s->slot[i] != NONE; i = (i + 1) & (s->slot_count - 1))
        if (s->node[s->slot[i]].state == state) return s->slot[i];
    const uint64_t ahead = s->least_ahead(s->problem, state);
    if (s->below_cost && cost + ahead >= s->below_cost) return NONE;
    if (s->most_states && s->node_count >= s->most_states) {
        s->ended = true;
        return NONE;
    }
    if (s->node_count == s->node_capacity && !grow(s)) {
        s->out_of_memory = true;
        return NONE;
    }
    const uint32_t at = s->node_count++;
    s->node[at] = (node){.state = state, .cost = UINT64_MAX - ahead, .bytes = UINT64_MAX, .ahead = ahead};
    put(s, at);
    return at;
}

void ckpt_search_reach(ckpt_search *s, uint64_t state, uint64_t cost, uint64_t bytes, uint32_t act) {
    ckpt_search_reach_noting(s, state, cost, bytes, act, 0);
}

void ckpt_search_reach_noting(ckpt_search *s, uint64_t state, uint64_t cost, uint64_t bytes, uint32_t act, uint64_t note) {
    if (bytes > s->budget_bytes || s->out_of_memory || s->ended) return;
    const uint32_t at = find(s, state, s->node[s->now].cost + cost);
    if (at == NONE) return;
    const node *from = &s->node[s->now];
    const node kept = s->node[at];
    const entry old = entry_of(s, at);
    s->node[at].cost = from->cost + cost;
    s->node[at].bytes = from->bytes > bytes ? from->bytes : bytes;
    s->node[at].from = s->now;
    s->node[at].act = act;
    s->node[at].note = note;
    const entry fresh = entry_of(s, at);
    if (before(&fresh, &old))
        push(s, fresh);
    else
        s->node[at] = kept;
}

static bool list_acts(ckpt_search *s, uint32_t end) {
    s->act_count = 0;
    for (uint32_t at = end; s->node[at].state != s->start; at = s->node[at].from) s->act_count += s->node[at].act != 0;
    s->act = malloc(((size_t)s->act_count + 1) * sizeof *s->act);
    if (!s->act) return false;
    int i = s->act_count;
    for (uint32_t at = end; s->node[at].state != s->start; at = s->node[at].from)
        if (s->node[at].act) s->act[--i] = s->node[at].act;
    return true;
}

static void search(ckpt_search *s) {
    s->now = find(s, s->start, 0);
    if (s->now == NONE) return;
    s->node[s->now].cost = s->node[s->now].bytes = 0;
    push(s, entry_of(s, s->now));
    while (s->heap_count && !s->out_of_memory) {
        const entry e = pop(s);
        const entry newest = entry_of(s, e.node);
        if (before(&newest, &e)) continue;
        const node *n = &s->node[e.node];
        if (n->state == 0) {
            s->found = true;
            s->cost = n->cost;
            s->needed_bytes = n->bytes;
            s->out_of_memory = !list_acts(s, e.node);
            return;
        }
        s->now = e.node;
        s->cost = n->cost + n->ahead;
        s->note = n->note;
        s->expand(s, n->state);
        if (s->ended) return;
    }
}

ckpt_status ckpt_search_run(ckpt_search *s, ckpt_error *err) {
    s->found = s->ended = false;
    s->out_of_memory = !grow(s);
    if (!s->out_of_memory) search(s);
    return s->out_of_memory ? ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule") : CKPT_OK;
}

void ckpt_search_free(ckpt_search *s) {
    free(s->node);
    free(s->slot);
    free(s->heap);
    free(s->act);
    s->node = NULL;
    s->slot = NULL;
    s->heap = NULL;
    s->act = NULL;
}
