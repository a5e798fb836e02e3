#include "cli/data_words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/console.h"

/* SHOWN: of a longer list, before "...". WHOLE: the longest list that is shown whole. */
enum { SHOWN = 3, WHOLE = 5 };

typedef struct words {
    char *text;
    size_t used;
} words;

static void add(words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(words *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (w->used < CKPT_DATA_WORDS) w->used += (size_t)vsnprintf(w->text + w->used, CKPT_DATA_WORDS - w->used, format, arguments);
    va_end(arguments);
}

/* numbered: each name with its number, "0 = cat". */
static void add_list(words *w, const ckpt_names *names, bool numbered) {
    const size_t shown = names->count <= WHOLE ? names->count : SHOWN;
    for (size_t i = 0; i < shown; i++) {
        add(w, "%s", i ? ", " : "");
        if (numbered) add(w, "%zu = ", i);
        add(w, "%.60s", names->name[i]);
    }
    if (shown < names->count) add(w, ", ... (%zu)", names->count);
}

bool ckpt_data_has_names(const ckpt_dataset *set) {
    for (size_t a = 0; a < set->array_count; a++)
        if (set->arrays[a].from.count) return true;
    return false;
}

const char *ckpt_data_names_text(const ckpt_dataset *set, char text[CKPT_DATA_WORDS]) {
    words w = {.text = text};
    text[0] = 0;
    for (size_t a = 0; a < set->array_count; a++) {
        add(&w, "%s%.60s <- ", a ? "; " : "", set->arrays[a].name);
        if (set->arrays[a].from.count) add_list(&w, &set->arrays[a].from, false);
        else add(&w, "the file without names");
    }
    if (set->dropped.count) add(&w, "; dropped: "), add_list(&w, &set->dropped, false);
    if (set->unused.count) add(&w, "; unused: "), add_list(&w, &set->unused, false);
    return text;
}

const char *ckpt_data_classes_text(const ckpt_array *array, char text[CKPT_DATA_WORDS]) {
    words w = {.text = text};
    text[0] = 0;
    add_list(&w, &array->classes, true);
    return text;
}

static json_t *list_json(const ckpt_names *names) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < names->count; i++)
        if (json_array_append_new(list, ckpt_console_json_text(names->name[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *array_json(const ckpt_array *array) {
    json_t *shape = json_array();
    for (int i = 0; shape && i < array->rank; i++) json_array_append_new(shape, json_integer((json_int_t)array->dim[i]));
    return json_pack("{s:o, s:s, s:o, s:o, s:o}", "name", ckpt_console_json_text(array->name), "type",
                     array->type == CKPT_ARRAY_F32 ? "float32" : "int64", "shape", shape, "from", list_json(&array->from),
                     "classes", list_json(&array->classes));
}

json_t *ckpt_data_json(const ckpt_dataset *set, const char *source) {
    if (!set->array_count) return json_null();
    json_t *arrays = json_array();
    for (size_t a = 0; arrays && a < set->array_count; a++) json_array_append_new(arrays, array_json(&set->arrays[a]));
    return json_pack("{s:o, s:I, s:o, s:o, s:o, s:o}", "source", source ? ckpt_console_json_text(source) : json_null(), "samples",
                     (json_int_t)set->samples, "arrays", arrays, "dropped", list_json(&set->dropped), "unused",
                     list_json(&set->unused), "notes", list_json(&set->notes));
}

static ckpt_status save_names(const ckpt_names *names, const char *key, ckpt_onnx_file *file, ckpt_error *err) {
    json_t *list = list_json(names);
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    const ckpt_status status = text ? ckpt_onnx_set_metadata(file, key, text, err)
                                    : ckpt_fail(err, CKPT_NOMEM, "out of host memory for the names of classes");
    free(text);
    json_decref(list);
    return status;
}

ckpt_status ckpt_data_save_classes(const ckpt_dataset *set, ckpt_onnx_file *file, ckpt_error *err) {
    int named = 0;
    for (size_t a = 0; a < set->array_count; a++) named += set->arrays[a].classes.count > 0;
    for (size_t a = 0; a < set->array_count; a++) {
        char key[256] = "ckpt.classes";
        if (named > 1) snprintf(key, sizeof key, "ckpt.classes.%.200s", set->arrays[a].name);
        if (set->arrays[a].classes.count) CKPT_TRY(save_names(&set->arrays[a].classes, key, file, err));
    }
    return CKPT_OK;
}
