#include "cli/options.h"

#include <stddef.h>
#include <string.h>

/* The columns of options.def, as numbers. */
enum { GROUP_STEP, GROUP_LOSS, GROUP_PLAN, GROUP_DATA, GROUP_TRAINING, GROUP_RESULT };

const ckpt_option_row ckpt_option_table[CKPT_OPTION_COUNT] = {
#define X(ID, letter, name, programs, group, value, parser, field, min, max, choices, help)                  \
    {letter, name, CKPT_PROGRAM_##programs, GROUP_##group, value, ckpt_option_##parser,                      \
     offsetof(ckpt_cli_options, field), min, max, choices, help},
#include "cli/options.def"
#undef X
};

_Static_assert(CKPT_OPTION_COUNT <= 64, "ckpt_cli_options.given has a bit for each");

const char *ckpt_cli_program_name(ckpt_program program) {
    return program == CKPT_PROGRAM_PLAN ? "ckptplan" : "ckpttrain";
}

static bool takes_value(const ckpt_option_row *row) { return row->value || row->choices; }

/* The option of this program with the long name name[length], or -1. */
static int find_long(ckpt_program program, const char *name, size_t length) {
    for (int i = 0; i < CKPT_OPTION_COUNT; i++) {
        const ckpt_option_row *row = &ckpt_option_table[i];
        if (row->programs & program && strlen(row->name) == length && memcmp(row->name, name, length) == 0) return i;
    }
    return -1;
}

static int find_letter(ckpt_program program, char letter) {
    for (int i = 0; i < CKPT_OPTION_COUNT; i++)
        if (ckpt_option_table[i].programs & program && ckpt_option_table[i].letter == letter) return i;
    return -1;
}

static ckpt_status unknown_option(ckpt_program program, const char *arg, ckpt_error *err) {
    const char *names[CKPT_OPTION_COUNT], *elsewhere = NULL;
    char name[64];
    const size_t length = strcspn(arg + 2, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), arg + 2);
    for (int i = 0; i < CKPT_OPTION_COUNT; i++) {
        const ckpt_option_row *row = &ckpt_option_table[i];
        const bool ours = row->programs & program;
        names[i] = ours ? row->name : NULL;
        if (!ours && strcmp(row->name, name) == 0)
            elsewhere = ckpt_cli_program_name((ckpt_program)row->programs);
    }
    if (elsewhere) return ckpt_fail(err, CKPT_USAGE, "--%s is an option of %s, not of %s", name, elsewhere,
                                    ckpt_cli_program_name(program));
    const char *near = ckpt_nearest(name, names, CKPT_OPTION_COUNT);
    if (near) return ckpt_fail(err, CKPT_USAGE, "unknown option '--%s': did you mean --%s?", name, near);
    return ckpt_fail(err, CKPT_USAGE, "unknown option '--%s': see --help", name);
}

/* What a command line is at while it is read. */
typedef struct reading {
    ckpt_program program;
    int argc, next;
    char **argv;
} reading;

/* Hands the value of an option to its parser: `attached` to it, or the next argument. */
static ckpt_status take(reading *r, int option, const char *attached, ckpt_cli_options *options, ckpt_error *err) {
    const ckpt_option_row *row = &ckpt_option_table[option];
    if (!takes_value(row)) {
        if (attached) return ckpt_fail(err, CKPT_USAGE, "--%s takes no value; leave out '%s'", row->name, attached);
    } else if (!attached) {
        if (r->next == r->argc) return ckpt_fail(err, CKPT_USAGE, "--%s needs a value: see --help", row->name);
        attached = r->argv[r->next++];
    }
    options->given |= 1ull << option;
    return row->parse(row, attached, options, err);
}

static ckpt_status take_long(reading *r, const char *arg, ckpt_cli_options *options, ckpt_error *err) {
    const char *equals = strchr(arg, '=');
    const size_t length = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    const int option = find_long(r->program, arg + 2, length);
    if (option < 0) return unknown_option(r->program, arg, err);
    return take(r, option, equals ? equals + 1 : NULL, options, err);
}

/* "-o FILE" or "-oFILE". */
static ckpt_status take_short(reading *r, const char *arg, ckpt_cli_options *options, ckpt_error *err) {
    const int option = find_letter(r->program, arg[1]);
    if (option < 0) return ckpt_fail(err, CKPT_USAGE, "unknown option '-%c': options have two dashes; see --help", arg[1]);
    return take(r, option, arg[2] ? arg + 2 : NULL, options, err);
}

static ckpt_status take_model(ckpt_program program, const char *arg, ckpt_cli_options *options, ckpt_error *err) {
    if (options->job.model_path)
        return ckpt_fail(err, CKPT_USAGE, "two models, '%s' and '%s': %s takes one", options->job.model_path, arg,
                         ckpt_cli_program_name(program));
    if (!*arg) return ckpt_fail(err, CKPT_USAGE, "the model's file name is empty");
    options->job.model_path = arg;
    return CKPT_OK;
}

ckpt_status ckpt_cli_parse(ckpt_program program, int argc, char **argv, ckpt_cli_options *options, ckpt_error *err) {
    *options = (ckpt_cli_options){.job = ckpt_job_options_for(NULL), .shuffle = 1, .preserve_rng = 1};
    reading r = {.program = program, .argc = argc, .next = 1, .argv = argv};
    bool options_end = false;
    while (r.next < argc) {
        const char *arg = argv[r.next++];
        if (!options_end && strcmp(arg, "--") == 0) options_end = true;
        else if (options_end || arg[0] != '-' || !arg[1]) CKPT_TRY(take_model(program, arg, options, err));
        else if (arg[1] == '-') CKPT_TRY(take_long(&r, arg, options, err));
        else CKPT_TRY(take_short(&r, arg, options, err));
        if (options->help || options->version) return CKPT_OK;
    }
    if (!options->job.model_path)
        return ckpt_fail(err, CKPT_USAGE, "no model: %s MODEL.onnx [OPTION...]; see --help", ckpt_cli_program_name(program));
    return ckpt_cli_check(program, options, err);
}
