/* A layout: where a schedule's buffers lie. Liveness and packing in one call.
 *
 *     ckpt_layout layout;
 *     ckpt_layout_find(&graph, &schedule, 256, &pool, &layout, &err);
 *     printf("%llu bytes\n", layout.arena_bytes);
 */
#ifndef CKPT_LAYOUT_H
#define CKPT_LAYOUT_H

#include "planner/core/liveness.h"

typedef struct ckpt_layout {
    ckpt_liveness live;   /* instances with offsets */
    uint64_t arena_bytes; /* live.peak_bytes, or more where packing leaves holes */
} ckpt_layout;

/* Errors as ckpt_liveness_find's. Everything is in `pool`. */
ckpt_status ckpt_layout_find(const ckpt_graph *graph, const ckpt_schedule *schedule, uint64_t alignment_bytes,
                             ckpt_pool *pool, ckpt_layout *layout, ckpt_error *err);

/* The same for the graph's nodes once each in their own order: what evaluation runs. */
ckpt_status ckpt_layout_of_graph(const ckpt_graph *graph, uint64_t alignment_bytes, ckpt_pool *pool,
                                 ckpt_layout *layout, ckpt_error *err);

#endif
