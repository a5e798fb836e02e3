#include "cli/train_sizes.h"

#include <inttypes.h>
#include <string.h>

#include "cli/console.h"
#include "planner/plan_size.h"
#include "runtime/train.h"

static ckpt_status out_of_memory(ckpt_error *err) { return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a smaller batch"); }

/* --- constants --------------------------------------------------------------------------------------- */

static bool same_source(const ckpt_tensor *a, const ckpt_tensor *b) {
    return a->source && a->source == b->source && a->count == b->count;
}

static ckpt_status read_values(const ckpt_model *model, int tensor, ckpt_pool *pool, void **values, ckpt_error *err) {
    *values = ckpt_pool_alloc(pool, (size_t)ckpt_tensor_bytes(&model->graph.tensor[tensor]) + 1, 1);
    return *values ? ckpt_model_read_values(model, tensor, *values, err) : out_of_memory(err);
}

/* Keeps both tensors' values where this one's are not what lies in their place anyway. */
static ckpt_status compare_constant(ckpt_train_size *size, const ckpt_job *whole, int tensor, int main_tensor, ckpt_error *err) {
    const ckpt_tensor *here = &size->job.model.graph.tensor[tensor], *there = &whole->model.graph.tensor[main_tensor];
    void *values, *replaced;
    if (here->count == 0 || same_source(here, there)) return CKPT_OK;
    ckpt_pool pool = {0};
    ckpt_status status = read_values(&size->job.model, tensor, &pool, &values, err);
    if (status == CKPT_OK) status = read_values(&whole->model, main_tensor, &pool, &replaced, err);
    const bool differs = status == CKPT_OK && memcmp(values, replaced, (size_t)ckpt_tensor_bytes(here)) != 0;
    ckpt_pool_free(&pool);
    if (!differs) return status;
    CKPT_TRY(read_values(&size->job.model, tensor, &size->pool, &values, err));
    CKPT_TRY(read_values(&whole->model, main_tensor, &size->pool, &replaced, err));
    size->constant[size->constant_count++] = (ckpt_exec_constant){tensor, main_tensor, values, replaced};
    return CKPT_OK;
}

static ckpt_status find_constants(ckpt_train_size *size, const ckpt_job *whole, const int *origin, ckpt_error *err) {
    const ckpt_graph *graph = &size->job.model.graph;
    size->constant = ckpt_pool_array(&size->pool, graph->tensor_count, ckpt_exec_constant);
    if (!size->constant) return out_of_memory(err);
    for (int t = 0; t < graph->tensor_count; t++)
        if (graph->tensor[t].role == CKPT_ROLE_CONST) CKPT_TRY(compare_constant(size, whole, t, origin[t], err));
    return CKPT_OK;
}

/* --- one size ---------------------------------------------------------------------------------------- */

/* A sample is as large as in a whole batch, and the loss is the same. */
static ckpt_status check_samples(const ckpt_job *job, const ckpt_job *whole, const int *origin, ckpt_error *err) {
    const ckpt_graph *graph = &job->model.graph, *whole_graph = &whole->model.graph;
    for (int i = 0; i < whole->model.loss_count; i++)
        if (job->model.losses[i].loss != whole->model.losses[i].loss)
            return ckpt_fail(err, CKPT_USAGE, "the loss would be %s instead of %s", job->model.loss_reason,
                             whole->model.loss_reason);
    for (int t = 0; t < graph->tensor_count; t++) {
        const ckpt_tensor *tensor = &graph->tensor[t];
        if (tensor->role != CKPT_ROLE_INPUT && tensor->role != CKPT_ROLE_TARGET) continue;
        const int64_t here = tensor->count / graph->batch, there = whole_graph->tensor[origin[t]].count / whole_graph->batch;
        if (tensor->count % graph->batch != 0 || here != there)
            return ckpt_fail(err, CKPT_USAGE, "'%s' would have %" PRId64 " values a sample instead of %" PRId64, tensor->name,
                             here, there);
    }
    return CKPT_OK;
}

static ckpt_status plan_size(ckpt_train_size *size, const ckpt_job *whole, const ckpt_train_plans *plans, ckpt_error *err) {
    ckpt_pool scratch = {0};
    const ckpt_graph *graph = &size->job.model.graph;
    int *origin = ckpt_pool_array(&scratch, graph->tensor_count + size->job.evaluation.tensor_count, int);
    ckpt_status status = origin ? CKPT_OK : out_of_memory(err);
    const ckpt_plan_room evaluation = {&whole->evaluation, plans->evaluation_plan, plans->plan[CKPT_SIZE_PLAN]->memory.arena};
    if (status == CKPT_OK)
        status = ckpt_plan_resize(&evaluation, &size->job.evaluation, whole->traits, origin, &size->evaluation_plan, err);
    for (int p = 0; p < CKPT_SIZE_PLANS && status == CKPT_OK; p++) {
        if (!plans->plan[p]) continue;
        const ckpt_plan_room room = {&whole->model.graph, plans->plan[p], plans->plan[p]->memory.arena};
        status = ckpt_plan_resize(&room, graph, whole->traits, origin, &size->plan[p], err);
    }
    if (status == CKPT_OK) status = check_samples(&size->job, whole, origin, err);
    if (status == CKPT_OK) status = find_constants(size, whole, origin, err);
    ckpt_pool_free(&scratch);
    return status;
}

static void free_size(ckpt_train_size *size) {
    for (int p = 0; p < CKPT_SIZE_PLANS; p++) ckpt_plan_free(size->plan[p]);
    ckpt_plan_free(size->evaluation_plan);
    ckpt_pool_free(&size->pool);
    ckpt_job_free(&size->job);
    *size = (ckpt_train_size){0};
}

/* The size for so many samples; NULL: it cannot be had. */
static ckpt_status add_size(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_train_plans *plans, int64_t samples,
                            ckpt_train_sizes *sizes, ckpt_train_size **added, ckpt_error *err) {
    for (int i = 0; i < sizes->count; i++)
        if (sizes->size[i].job.model.graph.batch == samples) {
            *added = &sizes->size[i];
            return CKPT_OK;
        }
    ckpt_train_size *size = *added = &sizes->size[sizes->count];
    *size = (ckpt_train_size){0};
    ckpt_status status = ckpt_job_resize(job, &o->job, samples, &size->job, err);
    if (status == CKPT_OK) status = plan_size(size, job, plans, err);
    if (status == CKPT_OK) sizes->count++;
    else free_size(size);
    return status;
}

/* --- what is left of the data ------------------------------------------------------------------------ */

static ckpt_status refuse_all(const char *path, int64_t samples, int64_t batch, ckpt_error *err) {
    return ckpt_fail(err, CKPT_USAGE, "%s: --drop-last leaves out all of its %" PRId64 " samples, which do not fill a batch of %"
                     PRId64 "; give a smaller --batch", path, samples, batch);
}

/* What the model says about so few samples, and what to do. */
static ckpt_status refuse(const char *path, int64_t samples, int64_t left, const char *option, ckpt_error *err) {
    return ckpt_fail(err, CKPT_USAGE, "%s: its %" PRId64 " samples leave a last batch of %" PRId64 ", which the model does not "
                     "take: %s; leave them out with --drop-last, or give a %s that divides %" PRId64, path, samples, left,
                     err->message, option, samples);
}

static const char *batch_option(const ckpt_cli_options *o) { return o->job.micro_batch ? "--micro-batch" : "--batch"; }

static ckpt_status split_training(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_train_data *data,
                                  const ckpt_train_plans *plans, ckpt_train_sizes *sizes, ckpt_error *err) {
    const char *path = o->data ? o->data : "the synthetic set";
    const int64_t samples = (int64_t)data->training.samples;
    const int64_t left = ckpt_train_remainder(samples, job->model.graph.batch);
    ckpt_train_size *size;
    sizes->train_samples = samples;
    if (o->drop_last) {
        sizes->dropped = samples % job->batch;
        sizes->train_samples -= sizes->dropped;
        return sizes->train_samples ? CKPT_OK : refuse_all(path, samples, job->batch, err);
    }
    if (!left) return CKPT_OK;
    const ckpt_status status = add_size(o, job, plans, left, sizes, &size, err);
    if (status != CKPT_OK) return status == CKPT_NOMEM ? status : refuse(path, samples, left, batch_option(o), err);
    size->train = true;
    return CKPT_OK;
}

/* Every sample of the validation data counts where the model can be run with what is left of them. */
static ckpt_status split_validation(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_train_data *data,
                                    const ckpt_train_plans *plans, ckpt_train_sizes *sizes, ckpt_error *err) {
    const int64_t samples = (int64_t)data->validation.samples, batch = job->model.graph.batch;
    const int64_t left = ckpt_train_remainder(samples, batch);
    ckpt_train_size *size;
    sizes->validation_samples = samples;
    if (!left) return CKPT_OK;
    const ckpt_status status = add_size(o, job, plans, left, sizes, &size, err);
    if (status == CKPT_OK) {
        size->evaluate = true;
        return CKPT_OK;
    }
    if (status == CKPT_NOMEM) return status;
    if (!o->drop_last) return refuse(o->val_data, samples, left, batch_option(o), err);
    if (samples == left) return refuse_all(o->val_data, samples, batch, err);
    sizes->dropped_validation = left;
    sizes->validation_samples -= left;
    return CKPT_OK;
}

ckpt_status ckpt_train_sizes_make(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_train_data *data,
                                  const ckpt_train_plans *plans, ckpt_train_sizes *sizes, ckpt_error *err) {
    *sizes = (ckpt_train_sizes){0};
    ckpt_status status = split_training(o, job, data, plans, sizes, err);
    if (status == CKPT_OK) status = split_validation(o, job, data, plans, sizes, err);
    if (status != CKPT_OK) ckpt_train_sizes_free(sizes);
    return status;
}

ckpt_status ckpt_train_sizes_add(const ckpt_train_sizes *sizes, int plan, ckpt_exec *exec, ckpt_error *err) {
    for (int i = 0; i < sizes->count; i++) {
        const ckpt_train_size *s = &sizes->size[i];
        const ckpt_exec_size size = {.training = &s->job.model.graph, .evaluation = &s->job.evaluation, .plan = s->plan[plan],
                                     .evaluation_plan = s->evaluation_plan, .train = s->train,
                                     .evaluate = s->evaluate && plan == CKPT_SIZE_PLAN, .constant_count = s->constant_count,
                                     .constant = s->constant};
        CKPT_TRY(ckpt_exec_add_size(exec, &size, err));
    }
    return CKPT_OK;
}

/* The first node that has one value a channel to make statistics of, or NULL. */
static const char *find_lone(const ckpt_graph *graph) {
    for (int n = 0; n < graph->forward_count; n++) {
        const ckpt_node *node = &graph->node[n];
        if (node->op == CKPT_OP_BATCH_STATS && node->attr.group.batch * node->attr.group.inner == 1)
            return node->origin ? node->origin : node->name;
    }
    return NULL;
}

void ckpt_train_sizes_say(const ckpt_train_sizes *s, const ckpt_job *job, const char *program) {
    const char *lone = find_lone(&job->model.graph);
    for (int i = 0; i < s->count && !lone; i++)
        if (s->size[i].train) lone = find_lone(&s->size[i].job.model.graph);
    if (lone)
        ckpt_console_note(program, "%s sees batches of one value a channel, whose variance is 0; --drop-last or another --batch "
                          "leaves none", lone);
    if (s->dropped)
        ckpt_console_note(program, "--drop-last: each epoch leaves out %" PRId64 " of its %" PRId64 " samples", s->dropped,
                          s->train_samples + s->dropped);
    if (s->dropped_validation)
        ckpt_console_note(program, "--drop-last: validation leaves out the last %" PRId64 " of its %" PRId64 " samples",
                          s->dropped_validation, s->validation_samples + s->dropped_validation);
}

void ckpt_train_sizes_free(ckpt_train_sizes *sizes) {
    for (int i = 0; i < sizes->count; i++) free_size(&sizes->size[i]);
    *sizes = (ckpt_train_sizes){0};
}
