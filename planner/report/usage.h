/* What is live at each step of a plan, sorted for a picture: by layer, kept apart from recomputed.
 *
 *     ckpt_usage usage;
 *     ckpt_usage_find(&graph, plan, 480, &pool, &usage, &err);
 *     uint64_t bytes = usage.bytes[column * usage.band_count + band];
 *
 * A column stands for the steps [first, end); its bytes are those of the step among them at which most is live, so
 * that peaks are exact however many steps there are. A buffer written over another is the old one's until the next
 * step: each byte is counted once, and a column's bands add up to what is live.
 */
#ifndef CKPT_USAGE_H
#define CKPT_USAGE_H

#include "planner/core/plan_types.h"

/* Bands, from below: kept of each group of layers, recomputed of each group, the rest (gradients and other results
 * of the backward pass). */
enum { CKPT_USAGE_GROUPS = 12 };

typedef struct ckpt_usage_column {
    int first, end, step;
    uint64_t live_bytes;
} ckpt_usage_column;

typedef struct ckpt_usage {
    int group_count, band_count, column_count;
    int group_first[CKPT_USAGE_GROUPS + 1]; /* layers [group_first[g], group_first[g + 1]) */
    ckpt_usage_column *column;
    uint64_t *bytes; /* [column_count][band_count] */
    uint64_t peak_bytes;
    int peak_column;
} ckpt_usage;

/* Everything is in `pool`. Errors: CKPT_NOMEM. */
ckpt_status ckpt_usage_find(const ckpt_graph *graph, const ckpt_plan *plan, int most_columns, ckpt_pool *pool,
                            ckpt_usage *usage, ckpt_error *err);

/* Bytes of the step region that are live at each step: live[step_count]. */
void ckpt_plan_live_bytes(const ckpt_plan *plan, uint64_t *live);

/* "forward", "recompute", "backward" or "update". */
typedef enum ckpt_step_kind { CKPT_STEP_FORWARD, CKPT_STEP_RECOMPUTE, CKPT_STEP_BACKWARD, CKPT_STEP_UPDATE } ckpt_step_kind;
enum { CKPT_STEP_KINDS = 4 };
ckpt_step_kind ckpt_plan_step_kind(const ckpt_graph *graph, const ckpt_plan *plan, int step);
const char *ckpt_step_kind_name(ckpt_step_kind kind);

#endif
