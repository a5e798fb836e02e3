#include "xml_check.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

static int name_length(const char *at) {
    int n = 0;
    while (isalnum((unsigned char)at[n]) || (n && strchr("-_:.", at[n]) && at[n])) n++;
    return n;
}

/* Length of a reference at '&', 0 when it is none. */
static int reference_length(const char *at) {
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(at, known[i], strlen(known[i])) == 0) return (int)strlen(known[i]);
    int n = 2;
    while (at[1] == '#' && isdigit((unsigned char)at[n])) n++;
    return n > 2 && at[n] == ';' ? n + 1 : 0;
}

/* Attributes up to '>' or "/>"; the end, or NULL. */
static const char *skip_attributes(const char *at) {
    while (1) {
        const char *start = at;
        while (isspace((unsigned char)*at)) at++;
        if (*at == '>' || strncmp(at, "/>", 2) == 0) return at;
        const int n = name_length(at);
        if (at == start || !n || at[n] != '=' || at[n + 1] != '"') return NULL;
        for (at += n + 2; *at != '"';) {
            const int step = *at == '&' ? reference_length(at) : *at && *at != '<';
            if (!step) return NULL;
            at += step;
        }
        at++;
    }
}

const char *xml_fault(const char *text) {
    static char fault[200];
    const char *open[DEEPEST];
    int depth = 0, roots = 0;
    const char *at = text;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < 0x20 && *c != '\n') return "a control character";
    if (strncmp(at, "<!DOCTYPE html>", 15) == 0) at += 15;
    while (*at) {
        snprintf(fault, sizeof fault, "at: %.120s", at);
        if (*at == '&') {
            const int n = reference_length(at);
            if (!n || !depth) return fault;
            at += n;
        } else if (strncmp(at, "</", 2) == 0) {
            const int n = name_length(at + 2);
            if (!depth || !n || at[2 + n] != '>') return fault;
            depth--;
            if (name_length(open[depth]) != n || strncmp(open[depth], at + 2, (size_t)n) != 0) return fault;
            at += n + 3;
        } else if (*at == '<') {
            const int n = name_length(at + 1);
            const char *end = n ? skip_attributes(at + 1 + n) : NULL;
            if (!end || depth == DEEPEST || (depth == 0 && roots++)) return fault;
            if (*end == '>') open[depth++] = at + 1;
            at = end + (*end == '>' ? 1 : 2);
        } else {
            if (!depth && !isspace((unsigned char)*at)) return fault;
            at++;
        }
    }
    return depth || roots != 1 ? "an element is not closed" : NULL;
}
