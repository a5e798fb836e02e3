/* A plan to look at: as a page, as charts, as a graph.
 *
 *     ckpt_report report = {.graph = &graph, .plan = plan, .frontier = &frontier, .model = "mlp.onnx", ...};
 *     ckpt_markup page = {0};
 *     if (ckpt_report_html(&report, &page, &err) == CKPT_OK) fwrite(page.text, 1, page.length, file);
 *     ckpt_markup_free(&page);
 *
 * Pages and charts stand alone: no script, font or picture comes from elsewhere. They follow the reader's choice of
 * light or dark, and are well-formed XML.
 */
#ifndef CKPT_REPORT_H
#define CKPT_REPORT_H

#include "planner/frontier.h"
#include "planner/report/markup.h"

typedef struct ckpt_report {
    const ckpt_graph *graph;
    const ckpt_plan *plan;
    const ckpt_frontier *frontier; /* NULL: left out */
    const char *model, *step, *precision; /* "mlp.onnx"; "batch 64, optimizer adam" */
    int64_t parts;             /* micro-batches of a step: FLOPs and costs of plan and frontier are of one */
    ckpt_cost_unit unit;       /* of the costs */
    ckpt_plan_compute compute; /* of the whole step */
    int64_t parameter_count;
    uint64_t store_all_bytes; /* memory.total of the strategy none */
} ckpt_report;

/* Errors: CKPT_NOMEM. */
ckpt_status ckpt_report_html(const ckpt_report *report, ckpt_markup *out, ckpt_error *err);
/* The memory over the step. */
ckpt_status ckpt_report_memory_svg(const ckpt_report *report, ckpt_markup *out, ckpt_error *err);
/* The curve of recomputation over bytes; report->frontier must be there. With a plan it is marked. */
ckpt_status ckpt_report_frontier_svg(const ckpt_report *report, ckpt_markup *out, ckpt_error *err);
/* The training graph for Graphviz. */
ckpt_status ckpt_report_dot(const ckpt_report *report, ckpt_markup *out, ckpt_error *err);

/* Below: between report_*.c. */

/* Classes of the charts, in a style element's text; and the page's own. */
extern const char ckpt_report_chart_style[], ckpt_report_page_style[], ckpt_report_script[];

/* The charts without the style, for a page that has it. */
ckpt_status ckpt_report_memory_chart(const ckpt_report *report, bool alone, ckpt_markup *out, ckpt_error *err);
void ckpt_report_frontier_chart(const ckpt_report *report, bool alone, ckpt_markup *out);

/* Opens a chart of this size. */
void ckpt_report_svg_open(ckpt_markup *out, const char *label, int width, int height, bool alone);

/* Steps of an axis: 1, 2 or 5 times a power of ten of `unit`, about `count` of them up to `most`. */
double ckpt_report_tick(double most, double unit, int count);
/* The largest unit of bytes, as a number, with at least 2 of it in `bytes`; and its name. */
double ckpt_report_unit(double bytes, const char **name);

/* Share of a step's cost without recomputation. */
double ckpt_report_share(const ckpt_report *report, uint64_t cost);

/* "1,234,567". Returns `text`. */
enum { CKPT_REPORT_TEXT = 32 };
char *ckpt_report_count(uint64_t value, char text[CKPT_REPORT_TEXT]);

#endif
