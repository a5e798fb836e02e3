#include "cli/train_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/data_words.h"
#include "cli/loss_report.h"
#include "job/cost_model.h"

static double samples_per_second(const ckpt_train_report *r) {
    return r->seconds > 0 ? (double)r->samples / r->seconds : 0;
}

static const char *verification(const ckpt_session *s) {
    return !s->reference ? "off" : s->report.verified ? "passed" : "failed";
}

static const char *checkpoint_word(const ckpt_cli_options *o) { return ckpt_off_on_choices[o->checkpoint]; }

/* "budget=1048576" was asked for as "budget". */
static int strategy_length(const ckpt_plan *plan) { return (int)strcspn(plan->strategy, "="); }

/* What the prediction rests on: the plan's own costs where they are times. */
static const char *time_source(const ckpt_session *s) {
    if (s->plan->costs.unit == CKPT_COST_NS) return s->plan->costs.source;
    return s->job->rates.measured ? "roofline, measured" : "roofline, nominal";
}

static void print_host_memory(const ckpt_host_memory *m) {
    char size[7][CKPT_SIZE_TEXT];
    const uint64_t bytes[7] = {m->anonymous_bytes, ckpt_host_memory_bound(m), m->planned_bytes, m->sample_bytes,
                               m->model_bytes, m->copy_bytes, m->beyond_bytes};
    if (!m->anonymous_bytes) return;
    for (int i = 0; i < 7; i++) ckpt_units_format_size(bytes[i], size[i]);
    printf(
        "Process memory: %s, at most %s: plan %s, samples %s, model file %s, copies of weights %s, and %s for the program and what "
        "oneDNN packs\n",
        size[0], size[1], size[2], size[3], size[4], size[5], size[6]);
}

ckpt_status ckpt_train_report_text(const ckpt_session *s, const ckpt_cli_options *o, ckpt_error *err) {
    const ckpt_train_report *r = &s->report;
    char bytes[CKPT_NUMBER_TEXT];
    (void)err;
    if (r->steps) printf("loss %.6g -> %.6g in ", r->first_loss, r->last_loss);
    printf("%" PRId64 " steps (%" PRId64 " epochs)\n", r->steps, r->epochs);
    if (r->accuracy >= 0) printf("training accuracy %.2f%%\n", 100 * r->accuracy);
    if (r->val_loss >= 0) printf("validation loss %.6g", r->val_loss);
    if (r->val_loss >= 0 && r->val_accuracy >= 0) printf(", accuracy %.2f%%", 100 * r->val_accuracy);
    if (r->val_loss >= 0) printf("\n");
    printf("%.2f s, %.0f samples a second; %d nodes recomputed a step\n", r->seconds, samples_per_second(r),
           ckpt_job_compute(s->job, s->plan).recomputed_nodes);
    if (r->step_seconds > 0)
        printf("step %.4g ms, predicted %.4g ms (%s)\n", 1e3 * r->step_seconds, 1e3 * ckpt_job_step_seconds(s->job, s->plan),
               time_source(s));
    if (s->reference) printf("verification against a run without recomputation: %s\n", verification(s));
    printf("weights_sha256 %s\n", s->weights_sha256);
    printf("Peak memory usage: %.2f MB with Checkpoint = %s", (double)ckpt_exec_measured_peak(s->exec) / 1e6, checkpoint_word(o));
    printf(" (planned %s bytes", ckpt_console_count(s->plan->memory.total, bytes));
    printf(", measured %s bytes)\n", ckpt_console_count(ckpt_exec_measured_peak(s->exec), bytes));
    if (s->memory.total_bytes) {
        printf("Device memory: %s bytes taken since it was opened", ckpt_console_count(s->memory.taken_bytes, bytes));
        printf(", %s before (the context, and other processes)\n", ckpt_console_count(s->memory.before_bytes, bytes));
    }
    print_host_memory(&s->host);
    return CKPT_OK;
}

/* {"predicted", "measured", "cost_model"}; measured: null where steps were not timed. */
static json_t *step_seconds(const ckpt_session *s) {
    return json_pack("{s:f, s:o, s:o}", "predicted", ckpt_job_step_seconds(s->job, s->plan), "measured",
                     s->report.step_seconds > 0 ? json_real(s->report.step_seconds) : json_null(), "cost_model",
                     ckpt_console_json_text(time_source(s)));
}

/* A share or a loss, null where there is none. */
static json_t *real_or_null(double value) { return value >= 0 && value - value == 0 ? json_real(value) : json_null(); }
static json_t *loss_or_null(const ckpt_train_report *r, double value) {
    return r->steps && value - value == 0 ? json_real(value) : json_null();
}

/* What is minimised, and what it came to. */
static json_t *loss_of(const ckpt_session *s, const ckpt_cli_options *o) {
    json_t *loss = ckpt_losses_json(s->job, o);
    json_object_set_new(loss, "first", loss_or_null(&s->report, s->report.first_loss));
    json_object_set_new(loss, "last", loss_or_null(&s->report, s->report.last_loss));
    return loss;
}

/* The driver's count, of all processes; null where there is no driver. */
static json_t *device_memory(const ckpt_session *s) {
    const ckpt_exec_memory *m = &s->memory;
    return !m->total_bytes ? json_null()
                           : json_pack("{s:I, s:I, s:I}", "total", (json_int_t)m->total_bytes, "context_and_others",
                                       (json_int_t)m->before_bytes, "taken",
                                       (json_int_t)m->taken_bytes);
}

/* Samples that --drop-last left out of each epoch and of validation. */
static json_t *dropped(const ckpt_session *s) {
    return json_pack("{s:I, s:I}", "training", (json_int_t)s->sizes.dropped, "validation", (json_int_t)s->sizes.dropped_validation);
}

/* Null where the plan is not in the host's memory. */
static json_t *host_memory(const ckpt_host_memory *m) {
    return !m->beyond_bytes ? json_null()
                            : json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "planned_peak", (json_int_t)m->planned_bytes,
                                        "samples", (json_int_t)m->sample_bytes, "model_file", (json_int_t)m->model_bytes, "copies",
                                        (json_int_t)m->copy_bytes, "beyond_plan_bound", (json_int_t)m->beyond_bytes, "bound",
                                        (json_int_t)ckpt_host_memory_bound(m), "process_anonymous", (json_int_t)m->anonymous_bytes);
}

ckpt_status ckpt_train_report_json(const ckpt_session *s, const ckpt_cli_options *o, ckpt_error *err) {
    const ckpt_train_report *r = &s->report;
    json_t *val = r->val_loss >= 0 ? json_pack("{s:o, s:o}", "loss", real_or_null(r->val_loss), "accuracy",
                                               real_or_null(r->val_accuracy))
                                   : json_null();
    return ckpt_console_json_print(
        json_pack(
            "{s:s, s:s, s:s, s:s#, s:I, s:I, s:o, s:o, s:o, s:{s:I, s:I, s:o, s:o}, s:i, s:f, s:f, s:o, s:o, s:s, s:s, s:o, s:o}",
            "schema", "ckpttrain/1", "device", s->backend->name, "checkpoint", checkpoint_word(o), "strategy", s->plan->strategy,
            strategy_length(s->plan), "steps", (json_int_t)r->steps, "epochs", (json_int_t)r->epochs, "loss", loss_of(s, o),
            "accuracy", real_or_null(r->accuracy), "val", val, "memory", "planned_peak", (json_int_t)s->plan->memory.total,
            "measured_peak", (json_int_t)ckpt_exec_measured_peak(s->exec), "device", device_memory(s), "host",
            host_memory(&s->host), "recomputed_nodes_per_step", ckpt_job_compute(s->job, s->plan).recomputed_nodes, "seconds",
            r->seconds, "samples_per_second", samples_per_second(r), "step_seconds", step_seconds(s), "dropped", dropped(s),
            "weights_sha256", s->weights_sha256, "verify", verification(s), "data", ckpt_data_json(&s->data->training, o->data),
            "validation_data", ckpt_data_json(&s->data->validation, o->val_data)),
        err);
}
