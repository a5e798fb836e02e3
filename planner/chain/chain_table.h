/* Inside of chain.h: the functions of the tables and the ways to split them. Used by chain*.c only.
 *
 * G(s, t, m), R(s, t, m), K(s, t, m), H = min(K, R): least cost of finishing the backward of stages t..s
 * within m bytes beyond x_{s-1}. G: nothing of them has run yet (t is the last stage). R: the gradient of x_t
 * is there, x_t is not. K: both are. Each has two variants by whether x_{s-1} may die in the backward of s,
 * the last thing that happens: what follows then makes do without it. R, K and H also come with internals of
 * stage t held, one function an option; option 0 holds none. R also comes with the early part of t's backward done.
 */
#ifndef CKPT_CHAIN_TABLE_H
#define CKPT_CHAIN_TABLE_H

#include "planner/chain/chain_bound.h"

enum { CKPT_FN_NONE, CKPT_FN_G, CKPT_FN_R, CKPT_FN_K, CKPT_FN_H, CKPT_FN_BACKWARD };

/* A cost that falls as memory grows. In slots: infinite below lo, constant from hi on. */
typedef struct ckpt_chain_fn {
    int lo, hi;
    double *value;                   /* [0, hi - lo] */
    double *last;                    /* of pieces of CKPT_CHAIN_PIECE slots from that of lo to that of hi: the value at the last slot */
    uint32_t *best;                  /* [0, hi - lo]: the checkpoint first kept, less the first stage; or NO_SPLIT */
    double only;                     /* what value points to where there is a single one */
    uint32_t only_best;
    uint64_t least_bytes;            /* feasible from here on */
    uint64_t most_bytes, floor_cost; /* nothing cheaper than floor_cost, which is reached at most_bytes */
} ckpt_chain_fn;

/* Which function: of stages s..t with the option's internals of t held, or (BACKWARD) the backward of s. */
typedef struct ckpt_chain_ref {
    int type;
    int s, t;
    bool dies; /* x_{s-1} may die at the end */
    int option;
    bool has_output;
} ckpt_chain_ref;

/* One way to split a function: run s..run_to (none when run_to < s) keeping the last output and the option's
 * internals of the last stage, or the early part of the last stage's backward, `right` with shift_bytes less, then `left` with
 * all. Either may be NONE. */
typedef struct ckpt_chain_split {
    int run_to, option;
    bool early;
    uint64_t run_cost, least_bytes, shift_bytes;
    ckpt_chain_ref right, left;
} ckpt_chain_split;

typedef struct ckpt_chain_held {
    ckpt_chain_fn r[2], k[2], h[2];
} ckpt_chain_held;

typedef struct ckpt_chain_pair {
    ckpt_chain_held *held; /* by option of stage t */
} ckpt_chain_pair;

enum { CKPT_CHAIN_NO_SPLIT = INT32_MAX, CKPT_CHAIN_RUNS = 16, CKPT_CHAIN_PIECE = 32 };

/* Slots [from, to) for which a checkpoint is tried; none where `to` is 0. */
typedef struct ckpt_chain_window {
    int from, to;
} ckpt_chain_window;

struct ckpt_chain_tables {
    ckpt_pool pool;
    const ckpt_chain *chain;
    int count; /* stages */
    int longest; /* runs of more stages have no functions but G */
    bool all_splits;
    bool repeated;      /* functions are shared by many runs of stages */
    bool loss_is_light; /* x_L and its gradient take no bytes: nothing is gained by running through to it */
    uint64_t *cost;     /* [k]: of forward runs of stages 1..k */
    uint64_t *run[CKPT_CHAIN_RUNS]; /* run[i][k]: most at once in bare forward runs of stages k..k + 2^i - 1 */
    bool *gains;        /* [s]: the backward of s takes less when x_{s-1} may die: two variants are needed */
    ckpt_chain_pair **pair; /* [s * (count + 1) + t]: shared by equal runs of stages */
    ckpt_chain_fn *g[2];    /* [s] */
    uint64_t unit_bytes;    /* of a slot; 0 before it is known */
    bool exact; /* every size is whole in slots */
    bool even;  /* what is held is: a slot's cost is the least of all sizes that fill as many slots */
    uint64_t from_bytes, cap_bytes; /* no budget below, or above, is asked for */
    uint64_t work, unshared_work;   /* splits of all distinct functions, about; of all functions */
    uint64_t functions;             /* distinct ones */
    ckpt_chain_split *split;        /* room for the ways of one function */
    struct ckpt_chain_term *term;   /* the same, in slots */
    ckpt_chain_fn *backward;        /* room for those that are backwards of one stage */
    double *first;                  /* of the function that is filled, as last: the value at the first slot of a piece */
    uint64_t least_bytes, most_bytes, floor_cost; /* of all programs */
    ckpt_chain_window *window;      /* [j - s]: room for those of one function */
    struct ckpt_chain_tables *fine; /* the same chain in other slots; or NULL */
    ckpt_chain_likely *likely;      /* only these splits, and only functions that they lead to; or NULL: all */
    int point_count;                /* 0 until the first ckpt_chain_solve */
    struct ckpt_chain_point {
        uint64_t budget_bytes, needed_bytes, cost;
        struct ckpt_chain_tables *from;
    } * point; /* where cost falls, needs ascending */
};

/* Functions of a chain, none of which is filled. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_tables_start(ckpt_chain_tables *tables, ckpt_error *err);

/* All of them; those of one run of stages; and whether these are asked for. False: no memory. */
bool ckpt_chain_fill_all(ckpt_chain_tables *tables);
bool ckpt_chain_fill_pair(ckpt_chain_tables *tables, int s, int t, struct ckpt_chain_pair *pair);
bool ckpt_chain_pair_wanted(const ckpt_chain_tables *tables, int s, int t);

/* Divides everything that is held while something else runs. */
uint64_t ckpt_chain_held_unit(const ckpt_chain *chain);

/* The unit of at least so many bytes and at most so many for which least is lost: a part of some size; 0 where there is none. For
 * a budget, or for any where that is 0. */
uint64_t ckpt_chain_best_unit(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, uint64_t most, bool down);

/* unit_bytes, and exact and even, for so many slots, or somewhat more unless that is `given`. */
void ckpt_chain_choose_unit(ckpt_chain_tables *tables, uint64_t slots, bool given);

/* How long the runs are, about, that a budget may have a use for. */
int ckpt_chain_guess_longest(const ckpt_chain_tables *tables, uint64_t budget_bytes);

/* A split in slots. */
typedef struct ckpt_chain_term {
    double cost;
    int shift, lo, hi;
    const ckpt_chain_fn *right, *left;
} ckpt_chain_term;

static inline ckpt_chain_pair **ckpt_chain_pair_at(const ckpt_chain_tables *tables, int s, int t) {
    return &tables->pair[(size_t)s * (size_t)(tables->count + 1) + (size_t)t];
}

/* Checkpoints x_first..x_last, or none; of stages s..t those whose window[j - s] has slots, or all where that is NULL. */
typedef struct ckpt_chain_range {
    int first, last;
    const ckpt_chain_window *window;
} ckpt_chain_range;

/* Fills `split`, which has room for those of any function, with the ways to keep one of `range` and those to keep none;
 * returns how many. */
int ckpt_chain_list_splits(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, ckpt_chain_range range,
                           ckpt_chain_split *split);

/* The function of a ref; `scratch` is filled and returned for BACKWARD. NONE costs nothing and always fits. */
const ckpt_chain_fn *ckpt_chain_find_fn(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                        ckpt_chain_fn *scratch);

/* Sets the byte fields, then (once the unit is known) the slots of a function from its splits. */
void ckpt_chain_fn_bytes(const ckpt_chain_tables *tables, const ckpt_chain_split *split, int count,
                         ckpt_chain_fn *fn);
bool ckpt_chain_fn_slots(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_window *window,
                         const ckpt_chain_split *split, int count, ckpt_chain_fn *fn);

/* Splits in slots. */
void ckpt_chain_make_terms(const ckpt_chain_tables *tables, const ckpt_chain_split *split, int count, ckpt_chain_term *term);

/* What a term says; below where it begins the cost there stands in. */
double ckpt_chain_term_at(const ckpt_chain_term *term, int slot);

/* The program that the tables have for a budget. False: no memory. */
bool ckpt_chain_trace_program(const ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool,
                              ckpt_chain_program *program);

/* Adds the splits of a program that needs least. */
void ckpt_chain_mark_least(const ckpt_chain_tables *tables, ckpt_chain_likely *likely);

/* H from K and R. */
bool ckpt_chain_fn_either(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b,
                          ckpt_chain_fn *fn);

/* Bytes in slots, rounded up; or to the nearest. */
int ckpt_chain_slots_of(const ckpt_chain_tables *tables, uint64_t bytes);
int ckpt_chain_slots_near(const ckpt_chain_tables *tables, uint64_t bytes);

/* The value at `slot`; below lo the value at lo stands in. */
double ckpt_chain_fn_guess(const ckpt_chain_fn *fn, int64_t slot);

#endif
