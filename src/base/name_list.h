/* Lists of names as options take them: "fc1,block*,3,5-7".
 *
 *     char item[CKPT_NAME_ITEM];
 *     for (const char *at = list; at;) {
 *         CKPT_TRY(ckpt_name_list_next("--layers", list, &at, item, err));
 *         if (ckpt_name_range(item, &first, &last)) ...
 *         else if (ckpt_name_matches(item, "block.0.fc")) ...
 *     }
 */
#ifndef CKPT_NAME_LIST_H
#define CKPT_NAME_LIST_H

#include <stdbool.h>

#include "base/status.h"

enum { CKPT_NAME_ITEM = 256 };

/* Copies the item at *at, without the spaces around it, and moves *at behind its comma, or to NULL behind the last.
 * CKPT_USAGE, naming the option: an item is empty or longer than any name. */
ckpt_status ckpt_name_list_next(const char *option, const char *list, const char **at, char item[CKPT_NAME_ITEM],
                                ckpt_error *err);

/* Whether the item is "3" or "2-5"; numbers that are too large become INT_MAX. */
bool ckpt_name_range(const char *item, int *first, int *last);

/* Whether the item is the name, or a shell pattern that it matches. */
bool ckpt_name_matches(const char *item, const char *name);

/* The same, or the item names a module that the name lies in: "block.0" for "block.0.fc.weight". */
bool ckpt_name_matches_module(const char *item, const char *name);

/* Levenshtein's distance between the first 64 bytes of two names. */
int ckpt_name_distance(const char *a, const char *b);

#endif
