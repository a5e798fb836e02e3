/* Plan files: a plan as JSON, made by one program and run by another.
 *
 *     ckpt_plan_write(plan, "plan.json", &err);
 *     ckpt_plan_read("plan.json", &graph, NULL, &plan, &err);
 *
 * Schema "ckptplan-file/4". A step is [node, recompute, [instances read], [instances written]]. An instance is
 * [tensor, first, end, offset, bytes, reuses]. -1 stands for none. A reader refuses fields that it does not know.
 */
#ifndef CKPT_PLAN_FILE_H
#define CKPT_PLAN_FILE_H

#include "planner/core/plan_types.h"

/* A reader sees the old file or the whole new one; errors as in base/atomic_file.h. */
ckpt_status ckpt_plan_write(const ckpt_plan *plan, const char *path, ckpt_error *err);

/* Reads and checks (check.h) a plan for `graph` and, if it was made with one, the evaluation graph.
 * CKPT_USAGE: no such file, no plan file, damaged, or made for another graph; one line names the file and
 * what is wrong. */
ckpt_status ckpt_plan_read(const char *path, const ckpt_graph *graph, const ckpt_graph *eval,
                           ckpt_plan **plan, ckpt_error *err);

#endif
