/* State files: what a training run must know to go on as if it had never stopped.
 *
 *     const ckpt_state_fact facts[] = {{"--seed", "5", NULL}, {"data", hash, "data"}};
 *     ckpt_run_state run = {.graph = &training, .facts = facts, .fact_count = 2};
 *     bool found;
 *     CKPT_TRY(ckpt_state_read(&run, "run.state", &exec, 1, &report, &found, err));   // into the device
 *     // steps
 *     CKPT_TRY(ckpt_state_write(&run, "run.state", exec, &report, err));
 *
 * The file holds every tensor that outlives a step and is written by one (parameters, optimizer state, running
 * statistics) and how far the run was. Epoch, place in the epoch's order and random numbers are functions of the seed and
 * the number of steps, so these two stand for them. Which plan ran is not in the file: a run may go on under another one,
 * with the same bits. What must be the same, the facts, is compared in their order: the first that differs is the message.
 *
 * Version 1, integers and floats little-endian:
 *     4096 bytes     text, padded with zeros: "ckpttrain state 2\n", then "NAME VALUE\n" for each fact
 *     2 x int64      steps done; rows counted in the epoch under way
 *     6 x float64    correct rows of these; first and last loss; accuracy; loss and accuracy in the last validation
 *     tensors        in the order of their ids, as the device has them, nothing between them
 *     64 bytes       SHA-256 of everything before, in hexadecimal
 *
 * Nothing in a file is trusted: all sizes come from the graph, and memory stays below the largest tensor and 64 KiB.
 */
#ifndef CKPT_STATE_FILE_H
#define CKPT_STATE_FILE_H

#include "runtime/exec.h"
#include "runtime/train.h"

typedef struct ckpt_state_fact {
    const char *name;  /* "--seed", or a word of the file: no blanks */
    const char *value; /* without line ends */
    const char *what;  /* how a message calls it; NULL: it is an option, named with its value */
} ckpt_state_fact;

typedef struct ckpt_run_state {
    const ckpt_graph *graph; /* training graph */
    const ckpt_state_fact *facts;
    int fact_count;
} ckpt_run_state;

/* held[graph->tensor_count]: which tensors are in the file. The others are made anew in each step or never change. */
void ckpt_state_find_held(const ckpt_graph *graph, bool *held);

/* Appears under its name only when it is complete and on disk (base/atomic_file.h, whose errors these are). */
ckpt_status ckpt_state_write(const ckpt_run_state *run, const char *path, const ckpt_exec *exec,
                             const ckpt_train_report *report, ckpt_error *err);

/* Copies the tensors to each of exec[exec_count] and sets *report, for ckpt_train_options.resume. *found is false, and
 * nothing else happens, where there is no such file. CKPT_USAGE: no state file, damaged, or of a run that differs in a
 * fact; the message names the file and the remedy. On failure the tensors on the device may be of no use. */
ckpt_status ckpt_state_read(const ckpt_run_state *run, const char *path, ckpt_exec *const *exec, int exec_count,
                            ckpt_train_report *report, bool *found, ckpt_error *err);

#endif
