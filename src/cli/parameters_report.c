#include "cli/parameters_report.h"

#include <stdio.h>
#include <string.h>

#include "cli/console.h"
#include "proto/onnx_file.h"

enum { LINE = 512, MOST_NAMES = 12 };

/* Nobody takes these for parameters. */
static bool is_plain_constant(const ckpt_ruling *r) {
    switch (r->verdict) {
    case CKPT_VERDICT_CODE: case CKPT_VERDICT_BODY: case CKPT_VERDICT_STATISTIC: return true;
    case CKPT_VERDICT_EXPORTER: return r->count == 1 || !r->initializer || strncmp(r->name, "val_", 4) == 0;
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
    static const char *const words[] = {"val_",         "permute", "transpose", "t",       "numpy_t", "view",
                                        "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand",  "slice",
                                        "select",       "split",   "chunk",     "getitem", "flatten", "contiguous",
                                        "clone",        "detach",  "alias",     "unbind",  "movedim"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t length = strlen(words[i]);
        if (strncmp(name, words[i], length) != 0) continue;
        const char *rest = name + length + strspn(name + length, "_0123456789");
        if (!*rest) return true;
    }
    return false;
}

/* Whether the exporter computed the tensor from a parameter other than by laying it out anew. The TorchScript exporter names
 * such a tensor after the node that reads it; there, transposed weights of products and norms' columns are layout. */
static bool is_computed(const ckpt_model *model, const ckpt_ruling *r) {
    if (!ckpt_verdict_trains(r->verdict)) return false;
    for (int i = 0; i < model->ruling_count && r->origin; i++) /* the parameter itself is trained beside it */
        if (ckpt_verdict_trains(model->ruling[i].verdict) && strcmp(model->ruling[i].name, r->origin) == 0) return true;
    if (r->origin) return !is_layout_name(r->name);
    static const char *const layouts[] = {"MatMul_", "Gemm_", "Conv_", "ConvTranspose_", "Mul_", "Add_"};
    if (!model->provenance.torch || strncmp(r->name, "onnx::", 6) != 0) return false;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strncmp(r->name + 6, layouts[i], strlen(layouts[i])) == 0) return false;
    return true;
}

/* What was computed is trained in the parameter's place: another model than the module that was exported. */
static void say_computed(const ckpt_model *model, const char *program) {
    const ckpt_ruling *first = NULL;
    int count = 0;
    for (int i = 0; i < model->ruling_count; i++) {
        if (!is_computed(model, &model->ruling[i])) continue;
        if (!first) first = &model->ruling[i];
        count++;
    }
    if (!first) return;
    const char *others = count > 1 ? ", among others," : "";
    if (first->origin)
        ckpt_console_note(program,
                          "'%s'%s was computed from the parameter '%s' by the exporter and is trained as it stands; to train "
                          "the parameter, export with optimize=False",
                          first->name, others, first->origin);
    else
        ckpt_console_note(program,
                          "'%s'%s was computed by the exporter, perhaps from a parameter, and is trained as it stands; export "
                          "with do_constant_folding=False to train what the module has",
                          first->name, others);
}

/* Whether "['a', 'b']" has the name. */
static bool is_folded_from(const ckpt_said_tensor *said, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = said->folded_from; at && (at = strstr(at, name)); at++)
        if (at > said->folded_from && at[-1] == '\'' && at[length] == '\'') return true;
    return false;
}

/* Parameters of the exported program that the file has no longer: the exporter found a 1 or a 0 that changed nothing. */
static void say_missing(const ckpt_model *model, const char *program) {
    const ckpt_provenance *p = &model->provenance;
    const Onnx__GraphProto *graph = model->file->model->graph;
    char line[LINE] = "";
    size_t used = 0;
    int count = 0;
    for (int i = 0; i < p->count && p->speaks; i++) {
        if (p->tensor[i].kind != CKPT_SAID_PARAMETER || p->tensor[i].folded_from) continue;
        bool there = false;
        for (size_t k = 0; k < graph->n_initializer && !there; k++) {
            const char *name = graph->initializer[k]->name;
            const ckpt_said_tensor *said = name ? ckpt_provenance_find(p, name) : NULL;
            there = said && (said == &p->tensor[i] || is_folded_from(said, p->tensor[i].name));
        }
        if (!there && count++ < MOST_NAMES) used = add(line, used, count == 1 ? "%s" : ", %s", p->tensor[i].name);
    }
    if (count)
        ckpt_console_note(program, "the exporter left out %d parameter%s of the module, which %s not trained: %s%s; export with "
                          "optimize=False to keep all", count, count == 1 ? "" : "s", count == 1 ? "is" : "are", line,
                          count > MOST_NAMES ? ", ..." : "");
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
    say_missing(model, program);
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
