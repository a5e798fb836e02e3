/* Command lines of ckptplan and ckpttrain: one table (options.def) for parsing, --help and checks.
 *
 *     ckpt_cli_options options;
 *     if (ckpt_cli_parse(CKPT_PROGRAM_PLAN, argc, argv, &options, &err) != CKPT_OK) ...
 *     if (options.help) ckpt_cli_print_help(CKPT_PROGRAM_PLAN, stdout);
 *     if (ckpt_cli_given(&options, CKPT_OPTION_LR)) rate = options.lr;
 *     ckpt_job_load(&options.job, NULL, traits, &job, &err);
 */
#ifndef CKPT_OPTIONS_H
#define CKPT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/nearest.h"
#include "base/status.h"
#include "job/job.h"

typedef enum ckpt_program { CKPT_PROGRAM_PLAN = 1, CKPT_PROGRAM_TRAIN = 2, CKPT_PROGRAM_BOTH = 3 } ckpt_program;

typedef enum ckpt_option {
#define X(ID, ...) CKPT_OPTION_##ID,
#include "cli/options.def"
#undef X
    CKPT_OPTION_COUNT
} ckpt_option;

typedef enum ckpt_format {
    CKPT_FORMAT_TEXT,
    CKPT_FORMAT_JSON,
    CKPT_FORMAT_HTML,
    CKPT_FORMAT_SVG,
    CKPT_FORMAT_DOT
} ckpt_format;

/* All strings are argv's. What was not given has its default, but for values that depend on the model. */
typedef struct ckpt_cli_options {
    uint64_t given;       /* bit i: option i was on the command line */
    ckpt_job_options job; /* strategy: with --checkpoint and what other options imply worked in */
    bool micro_batch_auto;
    int device_index;
    int checkpoint; /* likewise */

    const char *data, *val_data, *target, *features, *drop;
    int64_t epochs, steps; /* 0: no limit */
    double lr;
    uint64_t seed;
    int shuffle, preserve_rng;
    int algorithms; /* 0: measured */
    bool verify, no_graph, drop_last;

    int format; /* ckpt_format: of --output where there is one, else of stdout */
    bool compare, max_batch, frontier, json, overwrite, help, version;
    const char *output, *save, *log, *state;
    int64_t state_every; /* 0: after each epoch */
} ckpt_cli_options;

/* Parses, fills in defaults and checks what can be checked without the model. Stops at --help or --version: then
 * nothing else is checked. CKPT_USAGE: one line that names the option and the remedy. */
ckpt_status ckpt_cli_parse(ckpt_program program, int argc, char **argv, ckpt_cli_options *options, ckpt_error *err);

static inline bool ckpt_cli_given(const ckpt_cli_options *options, ckpt_option option) {
    return options->given >> option & 1;
}

void ckpt_cli_print_help(ckpt_program program, FILE *out);
/* "ckptplan" */
const char *ckpt_cli_program_name(ckpt_program program);

/* What follows is for options*.c and option_values.c. */

typedef struct ckpt_option_row {
    char letter;
    const char *name;
    unsigned programs;
    int group;
    const char *value;
    ckpt_status (*parse)(const struct ckpt_option_row *row, const char *text, ckpt_cli_options *options,
                         ckpt_error *err);
    size_t offset; /* of the field in ckpt_cli_options */
    double min, max;
    const char *const *choices;
    const char *help;
} ckpt_option_row;

extern const ckpt_option_row ckpt_option_table[CKPT_OPTION_COUNT];

/* text: the value; NULL for options that take none. */
#define CKPT_OPTION_PARSERS(X)                                                                                                     \
    X(flag) X(text) X(whole) X(integer) X(seed) X(real) X(choice) X(dim) X(device) X(budget) X(micro_batch) X(loss)
#define X(name)                                                                                              \
    ckpt_status ckpt_option_##name(const ckpt_option_row *row, const char *text, ckpt_cli_options *options,  \
                                   ckpt_error *err);
CKPT_OPTION_PARSERS(X)
#undef X

/* In the order of their enums, ended by NULL. */
extern const char *const ckpt_optimizer_choices[];
extern const char *const ckpt_strategy_choices[];
extern const char *const ckpt_untie_choices[];
extern const char *const ckpt_algorithms_choices[];
extern const char *const ckpt_dropout_rng_choices[];
extern const char *const ckpt_off_on_choices[];
extern const char *const ckpt_format_choices[];
extern const char *const ckpt_cost_choices[];

/* Options against each other: what implies what, what excludes what. */
ckpt_status ckpt_cli_check(ckpt_program program, ckpt_cli_options *options, ckpt_error *err);

#endif
