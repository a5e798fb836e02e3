/* The parsers of options.def: strict, each with the option's name and the remedy in its message. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/name_list.h"
#include "base/units.h"
#include "cli/options.h"
#include "graph/loss_choice.h"

const char *const ckpt_optimizer_choices[] = {
#define X(ID, name, op, states) name,
    CKPT_OPTIMIZER_LIST(X)
#undef X
        NULL};

const char *const ckpt_strategy_choices[] = {
#define X(ID, name, text) #name,
    CKPT_STRATEGY_LIST(X)
#undef X
        NULL};

const char *const ckpt_dropout_rng_choices[] = {"philox", "onnx-ref", NULL};
const char *const ckpt_untie_choices[] = {"auto", "all", "none", NULL};
const char *const ckpt_algorithms_choices[] = {"measured", "recommended", NULL};
const char *const ckpt_off_on_choices[] = {"off", "on", NULL};
const char *const ckpt_cost_choices[] = {"roofline", "nominal", "flops", NULL};
const char *const ckpt_format_choices[] = {"text", "json", "html", "svg", "dot", NULL};

/* The parser of choices writes an int into fields that are enums. */
_Static_assert(sizeof(ckpt_strategy) == sizeof(int) && sizeof(ckpt_cost_model) == sizeof(int), "enums are as large as an int");

static void *field_of(const ckpt_option_row *row, ckpt_cli_options *options) { return (char *)options + row->offset; }

/* Decimal digits only: no sign, no blanks, nothing behind. */
static bool read_digits(const char *text, uint64_t *value) {
    *value = 0;
    if (!*text) return false;
    for (; *text; text++)
        if (!isdigit((unsigned char)*text) || !ckpt_mul_u64(*value, 10, value) ||
            !ckpt_add_u64(*value, (uint64_t)(*text - '0'), value))
            return false;
    return true;
}

static ckpt_status read_whole(const ckpt_option_row *row, const char *text, int64_t *value, ckpt_error *err) {
    uint64_t number;
    if (!read_digits(text, &number) || (double)number < row->min || (double)number > row->max)
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a whole number from %.0f to %.0f", row->name, text, row->min,
                         row->max);
    *value = (int64_t)number;
    return CKPT_OK;
}

ckpt_status ckpt_option_flag(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    (void)text, (void)err;
    *(bool *)field_of(row, options) = true;
    return CKPT_OK;
}

ckpt_status ckpt_option_text(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    if (!*text) return ckpt_fail(err, CKPT_USAGE, "--%s: its value is empty; write %s", row->name, row->value);
    *(const char **)field_of(row, options) = text;
    return CKPT_OK;
}

ckpt_status ckpt_option_whole(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    return read_whole(row, text, field_of(row, options), err);
}

ckpt_status ckpt_option_integer(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    const bool minus = *text == '-';
    uint64_t number;
    if (!read_digits(text + minus, &number) || (double)number > (minus ? -row->min : row->max))
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not an integer from %.0f to %.0f", row->name, text, row->min, row->max);
    *(int64_t *)field_of(row, options) = minus ? -(int64_t)number : (int64_t)number;
    return CKPT_OK;
}

ckpt_status ckpt_option_seed(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    if (read_digits(text, field_of(row, options))) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a whole number of 64 bits", row->name, text);
}

static bool read_real(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    /* strtod takes blanks, hexadecimals, "inf" and "nan" as well */
    return *text && strspn(text, "0123456789.eE+-") == strlen(text) && !*end && isfinite(*value);
}

ckpt_status ckpt_option_real(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    double value;
    if (!read_real(text, &value) || value < row->min || value > row->max)
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a number from %g to %g", row->name, text, row->min, row->max);
    *(double *)field_of(row, options) = value;
    return CKPT_OK;
}

/* "ce", or "logits=ce:0.5": the name may hold '=' itself, so the last one counts. Writes into `text`, which is argv's. */
static ckpt_status read_wish(const ckpt_option_row *row, char *text, ckpt_loss_wish *wish, ckpt_error *err) {
    static const char *const kinds[] = {"auto", "ce", "bce", "mse", "nll", "output", "none"};
    char *equals = strrchr(text, '='), *kind = equals ? equals + 1 : text, *colon = strchr(kind, ':');
    double scale = 1;
    if (equals == text) return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' names no output before '='", row->name, text);
    if (colon && (!read_real(colon + 1, &scale) || scale < 0))
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a factor of 0 or more", row->name, colon + 1);
    if (colon) *colon = 0;
    *wish = (ckpt_loss_wish){.output = equals ? text : NULL, .automatic = strcmp(kind, "auto") == 0, .scale = (float)scale};
    if (!wish->automatic && !ckpt_loss_parse(kind, &wish->loss)) {
        const char *near = ckpt_nearest(kind, kinds, sizeof kinds / sizeof *kinds);
        return ckpt_fail(err, CKPT_USAGE, "--%s: unknown '%s'%s%s%s (auto, ce, bce, mse, nll, output, none)", row->name, kind,
                         near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (equals) *equals = 0;
    return CKPT_OK;
}

/* KIND, or NAME=KIND and more of those after commas. */
ckpt_status ckpt_option_loss(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    char *rest = (char *)(uintptr_t)text; /* argv may be written to (C11 5.1.2.2.1) */
    options->job.loss_count = 0;
    while (rest) {
        char *item = rest, *comma = strchr(rest, ',');
        rest = comma ? comma + 1 : NULL;
        if (comma) *comma = 0;
        if (options->job.loss_count == CKPT_MAX_TARGETS)
            return ckpt_fail(err, CKPT_USAGE, "--%s: more than %d losses", row->name, CKPT_MAX_TARGETS);
        ckpt_loss_wish *wish = &options->job.loss[options->job.loss_count++];
        CKPT_TRY(read_wish(row, item, wish, err));
        if (!wish->output && (rest || options->job.loss_count > 1))
            return ckpt_fail(err, CKPT_USAGE, "--%s: of several losses each needs its output: NAME=%s", row->name, item);
        for (int i = 0; i + 1 < options->job.loss_count; i++)
            if (strcmp(options->job.loss[i].output, wish->output) == 0)
                return ckpt_fail(err, CKPT_USAGE, "--%s: the output '%s' is given twice", row->name, wish->output);
    }
    return CKPT_OK;
}

ckpt_status ckpt_option_choice(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    char all[160] = "";
    int count = 0;
    for (; row->choices[count]; count++) {
        if (strcmp(text, row->choices[count]) == 0) {
            *(int *)field_of(row, options) = count;
            return CKPT_OK;
        }
        const size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", count ? ", " : "", row->choices[count]);
    }
    const char *near = ckpt_nearest(text, row->choices, count);
    return ckpt_fail(err, CKPT_USAGE, "--%s: unknown '%s'%s%s%s (%s)", row->name, text, near ? "; did you mean '" : "",
                     near ? near : "", near ? "'?" : "", all);
}

/* NAME=N: the name may hold '=' itself, so the last one counts. */
ckpt_status ckpt_option_dim(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not NAME=N, as in --dim seq=128", row->name, text);
    if (options->job.dim_count == CKPT_JOB_MAX_DIMS)
        return ckpt_fail(err, CKPT_USAGE, "--%s: more than %d dimensions", row->name, CKPT_JOB_MAX_DIMS);
    ckpt_dim_binding *dim = &options->job.dim[options->job.dim_count];
    CKPT_TRY(read_whole(row, equals + 1, &dim->value, err));
    /* argv may be written to (C11 5.1.2.2.1): the name ends where its value began. */
    *(char *)(uintptr_t)equals = 0;
    dim->name = text;
    for (int i = 0; i < options->job.dim_count; i++)
        if (strcmp(options->job.dim[i].name, dim->name) == 0 && options->job.dim[i].value != dim->value)
            return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is given twice, with different sizes", row->name, dim->name);
    options->job.dim_count++;
    return CKPT_OK;
}

ckpt_status ckpt_option_device(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    int64_t index = 0;
    if (strcmp(text, "auto") == 0) options->job.device = CKPT_DEVICE_AUTO;
    else if (strcmp(text, "cpu") == 0) options->job.device = CKPT_DEVICE_CPU;
    else if (strncmp(text, "cuda", 4) == 0 && (!text[4] || text[4] == ':')) options->job.device = CKPT_DEVICE_CUDA;
    else return ckpt_fail(err, CKPT_USAGE, "--%s: unknown '%s' (%s)", row->name, text, row->value);
    if (options->job.device == CKPT_DEVICE_CUDA && text[4]) CKPT_TRY(read_whole(row, text + 5, &index, err));
    options->device_index = (int)index;
    return CKPT_OK;
}

ckpt_status ckpt_option_budget(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    options->job.budget_auto = strcmp(text, "auto") == 0;
    if (options->job.budget_auto) return CKPT_OK;
    if (ckpt_units_parse_size(text, &options->job.budget_bytes, err) != CKPT_OK) return ckpt_fail_in(err, "--%s", row->name);
    return CKPT_OK;
}

ckpt_status ckpt_option_micro_batch(const ckpt_option_row *row, const char *text, ckpt_cli_options *options,
                                    ckpt_error *err) {
    options->micro_batch_auto = strcmp(text, "auto") == 0;
    options->job.micro_batch = 0;
    return options->micro_batch_auto ? CKPT_OK : read_whole(row, text, &options->job.micro_batch, err);
}
