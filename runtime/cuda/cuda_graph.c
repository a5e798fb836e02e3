#include "cuda/cuda_graph.h"

#include <stdlib.h>

#include "cuda/cuda_fuse.h"

/* A step has four arrays at most for each size of batch, an evaluation two; hashing gradients cuts a step at each update. Beyond
 * the table's size nothing is joined or recorded; recording short arrays gains nothing. */
enum { MOST = 256, SHORT = 4 };

typedef struct record {
    const ckpt_launch *launches;
    int count;
    uint64_t hash; /* of the launches, in case another array comes to lie at the same address */
    ckpt_pool pool; /* of what follows */
    const ckpt_launch *fused;
    int fused_count;
    cudaGraphExec_t graph; /* NULL: seen once */
} record;

struct ckpt_cuda_replay {
    int count, recorded;
    bool graphs, fuse;
    bool refused; /* something in a step cannot be recorded here */
    int *failure; /* of the launches */
    record record[MOST];
};

ckpt_cuda_replay *ckpt_cuda_replay_new(bool graphs, bool fuse, int *failure) {
    ckpt_cuda_replay *replay = calloc(1, sizeof *replay);
    if (!replay) return NULL;
    replay->graphs = graphs;
    replay->fuse = fuse;
    replay->failure = failure;
    return replay;
}

static void clear(record *r) {
    if (r->graph) cudaGraphExecDestroy(r->graph);
    ckpt_pool_free(&r->pool);
}

void ckpt_cuda_replay_free(ckpt_cuda_replay *replay) {
    for (int i = 0; replay && i < replay->count; i++) clear(&replay->record[i]);
    free(replay);
}

int ckpt_cuda_replay_recorded(const ckpt_cuda_replay *replay) { return replay->recorded; }

static uint64_t hash_of(const ckpt_launch *launches, int count) {
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a over the pointers */
    for (int i = 0; i < count; i++) {
        hash = (hash ^ (uint64_t)(uintptr_t)launches[i].run) * 0x100000001B3u;
        hash = (hash ^ (uint64_t)(uintptr_t)launches[i].self) * 0x100000001B3u;
    }
    return hash;
}

static cudaError_t run_directly(const ckpt_launch *launches, int count, const ckpt_scalars *scalars) {
    for (int i = 0; i < count; i++) launches[i].run(launches[i].self, scalars);
    return cudaGetLastError();
}

static cudaError_t make_graph(record *r, cudaStream_t stream, const ckpt_scalars *scalars, int *failure) {
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    error = run_directly(r->fused, r->fused_count, scalars);
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess) error = ended;
    if (error == cudaSuccess && *failure) error = cudaErrorStreamCaptureInvalidated; /* a graph that lacks something */
    *failure = 0; /* nothing of it has run */
    if (error == cudaSuccess) error = cudaGraphInstantiate(&r->graph, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (error != cudaSuccess) r->graph = NULL;
    return error;
}

/* Without memory for it nothing is joined. */
static void join_chains(record *r) {
    ckpt_launch *fused = ckpt_pool_array(&r->pool, r->count, ckpt_launch);
    const int left = fused ? ckpt_cuda_fuse(r->launches, r->count, fused, &r->pool) : -1;
    if (left < 0) return;
    r->fused = fused;
    r->fused_count = left;
}

/* The array's record; NULL where it is not worth one, or there is no room. *again: it was seen before. */
static record *find(ckpt_cuda_replay *replay, const ckpt_launch *launches, int count, bool *again) {
    const uint64_t hash = hash_of(launches, count);
    record *r = NULL;
    *again = false;
    for (int i = 0; i < replay->count && !r; i++)
        if (replay->record[i].launches == launches && replay->record[i].count == count) r = &replay->record[i];
    if (!r && replay->count < MOST) r = &replay->record[replay->count++];
    if (!r) return NULL;
    *again = r->launches == launches && r->count == count && r->hash == hash;
    if (!*again) {
        clear(r);
        *r = (record){.launches = launches, .count = count, .hash = hash, .fused = launches, .fused_count = count};
        if (replay->fuse) join_chains(r);
    }
    return r;
}

cudaError_t ckpt_cuda_replay_run(ckpt_cuda_replay *replay, cudaStream_t stream, const ckpt_launch *launches, int count,
                                 const ckpt_scalars *scalars) {
    bool again = false;
    record *r = count > 1 ? find(replay, launches, count, &again) : NULL;
    if (!r) return run_directly(launches, count, scalars);
    if (!again || !replay->graphs || replay->refused || r->fused_count < SHORT)
        return run_directly(r->fused, r->fused_count, scalars);
    const bool fresh = !r->graph;
    cudaError_t error = fresh ? make_graph(r, stream, scalars, replay->failure) : cudaSuccess;
    if (error == cudaSuccess) error = cudaGraphLaunch(r->graph, stream);
    if (error == cudaSuccess) {
        replay->recorded += fresh;
        return cudaSuccess;
    }
    /* Also without memory left for the graph: nothing has run, and the direct way is still open. */
    if (!fresh && error != cudaErrorMemoryAllocation) return error;
    replay->refused = true;
    (void)cudaGetLastError();
    return run_directly(r->fused, r->fused_count, scalars);
}
