#include "cli/parameters_report.h"

#include <stdio.h>
#include <string.h>

#include "cli/console.h"

enum { LINE = 512, MOST_NAMES = 12 };

/* Nobody takes these for parameters. */
static bool is_plain_constant(const ckpt_ruling *r) {
    switch (r->verdict) {
    case CKPT_VERDICT_CODE: case CKPT_VERDICT_BODY: case CKPT_VERDICT_STATISTIC: return true;
    case CKPT_VERDICT_EXPORTER: return r->count == 1 || !r->initializer;
    default: return false;
    }
}

static bool is_kept(const ckpt_ruling *r) { return !ckpt_verdict_trains(r->verdict) && !is_plain_constant(r); }

static size_t add(char line[LINE], size_t used, const char *format, const char *text) {
    if (used >= LINE) return used;
    return used + (size_t)snprintf(line + used, LINE - used, format, text);
}

/* "m, s (BUFFER), mask (0/1 mask)" */
static size_t list_kept(const ckpt_model *model, char line[LINE], size_t used) {
    static const ckpt_verdict verdicts[] = {
#define X(ID, trained, text) CKPT_VERDICT_##ID,
        CKPT_VERDICT_LIST(X)
#undef X
    };
    int names = 0;
    for (size_t v = 0; v < sizeof verdicts / sizeof *verdicts; v++) {
        bool any = false;
        for (int i = 0; i < model->ruling_count; i++) {
            const ckpt_ruling *r = &model->ruling[i];
            if (r->verdict != verdicts[v] || !is_kept(r)) continue;
            if (names++ < MOST_NAMES) used = add(line, used, names == 1 ? "%s" : ", %s", r->name), any = true;
        }
        if (any) used = add(line, used, " (%s)", ckpt_verdict_text(verdicts[v]));
    }
    char more[32];
    snprintf(more, sizeof more, "%d", names - MOST_NAMES);
    return names > MOST_NAMES ? add(line, used, ", and %s more", more) : used;
}

/* Nodes that PyTorch knows under these names only lay values out anew; the optimizer's own values are val_0, val_1, ... */
static bool is_layout_name(const char *name) {
    static const char *const words[] = {"val_", "permute", "transpose", "t", "numpy_t", "view", "_unsafe_view", "reshape", "unsqueeze",
                                        "squeeze", "expand", "slice", "select", "split", "chunk", "getitem", "flatten", "contiguous",
                                        "clone", "detach", "alias", "unbind", "movedim"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t length = strlen(words[i]);
        if (strncmp(name, words[i], length) != 0) continue;
        const char *rest = name + length + strspn(name + length, "_0123456789");
        if (!*rest) return true;
    }
    return false;
}

/* What the exporter computed from a parameter, other than by laying it out anew, is trained in its place: another model than
 * the module that was exported. */
static void say_computed(const ckpt_model *model, const char *program) {
    const ckpt_ruling *first = NULL;
    int count = 0;
    for (int i = 0; i < model->ruling_count; i++) {
        const ckpt_ruling *r = &model->ruling[i];
        if (!ckpt_verdict_trains(r->verdict) || !r->origin || is_layout_name(r->name)) continue;
        if (!first) first = r;
        count++;
    }
    if (count)
        ckpt_console_note(program, "'%s'%s was computed from the parameter '%s' by the exporter and is trained as it stands; to train "
                          "the parameter, export with optimize=False", first->name, count > 1 ? ", among others," : "", first->origin);
}

void ckpt_parameters_say(const ckpt_model *model, const char *program) {
    char line[LINE] = "", values[CKPT_NUMBER_TEXT];
    int trained = 0, kept = 0, moved = 0;
    uint64_t total = 0;
    size_t used = 0;
    for (int i = 0; i < model->ruling_count; i++) {
        const ckpt_ruling *r = &model->ruling[i];
        trained += ckpt_verdict_trains(r->verdict);
        if (ckpt_verdict_trains(r->verdict)) total += (uint64_t)r->count;
        kept += is_kept(r);
        moved += r->verdict == CKPT_VERDICT_STATISTIC;
    }
    if (moved) used = (size_t)snprintf(line, sizeof line, "; moves %d running statistic%s", moved, moved == 1 ? "" : "s");
    if (kept) used += (size_t)snprintf(line + used, sizeof line - used, "; keeps %d: ", kept);
    if (kept) list_kept(model, line, used);
    ckpt_console_note(program, "trains %d tensor%s, %s value%s%s", trained, trained == 1 ? "" : "s",
                      ckpt_console_count(total, values), total == 1 ? "" : "s", line);
    say_computed(model, program);
}

json_t *ckpt_parameters_json(const ckpt_model *model) {
    json_t *list = json_array();
    for (int i = 0; list && i < model->ruling_count; i++) {
        const ckpt_ruling *r = &model->ruling[i];
        json_t *item = json_pack("{s:o, s:I, s:b, s:s}", "name", ckpt_console_json_text(r->name), "values", (json_int_t)r->count,
                                 "trained", ckpt_verdict_trains(r->verdict), "reason", ckpt_verdict_text(r->verdict));
        json_array_append_new(list, item);
    }
    return list;
}
