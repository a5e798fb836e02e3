/* ckpttrain: trains a model under a plan and writes it back. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/ask_ckpttrain.h"
#include "cli/console.h"
#include "cli/data_words.h"
#include "cli/job_notes.h"
#include "cli/loss_report.h"
#include "cli/parameters_report.h"
#include "cli/stop_signals.h"
#include "cli/train_measure.h"
#include "cli/train_report.h"
#include "job/cost_model.h"

static const char program[] = "ckpttrain";

/* What the data are, which of the file's columns or arrays became what, and what was read otherwise than it is written. */
static void say_data(const ckpt_job *job, const ckpt_dataset *set, const char *which) {
    char text[CKPT_DATA_TEXT], words[CKPT_DATA_WORDS];
    ckpt_console_note(program, "%sdata: %s", which, ckpt_train_data_describe(job, set, text));
    if (ckpt_data_has_names(set))
        ckpt_console_note(program, "%s%s: %s", which, set->has_columns ? "columns" : "arrays", ckpt_data_names_text(set, words));
    for (size_t a = 0; a < set->array_count; a++)
        if (set->arrays[a].classes.count)
            ckpt_console_note(program, "%sclasses: %s", which, ckpt_data_classes_text(&set->arrays[a], words));
    for (size_t i = 0; i < set->notes.count; i++) ckpt_console_note(program, "%s", set->notes.name[i]);
}

static void say_what_runs(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_train_data *data, const ckpt_session *s) {
    char size[CKPT_SIZE_TEXT], text[CKPT_DATA_TEXT];
    ckpt_losses_say(job, program);
    ckpt_parameters_say(&job->model, program);
    ckpt_job_say_sparse(job, program);
    ckpt_job_say_ties(job, program);
    ckpt_job_say_parts(job, &o->job, program);
    ckpt_train_sizes_say(&s->sizes, job, program);
    if (data->synthetic)
        ckpt_console_note(program, "no --data: training on a synthetic set of %s",
                          ckpt_train_data_describe(job, &data->training, text));
    else
        say_data(job, &data->training, "");
    if (data->validation.array_count) say_data(job, &data->validation, "validation ");
    ckpt_console_note(program, "%s on %s, batch %lld%s, planned peak %s", s->plan->strategy, s->backend->name,
                      (long long)job->batch, o->verify ? ", verified against a run without recomputation" : "",
                      ckpt_units_format_size(s->plan->memory.total, size));
    if (s->resumed_steps)
        ckpt_console_note(program, "going on after step %lld of %s", (long long)s->resumed_steps, o->state);
}

static ckpt_status run_session(const ckpt_cli_options *o, const ckpt_backend *backend, const char *note, const ckpt_job *job,
                               const ckpt_train_data *data, ckpt_error *err) {
    ckpt_session session;
    ckpt_error report_err;
    CKPT_TRY(ckpt_session_open(o, backend, job, data, &session, err));
    if (note) ckpt_console_note(program, "%s", note); /* only now: a failure is the only line */
    say_what_runs(o, job, data, &session);
    const ckpt_status status = ckpt_session_train(&session, o, data, ckpt_stop_number(), err);
    ckpt_status told = CKPT_OK;
    if (ckpt_session_has_report(&session, status))
        told = o->json ? ckpt_train_report_json(&session, o, &report_err) : ckpt_train_report_text(&session, o, &report_err);
    ckpt_session_close(&session);
    if (status == CKPT_OK && told != CKPT_OK) *err = report_err;
    return status != CKPT_OK ? status : told;
}

static ckpt_status run(ckpt_cli_options *o, bool measure_only, ckpt_error *err) {
    const ckpt_backend *backend;
    const char *note;
    ckpt_job job;
    ckpt_train_data data = {0};
    CKPT_TRY(ckpt_session_choose_device(o, &backend, &note, err));
    if (measure_only && !o->job.profile) return ckpt_train_measure(o, backend, NULL, NULL, err); /* of the device: no model */
    CKPT_TRY(ckpt_job_load(&o->job, NULL, backend->traits, &job, err));
    ckpt_status status = ckpt_model_check_trainable(&job.model, backend->supports, backend->name, err);
    if (status == CKPT_OK && o->save && !measure_only) {
        status = ckpt_model_check_savable(&job.model, o->save, err);
        if (status != CKPT_OK) ckpt_fail_in(err, "--save");
    }
    if (status == CKPT_OK) status = ckpt_train_data_load(o, &job, &data, err);
    if (status == CKPT_OK) status = ckpt_train_measure(o, backend, &job, &data, err);
    if (status == CKPT_OK) status = ckpt_job_cost(&job, &o->job, err);
    if (status == CKPT_OK && !measure_only) status = run_session(o, backend, note, &job, &data, err);
    ckpt_train_data_free(&data);
    ckpt_job_free(&job);
    return status;
}

int main(int argc, char **argv) {
    ckpt_cli_options options;
    ckpt_error err;
    /* ckptplan's own command line follows the word, and is read as there: the graph must be the same. */
    const bool measure_only = argc > 1 && strcmp(argv[1], CKPT_MEASURE_WORD) == 0;
    if (measure_only) argc--, argv++;
    const ckpt_program parsed = measure_only ? CKPT_PROGRAM_PLAN : CKPT_PROGRAM_TRAIN;
    ckpt_status status = ckpt_cli_parse(parsed, argc, argv, &options, &err);
    if (status == CKPT_OK) {
        if (options.help) ckpt_cli_print_help(CKPT_PROGRAM_TRAIN, stdout);
        else if (options.version) printf("%s %s\n", program, CKPT_VERSION);
        else {
            signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error to report, like a full disk */
            if (!measure_only) status = ckpt_stop_listen(&err); /* a measurement has nothing to save */
            if (status == CKPT_OK) status = run(&options, measure_only, &err);
        }
    }
    const int code = ckpt_console_finish(program, status, &err);
    return status == CKPT_INTERRUPTED ? 128 + *ckpt_stop_number() : code;
}
