/* Inside of chain.h: the functions of the dynamic program (table.c), their splits (split.c), and candidate splits (price.c). */
#ifndef CKPT_CHAIN_TABLE_H
#define CKPT_CHAIN_TABLE_H

#include "planner/chain/chain.h"

/* Types of functions. NONE costs nothing; BACKWARD is the backward of stage s alone. The others are described in table.c. */
typedef enum ckpt_fn_type { CKPT_FN_R, CKPT_FN_K, CKPT_FN_H, CKPT_FN_TYPES, CKPT_FN_G = CKPT_FN_TYPES, CKPT_FN_BACKWARD, CKPT_FN_NONE } ckpt_fn_type;

/* A function: of stages s..t, with the saved activations of an option of stage t present. */
typedef struct ckpt_chain_ref {
    ckpt_fn_type type;
    int s, t, option;
    bool dies;       /* x_{s-1} may die in the backward of s, the last step */
    bool has_output; /* BACKWARD: x_s is present */
} ckpt_chain_ref;

/* A split of a function: run stages s..run_to (none if run_to < s), keeping the last output and the option's saved activations,
 * or run the early part of the last backward; then do `right` with shift_bytes less, then `left` with all. */
typedef struct ckpt_chain_split {
    int run_to, option;
    bool early;
    uint64_t run_cost, least_bytes, shift_bytes;
    ckpt_chain_ref right, left;
} ckpt_chain_split;

/* Slots [from, to) of memory for which a checkpoint is tried; none if `to` is 0. */
typedef struct ckpt_chain_window {
    int from, to;
} ckpt_chain_window;

/* Splits that keep x_j for a j of [first, last] whose window[j - s] has slots, and, with `through`, splits that keep nothing. */
typedef struct ckpt_chain_range {
    int first, last;
    const ckpt_chain_window *window;
    bool through;
} ckpt_chain_range;

/* Byte figures of a function, which are exact: it is feasible from `least` on, and costs `floor_cost`, its minimum, from `most` on. */
typedef struct ckpt_chain_figures {
    uint64_t least, most, floor_cost;
} ckpt_chain_figures;

/* Cost by slots of memory: a nonincreasing step function, infinite below lo and constant from hi on. */
typedef struct ckpt_chain_values {
    int lo, hi;
    double *value;  /* [0, hi - lo]; NULL before the function is filled */
    double *last;   /* the value at the last slot of every piece of CKPT_CHAIN_PIECE slots */
    uint32_t *best; /* [0, hi - lo]: j - s of the checkpoint that the best split keeps, or CKPT_CHAIN_NO_SPLIT */
} ckpt_chain_values;

enum { CKPT_CHAIN_NO_SPLIT = INT32_MAX, CKPT_CHAIN_DOUBLINGS = 16, CKPT_CHAIN_PIECE = 32 };

/* What the chain alone determines. */
typedef struct ckpt_chain_shape {
    const ckpt_chain *chain;
    int count;
    uint64_t *cost;                      /* [k]: of forward runs of stages 1..k */
    uint64_t *peak[CKPT_CHAIN_DOUBLINGS]; /* peak[i][k]: of forward runs of stages k..k + 2^i - 1 that keep nothing */
    bool *gains;         /* [s]: the backward of s takes less if x_{s-1} may die, so that `dies` makes two functions */
    bool loss_is_light;  /* x_L and its gradient take no bytes: running through to x_L gains nothing */
    uint32_t *run;       /* [s * (count + 1) + t]: number of the run s..t; equal runs share one */
    uint32_t *function;  /* [run]: number of its first function */
    uint32_t run_count, function_count;
    bool repeated;       /* sharing saves most of the work: blocks of stages repeat */
    uint64_t functions, splits; /* distinct ones; of all of them */
} ckpt_chain_shape;

static inline uint32_t ckpt_chain_run_of(const ckpt_chain_shape *shape, int s, int t) {
    return shape->run[(size_t)s * (size_t)(shape->count + 1) + (size_t)t];
}

/* The number of an R, K or H. */
static inline uint32_t ckpt_chain_function_of(const ckpt_chain_shape *shape, const ckpt_chain_ref *ref) {
    const uint32_t dies = ref->dies && shape->gains[ref->s];
    return shape->function[ckpt_chain_run_of(shape, ref->s, ref->t)] + 2 * (uint32_t)(CKPT_FN_TYPES * ref->option + (int)ref->type) + dies;
}

/* The number of a G, whose last stage is the chain's. */
static inline size_t ckpt_chain_first_of(const ckpt_chain_shape *shape, const ckpt_chain_ref *ref) {
    return 2 * (size_t)ref->s + (ref->dies && shape->gains[ref->s]);
}

/* A set of splits by distinct run and by j - s. */
typedef struct ckpt_chain_candidates {
    size_t words; /* of 64 bits per run */
    uint64_t *bits;
    uint64_t count;
} ckpt_chain_candidates;

static inline bool ckpt_chain_is_candidate(const ckpt_chain_candidates *set, uint32_t run, int j) {
    return set->bits[run * set->words + (size_t)j / 64] >> j % 64 & 1;
}

static inline void ckpt_chain_add_candidate(ckpt_chain_candidates *set, uint32_t run, int j) {
    set->count += !ckpt_chain_is_candidate(set, run, j);
    set->bits[run * set->words + (size_t)j / 64] |= (uint64_t)1 << j % 64;
}

typedef enum ckpt_chain_scope {
    CKPT_SCOPE_ALL,       /* every split */
    CKPT_SCOPE_WINDOW,    /* splits near those of the neighbouring runs (split.c) */
    CKPT_SCOPE_CANDIDATES /* candidate splits */
} ckpt_chain_scope;

/* One table: every function by slots, for the budgets [from_bytes, cap_bytes]. */
typedef struct ckpt_chain_level {
    uint64_t from_bytes, cap_bytes, unit_bytes; /* of a slot */
    ckpt_chain_scope scope;
    bool lossless;               /* slots lose nothing that is held */
    int longest;                 /* longer runs have no functions but G */
    ckpt_chain_figures *g_figures; /* of G, with `longest` */
    ckpt_chain_values *g, *values; /* by number */
} ckpt_chain_level;

/* A split in slots. */
typedef struct ckpt_chain_term {
    double cost;
    int shift, lo, hi;
    const ckpt_chain_values *right, *left;
} ckpt_chain_term;

/* The values of a BACKWARD. */
typedef struct ckpt_chain_single {
    ckpt_chain_values values;
    double cost;
    uint32_t best;
} ckpt_chain_single;

/* Working memory for one function at a time. */
typedef struct ckpt_chain_scratch {
    ckpt_chain_split *split;
    ckpt_chain_term *term;
    ckpt_chain_single *backward;
    ckpt_chain_window *window;
    double *first; /* the value at the first slot of every piece of the function that is filled */
} ckpt_chain_scratch;

/* A point of the Pareto frontier: the program that a table gives for budget_bytes. */
typedef struct ckpt_chain_point {
    uint64_t budget_bytes, needed_bytes, cost;
    const ckpt_chain_level *level;
} ckpt_chain_point;

enum { CKPT_CHAIN_LEVELS = 64 };

struct ckpt_chain_tables {
    ckpt_pool pool;
    ckpt_chain_shape shape;
    ckpt_chain_figures *figures, *g_figures; /* of R, K and H, and of G, by number, for runs of any length */
    ckpt_chain_candidates candidates;
    ckpt_chain_scratch scratch;
    uint64_t least_bytes, most_bytes;
    int level_count;
    ckpt_chain_level level[CKPT_CHAIN_LEVELS];
    int point_count;
    ckpt_chain_point *point; /* needs ascend, costs descend */
};

/* table.c: the figures of a function, and its values, or NULL if it is not filled; `single` is filled and used for BACKWARD. */
ckpt_chain_figures ckpt_chain_figures_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref);
const ckpt_chain_values *ckpt_chain_values_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level,
                                              const ckpt_chain_ref *ref, ckpt_chain_single *single);

/* The value at `slot`; at lo for fewer slots. */
static inline double ckpt_chain_value_at(const ckpt_chain_values *values, int64_t slot) {
    if (slot < values->lo) slot = values->lo;
    if (slot > values->hi) slot = values->hi;
    return values->value[slot - values->lo];
}

/* split.c: fills `split` with the splits of a range; returns how many. */
int ckpt_chain_list_splits(const ckpt_chain_shape *shape, const ckpt_chain_ref *ref, ckpt_chain_range range, ckpt_chain_split *split);

/* Every split of a table's scope; every split whose left part is a run that has functions. */
ckpt_chain_range ckpt_chain_range_scope(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref);
ckpt_chain_range ckpt_chain_range_all(const ckpt_chain_ref *ref, int longest);

/* The window of a function that is about to be filled; false if all splits are tried. */
bool ckpt_chain_range_window(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref,
                             ckpt_chain_range *range);

/* The splits around the best one of a filled function, for so much memory, where blocks repeat; else the scope. */
ckpt_chain_range ckpt_chain_range_near(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref,
                                       int64_t slot);

/* price.c: whether the chain is short enough for candidates; adds the splits of schedules that are nearly optimal when memory
 * has a price, for several budgets between those. Errors: CKPT_NOMEM. */
bool ckpt_chain_has_candidates(const ckpt_chain *chain);
ckpt_status ckpt_chain_find_candidates(const ckpt_chain_shape *shape, uint64_t least_bytes, uint64_t most_bytes,
                                       ckpt_chain_candidates *candidates, ckpt_error *err);

/* trace.c: adds the splits of a program of least peak, and of programs of the tables so far, to the candidates. */
void ckpt_chain_add_traced(ckpt_chain_tables *tables);

/* Builds the Pareto frontier. False: out of memory. */
bool ckpt_chain_build_frontier(ckpt_chain_tables *tables);

#endif
