#include "cli/max_batch.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "job/cost_model.h"

enum { MOST_DIVISORS = 1600 }; /* a number below 2^31 has 1536 at most */

typedef struct search {
    const ckpt_cli_options *options;
    const ckpt_traits *traits;
    ckpt_batch_answer *answer;
    int64_t divisor[MOST_DIVISORS]; /* of the batch, ascending, without itself */
    int64_t size_count;             /* sizes to choose from: divisors, or 1, 2, 3... */
} search;

static int64_t size_at(const search *s, int64_t index) { return s->answer->divisors ? s->divisor[index] : index + 1; }

/* Loads the model at this size; with divisors the batch stays and the step has parts. */
static ckpt_status load(const search *s, int64_t size, ckpt_job *job, ckpt_error *err) {
    ckpt_job_options options = s->options->job;
    if (!s->answer->divisors) options.batch = size;
    else if (size != options.batch) options.micro_batch = size;
    CKPT_TRY(ckpt_job_load(&options, NULL, s->traits, job, err));
    const ckpt_status status = ckpt_job_cost(job, &options, err);
    if (status != CKPT_OK) ckpt_job_free(job);
    return status;
}

/* The total of a plan at this size by a strategy without options. */
static ckpt_status find_total(search *s, int64_t size, ckpt_strategy strategy, uint64_t *total, ckpt_error *err) {
    ckpt_job job;
    ckpt_plan *plan = NULL;
    CKPT_TRY(load(s, size, &job, err));
    const ckpt_plan_options options = {.strategy = strategy};
    const ckpt_status status = ckpt_job_plan_strategy(&job, &options, &plan, err);
    if (status == CKPT_OK) *total = plan->memory.total;
    s->answer->planned++;
    ckpt_plan_free(plan);
    ckpt_job_free(&job);
    return status;
}

/* The largest size that the strategy fits under the budget, by index; -1 when not even the first does. `fits` and
 * `refused` get the totals there and at the next size. */
static ckpt_status find_largest(search *s, ckpt_strategy strategy, int64_t *index, uint64_t *fits, uint64_t *refused,
                                ckpt_error *err) {
    int64_t low = -1, high = s->size_count; /* low fits, high does not */
    for (int64_t probe = 0; high - low > 1;) {
        uint64_t total;
        CKPT_TRY(find_total(s, size_at(s, probe), strategy, &total, err));
        if (total <= s->answer->budget_bytes) low = probe, *fits = total;
        else high = probe, *refused = total;
        /* Doubling until something is refused, halving from then on. */
        if (high < s->size_count) probe = low + (high - low) / 2;
        else probe = 2 * low + 1 < s->size_count ? 2 * low + 1 : s->size_count - 1;
    }
    *index = low;
    return CKPT_OK;
}

static ckpt_status refuse_all(const search *s, uint64_t least, ckpt_error *err) {
    char budget[CKPT_SIZE_TEXT], text[CKPT_SIZE_TEXT];
    return ckpt_fail(err, CKPT_INFEASIBLE,
                     "not even a %sbatch of 1 fits --budget %" PRIu64 " (%s): its smallest known plan takes %" PRIu64
                     " bytes (%s)",
                     s->answer->divisors ? "micro-" : "", s->answer->budget_bytes,
                     ckpt_units_format_size(s->answer->budget_bytes, budget), least, ckpt_units_format_size(least, text));
}

/* The refusal in earnest: the plan of the budget at that size must be infeasible. */
static ckpt_status prove_refusal(search *s, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    ckpt_job job;
    ckpt_plan *plan = NULL;
    if (!a->refused) return CKPT_OK;
    CKPT_TRY(load(s, a->refused, &job, err));
    const ckpt_plan_options options = {
        .strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = a->budget_bytes, .eval = &job.evaluation, .costs = &job.costs};
    ckpt_error refusal;
    const ckpt_status status =
        ckpt_plan_make(&job.model.graph, &options, s->traits, &a->refused_minimum, &plan, &refusal);
    ckpt_plan_free(plan);
    ckpt_job_free(&job);
    if (status == CKPT_INFEASIBLE) return CKPT_OK;
    if (status == CKPT_OK)
        return ckpt_fail(err, CKPT_FAILED, "batch %" PRId64 " fits the budget, but its smallest plan does not", a->refused);
    *err = refusal;
    return status;
}

static void list_divisors(search *s, int64_t batch) {
    for (int64_t d = 1; d <= batch / d; d++)
        if (batch % d == 0) s->divisor[s->size_count++] = d;
    for (int64_t k = s->size_count - 1; k > 0; k--) /* k = 0 would be the batch itself */
        if (batch / s->divisor[k] != s->divisor[s->size_count - 1]) s->divisor[s->size_count++] = batch / s->divisor[k];
}

/* The largest batch. */
static ckpt_status search_batches(search *s, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    int64_t index = -1;
    uint64_t fits = 0, refused = 0;
    s->size_count = INT32_MAX;
    CKPT_TRY(find_largest(s, CKPT_STRATEGY_MIN, &index, &fits, &refused, err));
    if (index < 0) return refuse_all(s, refused, err);
    a->largest = size_at(s, index);
    a->largest_minimum_bytes = fits;
    a->refused = index + 1 < s->size_count ? size_at(s, index + 1) : 0;
    return prove_refusal(s, err);
}

/* The largest part of --batch. The whole is tried first: in one part there are no sums of gradients to hold. */
static ckpt_status search_divisors(search *s, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    uint64_t whole, fits = 0, refused = 0;
    CKPT_TRY(find_total(s, s->options->job.batch, CKPT_STRATEGY_MIN, &whole, err));
    list_divisors(s, s->options->job.batch);
    int64_t index = -1;
    if (s->options->job.batch > 1) CKPT_TRY(find_largest(s, CKPT_STRATEGY_MIN, &index, &fits, &refused, err));
    s->size_count = index + 1; /* what fits, for the trials */
    if (whole <= a->budget_bytes) {
        a->largest = s->options->job.batch;
        a->largest_minimum_bytes = whole;
        return CKPT_OK;
    }
    if (index < 0) return refuse_all(s, refused && refused < whole ? refused : whole, err);
    a->largest = size_at(s, index);
    a->largest_minimum_bytes = fits;
    a->refused = s->divisor[index + 1] ? s->divisor[index + 1] : s->options->job.batch;
    return prove_refusal(s, err);
}

static ckpt_status try_size(search *s, int64_t size, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    ckpt_job job;
    ckpt_plan *plan = NULL;
    CKPT_TRY(load(s, size, &job, err));
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = a->budget_bytes};
    const ckpt_status status = ckpt_job_plan_strategy(&job, &options, &plan, err);
    if (status == CKPT_OK) {
        const ckpt_plan_compute compute = ckpt_job_compute(&job, plan);
        ckpt_batch_trial *t = &a->trial[a->trial_count++];
        *t = (ckpt_batch_trial){.batch = job.batch, .micro_batch = job.model.graph.batch,
                                .total_bytes = plan->memory.total,
                                .recompute_fraction = ckpt_compute_recompute_fraction(&compute),
                                .seconds = ckpt_job_step_seconds(&job, plan)};
        a->rates = job.rates;
        /* The larger of equals: it comes later. */
        const ckpt_batch_trial *best = &a->trial[a->chosen];
        if ((double)t->batch * best->seconds >= (double)best->batch * t->seconds) a->chosen = a->trial_count - 1;
    }
    ckpt_plan_free(plan);
    ckpt_job_free(&job);
    return status;
}

static int by_size(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Batches worth a trial: powers of two, the largest that stores all, and a few from there to the largest of all,
 * where larger products are paid with recomputation. */
static ckpt_status list_batches(search *s, int64_t size[CKPT_BATCH_TRIALS], int *count, ckpt_error *err) {
    enum { BETWEEN = 7 };
    const int64_t largest = s->answer->largest;
    int64_t index = -1;
    uint64_t fits, refused;
    CKPT_TRY(find_largest(s, CKPT_STRATEGY_NONE, &index, &fits, &refused, err));
    const int64_t easy = index < 0 ? 1 : index + 1;
    for (int64_t b = 1; b < largest && *count < 31; b *= 2) size[(*count)++] = b;
    for (int i = 0; i <= BETWEEN; i++)
        size[(*count)++] = (int64_t)((double)easy * pow((double)largest / (double)easy, (double)i / BETWEEN));
    size[*count - 1] = largest;
    return CKPT_OK;
}

static ckpt_status choose_fastest(search *s, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    int64_t size[CKPT_BATCH_TRIALS];
    int count = 0;
    if (a->divisors) {
        const int64_t skip = s->size_count < CKPT_BATCH_TRIALS ? 0 : s->size_count - CKPT_BATCH_TRIALS + 1;
        for (int64_t i = skip; i < s->size_count; i++) size[count++] = s->divisor[i];
        if (a->largest == s->options->job.batch) size[count++] = a->largest;
    } else {
        CKPT_TRY(list_batches(s, size, &count, err));
        qsort(size, (size_t)count, sizeof *size, by_size);
    }
    for (int i = 0; i < count; i++)
        if (i == 0 || size[i] != size[i - 1]) CKPT_TRY(try_size(s, size[i], err));
    const ckpt_batch_trial *best = &a->trial[a->chosen];
    a->batch = best->batch;
    a->micro_batch = best->micro_batch == best->batch ? 0 : best->micro_batch;
    return CKPT_OK;
}

static ckpt_status find(search *s, ckpt_error *err) {
    ckpt_batch_answer *a = s->answer;
    CKPT_TRY(ckpt_job_budget(&s->options->job, s->traits, &a->budget_bytes, err));
    CKPT_TRY(a->divisors ? search_divisors(s, err) : search_batches(s, err));
    a->batch = a->largest;
    return s->options->micro_batch_auto ? choose_fastest(s, err) : CKPT_OK;
}

ckpt_status ckpt_max_batch_find(const ckpt_cli_options *options, const ckpt_traits *traits, ckpt_batch_answer *answer,
                                ckpt_error *err) {
    *answer = (ckpt_batch_answer){.divisors = options->job.batch != 0};
    search *s = calloc(1, sizeof *s);
    if (!s) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    *s = (search){.options = options, .traits = traits, .answer = answer};
    const ckpt_status status = find(s, err);
    free(s);
    return status;
}
