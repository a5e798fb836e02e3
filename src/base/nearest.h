/* What somebody who wrote a wrong name may have meant. */
#ifndef CKPT_NEAREST_H
#define CKPT_NEAREST_H

/* The name closest to `text` by edit distance, or NULL when none is close. names[count]; NULL entries are skipped. */
const char *ckpt_nearest(const char *text, const char *const *names, int count);

#endif
