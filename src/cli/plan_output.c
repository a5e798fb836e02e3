/* What ckptplan writes to a file or prints instead of text: plans, reports, charts. */
#include "cli/plan_output.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "planner/plan_file.h"
#include "planner/report/report.h"
#include "base/atomic_file.h"

static ckpt_status write_markup(const ckpt_markup *m, const char *path, ckpt_error *err) {
    if (!path) {
        const bool written = fwrite(m->text, 1, m->length, stdout) == m->length;
        return written ? CKPT_OK : ckpt_fail(err, CKPT_FAILED, "cannot write the result: %s", strerror(errno));
    }
    ckpt_atomic_file file;
    CKPT_TRY(ckpt_atomic_open(&file, path, err));
    ckpt_status status = ckpt_atomic_write(&file, m->text, m->length, err);
    if (status == CKPT_OK) status = ckpt_atomic_commit(&file, err);
    ckpt_atomic_close(&file);
    return status;
}

/* "batch 64 in 4 parts of 16, optimizer adam" */
static void describe_step(const ckpt_plan_report *r, char *text, size_t size) {
    const char *optimizer = ckpt_plan_report_optimizer(r);
    int used = snprintf(text, size, "batch %" PRId64, r->job->batch);
    if (r->job->parts > 1)
        used += snprintf(text + used, size - (size_t)used, " in %" PRId64 " parts of %" PRId64, r->job->parts,
                         r->job->model.graph.batch);
    snprintf(text + used, size - (size_t)used, optimizer ? ", optimizer %s" : ", forward pass only", optimizer);
}

static ckpt_status render(const ckpt_report *report, ckpt_format format, ckpt_markup *out, ckpt_error *err) {
    switch (format) {
    case CKPT_FORMAT_HTML: return ckpt_report_html(report, out, err);
    case CKPT_FORMAT_DOT: return ckpt_report_dot(report, out, err);
    default: return report->plan ? ckpt_report_memory_svg(report, out, err) : ckpt_report_frontier_svg(report, out, err);
    }
}

ckpt_status ckpt_plan_output_draw(const ckpt_plan_report *r, const ckpt_frontier *frontier, ckpt_error *err) {
    char step[128];
    describe_step(r, step, sizeof step);
    const ckpt_report report = {
        .graph = &r->job->model.graph, .plan = r->plan, .frontier = frontier, .model = r->options->job.model_path, .step = step,
        .precision = ckpt_precision_names[r->options->job.precision], .parts = r->job->parts,
        .unit = r->plan ? r->plan->costs.unit : r->job->costs.unit,
        .compute = r->plan ? ckpt_job_compute(r->job, r->plan) : r->compute, .parameter_count = ckpt_job_parameter_count(r->job),
        .store_all_bytes = r->plan ? r->plan->store_all_total : r->store_all_bytes};
    ckpt_markup out = {0};
    ckpt_status status = render(&report, (ckpt_format)r->options->format, &out, err);
    if (status == CKPT_OK) status = write_markup(&out, r->options->output, err);
    ckpt_markup_free(&out);
    return status;
}

ckpt_status ckpt_plan_output_write(const ckpt_plan_report *r, ckpt_error *err) {
    if (r->options->format == CKPT_FORMAT_JSON) return ckpt_plan_write(r->plan, r->options->output, err);
    ckpt_frontier frontier = {0};
    const bool curve = r->options->format == CKPT_FORMAT_HTML && !r->job->forward_only;
    if (curve)
        CKPT_TRY(ckpt_frontier_find(&r->job->model.graph, &r->job->evaluation, &r->job->costs, r->traits, CKPT_FRONTIER_POINTS, &frontier, err));
    const ckpt_status status = ckpt_plan_output_draw(r, curve ? &frontier : NULL, err);
    ckpt_frontier_free(&frontier);
    return status;
}
