/* Orders of the backward pass: in which order gradient and update nodes run.
 *
 *     ckpt_order order;
 *     ckpt_order_find(&problem, 0, &pool, &order, &err);
 *     ckpt_graph view;
 *     ckpt_order_view(&graph, &order, &pool, &view, &err);
 *     // here any solver makes a schedule of the view
 *     ckpt_order_map(&order, &schedule);                     // now of the graph
 *
 * A view is an ordinary graph whose backward and update nodes are permuted, so a solver that runs nodes in the
 * graph's order plans another order without knowing. Forward nodes keep their ids, tensors too.
 */
#ifndef CKPT_ORDER_H
#define CKPT_ORDER_H

#include "planner/core/problem.h"
#include "planner/core/plan_types.h"

/* A topological order of the problem's dependencies in which forward nodes keep their places. */
typedef struct ckpt_order {
    const char *name; /* static */
    int *node;        /* node i of the view is node node[i] of the graph; node_count entries */
} ckpt_order;

/* Candidates: the first is the best default, the last is autodiff's own order. */
int ckpt_order_count(void);

/* Candidate `which` of [0, ckpt_order_count()). Two candidates may be equal. The array is the pool's. The order of a
 * problem depends on nothing but the problem's graph and bytes. Errors: CKPT_NOMEM. */
ckpt_status ckpt_order_find(const ckpt_problem *problem, int which, ckpt_pool *pool, ckpt_order *order,
                            ckpt_error *err);

/* The graph with its nodes in this order. Nodes and tensors are copies in `pool`; names, attributes' data, layers
 * and the hash are the graph's, which must outlive the view. Costs of forward nodes apply to the view unchanged. The
 * view itself is not to be freed. Errors: CKPT_NOMEM. */
ckpt_status ckpt_order_view(const ckpt_graph *graph, const ckpt_order *order, ckpt_pool *pool, ckpt_graph *view,
                            ckpt_error *err);

/* Turns a schedule of the view into one of the graph, in place. */
void ckpt_order_map(const ckpt_order *order, ckpt_schedule *schedule);

#endif
