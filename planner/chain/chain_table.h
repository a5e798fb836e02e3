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
#include "planner/chain/chain_corner.h"

enum { CKPT_FN_NONE, CKPT_FN_G, CKPT_FN_R, CKPT_FN_K, CKPT_FN_H, CKPT_FN_BACKWARD };

/* A cost that falls as memory grows. In slots: infinite below lo, constant from hi on. */
typedef struct ckpt_chain_fn {
    int lo, hi;
    double *value;                   /* [0, hi - lo] */
    double *last;                    /* of pieces of CKPT_CHAIN_PIECE slots from that of lo to that of hi: the value at the last slot */
    uint32_t *best;                  /* [0, hi - lo]: the checkpoint first kept, less the first stage; or NO_SPLIT */
    double only;                     /* what value points to where there is a single one */
    uint32_t only_best;
    ckpt_corner_fn corners;          /* of tables by corners */
    ckpt_corner only_corner[2];
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

enum { CKPT_CHAIN_NO_SPLIT = INT32_MAX, CKPT_CHAIN_NO_SLOT = 1 << 29, CKPT_CHAIN_RUNS = 16, CKPT_CHAIN_PIECE = 32 };

/* Slots [from, to) for which a checkpoint is tried; none where `to` is 0. */
typedef struct ckpt_chain_window {
    int from, to;
} ckpt_chain_window;

struct ckpt_chain_tables {
    ckpt_pool pool;
    const ckpt_chain *chain;
    int count; /* stages */
    int longest; /* runs of more stages have no functions but G */
    bool short_runs; /* they are in no program of interest */
    bool never_give_up, all_splits;
    bool repeated;      /* functions are shared by many runs of stages */
    bool loss_is_light; /* x_L and its gradient take no bytes: nothing is gained by running through to it */
    uint64_t *cost;     /* [k]: of forward runs of stages 1..k */
    uint64_t *run[CKPT_CHAIN_RUNS]; /* run[i][k]: most at once in bare forward runs of stages k..k + 2^i - 1 */
    bool *gains;        /* [s]: the backward of s takes less when x_{s-1} may die: two variants are needed */
    ckpt_chain_pair **pair; /* [s * (count + 1) + t]: shared by equal runs of stages */
    ckpt_chain_fn *g[2];    /* [s] */
    uint64_t unit_bytes;    /* of a slot; 0 before it is known */
    bool down;  /* sizes are rounded down: for a bound */
    bool exact; /* every size is whole in slots */
    bool even;  /* what is held is: a slot's cost is the least of all sizes that fill as many slots */
    uint64_t from_bytes, cap_bytes; /* no budget below, or above, is asked for */
    uint64_t work, unshared_work;   /* splits of all distinct functions, about; of all functions */
    uint64_t functions;             /* distinct ones */
    ckpt_chain_split *split;        /* room for the ways of one function */
    struct ckpt_chain_term *term;   /* the same, in slots */
    ckpt_chain_fn *backward;        /* room for those that are backwards of one stage */
    double *first;                  /* of the function that is filled, as last: the value at the first slot of a piece */
    bool whole;                     /* a short chain: answers come from chain_exact.h */
    uint64_t least_bytes, most_bytes, floor_cost; /* of all programs */
    ckpt_chain_window *window;      /* [j - s]: room for those of one function */
    struct ckpt_chain_tables *fine; /* the same chain in other slots; or NULL */
    ckpt_chain_likely *likely;      /* only these splits, and only functions that they lead to; or NULL: all */
    bool by_corners;                /* functions are exact, in bytes, up to cap_bytes; nothing is in slots */
    ckpt_corner_room corner_room;
    /* of tables for one budget: */
    uint64_t offset_bytes;  /* beside any number of slots: what the budget leaves over, where all that is held is whole */
    uint16_t **way[2];      /* [s][slot - lo]: which way G takes, instead of values (chain_first.c) */
    double *row;            /* room for the values of one function, */
    uint32_t *taken;        /* and for which way they take */
    double least_cost;      /* with cap_bytes */
    double limit_cost;      /* what costs more is of no interest, */
    double spare_cost;      /* nor are runs that cost so much more than when each stage is run once */
    double *most_cost;      /* [k]: of stages 1..k run once, with all that backwards may run again */
    double *least_part;     /* [n]: of any n stages in a row but the last, on their own, at least */
    double least_left_out;  /* what functions do not say costs so much more than one run of each stage, at least */
    double rest_cost;       /* beside a run of as many stages as are filled now: of all others, at least */
    int filled;             /* runs of so many stages are */
    uint64_t spent;         /* work, so far */
    bool no_longer;         /* none of more is of interest */
    uint64_t least_gradient; /* of x_1..x_{L-1} */
    int more_slots;         /* that functions have beyond the budget: a gradient */
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

/* What a run of stages s..t costs at most as part of what is of interest, beside the first run of each. */
double ckpt_chain_most_of_interest(const ckpt_chain_tables *tables, int s, int t);

/* The stage of the last ones of s..t whose output has the smallest gradient: where a part of a run best ends. */
int ckpt_chain_part_end(const ckpt_chain_tables *tables, int s, int t);

/* What the gradient of x_u takes beyond the smallest one of later stages, the last one among them or not: what stages up to u have
 * beside it before it is made, if it is there from the beginning. */
int ckpt_chain_slots_beside(const ckpt_chain_tables *tables, int u, bool with_last);

/* The same of tables for one budget, with all splits, in slots that may be part of what is of interest. */
bool ckpt_chain_fn_of_interest(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_split *split, int count,
                               ckpt_chain_fn *fn);

/* Splits in slots; and a function as it is. */
void ckpt_chain_make_terms(const ckpt_chain_tables *tables, const ckpt_chain_split *split, int count, ckpt_chain_term *term);
ckpt_chain_term ckpt_chain_make_ahead(const ckpt_chain_fn *fn);

/* What a term says; below where it begins the cost there stands in. */
double ckpt_chain_term_at(const ckpt_chain_term *term, int slot);

/* fn->last from its values. */
void ckpt_chain_set_last(ckpt_chain_fn *fn);

/* fn from tables->term[0, count), in slots [lo, hi], as far as it costs no more than `most`; best: the number of the term. fn has
 * room for all slots, and gets NO_SLOT where it has no value in any. */
void ckpt_chain_fn_row(ckpt_chain_tables *tables, int count, double most, int lo, int hi, ckpt_chain_fn *fn);

/* The corners of a function from its splits. False: see corner_room. */
bool ckpt_chain_fn_corners(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_split *split, int count,
                           ckpt_chain_fn *fn);

/* Tables by corners, for budgets up to budget_bytes. likely: the only splits (not owned), or NULL: all. NULL where `work`
 * corners are not enough. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_corners_build(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_chain_likely *likely, uint64_t work,
                                     ckpt_chain_tables **tables, ckpt_error *err);

typedef struct ckpt_chain_wanted {
    uint64_t cost;   /* of a known program: what is dearer is not looked for; or CKPT_CHAIN_NEVER */
    uint64_t work;   /* splits times slots, at most, about: if it takes fewer slots they are rounded down */
    bool short_runs; /* least_cost is to be that of programs which run none of many stages again */
    int longest;     /* runs that have functions at first; 0: as many as the budget may have a use for, if equal runs share them */
} ckpt_chain_wanted;

/* Tables of all splits in slots, for one budget, where equal runs share functions: exact where sizes are whole in slots, rounded
 * down where they can be told apart; NULL elsewhere. No program costs less than least_cost. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_slots_build(const ckpt_chain *chain, uint64_t budget_bytes, const ckpt_chain_wanted *wanted,
                                   ckpt_chain_tables **tables, ckpt_error *err);

/* All G of these, once the other functions are made. False: no memory. */
bool ckpt_chain_first_pass(ckpt_chain_tables *tables);

/* Which way G goes with so many slots; NULL where that is none that a program can take. */
const ckpt_chain_split *ckpt_chain_first_way(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, int64_t slot);

/* Whether there is a program of least_cost, if the tables are exact. */
bool ckpt_chain_first_is_whole(const ckpt_chain_tables *tables);

/* The program that the tables have for a budget. False: no memory. */
bool ckpt_chain_trace_program(const ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool,
                              ckpt_chain_program *program);

/* Adds the splits of a program that needs least. */
void ckpt_chain_mark_least(const ckpt_chain_tables *tables, ckpt_chain_likely *likely);

/* H from K and R. */
bool ckpt_chain_fn_either(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b,
                          ckpt_chain_fn *fn);

/* Bytes in slots, rounded up, or down for a bound; or to the nearest. And so many slots have room for bytes that are not held. */
int ckpt_chain_slots_of(const ckpt_chain_tables *tables, uint64_t bytes);
int ckpt_chain_slots_for(const ckpt_chain_tables *tables, uint64_t bytes);
int ckpt_chain_slots_near(const ckpt_chain_tables *tables, uint64_t bytes);

/* The value at `slot`; below lo the value at lo stands in. */
double ckpt_chain_fn_guess(const ckpt_chain_fn *fn, int64_t slot);

#endif
