/* The curve of schedules that stands beside a chain's tables (graph_curve.h).
 *
 *     ckpt_graph_curve curve = {.graph = &graph, .alignment_bytes = 256};
 *     ckpt_chain_curve_build(&stages, tables, &curve, &err);
 *
 * The schedules of the other strategies always; where the graph has branches also those that prices choose, with
 * checkpoints at the stages' borders at several distances, and the tables' own, all of them improved by small changes.
 */
#ifndef CKPT_CHAIN_CURVE_H
#define CKPT_CHAIN_CURVE_H

#include "planner/graph/graph_curve.h"
#include "planner/graph/stages.h"

/* Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_curve_build(const ckpt_stages *stages, ckpt_chain_tables *tables, ckpt_graph_curve *curve,
                                   ckpt_error *err);

#endif
