/* What both programs say of a job on stderr, where there is something to say.
 *
 *     ckpt_job_say_ties(&job, "ckptplan");
 */
#ifndef CKPT_JOB_NOTES_H
#define CKPT_JOB_NOTES_H

#include "job/job.h"

/* Which sparse initializers of the file are dense ones from here on. */
void ckpt_job_say_sparse(const ckpt_job *job, const char *program);

/* Which weights of the file were shared, what became of them and why. */
void ckpt_job_say_ties(const ckpt_job *job, const char *program);

/* With micro-batches: which nodes work across samples and so see a part of the batch at a time. */
void ckpt_job_say_parts(const ckpt_job *job, const ckpt_job_options *options, const char *program);

#endif
