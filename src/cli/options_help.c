#include <stdio.h>
#include <string.h>

#include "cli/options.h"

enum { HELP_COLUMN = 26, HELP_WIDTH = 98 };

/* "  -o, --output FILE.json" */
static void left_side(const ckpt_option_row *row, char *text, size_t size) {
    char letter[8] = "", values[96] = "";
    if (row->letter) snprintf(letter, sizeof letter, "-%c, ", row->letter);
    if (row->value) snprintf(values, sizeof values, " %s", row->value);
    for (int i = 0; !row->value && row->choices && row->choices[i]; i++) {
        const size_t used = strlen(values);
        snprintf(values + used, sizeof values - used, "%s%s", i ? "|" : " ", row->choices[i]);
    }
    snprintf(text, size, "  %s--%s%s", letter, row->name, values);
}

/* `text` from HELP_COLUMN on, broken between words; `left` in front of its first line, or above it. */
static void print_entry(const char *left, const char *text, FILE *out) {
    size_t column = strlen(left);
    fputs(left, out);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", (int)(HELP_COLUMN - column), "");
    column = HELP_COLUMN;
    while (*text) {
        const size_t word = strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)word, text);
        column += word;
        text += word + strspn(text + word, " ");
    }
    fputc('\n', out);
}

void ckpt_cli_print_help(ckpt_program program, FILE *out) {
    static const char *const groups[] = {"The step", "The loss", "The plan", "Data", "Training", "Results"};
    const char *what = program == CKPT_PROGRAM_PLAN
                           ? "Shows how a training step of an ONNX model will run: what is kept, what is recomputed,\n"
                             "how many bytes it takes and what it costs. Allocates nothing of it."
                           : "Trains an ONNX model under a plan: with the same options ckptplan shows it beforehand.";
    fprintf(out, "Usage: %s MODEL.onnx [OPTION...]\n\n%s\n", ckpt_cli_program_name(program), what);
    int group = -1;
    for (int i = 0; i < CKPT_OPTION_COUNT; i++) {
        const ckpt_option_row *row = &ckpt_option_table[i];
        if (!(row->programs & program)) continue;
        if (row->group != group) fprintf(out, "\n%s:\n", groups[group = row->group]);
        char left[128];
        left_side(row, left, sizeof left);
        print_entry(left, row->help, out);
    }
    fputs("\nStrategies:\n", out);
    static const char *const strategy_help[] = {
#define X(ID, name, text) text,
        CKPT_STRATEGY_LIST(X)
#undef X
    };
    for (int i = 0; i < CKPT_STRATEGY_COUNT; i++) {
        char left[64];
        snprintf(left, sizeof left, "  %s", ckpt_strategy_choices[i]);
        print_entry(left, strategy_help[i], out);
    }
    fputs("\nSizes are bytes, or numbers with k, M, G (powers of 1000) or KiB, MiB, GiB (powers of 1024).\n"
          "\nExit status:\n",
          out);
    static const struct {
        int code;
        const char *text;
    } codes[] = {
#define X(name, code, text) {code, text},
        CKPT_STATUS_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (program == CKPT_PROGRAM_PLAN && (codes[i].code == 6 || codes[i].code == 130)) continue;
        fprintf(out, "  %-3d  %s%s\n", codes[i].code, codes[i].text,
                codes[i].code == 130 ? ", after saving what was asked to be saved (143 by SIGTERM, 129 by SIGHUP)" : "");
    }
}
