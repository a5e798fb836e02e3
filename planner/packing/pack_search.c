#include "planner/packing/pack_search.h"

#include <stdbool.h>
#include <string.h>

#include "base/units.h"

/* Each section has a floor, on which whatever is still to be placed in it must lie, and slack, the units that it can
 * still afford to waste: ceiling - floor - what is left of it. A valley is a run of sections with one floor between
 * higher ones. A buffer within a valley can lie on its floor; all others that cross it rest on something higher. So
 * for any section of a valley
 *
 *     either one of the buffers in it that rest on the floor is placed there, or none is,
 *
 * and in the second case the section's floor rises to the lowest place that any buffer in it could find instead, and
 * its slack falls. Where slack would fall below 0, a branch ends. The section with the fewest choices goes first,
 * those that ended branches before it first among them (the weights of Boussemart et al., "Boosting systematic search
 * by weighting constraints", ECAI 2004), and from time to time the search starts anew with what the weights have
 * learnt and another order of choices. Sections, slack and the canonical form are those of Moffitt, "MiniMalloc: A
 * Lightweight Memory Allocator for Hardware-Accelerated Machine Learning" (ASPLOS 2023); branching on valleys, lifting
 * buffers that span to the top and weights are this program's.
 *
 * Only canonical packings need be found, of which every problem that fits has one: take the packing whose vector of
 * offsets, the narrowest buffer's first, is the least. In it
 *   - no buffer could lie lower with the others as they are, so that each rests on the ground or on another, and a
 *     branch in which one would fit into a hole below the floors may be left;
 *   - a buffer that spans all sections of its neighbours lies above them: lifted over them, it lets narrower ones
 *     sink. Such a buffer is put under the ceiling at once, and what it held together falls apart;
 *   - buffers of one size and lifetime may change places: only the first of them is tried.
 * Pieces that no buffer connects are solved each on its own: when one does not fit, the others need no other try. */
typedef struct level {
    uint64_t floor, top; /* top: of what lies in the section; the floor is that or higher */
    uint64_t slack;
} level;

typedef struct buffer {
    int lower, upper;
    uint64_t size;
} buffer;

typedef struct run {
    int first, count; /* members of a list */
    int to;           /* section */
} run;

/* A choice: what can lie on the floor, and how good an idea that is. */
typedef struct choice {
    uint64_t key[2];
    int buffer;
} choice;

typedef struct search {
    const buffer *buffer;
    uint64_t *offset;
    uint64_t work;
    int order; /* of choices */
    /* Scratch by buffer or by section, never in use across a recursion. */
    uint64_t *rest;   /* by place in the list of members: the lowest offset on the floors */
    uint64_t *lowest; /* by section: a minimum over buffers */
    int *choices;     /* by section: how many buffers can lie on its floor */
    uint32_t *weight; /* by section: branches that it ended, plus 1 */
    /* Stacks that grow with the recursion. */
    int *members;
    run *runs;
    choice *choice;
    level *levels;
    size_t room, level_room; /* of the first three, of levels */
} search;

/* Buffers still to be placed that are connected in time, with the sections [from, to) that they span. */
typedef struct piece {
    int *member, count; /* by first section */
    level *level;       /* by section from `base` on */
    int base;
    uint64_t ceiling;
    int from, to;
} piece;

/* How much of each stack is in use. */
typedef struct used {
    size_t members, runs, choices, levels;
} used;

/* Recursion goes as deep as there are buffers. What exceeds the room ends a search without an answer. */
enum { SEARCH_MAX_BUFFERS = 2500, SEARCH_ROOM = 1 << 20, WEIGHT_MOST = 1 << 30 };

static level *level_of(const piece *p, int s) {
    return &p->level[s - p->base];
}

static ckpt_pack_answer give_up(search *q) {
    q->work = 0;
    return CKPT_PACK_UNKNOWN;
}

static void spend(search *q, int steps) {
    q->work -= (uint64_t)steps < q->work ? (uint64_t)steps : q->work;
}

static ckpt_pack_answer solve(search *q, piece p, used u);

/* Solves what the members fall apart into, the smallest piece first: its failure is the cheapest. */
static ckpt_pack_answer solve_pieces(search *q, piece p, used u) {
    if (u.runs + (size_t)p.count > q->room) return give_up(q);
    run *runs = q->runs + u.runs;
    int count = 0;
    for (int first = 0, last; first < p.count; first = last) {
        int to = q->buffer[p.member[first]].upper;
        for (last = first + 1; last < p.count && q->buffer[p.member[last]].lower < to; last++)
            if (q->buffer[p.member[last]].upper > to) to = q->buffer[p.member[last]].upper;
        int k = count++;
        for (; k > 0 && runs[k - 1].count > last - first; k--) runs[k] = runs[k - 1];
        runs[k] = (run){first, last - first, to};
    }
    u.runs += (size_t)count;
    for (int k = 0; k < count; k++) {
        piece one = p;
        one.member = p.member + runs[k].first;
        one.count = runs[k].count;
        one.from = q->buffer[one.member[0]].lower;
        one.to = runs[k].to;
        const ckpt_pack_answer answer = solve(q, one, u);
        if (answer != CKPT_PACK_FITS) return answer;
    }
    return CKPT_PACK_FITS;
}

/* Puts the members that span the whole piece under the ceiling; the others are solved below them. */
static ckpt_pack_answer solve_below(search *q, piece p, used u) {
    if (u.members + (size_t)p.count > q->room) return give_up(q);
    piece rest = p;
    rest.member = q->members + u.members;
    rest.count = 0;
    for (int k = 0; k < p.count; k++) {
        const int i = p.member[k];
        if (q->buffer[i].lower == p.from && q->buffer[i].upper == p.to)
            q->offset[i] = rest.ceiling -= q->buffer[i].size;
        else
            rest.member[rest.count++] = i;
    }
    u.members += (size_t)rest.count;
    return solve_pieces(q, rest, u);
}

static bool spans_any(const search *q, const piece *p) {
    for (int k = 0; k < p->count && q->buffer[p->member[k]].lower == p->from; k++)
        if (q->buffer[p->member[k]].upper == p->to) return true;
    return false;
}

/* Ends a branch because of section s. */
static bool blame(search *q, int s) {
    if (q->weight[s] < WEIGHT_MOST) q->weight[s]++;
    return false;
}

/* Raises floors to where the lowest of the members in a section can lie. False when that wastes more than the slack. */
static bool raise_floors(search *q, const piece *p) {
    int steps = p->count + p->to - p->from;
    for (int s = p->from; s < p->to; s++) q->lowest[s] = UINT64_MAX;
    for (int k = 0; k < p->count; k++) {
        const buffer *b = &q->buffer[p->member[k]];
        steps += (b->upper - b->lower) / 4;
        uint64_t rest = 0;
        for (int s = b->lower; s < b->upper; s++)
            if (level_of(p, s)->floor > rest) rest = level_of(p, s)->floor;
        for (int s = b->lower; s < b->upper; s++)
            if (rest < q->lowest[s]) q->lowest[s] = rest;
        q->rest[k] = rest;
    }
    spend(q, steps);
    for (int s = p->from; s < p->to; s++) {
        level *x = level_of(p, s);
        if (q->lowest[s] - x->floor > x->slack) return blame(q, s);
        x->slack -= q->lowest[s] - x->floor;
        x->floor = q->lowest[s];
    }
    return true;
}

/* Counts for each section the members that can lie on its floor. False when one would fit into a hole below. */
static bool count_choices(search *q, const piece *p) {
    memset(q->choices + p->from, 0, (size_t)(p->to - p->from) * sizeof *q->choices);
    for (int k = 0; k < p->count; k++) {
        const buffer *b = &q->buffer[p->member[k]];
        uint64_t top = 0, floor = UINT64_MAX;
        for (int s = b->lower; s < b->upper; s++) {
            if (level_of(p, s)->top > top) top = level_of(p, s)->top;
            if (level_of(p, s)->floor < floor) floor = level_of(p, s)->floor;
        }
        if (top + b->size <= floor) return false;
        if (floor == q->rest[k])
            for (int s = b->lower; s < b->upper; s++) q->choices[s]++;
    }
    return true;
}

/* The end of the run of one floor that begins with section s. */
static int run_end(const piece *p, int s) {
    int end = s + 1;
    while (end < p->to && level_of(p, end)->floor == level_of(p, s)->floor) end++;
    return end;
}

/* A section and the valley [from, to) that it lies in. */
typedef struct place {
    int section, from, to;
    uint64_t floor;
} place;

/* The section of a valley with the fewest choices for its weight; of several, the one with the least slack. */
static place choose_section(const search *q, const piece *p) {
    uint64_t smallest = UINT64_MAX, best_options = 0;
    for (int k = 0; k < p->count; k++)
        if (q->buffer[p->member[k]].size < smallest) smallest = q->buffer[p->member[k]].size;
    place best = {.section = -1};
    for (int from = p->from, to; from < p->to; from = to) {
        const uint64_t floor = level_of(p, from)->floor;
        to = run_end(p, from);
        if ((from > p->from && level_of(p, from - 1)->floor < floor) || (to < p->to && level_of(p, to)->floor < floor))
            continue;
        for (int s = from; s < to; s++) {
            const uint64_t options = (uint64_t)q->choices[s] + (level_of(p, s)->slack >= smallest);
            if (best.section >= 0) {
                const uint64_t mine = options * q->weight[best.section], its = best_options * q->weight[s];
                if (mine > its || (mine == its && level_of(p, s)->slack >= level_of(p, best.section)->slack)) continue;
            }
            best = (place){s, from, to, floor};
            best_options = options;
        }
    }
    return best;
}

enum { WIDEST, LARGEST, SNUGGEST, LARGEST_AREA, ORDERS };

static choice rate(const search *q, const piece *p, const place *x, int i) {
    const buffer *b = &q->buffer[i];
    const uint64_t width = (uint64_t)(b->upper - b->lower), top = x->floor + b->size;
    uint64_t area;
    if (!ckpt_mul_u64(b->size, width, &area)) area = UINT64_MAX;
    switch (q->order) {
    case WIDEST:
        return (choice){{width, b->size}, i};
    case LARGEST:
        return (choice){{b->size, 0}, i};
    case LARGEST_AREA:
        return (choice){{area, 0}, i};
    default: {
        const uint64_t left = x->from > p->from ? level_of(p, x->from - 1)->floor : p->ceiling;
        const uint64_t right = x->to < p->to ? level_of(p, x->to)->floor : p->ceiling;
        const bool at_left = b->lower == x->from, at_right = b->upper == x->to;
        const int snug = at_left + at_right + (at_left && top == left) + (at_right && top == right);
        return (choice){{(uint64_t)snug, area}, i};
    }
    }
}

static bool is_better(const choice *a, const choice *b) {
    return a->key[0] != b->key[0] ? a->key[0] > b->key[0] : a->key[1] > b->key[1];
}

/* Lists what can lie on the floor of x.section, the best idea first, one of each kind. */
static int list_choices(const search *q, const piece *p, const place *x, choice *list) {
    int count = 0;
    for (int k = 0; k < p->count; k++) {
        const buffer *b = &q->buffer[p->member[k]];
        if (q->rest[k] != x->floor || x->section < b->lower || b->upper <= x->section) continue;
        bool twin = false;
        for (int c = 0; c < count && !twin; c++) {
            const buffer *other = &q->buffer[list[c].buffer];
            twin = other->size == b->size && other->lower == b->lower && other->upper == b->upper;
        }
        if (twin) continue;
        const choice made = rate(q, p, x, p->member[k]);
        int c = count++;
        for (; c > 0 && is_better(&made, &list[c - 1]); c--) list[c] = list[c - 1];
        list[c] = made;
    }
    return count;
}

/* The lowest that anything can lie in x.section if nothing lies on its floor: where those that cross a wall of the
 * valley rest, or, for the others, on a neighbour that does not cross the section. UINT64_MAX: nowhere. */
static uint64_t next_floor(search *q, const piece *p, const place *x) {
    uint64_t next = UINT64_MAX;
    for (int s = x->from; s < x->to; s++) q->lowest[s] = UINT64_MAX;
    for (int k = 0; k < p->count; k++) {
        const buffer *b = &q->buffer[p->member[k]];
        if (b->lower <= x->section && x->section < b->upper) {
            if (q->rest[k] > x->floor && q->rest[k] < next) next = q->rest[k];
            continue;
        }
        const int from = b->lower > x->from ? b->lower : x->from, to = b->upper < x->to ? b->upper : x->to;
        for (int s = from; s < to; s++)
            if (q->rest[k] + b->size < q->lowest[s]) q->lowest[s] = q->rest[k] + b->size;
    }
    for (int k = 0; k < p->count; k++) {
        const buffer *b = &q->buffer[p->member[k]];
        if (x->section < b->lower || b->upper <= x->section || q->rest[k] != x->floor) continue;
        for (int s = b->lower; s < b->upper; s++)
            if (q->lowest[s] < next) next = q->lowest[s];
    }
    return next;
}

/* Puts buffer i on the floor at x and solves what is left. */
static ckpt_pack_answer solve_with(search *q, const piece *p, const place *x, int i, used u) {
    const size_t width = (size_t)(p->to - p->from);
    if (u.members + (size_t)p->count > q->room || u.levels + width > q->level_room) return give_up(q);
    piece rest = *p;
    rest.member = q->members + u.members;
    rest.count = 0;
    for (int k = 0; k < p->count; k++)
        if (p->member[k] != i) rest.member[rest.count++] = p->member[k];
    u.members += (size_t)rest.count;
    rest.level = q->levels + u.levels;
    rest.base = p->from;
    u.levels += width;
    memcpy(rest.level, level_of(p, p->from), width * sizeof(level));
    q->offset[i] = x->floor;
    for (int s = q->buffer[i].lower; s < q->buffer[i].upper; s++)
        level_of(&rest, s)->floor = level_of(&rest, s)->top = x->floor + q->buffer[i].size;
    return solve_pieces(q, rest, u);
}

/* Do the members fit? Changes the piece's levels. */
static ckpt_pack_answer solve(search *q, piece p, used u) {
    if (spans_any(q, &p)) return solve_below(q, p, u);
    if (u.choices + (size_t)p.count > q->room) return give_up(q);
    choice *list = q->choice + u.choices;
    for (;;) {
        if (!raise_floors(q, &p) || !count_choices(q, &p)) return CKPT_PACK_DOES_NOT_FIT;
        if (q->work == 0) return CKPT_PACK_UNKNOWN;
        const place x = choose_section(q, &p);
        const int count = list_choices(q, &p, &x, list);
        const uint64_t next = next_floor(q, &p, &x);
        used inner = u;
        inner.choices += (size_t)count;
        for (int c = 0; c < count; c++) {
            const ckpt_pack_answer answer = solve_with(q, &p, &x, list[c].buffer, inner);
            if (answer != CKPT_PACK_DOES_NOT_FIT) return answer;
        }
        level *at = level_of(&p, x.section);
        if (next == UINT64_MAX || next - at->floor > at->slack) {
            blame(q, x.section);
            return CKPT_PACK_DOES_NOT_FIT;
        }
        at->slack -= next - at->floor;
        at->floor = next;
    }
}

static ckpt_pack_answer solve_all(search *q, const ckpt_pack_part *part, uint64_t ceiling) {
    piece all = {.member = q->members, .level = q->levels, .ceiling = ceiling};
    for (; all.count < part->count; all.count++) all.member[all.count] = all.count;
    for (int s = 0; s < part->section_count; s++) all.level[s] = (level){.slack = ceiling - part->total[s]};
    const used u = {.members = (size_t)part->count, .levels = (size_t)part->section_count};
    return solve_pieces(q, all, u);
}

enum { FIRST_SHARE = 1000000 };

/* Each order in turn, with more work every time round: an unlucky one costs at most a constant factor. */
static ckpt_pack_answer search_orders(search *q, const ckpt_pack_part *part, uint64_t ceiling, uint64_t *work) {
    for (int s = 0; s < part->section_count; s++) q->weight[s] = 1;
    for (uint64_t share = FIRST_SHARE;; share += share / 2)
        for (q->order = 0; q->order < ORDERS; q->order++) {
            const uint64_t granted = share < *work ? share : *work;
            if (granted == 0) return CKPT_PACK_UNKNOWN;
            q->work = granted;
            const ckpt_pack_answer answer = solve_all(q, part, ceiling);
            *work -= granted - q->work;
            if (answer != CKPT_PACK_UNKNOWN) return answer;
        }
}

static size_t room_for(size_t count) {
    return count < SEARCH_ROOM ? count : SEARCH_ROOM;
}

static bool make_room(search *q, const ckpt_pack_part *part, ckpt_pool *pool) {
    const size_t n = (size_t)part->count, sections = (size_t)part->section_count;
    q->room = room_for(n * (n + 3) / 2); /* lists get shorter from one to the next */
    q->level_room = room_for((n + 1) * sections);
    buffer *made = ckpt_pool_array(pool, n, buffer);
    q->rest = ckpt_pool_array(pool, n, uint64_t);
    q->lowest = ckpt_pool_array(pool, sections, uint64_t);
    q->choices = ckpt_pool_array(pool, sections, int);
    q->weight = ckpt_pool_array(pool, sections, uint32_t);
    q->members = ckpt_pool_array(pool, q->room, int);
    q->runs = ckpt_pool_array(pool, q->room, run);
    q->choice = ckpt_pool_array(pool, q->room, choice);
    q->levels = ckpt_pool_array(pool, q->level_room, level);
    if (!made || !q->rest || !q->lowest || !q->choices || !q->weight || !q->members || !q->runs || !q->choice ||
        !q->levels)
        return false;
    for (size_t i = 0; i < n; i++) made[i] = (buffer){part->lower[i], part->upper[i], part->size[i]};
    q->buffer = made;
    return true;
}

ckpt_pack_answer ckpt_pack_search(const ckpt_pack_part *part, uint64_t ceiling, uint64_t *work, uint64_t *offset) {
    if (part->live_peak > ceiling) return CKPT_PACK_DOES_NOT_FIT;
    if (part->count > SEARCH_MAX_BUFFERS) {
        *work = 0;
        return CKPT_PACK_UNKNOWN;
    }
    ckpt_pool pool = {0};
    search q = {.offset = offset};
    ckpt_pack_answer answer = CKPT_PACK_UNKNOWN;
    if (make_room(&q, part, &pool))
        answer = search_orders(&q, part, ceiling, work);
    else
        *work = 0;
    ckpt_pool_free(&pool);
    return answer;
}
