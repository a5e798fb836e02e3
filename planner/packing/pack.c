#include "planner/packing/pack.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "planner/packing/pack_search.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while packing");
}

/* A greedy order: buffers with larger keys first, ties by id. */
typedef struct order_key {
    uint64_t key[3];
    int index;
} order_key;

static int compare_keys(const void *a, const void *b) {
    const order_key *x = a, *y = b;
    for (int i = 0; i < 3; i++)
        if (x->key[i] != y->key[i]) return x->key[i] > y->key[i] ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static uint64_t area(const ckpt_pack_part *p, int i) {
    uint64_t product;
    return ckpt_mul_u64(p->size[i], (uint64_t)(p->upper[i] - p->lower[i]), &product) ? product : UINT64_MAX;
}

enum { NESTED, STARTS_FIRST, ENDS_LAST, LARGEST, LARGEST_AREA };

static void fill_keys(const ckpt_pack_part *p, int order, order_key *keys) {
    for (int i = 0; i < p->count; i++) {
        const uint64_t length = (uint64_t)(p->upper[i] - p->lower[i]), size = p->size[i];
        const uint64_t early = (uint64_t)(INT_MAX - p->lower[i]), late = (uint64_t)p->upper[i];
        order_key *k = &keys[i];
        k->index = i;
        switch (order) {
        case NESTED:
            memcpy(k->key, (uint64_t[3]){length, size, early}, sizeof k->key);
            break;
        case STARTS_FIRST:
            memcpy(k->key, (uint64_t[3]){early, length, size}, sizeof k->key);
            break;
        case ENDS_LAST:
            memcpy(k->key, (uint64_t[3]){late, length, size}, sizeof k->key);
            break;
        case LARGEST:
            memcpy(k->key, (uint64_t[3]){size, length, early}, sizeof k->key);
            break;
        default:
            memcpy(k->key, (uint64_t[3]){area(p, i), size, early}, sizeof k->key);
            break;
        }
    }
}

/* A buffer that has its place: what the next one's search reads, in one piece of memory. */
typedef struct placed_buffer {
    int lower, upper;
    uint64_t offset, end;
} placed_buffer;

/* Forgets the placed buffers that have ended. */
static int drop_ended(placed_buffer *placed, int count, int now) {
    int left = 0;
    for (int q = 0; q < count; q++)
        if (placed[q].upper > now) placed[left++] = placed[q];
    return left;
}

/* Where buffer i goes: in the first gap (or, with best_fit, the tightest one) among the placed ones that it meets. */
static uint64_t find_gap(const ckpt_pack_part *p, int i, bool best_fit, const placed_buffer *placed, int count) {
    const int lower = p->lower[i], upper = p->upper[i];
    uint64_t top = 0, at = 0, tightest = UINT64_MAX;
    for (const placed_buffer *q = placed; q < placed + count; q++) {
        if (q->upper <= lower || upper <= q->lower) continue;
        if (q->offset >= top && q->offset - top >= p->size[i] && q->offset - top < tightest) {
            if (!best_fit) return top;
            at = top;
            tightest = q->offset - top;
        }
        if (q->end > top) top = q->end;
    }
    return tightest < UINT64_MAX ? at : top;
}

/* A greedy method: an order, and which gap is taken. */
typedef struct method {
    int order;
    bool best_fit;
} method;

/* Places buffers in the order of `keys`; `placed` holds them by offset. Returns the height, or gives up and returns
 * `best` once that is reached: the order is no better then. */
static uint64_t place_greedily(const ckpt_pack_part *p, const order_key *keys, method how, uint64_t best,
                               placed_buffer *placed, uint64_t *offset, uint64_t *steps) {
    uint64_t height = 0;
    for (int k = 0, count = 0; k < p->count; k++) {
        const int i = keys[k].index;
        if (how.order == STARTS_FIRST) count = drop_ended(placed, count, p->lower[i]);
        *steps += (uint64_t)count / 4 + 1;
        offset[i] = find_gap(p, i, how.best_fit, placed, count);
        const placed_buffer made = {p->lower[i], p->upper[i], offset[i], offset[i] + p->size[i]};
        if (made.end > height) height = made.end;
        if (height >= best) return best;
        int q = count++;
        for (; q > 0 && placed[q - 1].offset > made.offset; q--) placed[q] = placed[q - 1];
        placed[q] = made;
    }
    return height;
}

/* Tried in this order until one is good enough. Training steps seldom need more than the first two; the first is much
 * the cheapest, as it meets only what is alive. */
static const method methods[] = {{STARTS_FIRST, true}, {NESTED, false},       {LARGEST_AREA, false},
                                 {LARGEST, false},     {STARTS_FIRST, false}, {ENDS_LAST, false}};
enum { METHOD_COUNT = sizeof methods / sizeof *methods, METHOD_LEAST = 3, METHOD_MANY = 1 << 14 };

/* All of the methods only while half of *work is left; of very many buffers only those that meet what is alive. */
static bool place_by_orders(const ckpt_pack_part *p, uint64_t enough, uint64_t *work, uint64_t *best_offset,
                            uint64_t *best, ckpt_pool *scratch) {
    order_key *keys = ckpt_pool_array(scratch, p->count, order_key);
    placed_buffer *placed = ckpt_pool_array(scratch, p->count, placed_buffer);
    uint64_t *offset = ckpt_pool_array(scratch, p->count, uint64_t);
    if (!keys || !placed || !offset) return false;
    const uint64_t half = *work / 2;
    *best = UINT64_MAX;
    for (int k = 0; k<METHOD_COUNT && * best> enough && (k < METHOD_LEAST || *work > half); k++) {
        if (p->count > METHOD_MANY && methods[k].order != STARTS_FIRST) continue;
        fill_keys(p, methods[k].order, keys);
        qsort(keys, (size_t)p->count, sizeof *keys, compare_keys);
        uint64_t steps = (uint64_t)p->count;
        const uint64_t height = place_greedily(p, keys, methods[k], *best, placed, offset, &steps);
        *work -= steps < *work ? steps : *work;
        if (height >= *best) continue;
        *best = height;
        memcpy(best_offset, offset, (size_t)p->count * sizeof *offset);
    }
    return true;
}

/* Improves `offset` by search until it meets `enough`, is proved best, or the work is used up. The smallest ceiling is
 * tried first: it is nearly always reached, and a low ceiling prunes most. What cannot reach it mostly comes close, so
 * the next ceilings are a quarter of the way from there to the best. */
static void improve(const ckpt_pack_part *p, uint64_t enough, uint64_t *work, uint64_t *offset, uint64_t *best,
                    uint64_t *bound, uint64_t *trial) {
    uint64_t lowest = enough; /* ceilings below are refuted or given up */
    for (uint64_t ceiling = enough; lowest<*best && * work> 0; ceiling = lowest + (*best - 1 - lowest) / 4) {
        const uint64_t share = ceiling == enough ? *work / 2 : *work - *work / 4;
        uint64_t left = share;
        const ckpt_pack_answer answer = ckpt_pack_search(p, ceiling, &left, trial);
        *work -= share - left;
        if (answer == CKPT_PACK_FITS) {
            *best = 0;
            for (int i = 0; i < p->count; i++) {
                offset[i] = trial[i];
                if (offset[i] + p->size[i] > *best) *best = offset[i] + p->size[i];
            }
        } else {
            lowest = ceiling + 1;
            if (answer == CKPT_PACK_DOES_NOT_FIT && *bound < lowest) *bound = lowest;
        }
        if (lowest >= *best) break;
    }
}

static bool lives(const ckpt_pack_problem *problem, int i) {
    return problem->size[i] > 0 && problem->lower[i] < problem->upper[i];
}

/* A start or an end of a lifetime. */
typedef struct event {
    int64_t time;
    int buffer; /* ~buffer for an end: ends come before starts at the same time */
} event;

static int compare_events(const void *a, const void *b) {
    const event *x = a, *y = b;
    if (x->time != y->time) return x->time > y->time ? 1 : -1;
    return (x->buffer > y->buffer) - (x->buffer < y->buffer);
}

/* The buffers that take room, by start, with their sections. */
typedef struct sections {
    int count;
    int *id, *start, *end; /* in the order of starts, ties by id */
} sections;

/* A set of buffers alive together is largest where ends follow starts: each such place is a section, and buffers meet
 * in time exactly when they share one. All other instants repeat parts of a section. */
static bool find_sections(const ckpt_pack_problem *problem, sections *all, ckpt_pool *scratch) {
    event *events = ckpt_pool_array(scratch, 2 * (size_t)problem->count, event);
    int *slot = ckpt_pool_array(scratch, problem->count, int);
    all->id = ckpt_pool_array(scratch, problem->count, int);
    all->start = ckpt_pool_array(scratch, problem->count, int);
    all->end = ckpt_pool_array(scratch, problem->count, int);
    if (!events || !slot || !all->id || !all->start || !all->end) return false;
    int count = 0, section = 0;
    for (int i = 0; i < problem->count; i++)
        if (lives(problem, i)) {
            events[count++] = (event){problem->lower[i], i};
            events[count++] = (event){problem->upper[i], ~i};
        }
    qsort(events, (size_t)count, sizeof *events, compare_events);
    all->count = 0;
    for (int k = 0; k < count; k++) {
        const int i = events[k].buffer;
        if (i >= 0) {
            slot[i] = all->count;
            all->id[all->count] = i;
            all->start[all->count++] = section;
        } else {
            if (events[k - 1].buffer >= 0) section++;
            all->end[slot[~i]] = section;
        }
    }
    return true;
}

/* Makes a part of the buffers [first, last) of `all`, which span sections [from, to). */
static bool make_part(const ckpt_pack_problem *problem, const sections *all, int first, int last, int from, int to,
                      ckpt_pack_part *part, ckpt_pool *scratch) {
    const int count = last - first;
    *part = (ckpt_pack_part){.count = count,
                             .section_count = to - from,
                             .id = all->id + first,
                             .lower = ckpt_pool_array(scratch, count, int),
                             .upper = ckpt_pool_array(scratch, count, int),
                             .size = ckpt_pool_array(scratch, count, uint64_t),
                             .total = ckpt_pool_array(scratch, (size_t)(to - from) + 1, uint64_t)};
    if (!part->lower || !part->upper || !part->size || !part->total) return false;
    for (int k = 0; k < count; k++) {
        part->lower[k] = all->start[first + k] - from;
        part->upper[k] = all->end[first + k] - from;
        part->size[k] = ckpt_align_up(problem->size[all->id[first + k]], problem->alignment) / problem->alignment;
        part->total[part->lower[k]] += part->size[k];
        part->total[part->upper[k]] -= part->size[k]; /* modulo 2^64 until summed */
    }
    uint64_t now = 0;
    for (int s = 0; s < part->section_count; s++) {
        part->total[s] = now += part->total[s];
        if (now > part->live_peak) part->live_peak = now;
    }
    return true;
}

static ckpt_status pack_part(const ckpt_pack_problem *problem, const ckpt_pack_part *part, uint64_t *work,
                             ckpt_packing *packing, ckpt_pool *scratch, ckpt_error *err) {
    const uint64_t capacity = problem->capacity / problem->alignment;
    const uint64_t enough = capacity > part->live_peak ? capacity : part->live_peak;
    uint64_t *offset = ckpt_pool_array(scratch, part->count, uint64_t);
    uint64_t *trial = ckpt_pool_array(scratch, part->count, uint64_t);
    uint64_t best, bound = part->live_peak;
    if (!offset || !trial || !place_by_orders(part, enough, work, offset, &best, scratch)) return out_of_memory(err);
    improve(part, enough, work, offset, &best, &bound, trial);
    for (int k = 0; k < part->count; k++) packing->offset[part->id[k]] = offset[k] * problem->alignment;
    if (best * problem->alignment > packing->height) packing->height = best * problem->alignment;
    if (bound * problem->alignment > packing->lower_bound) packing->lower_bound = bound * problem->alignment;
    if (part->live_peak * problem->alignment > packing->live_peak)
        packing->live_peak = part->live_peak * problem->alignment;
    return CKPT_OK;
}

/* Parts that no buffer connects are packed each on its own. */
static ckpt_status pack_parts(const ckpt_pack_problem *problem, ckpt_packing *packing, ckpt_pool *scratch,
                              ckpt_error *err) {
    sections all;
    if (!find_sections(problem, &all, scratch)) return out_of_memory(err);
    uint64_t work = problem->work_limit ? problem->work_limit : CKPT_PACK_WORK;
    const uint64_t limit = work;
    for (int first = 0, last; first < all.count; first = last) {
        int to = all.end[first];
        for (last = first + 1; last < all.count && all.start[last] < to; last++)
            if (all.end[last] > to) to = all.end[last];
        ckpt_pack_part part;
        if (!make_part(problem, &all, first, last, all.start[first], to, &part, scratch)) return out_of_memory(err);
        CKPT_TRY(pack_part(problem, &part, &work, packing, scratch, err));
    }
    packing->work = limit - work;
    return CKPT_OK;
}

ckpt_status ckpt_pack(const ckpt_pack_problem *problem, ckpt_pool *pool, ckpt_packing *packing, ckpt_error *err) {
    *packing = (ckpt_packing){.offset = ckpt_pool_array(pool, problem->count, uint64_t)};
    if (!packing->offset) return out_of_memory(err);
    ckpt_pool scratch = {0};
    ckpt_status status = pack_parts(problem, packing, &scratch, err);
    ckpt_pool_free(&scratch);
    return status;
}
