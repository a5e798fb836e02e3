/* Ground truth for small training graphs: the least memory and the least recomputation of any schedule, with the loss,
 * the effects, the backward and the update nodes in any order, and forward nodes run again any number of times.
 *
 *     order_oracle *oracle = order_oracle_open(&graph, &costs, 64);
 *     order_frontier frontier;
 *     if (order_oracle_frontier(oracle, &frontier) == ORDER_FOUND) ...   // breakpoints by ascending bytes
 *     order_oracle_close(oracle);
 *
 * A schedule is judged by what the checker verifies and by nothing else: a node runs after the producers of the STEP tensors
 * that it reads; accesses to a tensor that outlives the step keep the graph's order wherever one of them writes; a run
 * again sees what the first run saw; bytes count as lifetimes count them, with output 0 written over an input that dies
 * there where the op permits it. Shares no code with the planner: only the graph and the op table.
 */
#ifndef CKPT_ORDER_ORACLE_H
#define CKPT_ORDER_ORACLE_H

#include "planner/core/costs.h"

typedef struct order_oracle order_oracle;

typedef enum order_answer {
    ORDER_FOUND,
    ORDER_NONE,    /* no schedule takes so few bytes */
    ORDER_GAVE_UP, /* more than state_limit states */
    ORDER_WRONG    /* a schedule that the search found does not replay to what the search says: a fault of the oracle */
} order_answer;

/* NULL: too many nodes or tensors for its sets (256 nodes that run once, 64 tensors that may be dropped), or no memory.
 * Graph and costs must outlive the oracle. */
order_oracle *order_oracle_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes);
void order_oracle_close(order_oracle *oracle);

/* States that one search may keep; 4 million if not set. */
void order_oracle_limit(order_oracle *oracle, int state_limit);

/* Tries everything, also what order_oracle.c leaves out because something at least as good remains. */
void order_oracle_leave_out_nothing(order_oracle *oracle);

/* A schedule: nodes in the order of their runs, `peak` its most live bytes, `cost` of its recomputations. */
enum { ORDER_MOST_RUNS = 4096 };
typedef struct order_schedule {
    uint64_t peak, cost;
    int count, node[ORDER_MOST_RUNS];
} order_schedule;

/* The least recomputation cost in `bytes`. `schedule` may be NULL. */
order_answer order_oracle_cost(order_oracle *oracle, uint64_t bytes, uint64_t *cost, order_schedule *schedule);

/* The least live peak of any schedule. */
order_answer order_oracle_least(order_oracle *oracle, uint64_t *bytes, order_schedule *schedule);

/* The Pareto frontier: point[0] has the least bytes, the last recomputes nothing. From point[i].bytes to below point[i + 1].bytes
 * the least cost is point[i].cost. Each point with a schedule that reaches it; free with order_frontier_free. */
typedef struct order_point {
    uint64_t bytes, cost;
    int count, *node;
} order_point;

typedef struct order_frontier {
    int count, capacity;
    order_point *point;
} order_frontier;

order_answer order_oracle_frontier(order_oracle *oracle, order_frontier *frontier);
void order_frontier_free(order_frontier *frontier);

/* What a schedule's live bytes come to, by the oracle's own count; false where it breaks a rule. */
bool order_oracle_replay(const order_oracle *oracle, const int *node, int count, uint64_t *peak, uint64_t *cost);

/* States that the last search kept. */
int order_oracle_states(const order_oracle *oracle);

#endif
