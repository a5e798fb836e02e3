/* What is said of training data: which columns or arrays of the file became what, and the names of the classes.
 *
 *     char words[CKPT_DATA_WORDS];
 *     ckpt_console_note(program, "columns: %s", ckpt_data_names_text(&set, words));
 */
#ifndef CKPT_DATA_WORDS_H
#define CKPT_DATA_WORDS_H

#include <jansson.h>

#include "data/dataset.h"
#include "proto/onnx_file.h"

enum { CKPT_DATA_WORDS = 1024 };

/* Whether the file names its columns or arrays. */
bool ckpt_data_has_names(const ckpt_dataset *set);

/* "x <- age, height, weight, ... (21); y <- label; dropped: id; unused: comment"; returns `words`. */
const char *ckpt_data_names_text(const ckpt_dataset *set, char words[CKPT_DATA_WORDS]);

/* "0 = cat, 1 = dog, 2 = horse, ... (37)"; returns `words`. */
const char *ckpt_data_classes_text(const ckpt_array *array, char words[CKPT_DATA_WORDS]);

/* {"source", "samples", "arrays": [{"name", "type", "shape", "from", "classes"}], "dropped", "unused", "notes"}; source: the
 * file, or NULL for synthetic data. null for an empty set; NULL when memory runs out. */
json_t *ckpt_data_json(const ckpt_dataset *set, const char *source);

/* Puts the names of the classes, if there are any, into the model's metadata, from where they are saved with it: "ckpt.classes",
 * a JSON list, or where several arrays name theirs "ckpt.classes.NAME" each. */
ckpt_status ckpt_data_save_classes(const ckpt_dataset *set, ckpt_onnx_file *file, ckpt_error *err);

#endif
