#include "cli/train_session.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/units.h"
#include "job/devices.h"
#include "proto/onnx_file.h"

/* Whether the device opens at all, and nine tenths of what it then has free: the rest is for what no plan counts, such
 * as recorded steps and the kernels of cublasLt. */
static ckpt_status try_device(const ckpt_backend *backend, const ckpt_cli_options *o, uint64_t *free_bytes, ckpt_error *err) {
    ckpt_device *device;
    uint64_t total;
    const ckpt_device_options options = {.index = o->device_index};
    if (!backend->memory) return ckpt_device_host_budget(free_bytes, err);
    CKPT_TRY(backend->open(&options, &device, err));
    const ckpt_status status = backend->memory(device, free_bytes, &total, err);
    backend->close(device);
    *free_bytes = *free_bytes / 10 * 9;
    return status;
}

ckpt_status ckpt_session_choose_device(ckpt_cli_options *o, const ckpt_backend **backend, const char **note,
                                       ckpt_error *err) {
    const ckpt_backend *cuda = ckpt_backend_cuda();
    uint64_t free_bytes = 0;
    *note = NULL;
    *backend = ckpt_backend_cpu();
    if (o->job.device == CKPT_DEVICE_CUDA) {
        if (!cuda)
            return ckpt_fail(err, CKPT_FAILED,
                             "--device cuda: this build has no CUDA backend; build with the preset cuda, or use --device cpu");
        if (try_device(cuda, o, &free_bytes, err) != CKPT_OK) return ckpt_fail_in(err, "--device cuda");
        *backend = cuda;
    } else if (o->job.device == CKPT_DEVICE_AUTO) {
        if (cuda && try_device(cuda, o, &free_bytes, err) == CKPT_OK) *backend = cuda;
        else *note = cuda ? "no usable NVIDIA GPU: training on the CPU" : "built without CUDA: training on the CPU";
    }
    if (o->job.budget_auto && *backend == cuda) {
        o->job.budget_auto = false;
        o->job.budget_bytes = free_bytes;
    }
    return ckpt_device_check_precision(o->job.precision, (*backend)->name, err);
}

/* Out of memory under this plan: which one would do? */
static ckpt_status say_what_fits(const ckpt_cli_options *o, const ckpt_session *s, ckpt_error *err) {
    uint64_t bytes = 0;
    ckpt_plan *plan = NULL;
    ckpt_error own;
    char size[CKPT_SIZE_TEXT];
    const ckpt_plan_options smallest = {.strategy = CKPT_STRATEGY_MIN};
    if (try_device(s->backend, o, &bytes, &own) != CKPT_OK) return CKPT_NOMEM;
    const ckpt_plan_options fitting = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = bytes};
    if (bytes < s->plan->memory.total && ckpt_job_plan_strategy(s->job, &fitting, &plan, &own) == CKPT_OK) {
        const ckpt_plan_compute compute = ckpt_job_compute(s->job, plan);
        ckpt_fail(err, CKPT_NOMEM, "%s; --budget %" PRIu64 " would fit: %s, recomputing %.1f%%", err->message,
                  bytes, ckpt_units_format_size(plan->memory.total, size), 100 * ckpt_compute_recompute_fraction(&compute));
    } else if (ckpt_job_plan_strategy(s->job, &smallest, &plan, &own) == CKPT_OK) {
        ckpt_fail(err, CKPT_NOMEM, "%s; the smallest plan needs %s: use a smaller --batch or --micro-batch",
                  err->message, ckpt_units_format_size(plan->memory.total, size));
    }
    ckpt_plan_free(plan);
    return CKPT_NOMEM;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static ckpt_status check_writable(const char *option, const char *path, ckpt_error *err) {
    ckpt_atomic_file file;
    if (!path) return CKPT_OK;
    if (ckpt_atomic_open(&file, path, err) != CKPT_OK) return ckpt_fail_in(err, "%s", option);
    ckpt_atomic_close(&file);
    return CKPT_OK;
}

/* No output is a file that is read, but for --save --overwrite, or another output. */
static ckpt_status check_distinct(const ckpt_cli_options *o, ckpt_error *err) {
    const struct {
        const char *option, *path;
        bool over_model;
    } out[] = {{"--log", o->log, false}, {"--state", o->state, false}, {"--save", o->save, o->overwrite}};
    const char *const read[] = {o->job.model_path, o->job.plan, o->data, o->val_data};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        if (!out[i].path) continue;
        for (size_t r = 0; r < sizeof read / sizeof *read; r++)
            if (read[r] && same_file(out[i].path, read[r]) && !(r == 0 && out[i].over_model))
                return ckpt_fail(err, CKPT_USAGE, "%s %s is %s that is read; give another name%s", out[i].option, out[i].path,
                                 r == 0 ? "the model" : "a file", r == 0 && out[i].path == o->save ? ", or --overwrite" : "");
        for (size_t k = 0; k < i; k++)
            if (out[k].path && (strcmp(out[i].path, out[k].path) == 0 || same_file(out[i].path, out[k].path)))
                return ckpt_fail(err, CKPT_USAGE, "%s and %s are both %s; give two names", out[k].option, out[i].option,
                                 out[i].path);
    }
    return CKPT_OK;
}

/* Better now than after hours of training. */
static ckpt_status check_outputs(const ckpt_cli_options *o, ckpt_error *err) {
    CKPT_TRY(check_distinct(o, err));
    CKPT_TRY(check_writable("--state", o->state, err));
    return check_writable("--save", o->save, err);
}

ckpt_status ckpt_session_upload(const ckpt_job *job, const ckpt_plan *plan, ckpt_exec *exec, ckpt_error *err) {
    const ckpt_graph *graph = &job->model.graph;
    for (int t = 0; t < graph->tensor_count; t++) {
        const ckpt_tensor *tensor = &graph->tensor[t];
        if ((!ckpt_tensor_is_saved(tensor) && tensor->role != CKPT_ROLE_CONST) || plan->persistent_offset[t] == UINT64_MAX)
            continue;
        void *values = malloc((size_t)ckpt_tensor_bytes(tensor) + 1); /* one tensor at a time */
        if (!values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for '%s'", tensor->name);
        ckpt_status status = ckpt_model_read_values(&job->model, t, values, err);
        if (status == CKPT_OK) status = ckpt_exec_set(exec, t, values, err);
        free(values);
        if (status != CKPT_OK) return status;
    }
    return CKPT_OK;
}

static ckpt_status open_exec(const ckpt_cli_options *o, ckpt_session *s, int which, ckpt_exec **exec, ckpt_error *err) {
    const ckpt_plan *plan = which == CKPT_SIZE_PLAN ? s->plan : s->reference_plan;
    const ckpt_exec_options options = {.backend = s->backend, .preserve_rng = o->preserve_rng,
                                       .device = {.index = o->device_index, .threads = (int)o->job.threads, .no_graph = o->no_graph,
                                                  .first_choice = o->algorithms != 0,
                                                  .precision = o->job.precision}};
    CKPT_TRY(ckpt_exec_open(&options, &s->job->model.graph, plan, &s->job->evaluation, s->evaluation_plan, exec, err));
    CKPT_TRY(ckpt_train_sizes_add(&s->sizes, which, *exec, err));
    return ckpt_session_upload(s->job, plan, *exec, err);
}

static ckpt_status resume(const ckpt_cli_options *o, const ckpt_train_data *data, ckpt_session *s, ckpt_error *err) {
    const ckpt_state_source source = {.job = s->job, .data = &data->training, .plan = s->plan, .device = s->backend->name,
                                      .exec = {s->exec, s->reference}};
    bool found;
    CKPT_TRY(ckpt_train_state_open(&s->state, o, &source, err));
    CKPT_TRY(ckpt_train_state_load(&s->state, &s->report, &found, err));
    if (found) s->resumed_steps = s->report.steps;
    return CKPT_OK;
}

static ckpt_status open_all(const ckpt_cli_options *o, const ckpt_train_data *data, ckpt_session *s, ckpt_error *err) {
    const ckpt_plan_options keep_all = {.strategy = CKPT_STRATEGY_NONE};
    CKPT_TRY(check_outputs(o, err));
    CKPT_TRY(ckpt_job_plan(s->job, &o->job, &s->plan, err));
    CKPT_TRY(ckpt_plan_make(&s->job->evaluation, &keep_all, s->backend->traits, NULL, &s->evaluation_plan, err));
    if (o->verify) CKPT_TRY(ckpt_job_plan_strategy(s->job, &keep_all, &s->reference_plan, err));
    const ckpt_train_plans plans = {{s->plan, s->reference_plan}, s->evaluation_plan};
    CKPT_TRY(ckpt_train_sizes_make(o, s->job, data, &plans, &s->sizes, err));
    const ckpt_status opened = open_exec(o, s, CKPT_SIZE_PLAN, &s->exec, err);
    if (opened != CKPT_OK) return opened == CKPT_NOMEM ? say_what_fits(o, s, err) : opened;
    if (o->verify && open_exec(o, s, CKPT_SIZE_REFERENCE, &s->reference, err) != CKPT_OK)
        return ckpt_fail_in(err, "--verify, which holds a second copy without recomputation");
    if (o->state) CKPT_TRY(resume(o, data, s, err));
    return ckpt_progress_start(&s->progress, o->log, s->resumed_steps, err);
}

ckpt_status ckpt_session_open(const ckpt_cli_options *o, const ckpt_backend *backend, const ckpt_job *job,
                              const ckpt_train_data *data, ckpt_session *session, ckpt_error *err) {
    *session = (ckpt_session){.job = job, .data = data, .backend = backend, .report = {.mismatch_step = -1}};
    const ckpt_status status = open_all(o, data, session, err);
    if (status != CKPT_OK) ckpt_session_close(session);
    return status;
}

/* Reads the trained tensors back one by one; `values` by tensor id. */
static ckpt_status download(const ckpt_session *s, float **values, ckpt_error *err) {
    const ckpt_graph *graph = &s->job->model.graph;
    for (int t = 0; t < graph->tensor_count; t++) {
        if (!ckpt_tensor_is_saved(&graph->tensor[t]) || s->plan->persistent_offset[t] == UINT64_MAX) continue;
        values[t] = malloc((size_t)ckpt_tensor_bytes(&graph->tensor[t]) + 1);
        if (!values[t]) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for '%s'", graph->tensor[t].name);
        CKPT_TRY(ckpt_exec_get(s->exec, t, values[t], err));
    }
    return CKPT_OK;
}

static ckpt_status save(const ckpt_session *s, const ckpt_cli_options *o, ckpt_error *err) {
    const int count = s->job->model.graph.tensor_count;
    float **values = calloc((size_t)count + 1, sizeof *values);
    if (!values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_status status = download(s, values, err);
    if (status == CKPT_OK) {
        status = ckpt_model_save(&s->job->model, (const float *const *)values, o->save, o->overwrite, err);
        if (status != CKPT_OK) ckpt_fail_in(err, "--save");
    }
    for (int t = 0; t < count; t++) free(values[t]);
    free(values);
    return status;
}

static ckpt_status hash_weights(ckpt_session *s, ckpt_error *err) {
    const ckpt_graph *graph = &s->job->model.graph;
    int *ids = calloc((size_t)graph->tensor_count + 1, sizeof *ids);
    if (!ids) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    const int count = ckpt_model_parameters(&s->job->model, ids);
    const ckpt_status status = ckpt_train_hash(s->exec, graph, ids, count, s->weights_sha256, err);
    free(ids);
    return status;
}

/* What of the host's memory is known to be needed, with what is there now. */
static ckpt_host_memory host_memory(const ckpt_session *s, const ckpt_cli_options *o, const ckpt_train_data *data) {
    const ckpt_graph *graph = &s->job->model.graph;
    const ckpt_dataset *const sets[2] = {&data->training, &data->validation};
    ckpt_host_memory m = {.planned_bytes = s->plan->memory.total, .model_bytes = ckpt_onnx_memory_bytes(s->job->model.file)};
    if (s->reference) m.planned_bytes += s->reference_plan->memory.total;
    for (int i = 0; i < 2; i++) {
        for (size_t a = 0; a < sets[i]->array_count; a++)
            m.sample_bytes += sets[i]->samples * (ckpt_array_sample_bytes(&sets[i]->arrays[a]) + 2 * sizeof(uint32_t));
    }
    for (int t = 0; t < graph->tensor_count; t++)
        if (!ckpt_tensor_is_step(graph, t) && ckpt_tensor_bytes(&graph->tensor[t]) > m.copy_bytes)
            m.copy_bytes = ckpt_tensor_bytes(&graph->tensor[t]);
    if (o->save) m.copy_bytes += 2 * s->plan->memory.parameters; /* read back, and in the form that the file has */
    ckpt_host_memory_measure(&m);
    return m;
}

/* How many steps there will be, for the bar. */
static int64_t count_steps(const ckpt_train_options *options) {
    const int64_t in_epoch = (options->train_samples + options->batch - 1) / options->batch;
    int64_t total;
    if (!options->epochs || __builtin_mul_overflow(options->epochs, in_epoch, &total)) return options->steps;
    return options->steps && options->steps < total ? options->steps : total;
}

ckpt_status ckpt_session_train(ckpt_session *s, const ckpt_cli_options *o, const ckpt_train_data *data,
                               const atomic_int *stop, ckpt_error *err) {
    ckpt_train_options options = {.exec = s->exec, .reference = s->reference, .graph = &s->job->model.graph,
                                  .data = &data->training, .validation = data->validation.array_count ? &data->validation : NULL,
                                  .batch = s->job->batch, .train_samples = s->sizes.train_samples,
                                  .validation_samples = s->sizes.validation_samples, .epochs = o->epochs, .steps = o->steps,
                                  .learning_rate = (float)o->lr, .seed = o->seed, .shuffle = o->shuffle,
                                  .stop = stop, .observe = ckpt_progress_observe, .context = &s->progress,
                                  .save = o->state ? ckpt_train_state_save : NULL, .save_context = &s->state,
                                  .save_every = o->state_every};
    const ckpt_train_report before = s->report;
    if (s->resumed_steps) options.resume = &before;
    ckpt_error later;
    s->progress.steps = count_steps(&options);
    malloc_trim(0); /* what planning took: from here on memory is what a step needs */
    const ckpt_status status = ckpt_train_run(&options, &s->report, err);
    if (s->backend->in_host) s->host = host_memory(s, o, data);
    const ckpt_status logged = ckpt_progress_finish(&s->progress, &later);
    /* What was trained is worth its hash and its file even when the log is not whole. */
    ckpt_error own; /* these calls must not clear the message that says why training ended */
    ckpt_status kept = CKPT_OK;
    if (ckpt_session_has_report(s, status)) kept = hash_weights(s, &own);
    if (kept == CKPT_OK && ckpt_session_has_report(s, status)) kept = ckpt_exec_device_memory(s->exec, &s->memory, &own);
    const bool good = status == CKPT_OK || status == CKPT_INTERRUPTED;
    if (kept == CKPT_OK && o->save && good) kept = save(s, o, &own);
    if (good && o->state) { /* a full disk may have room for one of the two */
        ckpt_error full;
        const ckpt_status stated = ckpt_train_state_save(&s->state, &s->report, &full);
        if (kept == CKPT_OK && stated != CKPT_OK) kept = stated, own = full;
    }
    if (kept != CKPT_OK) {
        *err = own;
        return kept;
    }
    if (status == CKPT_OK && logged != CKPT_OK) *err = later;
    return status != CKPT_OK ? status : logged;
}

void ckpt_session_close(ckpt_session *s) {
    ckpt_progress_finish(&s->progress, NULL);
    ckpt_exec_close(s->reference);
    ckpt_exec_close(s->exec);
    ckpt_train_sizes_free(&s->sizes);
    ckpt_plan_free(s->reference_plan);
    ckpt_plan_free(s->evaluation_plan);
    ckpt_plan_free(s->plan);
    *s = (ckpt_session){0};
}
