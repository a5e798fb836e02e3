/* What ckptplan writes to a file or prints instead of text.
 *
 *     if (options->output) status = ckpt_plan_output_write(&report, &err);
 */
#ifndef CKPT_PLAN_OUTPUT_H
#define CKPT_PLAN_OUTPUT_H

#include "cli/plan_report.h"
#include "planner/frontier.h"

/* The plan as options->format says, to options->output or, where that is NULL, to stdout. A file is complete or not
 * there. Errors: CKPT_USAGE where no file can be made, CKPT_FAILED, CKPT_NOMEM. */
ckpt_status ckpt_plan_output_write(const ckpt_plan_report *report, ckpt_error *err);

/* The same for all but JSON, with a frontier that is already there or NULL. report->plan NULL: the frontier's chart. */
ckpt_status ckpt_plan_output_draw(const ckpt_plan_report *report, const ckpt_frontier *frontier, ckpt_error *err);

#endif
