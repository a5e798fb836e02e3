#include "cli/train_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

/* Adds a fact and returns the room for its value. */
static char *add_fact(ckpt_train_state *s, const char *name, const char *what) {
    const int i = s->run.fact_count++;
    s->fact[i] = (ckpt_state_fact){.name = name, .value = s->text[i], .what = what};
    return s->text[i];
}

static void hash_data(const ckpt_dataset *data, char hash[65]) {
    ckpt_sha256 sum;
    ckpt_sha256_start(&sum);
    ckpt_sha256_add(&sum, &data->samples, sizeof data->samples);
    for (size_t a = 0; a < data->array_count; a++) {
        const ckpt_array *array = &data->arrays[a];
        const uint64_t head[2] = {(uint64_t)array->type, array->values};
        ckpt_sha256_add(&sum, head, sizeof head);
        ckpt_sha256_add(&sum, array->data, (size_t)data->samples * ckpt_array_sample_bytes(array));
        /* Where the classes have names, the saved model holds them. */
        for (size_t i = 0; i < array->classes.count; i++)
            ckpt_sha256_add(&sum, array->classes.name[i], strlen(array->classes.name[i]) + 1);
    }
    ckpt_sha256_hex(&sum, hash);
}

/* What the run reads and never writes, as the device has it. */
static ckpt_status hash_constants(const ckpt_state_source *source, char hash[65], ckpt_error *err) {
    const ckpt_graph *graph = &source->job->model.graph;
    bool *held = calloc((size_t)graph->tensor_count + 1, sizeof *held);
    int *ids = calloc((size_t)graph->tensor_count + 1, sizeof *ids), count = 0;
    ckpt_status status = held && ids ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    if (status == CKPT_OK) {
        ckpt_state_find_held(graph, held);
        for (int t = 0; t < graph->tensor_count; t++) {
            const ckpt_role role = graph->tensor[t].role;
            if ((role == CKPT_ROLE_CONST || role == CKPT_ROLE_PARAM) && !held[t] &&
                source->plan->persistent_offset[t] != UINT64_MAX)
                ids[count++] = t;
        }
        status = ckpt_train_hash(source->exec[0], graph, ids, count, hash, err);
    }
    free(held);
    free(ids);
    return status;
}

ckpt_status ckpt_train_state_open(ckpt_train_state *s, const ckpt_cli_options *o, const ckpt_state_source *source,
                                  ckpt_error *err) {
    *s = (ckpt_train_state){.path = o->state, .source = *source, .saved_steps = -1};
    s->run = (ckpt_run_state){.graph = &source->job->model.graph, .facts = s->fact};
    /* What a user may have meant to change comes before the hashes, which say less. */
    snprintf(add_fact(s, "--device", NULL), CKPT_FACT_TEXT, "%s", source->device);
    snprintf(add_fact(s, "--precision", NULL), CKPT_FACT_TEXT, "%s", ckpt_precision_names[o->job.precision]);
    snprintf(add_fact(s, "--algorithms", NULL), CKPT_FACT_TEXT, "%s", ckpt_algorithms_choices[o->algorithms]);
    snprintf(add_fact(s, "--batch", NULL), CKPT_FACT_TEXT, "%" PRId64, source->job->batch);
    snprintf(add_fact(s, "--micro-batch", NULL), CKPT_FACT_TEXT, "%" PRId64, source->job->model.graph.batch);
    snprintf(add_fact(s, "--optimizer", NULL), CKPT_FACT_TEXT, "%s", ckpt_optimizer_choices[o->job.optimizer]);
    snprintf(add_fact(s, "--dropout", NULL), CKPT_FACT_TEXT, "%.9g", o->job.dropout);
    snprintf(add_fact(s, "--dropout-rng", NULL), CKPT_FACT_TEXT, "%s", ckpt_dropout_rng_choices[o->job.dropout_rng]);
    snprintf(add_fact(s, "--lr", NULL), CKPT_FACT_TEXT, "%.9g", o->lr); /* a float's digits: it is used as one */
    snprintf(add_fact(s, "--seed", NULL), CKPT_FACT_TEXT, "%" PRIu64, o->seed);
    snprintf(add_fact(s, "--shuffle", NULL), CKPT_FACT_TEXT, "%s", ckpt_off_on_choices[o->shuffle]);
    snprintf(add_fact(s, "--ignore-index", NULL), CKPT_FACT_TEXT, "%" PRId64, o->job.ignore_index);
    snprintf(add_fact(s, "--drop-last", "setting of --drop-last"), CKPT_FACT_TEXT, "%s", ckpt_off_on_choices[o->drop_last]);
    hash_data(source->data, add_fact(s, "data", "set of training data"));
    snprintf(add_fact(s, "model", "model, loss or dimension"), CKPT_FACT_TEXT, "%s", s->run.graph->hash);
    return hash_constants(source, add_fact(s, "constants", "model: values that are not trained differ"), err);
}

ckpt_status ckpt_train_state_load(ckpt_train_state *s, ckpt_train_report *report, bool *found, ckpt_error *err) {
    CKPT_TRY(ckpt_state_read(&s->run, s->path, s->source.exec, s->source.exec[1] ? 2 : 1, report, found, err));
    if (*found) s->saved_steps = report->steps;
    return CKPT_OK;
}

ckpt_status ckpt_train_state_save(void *state, const ckpt_train_report *report, ckpt_error *err) {
    ckpt_train_state *s = state;
    if (s->saved_steps == report->steps) return CKPT_OK;
    if (ckpt_state_write(&s->run, s->path, s->source.exec[0], report, err) != CKPT_OK) return ckpt_fail_in(err, "--state");
    s->saved_steps = report->steps;
    return CKPT_OK;
}
