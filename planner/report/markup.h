/* Text that grows, for HTML, SVG and DOT: what comes from a model goes through an escaping function.
 *
 *     ckpt_markup m = {0};
 *     ckpt_markup_add(&m, "<td>");
 *     ckpt_markup_xml(&m, node->name);
 *     ckpt_markup_add(&m, "</td>");
 *     if (m.failed) ...                 // memory ran out somewhere on the way
 *     ckpt_markup_free(&m);
 */
#ifndef CKPT_MARKUP_H
#define CKPT_MARKUP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ckpt_markup {
    char *text; /* terminated; NULL while empty */
    size_t length, capacity;
    bool failed;
} ckpt_markup;

/* As printf. For what the program itself says. */
void ckpt_markup_add(ckpt_markup *markup, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text of an element or a quoted attribute. What XML 1.0 cannot hold, invalid UTF-8 included, becomes U+FFFD. */
void ckpt_markup_xml(ckpt_markup *markup, const char *text);

/* The inside of a quoted string of DOT, cut after `most` characters; control characters become U+FFFD. */
void ckpt_markup_dot(ckpt_markup *markup, const char *text, int most);

void ckpt_markup_free(ckpt_markup *markup);

#endif
