#include "base/nearest.h"

#include <string.h>

#include "base/name_list.h"

const char *ckpt_nearest(const char *text, const char *const *names, int count) {
    const char *nearest = NULL;
    int least = 0;
    for (int i = 0; i < count; i++) {
        if (!names[i]) continue;
        const int distance = ckpt_name_distance(text, names[i]);
        if (!nearest || distance < least) {
            nearest = names[i];
            least = distance;
        }
    }
    /* Up to a third of the letters wrong is a slip; more is another word. */
    return nearest && 3 * least <= (int)strlen(nearest) + 2 ? nearest : NULL;
}
