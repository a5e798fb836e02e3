/* ckptplan: how a training step of a model will run, before anything is allocated. */
#include <stdio.h>

#include "cli/ask_ckpttrain.h"
#include "cli/console.h"
#include "cli/job_notes.h"
#include "cli/loss_report.h"
#include "cli/parameters_report.h"
#include "cli/plan_output.h"
#include "job/cost_model.h"

static const char program[] = "ckptplan";

static ckpt_status show_plan(ckpt_plan_report *report, ckpt_error *err) {
    const ckpt_cli_options *o = report->options;
    ckpt_plan *plan;
    CKPT_TRY(ckpt_job_plan(report->job, &o->job, &plan, err));
    report->plan = plan;
    ckpt_status status = ckpt_plan_report_minimum(report, err);
    const bool drawn = o->format > CKPT_FORMAT_JSON;
    if (status == CKPT_OK && (o->output || drawn)) status = ckpt_plan_output_write(report, err);
    if (status == CKPT_OK && (o->output || !drawn)) {
        const bool json = o->json || (!o->output && o->format == CKPT_FORMAT_JSON);
        status = json ? ckpt_plan_report_json(report, err) : ckpt_plan_report_text(report, err);
    }
    ckpt_plan_free(plan);
    return status;
}

static ckpt_status run(const ckpt_cli_options *given, char **argv, ckpt_error *err) {
    ckpt_cli_options options = *given;
    ckpt_plan_report report = {.options = &options};
    ckpt_batch_answer batches;
    ckpt_job job;
    const char *note;
    CKPT_TRY(ckpt_device_to_plan_for(options.job.device, options.job.precision, &report.traits, &note, err));
    if (options.max_batch) {
        /* Before the search, which needs the figures; which batch they are taken at does not matter. */
        CKPT_TRY(ckpt_ask_ckpttrain(&options.job, NULL, report.traits->device, argv, err));
        CKPT_TRY(ckpt_max_batch_find(&options, report.traits, &batches, err));
        options.job.batch = batches.batch;
        options.job.micro_batch = batches.micro_batch;
        report.batches = &batches;
    }
    CKPT_TRY(ckpt_job_load(&options.job, NULL, report.traits, &job, err));
    report.job = &job;
    ckpt_status status = ckpt_ask_ckpttrain(&options.job, &job, report.traits->device, argv, err);
    if (status == CKPT_OK) status = ckpt_job_cost(&job, &options.job, err);
    if (status == CKPT_OK) status = options.compare    ? ckpt_plan_report_compare(&report, err)
                                       : options.frontier ? ckpt_plan_report_frontier(&report, err)
                                                          : show_plan(&report, err);
    /* At the end, so that a failure is the only line. */
    if (status == CKPT_OK && note) ckpt_console_note(program, "%s", note);
    if (status == CKPT_OK) ckpt_losses_say(&job, program);
    if (status == CKPT_OK && !job.forward_only) ckpt_parameters_say(&job.model, program);
    if (status == CKPT_OK) ckpt_job_say_sparse(&job, program);
    if (status == CKPT_OK) ckpt_job_say_ties(&job, program);
    if (status == CKPT_OK) ckpt_job_say_parts(&job, &options.job, program);
    ckpt_job_free(&job);
    return status;
}

int main(int argc, char **argv) {
    ckpt_cli_options options;
    ckpt_error err;
    ckpt_status status = ckpt_cli_parse(CKPT_PROGRAM_PLAN, argc, argv, &options, &err);
    if (status == CKPT_OK) {
        if (options.help) ckpt_cli_print_help(CKPT_PROGRAM_PLAN, stdout);
        else if (options.version) printf("%s %s\n", program, CKPT_VERSION);
        else status = run(&options, argv, &err);
    }
    return ckpt_console_finish(program, status, &err);
}
