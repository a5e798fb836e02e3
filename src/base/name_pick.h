/* What a list of names (name_list.h), globs, indices from 0 and ranges chooses from things that have names.
 *
 *     const ckpt_name_choice choice = {.text = "x*,label", .option = "--drop", .what = "column", .count = n,
 *                                      .name = name_of, .context = columns};
 *     CKPT_TRY(ckpt_name_pick(&choice, picked, order, &count, err));
 *
 * An item is a name first, an index or range second, and a glob last.
 */
#ifndef CKPT_NAME_PICK_H
#define CKPT_NAME_PICK_H

#include <stdbool.h>

#include "base/status.h"

typedef struct ckpt_name_choice {
    const char *text;   /* items separated by commas; blanks around an item do not count */
    const char *option; /* "--layers", for messages */
    const char *what;   /* "layer" */
    int count;
    const char *(*name)(const void *context, int i); /* of 0 .. count-1 */
    const void *context;
} ckpt_name_choice;

/* Sets picked[i] for everything that the list names; others stay as they are. order, unless NULL, has room for `count`
 * and gets the indices in the order of the list, each once; *picked_count is how many, and may be NULL with it.
 * CKPT_USAGE: an empty item, a range that is none or out of range, or a name that nothing has; names the nearest. */
ckpt_status ckpt_name_pick(const ckpt_name_choice *choice, bool *picked, int *order, int *picked_count, ckpt_error *err);

#endif
