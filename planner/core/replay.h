/* Replay of a list of nodes: what it recomputes, how long its tensors live, how many bytes are live at each step.
 *
 *     ckpt_replay replay;
 *     ckpt_replay_open(&problem, most_steps, &replay, &err);
 *     if (ckpt_replay_run(&replay, node, count)) use(replay.peak_bytes, replay.recompute_cost);
 *     ckpt_replay_close(&replay);
 *
 * For solvers that look at very many schedules: a run allocates nothing. Bytes are those of liveness.h, which makes the
 * lifetimes of plans.
 */
#ifndef CKPT_REPLAY_H
#define CKPT_REPLAY_H

#include "planner/core/problem.h"

/* One definition of a STEP tensor. */
typedef struct ckpt_replay_instance {
    int tensor, first, end; /* steps [first, end) */
    int before;             /* the tensor's instance before this one, or -1 */
} ckpt_replay_instance;

typedef struct ckpt_replay {
    ckpt_pool pool;
    const ckpt_problem *problem;
    int *in_first, *in;   /* by node: its inputs, -1 where they are no STEP tensors; nodes themselves are large */
    int *out_first, *out; /* by node: its STEP outputs */
    int capacity, count;  /* steps */
    int instance_count;
    ckpt_replay_instance *instance; /* by step of definition */
    int *newest;                    /* by tensor: its last instance, or -1 */
    int *ran;                       /* by node: the last step that ran it, or -1 */
    int *read, *read_first;         /* instances read (-1: not a STEP tensor); read_first[s]: where those of step s begin */
    uint64_t *live;                 /* by step: bytes while it runs, in- and outputs included */
    uint64_t peak_bytes, recompute_cost;
    int peak_step, peak_count; /* the first step with peak_bytes; how many there are */
} ckpt_replay;

/* For lists of at most `capacity` nodes. The problem must outlive the replay. Errors: CKPT_NOMEM. */
ckpt_status ckpt_replay_open(const ckpt_problem *problem, int capacity, ckpt_replay *replay, ckpt_error *err);

/* Replays node[count], where count <= capacity. False when it reads what was not made before. */
bool ckpt_replay_run(ckpt_replay *replay, const int *node, int count);

/* The newest instance of `tensor` defined before step `step`, or -1. */
int ckpt_replay_newest_before(const ckpt_replay *replay, int tensor, int step);

void ckpt_replay_close(ckpt_replay *replay);

#endif
