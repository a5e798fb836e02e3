#include <string.h>

#include "cli/options.h"
#include "graph/loss_choice.h"

static const struct {
    ckpt_option option;
    ckpt_strategy strategy;
} owners[] = {{CKPT_OPTION_EVERY, CKPT_STRATEGY_EVERY},
              {CKPT_OPTION_LAYERS, CKPT_STRATEGY_LAYERS},
              {CKPT_OPTION_BUDGET, CKPT_STRATEGY_BUDGET}};
enum { OWNER_COUNT = sizeof owners / sizeof *owners };

/* --every, --layers and --budget belong to a strategy each: they imply it and it needs them. With --compare they
 * only add rows. */
static ckpt_status settle_strategy(ckpt_cli_options *o, ckpt_error *err) {
    if (o->compare) {
        if (!ckpt_cli_given(o, CKPT_OPTION_STRATEGY)) return CKPT_OK;
        return ckpt_fail(err, CKPT_USAGE, "--compare shows all strategies; leave out --strategy");
    }
    int implied = -1;
    for (int i = 0; i < OWNER_COUNT; i++) {
        const char *name = ckpt_option_table[owners[i].option].name;
        if (!ckpt_cli_given(o, owners[i].option)) continue;
        if (implied >= 0)
            return ckpt_fail(err, CKPT_USAGE, "--%s and --%s belong to different strategies; give one",
                             ckpt_option_table[owners[implied].option].name, name);
        if (ckpt_cli_given(o, CKPT_OPTION_STRATEGY) && o->strategy != (int)owners[i].strategy)
            return ckpt_fail(err, CKPT_USAGE, "--%s belongs to --strategy %s, not to %s", name,
                             ckpt_strategy_choices[owners[i].strategy], ckpt_strategy_choices[o->strategy]);
        implied = i;
        o->strategy = (int)owners[i].strategy;
    }
    for (int i = 0; i < OWNER_COUNT; i++)
        if (o->strategy == (int)owners[i].strategy && implied != i)
            return ckpt_fail(err, CKPT_USAGE, "--strategy %s needs --%s %s", ckpt_strategy_choices[o->strategy],
                             ckpt_option_table[owners[i].option].name, ckpt_option_table[owners[i].option].value);
    return CKPT_OK;
}

/* on: sqrt unless a strategy is asked for; off: nothing may be recomputed; neither: as the strategy says. */
static ckpt_status settle_checkpoint(ckpt_cli_options *o, ckpt_error *err) {
    const bool given = ckpt_cli_given(o, CKPT_OPTION_CHECKPOINT);
    const bool asked = ckpt_cli_given(o, CKPT_OPTION_STRATEGY) || o->strategy != CKPT_STRATEGY_NONE;
    if (o->plan) {
        if (asked) return ckpt_fail(err, CKPT_USAGE, "--plan says what is recomputed; leave out the strategy's options");
        if (given && !o->checkpoint)
            return ckpt_fail(err, CKPT_USAGE, "--plan runs with checkpointing; leave out --checkpoint off");
        o->checkpoint = 1;
    } else if (given && !o->checkpoint && o->strategy != CKPT_STRATEGY_NONE) {
        return ckpt_fail(err, CKPT_USAGE, "--checkpoint off contradicts the strategy %s; leave out one of them",
                         ckpt_strategy_choices[o->strategy]);
    } else if (given && o->checkpoint && !asked) {
        o->strategy = CKPT_STRATEGY_SQRT;
    } else if (!given) {
        o->checkpoint = o->strategy != CKPT_STRATEGY_NONE;
    }
    return CKPT_OK;
}

static bool ends_in(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static ckpt_status check_plan(const ckpt_cli_options *o, ckpt_error *err) {
    const bool forward_only = strcmp(ckpt_loss_choices[o->loss], "none") == 0;
    if (o->output && !ends_in(o->output, ".json"))
        return ckpt_fail(err, CKPT_USAGE, "--output: '%s' does not end in .json: plan files are JSON", o->output);
    if (o->output && o->compare) return ckpt_fail(err, CKPT_USAGE, "--compare makes many plans; leave out --output");
    if (!forward_only) return CKPT_OK;
    if (o->strategy != CKPT_STRATEGY_NONE || o->compare)
        return ckpt_fail(err, CKPT_USAGE, "--loss none plans a forward pass, which recomputes nothing; leave out %s",
                         o->compare ? "--compare" : "the strategy");
    if (o->output) return ckpt_fail(err, CKPT_USAGE, "--loss none makes no plan to train by; leave out --output");
    return CKPT_OK;
}

static ckpt_status check_train(ckpt_cli_options *o, ckpt_error *err) {
    if (strcmp(ckpt_loss_choices[o->loss], "none") == 0)
        return ckpt_fail(err, CKPT_USAGE, "--loss none: training needs a loss; only ckptplan takes none");
    if (o->val_data && !o->data) return ckpt_fail(err, CKPT_USAGE, "--val-data needs --data");
    if (o->overwrite && !o->save) return ckpt_fail(err, CKPT_USAGE, "--overwrite needs --save");
    if (!o->epochs && !o->steps) {
        if (o->data) o->epochs = 10;
        else o->steps = 20;
    }
    if (!ckpt_cli_given(o, CKPT_OPTION_LR))
        o->lr = o->optimizer == CKPT_OPTIMIZER_ADAM || o->optimizer == CKPT_OPTIMIZER_ADAMW ? 0.001 : 0.01;
    return settle_checkpoint(o, err);
}

ckpt_status ckpt_cli_check(ckpt_program program, ckpt_cli_options *o, ckpt_error *err) {
    if (o->batch && o->micro_batch && o->batch % o->micro_batch)
        return ckpt_fail(err, CKPT_USAGE, "--micro-batch %lld does not divide --batch %lld", (long long)o->micro_batch,
                         (long long)o->batch);
    if (o->precision != CKPT_PRECISION_FP32 && o->device == CKPT_DEVICE_CPU)
        return ckpt_fail(err, CKPT_USAGE, "--precision %s is supported on cuda only; leave it out or use --device cuda",
                         ckpt_precision_choices[o->precision]);
    CKPT_TRY(settle_strategy(o, err));
    return program == CKPT_PROGRAM_PLAN ? check_plan(o, err) : check_train(o, err);
}
