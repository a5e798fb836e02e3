#include <inttypes.h>
#include <math.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/plan_report.h"

static double samples_per_second(const ckpt_batch_trial *t) { return t->seconds > 0 ? (double)t->batch / t->seconds : 0; }

static void print_trials(const ckpt_batch_answer *a) {
    printf("  predicted with %.3g FLOP/s, %.3g bytes/s, %.3g s a node and %.3g s a product, %s:\n",
           a->rates.flops_per_second, a->rates.bytes_per_second, a->rates.launch_seconds, a->rates.product_launch_seconds,
           a->rates.measured ? "measured on this machine" : "which were not measured");
    printf("  %10s  %11s  %12s  %9s  %14s\n", "batch", "micro-batch", "total", "recompute", "samples/s");
    for (int i = 0; i < a->trial_count; i++) {
        const ckpt_batch_trial *t = &a->trial[i];
        char total[CKPT_SIZE_TEXT], speed[CKPT_NUMBER_TEXT];
        printf("  %10" PRId64 "  %11" PRId64 "  %12s  %8.1f%%  %14s%s\n", t->batch, t->micro_batch,
               ckpt_units_format_size(t->total_bytes, total), 100 * t->recompute_fraction,
               ckpt_console_count((uint64_t)llround(samples_per_second(t)), speed), i == a->chosen ? "  chosen" : "");
    }
}

void ckpt_plan_report_batches_text(const ckpt_plan_report *report) {
    const ckpt_batch_answer *a = report->batches;
    if (!a) return;
    const char *what = a->divisors ? "micro-batch" : "batch";
    char budget[CKPT_SIZE_TEXT], bytes[CKPT_NUMBER_TEXT];
    printf("\nLargest %s under %s bytes (%s)\n", what, ckpt_console_count(a->budget_bytes, bytes),
           ckpt_units_format_size(a->budget_bytes, budget));
    printf("  %-11s %10" PRId64 "  fits: its smallest plan takes %s bytes\n", what, a->largest,
           ckpt_console_count(a->largest_minimum_bytes, bytes));
    if (a->refused)
        printf("  %-11s %10" PRId64 "  is refused: its smallest %splan takes %s bytes\n", what, a->refused,
               a->refused_minimum.lower_bound_total > a->budget_bytes ? "" : "known ",
               ckpt_console_count(a->refused_minimum.total, bytes));
    else printf("  there is no larger one\n");
    if (a->trial_count) print_trials(a);
}

static json_t *trials_json(const ckpt_batch_answer *a) {
    json_t *list = json_array();
    for (int i = 0; i < a->trial_count; i++) {
        const ckpt_batch_trial *t = &a->trial[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "batch", (json_int_t)t->batch,
                                              "micro_batch", (json_int_t)t->micro_batch, "total",
                                              (json_int_t)t->total_bytes, "recompute_fraction", t->recompute_fraction,
                                              "step_seconds", t->seconds, "samples_per_second", samples_per_second(t)));
    }
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "cost_model",
                     a->rates.measured ? "roofline, measured" : "roofline, nominal", "flops_per_second",
                     a->rates.flops_per_second, "bytes_per_second", a->rates.bytes_per_second, "launch_seconds",
                     a->rates.launch_seconds, "product_launch_seconds", a->rates.product_launch_seconds, "tried", list);
}

void ckpt_plan_report_batches_json(const ckpt_plan_report *report, json_t *document) {
    const ckpt_batch_answer *a = report->batches;
    if (!a) return;
    json_t *found = json_pack("{s:s, s:I, s:I, s:I, s:i}", "of", a->divisors ? "micro-batch" : "batch", "budget",
                              (json_int_t)a->budget_bytes, "largest", (json_int_t)a->largest, "largest_minimum_total",
                              (json_int_t)a->largest_minimum_bytes, "planned", a->planned);
    json_object_set_new(found, "refused", a->refused ? json_integer(a->refused) : json_null());
    json_object_set_new(found, "refused_minimum_total",
                        a->refused ? json_integer((json_int_t)a->refused_minimum.total) : json_null());
    json_object_set_new(found, "refused_minimum_lower_bound_total",
                        a->refused ? json_integer((json_int_t)a->refused_minimum.lower_bound_total) : json_null());
    json_object_set_new(document, "max_batch", found);
    if (a->trial_count) json_object_set_new(document, "micro_batch_search", trials_json(a));
}
