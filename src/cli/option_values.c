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

const char *const ckpt_loss_choices[] = {"auto", "ce", "bce", "mse", "nll", "none", NULL};
const char *const ckpt_dropout_rng_choices[] = {"philox", "onnx-ref", NULL};
const char *const ckpt_untie_choices[] = {"auto", "all", "none", NULL};
const char *const ckpt_precision_choices[] = {"fp32", "tf32", "bf16", NULL};
const char *const ckpt_algorithms_choices[] = {"measured", "recommended", NULL};
const char *const ckpt_off_on_choices[] = {"off", "on", NULL};
const char *const ckpt_cost_choices[] = {"roofline", "nominal", "flops", NULL};
const char *const ckpt_format_choices[] = {"text", "json", "html", "svg", "dot", NULL};

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

ckpt_status ckpt_option_seed(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    if (read_digits(text, field_of(row, options))) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a whole number of 64 bits", row->name, text);
}

ckpt_status ckpt_option_real(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    char *end;
    const double value = strtod(text, &end);
    /* strtod takes blanks, hexadecimals, "inf" and "nan" as well */
    const bool plain = *text && strspn(text, "0123456789.eE+-") == strlen(text);
    if (!plain || *end || !isfinite(value) || value < row->min || value > row->max)
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not a number from %g to %g", row->name, text, row->min, row->max);
    *(double *)field_of(row, options) = value;
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
    const char *near = ckpt_cli_nearest(text, row->choices, count);
    return ckpt_fail(err, CKPT_USAGE, "--%s: unknown '%s'%s%s%s (%s)", row->name, text, near ? "; did you mean '" : "",
                     near ? near : "", near ? "'?" : "", all);
}

/* NAME=N: the name may hold '=' itself, so the last one counts. */
ckpt_status ckpt_option_dim(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is not NAME=N, as in --dim seq=128", row->name, text);
    if (options->dim_count == CKPT_CLI_MAX_DIMS)
        return ckpt_fail(err, CKPT_USAGE, "--%s: more than %d dimensions", row->name, CKPT_CLI_MAX_DIMS);
    ckpt_dim_binding *dim = &options->dim[options->dim_count];
    CKPT_TRY(read_whole(row, equals + 1, &dim->value, err));
    /* argv may be written to (C11 5.1.2.2.1): the name ends where its value began. */
    *(char *)(uintptr_t)equals = 0;
    dim->name = text;
    for (int i = 0; i < options->dim_count; i++)
        if (strcmp(options->dim[i].name, dim->name) == 0 && options->dim[i].value != dim->value)
            return ckpt_fail(err, CKPT_USAGE, "--%s: '%s' is given twice, with different sizes", row->name, dim->name);
    options->dim_count++;
    return CKPT_OK;
}

ckpt_status ckpt_option_device(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    int64_t index = 0;
    if (strcmp(text, "auto") == 0) options->device = CKPT_DEVICE_AUTO;
    else if (strcmp(text, "cpu") == 0) options->device = CKPT_DEVICE_CPU;
    else if (strncmp(text, "cuda", 4) == 0 && (!text[4] || text[4] == ':')) options->device = CKPT_DEVICE_CUDA;
    else return ckpt_fail(err, CKPT_USAGE, "--%s: unknown '%s' (%s)", row->name, text, row->value);
    if (options->device == CKPT_DEVICE_CUDA && text[4]) CKPT_TRY(read_whole(row, text + 5, &index, err));
    options->device_index = (int)index;
    return CKPT_OK;
}

ckpt_status ckpt_option_budget(const ckpt_option_row *row, const char *text, ckpt_cli_options *options, ckpt_error *err) {
    options->budget_auto = strcmp(text, "auto") == 0;
    if (options->budget_auto) return CKPT_OK;
    if (ckpt_units_parse_size(text, &options->budget_bytes, err) != CKPT_OK) return ckpt_fail_in(err, "--%s", row->name);
    return CKPT_OK;
}

ckpt_status ckpt_option_micro_batch(const ckpt_option_row *row, const char *text, ckpt_cli_options *options,
                                    ckpt_error *err) {
    options->micro_batch_auto = strcmp(text, "auto") == 0;
    options->micro_batch = 0;
    return options->micro_batch_auto ? CKPT_OK : read_whole(row, text, &options->micro_batch, err);
}

const char *ckpt_cli_nearest(const char *text, const char *const *names, int count) {
    const char *nearest = NULL;
    int least = 0;
    for (int i = 0; i < count; i++) {
        if (!names[i]) continue;
        const int distance = ckpt_name_distance(text, names[i]);
        if (!nearest || distance < least) {
            nearest = names[i];
            least = distance;
        }
    }
    /* Up to a third of the letters wrong is a slip; more is another word. */
    return nearest && 3 * least <= (int)strlen(nearest) + 2 ? nearest : NULL;
}
