#include "base/nearest.h"

#include <string.h>

/* Levenshtein's distance, cut to names that fit. */
static int edit_distance(const char *a, const char *b) {
    enum { MOST = 32 };
    int row[MOST + 1];
    const int m = (int)strnlen(a, MOST), n = (int)strnlen(b, MOST);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *ckpt_nearest(const char *text, const char *const *names, int count) {
    const char *nearest = NULL;
    int least = 0;
    for (int i = 0; i < count; i++) {
        if (!names[i]) continue;
        const int distance = edit_distance(text, names[i]);
        if (!nearest || distance < least) {
            nearest = names[i];
            least = distance;
        }
    }
    /* Up to a third of the letters wrong is a slip; more is another word. */
    return nearest && 3 * least <= (int)strlen(nearest) + 2 ? nearest : NULL;
}
