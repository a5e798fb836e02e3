#include "cli/job_notes.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/console.h"

void ckpt_job_say_sparse(const ckpt_job *job, const char *program) {
    const ckpt_onnx_dense *dense = &job->model.dense;
    if (dense->count == 0) return;
    char others[64] = "";
    if (dense->count > 1) snprintf(others, sizeof others, " and %zu more", dense->count - 1);
    ckpt_console_note(program, "the sparse initializer '%.160s'%s is read and saved as a dense one: its zeros are values like the "
                      "others (%llu of %llu)", dense->first, others, (unsigned long long)(dense->elements - dense->stored),
                      (unsigned long long)dense->elements);
}

void ckpt_job_say_ties(const ckpt_job *job, const char *program) {
    enum { MOST_LINES = 8 };
    const ckpt_tie_report *ties = &job->model.ties;
    for (int i = 0; i < ties->count && i < MOST_LINES; i++) {
        const ckpt_tie *tie = &ties->tie[i];
        if (tie->copies > 1)
            ckpt_console_note(program,
                              "untied '%s', one weight for %d readers in the file, into %d: %s (--untie none keeps it one)",
                              tie->name, tie->readers, tie->copies, tie->reason);
        else
            ckpt_console_note(program, "'%s' is one weight for %d readers: %s (--untie all gives each its own)", tie->name,
                              tie->readers, tie->reason);
    }
    for (int i = 0; i < ties->join_count && i < MOST_LINES; i++)
        ckpt_console_note(program,
                          "'%s' is '%s' transposed, which the exporter wrote twice: one parameter again (--untie none keeps "
                          "them two)",
                          ties->join[i].name, ties->join[i].source);
    if (ties->count > MOST_LINES) ckpt_console_note(program, "and so for %d more shared weights", ties->count - MOST_LINES);
}

void ckpt_job_say_parts(const ckpt_job *job, const ckpt_job_options *o, const char *program) {
    enum { MOST_NAMES = 5 };
    ckpt_pool scratch = {0};
    ckpt_error own; /* what cannot be told is no failure */
    const char *names;
    if (job->parts < 2) return;
    const int count = ckpt_job_name_across(job, o, MOST_NAMES, &scratch, &names, &own);
    if (count > MOST_NAMES) names = ckpt_pool_printf(&scratch, "%s and %d more", names, count - MOST_NAMES);
    if (count > 0 && names)
        ckpt_console_note(program, "--micro-batch: what works across samples sees %" PRId64 " of the %" PRId64
                          " of a batch at a time: %s", job->model.graph.batch, job->batch, names);
    ckpt_pool_free(&scratch);
}
