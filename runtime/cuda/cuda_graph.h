/* Launch arrays recorded as CUDA graphs, so that a step costs the host one call.
 *
 *     ckpt_cuda_replay *replay = ckpt_cuda_replay_new(true, true, &failure);
 *     error = ckpt_cuda_replay_run(replay, stream, launches, count, scalars);
 *     ckpt_cuda_replay_free(replay);
 *
 * Chains of pointwise nodes are joined when an array is first seen (cuda_fuse.h). It is then run directly, recorded when it
 * is seen again and replayed from then on. A recording holds addresses and constants only: what changes from run to run is in device memory.
 */
#ifndef CKPT_CUDA_GRAPH_H
#define CKPT_CUDA_GRAPH_H

#include <cuda_runtime_api.h>

#include "runtime/backend.h"

typedef struct ckpt_cuda_replay ckpt_cuda_replay;

/* graphs: record and replay; fuse: join pointwise nodes. *failure is where launches leave that they failed (0: none did): a
 * recording in which one did is thrown away and the array run directly. */
ckpt_cuda_replay *ckpt_cuda_replay_new(bool graphs, bool fuse, int *failure);
void ckpt_cuda_replay_free(ckpt_cuda_replay *replay);

/* Starts the launches on the stream. */
cudaError_t ckpt_cuda_replay_run(ckpt_cuda_replay *replay, cudaStream_t stream, const ckpt_launch *launches, int count,
                                 const ckpt_scalars *scalars);

/* How many arrays have been recorded. */
int ckpt_cuda_replay_recorded(const ckpt_cuda_replay *replay);

#endif
