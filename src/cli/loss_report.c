#include "cli/loss_report.h"

#include "cli/console.h"

void ckpt_losses_say(const ckpt_job *job, const char *program) {
    if (job->forward_only) return;
    ckpt_console_note(program, "loss: %s", job->model.loss_reason);
    if (job->model.unread) ckpt_console_note(program, "outputs that no loss is on: %s", job->model.unread);
}

static json_t *text_or_null(const char *text) { return text ? ckpt_console_json_text(text) : json_null(); }
static json_t *count_or_null(int64_t count) { return count > 0 ? json_integer((json_int_t)count) : json_null(); }

static json_t *loss_json(const ckpt_model_loss *loss, const ckpt_cli_options *o) {
    const ckpt_loss_choice *choice = &loss->choice;
    const bool chosen = loss->chosen;
    /* A loss node of the file has its classes along axis 1, and class indices as targets. */
    int64_t axis = !chosen && loss->classes ? 1 : 0;
    if (chosen && choice->class_axis) axis = choice->class_axis - loss->question.split;
    const char *targets = chosen ? ckpt_loss_target_name(&loss->question) : loss->labels;
    const char *are = chosen ? ckpt_loss_targets(&loss->question, choice) : loss->labels ? "class indices" : NULL;
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:f, s:o, s:f, s:o}", "kind", ckpt_loss_name(loss->loss), "output",
                     ckpt_console_json_text(loss->name), "class_axis", count_or_null(axis), "classes",
                     count_or_null(chosen ? choice->classes : loss->classes), "targets", text_or_null(targets), "targets_are",
                     text_or_null(are), "soft", chosen && choice->soft, "ignore_index",
                     loss->ignores ? json_integer(loss->ignore) : json_null(), "label_smoothing", chosen ? o->job.label_smoothing : 0.0,
                     "class_weights", text_or_null(chosen ? o->job.class_weights : NULL), "scale", (double)loss->scale, "reason",
                     ckpt_console_json_text(loss->sentence));
}

json_t *ckpt_losses_json(const ckpt_job *job, const ckpt_cli_options *o) {
    const ckpt_model *model = &job->model;
    if (job->forward_only) return json_null();
    json_t *loss = loss_json(&model->losses[0], o), *all = json_array();
    for (int i = 0; i < model->loss_count; i++) json_array_append_new(all, loss_json(&model->losses[i], o));
    json_object_set_new(loss, "text", ckpt_console_json_text(model->loss_reason));
    json_object_set_new(loss, "unread_outputs", text_or_null(model->unread));
    json_object_set_new(loss, "terms", all);
    return loss;
}
