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
        if (ckpt_cli_given(o, CKPT_OPTION_STRATEGY) && o->job.strategy != owners[i].strategy)
            return ckpt_fail(err, CKPT_USAGE, "--%s belongs to --strategy %s, not to %s", name,
                             ckpt_strategy_choices[owners[i].strategy], ckpt_strategy_choices[o->job.strategy]);
        implied = i;
        o->job.strategy = owners[i].strategy;
    }
    for (int i = 0; i < OWNER_COUNT; i++)
        if (o->job.strategy == owners[i].strategy && implied != i)
            return ckpt_fail(err, CKPT_USAGE, "--strategy %s needs --%s %s", ckpt_strategy_choices[o->job.strategy],
                             ckpt_option_table[owners[i].option].name, ckpt_option_table[owners[i].option].value);
    return CKPT_OK;
}

/* on: sqrt unless a strategy is asked for; off: nothing may be recomputed; neither: as the strategy says. */
static ckpt_status settle_checkpoint(ckpt_cli_options *o, ckpt_error *err) {
    const bool given = ckpt_cli_given(o, CKPT_OPTION_CHECKPOINT);
    const bool asked = ckpt_cli_given(o, CKPT_OPTION_STRATEGY) || o->job.strategy != CKPT_STRATEGY_NONE;
    if (o->job.plan) {
        if (asked) return ckpt_fail(err, CKPT_USAGE, "--plan says what is recomputed; leave out the strategy's options");
        if (given && !o->checkpoint)
            return ckpt_fail(err, CKPT_USAGE, "--plan runs with checkpointing; leave out --checkpoint off");
        o->checkpoint = 1;
    } else if (given && !o->checkpoint && o->job.strategy != CKPT_STRATEGY_NONE) {
        return ckpt_fail(err, CKPT_USAGE, "--checkpoint off contradicts the strategy %s; leave out one of them",
                         ckpt_strategy_choices[o->job.strategy]);
    } else if (given && o->checkpoint && !asked) {
        o->job.strategy = CKPT_STRATEGY_SQRT;
    } else if (!given) {
        o->checkpoint = o->job.strategy != CKPT_STRATEGY_NONE;
    }
    return CKPT_OK;
}

static bool ends_in(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* What --output or stdout is to hold: --format, else what the file's name ends in, else as --json says. A name without such
 * an end is that of one of the model's outputs. */
static ckpt_status settle_format(ckpt_cli_options *o, ckpt_error *err) {
    static const char *const ends[] = {[CKPT_FORMAT_JSON] = ".json", [CKPT_FORMAT_HTML] = ".html",
                                       [CKPT_FORMAT_SVG] = ".svg", [CKPT_FORMAT_DOT] = ".dot"};
    const bool given = ckpt_cli_given(o, CKPT_OPTION_FORMAT);
    if (o->output && given && o->format == CKPT_FORMAT_TEXT)
        return ckpt_fail(err, CKPT_USAGE, "--format text is printed; leave out --output, or give another format");
    for (int f = CKPT_FORMAT_JSON; o->output && !given && f <= CKPT_FORMAT_DOT; f++)
        if (ends_in(o->output, ends[f])) o->format = f;
    if (o->output && o->format == CKPT_FORMAT_TEXT) { /* as with ckpttrain, where nothing else has this name */
        o->job.loss_output = o->output;
        o->job.loss_output_hint = "--output takes a file that ends in .json, .html, .svg or .dot, or --format";
        o->output = NULL;
    }
    if (o->output || !o->json) return CKPT_OK;
    if (given && o->format != CKPT_FORMAT_JSON)
        return ckpt_fail(err, CKPT_USAGE, "--json and --format %s are both for stdout; give one, or --output FILE",
                         ckpt_format_choices[o->format]);
    o->format = CKPT_FORMAT_JSON;
    return CKPT_OK;
}

static ckpt_status check_max_batch(const ckpt_cli_options *o, ckpt_error *err) {
    if (!o->max_batch) {
        if (!o->micro_batch_auto) return CKPT_OK;
        return ckpt_fail(err, CKPT_USAGE, "--micro-batch auto is for ckptplan --max-batch --budget SIZE; give a number");
    }
    if (!ckpt_cli_given(o, CKPT_OPTION_BUDGET))
        return ckpt_fail(err, CKPT_USAGE, "--max-batch needs --budget SIZE: what the batch has to fit");
    if (o->job.micro_batch)
        return ckpt_fail(err, CKPT_USAGE, "--max-batch: with parts of %lld samples any batch takes the same memory; "
                         "give --micro-batch auto, or leave it out", (long long)o->job.micro_batch);
    if (o->job.batch && !o->micro_batch_auto)
        return ckpt_fail(err, CKPT_USAGE, "--max-batch finds the batch; leave out --batch, or add --micro-batch auto");
    return CKPT_OK;
}

/* Outputs that are of one plan, and of many. */
static ckpt_status check_outputs(const ckpt_cli_options *o, ckpt_error *err) {
    const char *many = o->compare ? "compare" : "frontier";
    if (o->compare + o->frontier + o->max_batch > 1)
        return ckpt_fail(err, CKPT_USAGE, "--compare, --frontier and --max-batch are different questions; give one");
    if (o->compare && o->output)
        return ckpt_fail(err, CKPT_USAGE, "--compare makes many plans; leave out --output");
    if ((o->compare && o->format > CKPT_FORMAT_JSON) ||
        (o->frontier && (o->format == CKPT_FORMAT_HTML || o->format == CKPT_FORMAT_DOT)))
        return ckpt_fail(err, CKPT_USAGE, "--%s cannot be told as %s; %s", many, ckpt_format_choices[o->format],
                         o->format == CKPT_FORMAT_HTML ? "the report of any plan has the frontier: leave out the option"
                                                       : "leave out --format");
    return CKPT_OK;
}

static bool asks_for(const ckpt_cli_options *o, ckpt_loss loss) {
    for (int i = 0; i < o->job.loss_count; i++)
        if (!o->job.loss[i].automatic && o->job.loss[i].loss == loss) return true;
    return false;
}

/* Behind settle_format, which tells --output FILE from --output NAME. */
static ckpt_status check_loss(const ckpt_cli_options *o, ckpt_error *err) {
    if (asks_for(o, CKPT_LOSS_NONE) && o->job.loss_count > 1)
        return ckpt_fail(err, CKPT_USAGE, "--loss: none cannot be part of a sum");
    if (o->job.loss_output && o->job.loss_count && o->job.loss[0].output)
        return ckpt_fail(err, CKPT_USAGE, "--loss %s=... names its output already; leave out --output %s", o->job.loss[0].output,
                         o->job.loss_output);
    return CKPT_OK;
}

static ckpt_status check_plan(ckpt_cli_options *o, ckpt_error *err) {
    const bool forward_only = asks_for(o, CKPT_LOSS_NONE);
    CKPT_TRY(settle_format(o, err));
    CKPT_TRY(check_loss(o, err));
    CKPT_TRY(check_outputs(o, err));
    CKPT_TRY(check_max_batch(o, err));
    if (!forward_only) return CKPT_OK;
    if (o->job.strategy != CKPT_STRATEGY_NONE || o->compare || o->frontier)
        return ckpt_fail(err, CKPT_USAGE, "--loss none plans a forward pass, which recomputes nothing; leave out %s",
                         o->compare ? "--compare" : o->frontier ? "--frontier" : "the strategy");
    if (o->output && o->format == CKPT_FORMAT_JSON)
        return ckpt_fail(err, CKPT_USAGE, "--loss none makes no plan to train by; leave out --output");
    return CKPT_OK;
}

static ckpt_status check_train(ckpt_cli_options *o, ckpt_error *err) {
    if (o->micro_batch_auto)
        return ckpt_fail(err, CKPT_USAGE, "--micro-batch auto: ckptplan --max-batch --budget SIZE finds it; give a number here");
    if (asks_for(o, CKPT_LOSS_NONE))
        return ckpt_fail(err, CKPT_USAGE, "--loss none: training needs a loss; only ckptplan takes none");
    CKPT_TRY(check_loss(o, err));
    if (o->val_data && !o->data) return ckpt_fail(err, CKPT_USAGE, "--val-data needs --data");
    static const ckpt_option of_data[] = {CKPT_OPTION_TARGET, CKPT_OPTION_FEATURES, CKPT_OPTION_DROP};
    for (size_t i = 0; i < sizeof of_data / sizeof *of_data && !o->data; i++)
        if (ckpt_cli_given(o, of_data[i]))
            return ckpt_fail(err, CKPT_USAGE, "--%s chooses from a data file; it needs --data", ckpt_option_table[of_data[i]].name);
    if (o->overwrite && !o->save) return ckpt_fail(err, CKPT_USAGE, "--overwrite needs --save");
    if (o->state_every && !o->state) return ckpt_fail(err, CKPT_USAGE, "--state-every needs --state");
    if (o->state && !o->preserve_rng)
        return ckpt_fail(err, CKPT_USAGE, "--state needs --preserve-rng on: without it a run depends on its plan");
    if (!o->epochs && !o->steps) {
        if (o->data) o->epochs = 10;
        else o->steps = 20;
    }
    if (!ckpt_cli_given(o, CKPT_OPTION_LR))
        o->lr = o->job.optimizer == CKPT_OPTIMIZER_ADAM || o->job.optimizer == CKPT_OPTIMIZER_ADAMW ? 0.001 : 0.01;
    return settle_checkpoint(o, err);
}

ckpt_status ckpt_cli_check(ckpt_program program, ckpt_cli_options *o, ckpt_error *err) {
    if (o->job.batch && o->job.micro_batch && o->job.batch % o->job.micro_batch)
        return ckpt_fail(err, CKPT_USAGE, "--micro-batch %lld does not divide --batch %lld", (long long)o->job.micro_batch,
                         (long long)o->job.batch);
    if (o->job.precision == CKPT_PRECISION_TF32 && o->job.device == CKPT_DEVICE_CPU)
        return ckpt_fail(err, CKPT_USAGE, "--precision %s is supported on cuda only; leave it out or use --device cuda",
                         ckpt_precision_names[o->job.precision]);
    if (o->job.dropout_rng == CKPT_DROP_ONNX_REF && o->job.device == CKPT_DEVICE_CUDA)
        return ckpt_fail(err, CKPT_USAGE, "--dropout-rng onnx-ref is drawn on the CPU only; leave it out or use --device cpu");
    if (o->job.dropout_rng == CKPT_DROP_ONNX_REF) o->job.device = CKPT_DEVICE_CPU; /* of auto */
    if (o->job.profile && ckpt_cli_given(o, CKPT_OPTION_COST))
        return ckpt_fail(err, CKPT_USAGE, "--profile and --cost are two ways to find costs; give one");
    if (o->job.profile && o->max_batch)
        return ckpt_fail(err, CKPT_USAGE, "--profile measures one batch and --max-batch looks at many; leave out --profile");
    if (o->job.plan && (o->job.profile || ckpt_cli_given(o, CKPT_OPTION_COST)))
        return ckpt_fail(err, CKPT_USAGE, "--plan has been made with its costs; leave out --%s", o->job.profile ? "profile" : "cost");
    CKPT_TRY(settle_strategy(o, err));
    return program == CKPT_PROGRAM_PLAN ? check_plan(o, err) : check_train(o, err);
}
