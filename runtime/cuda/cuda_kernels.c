#include "cuda/cuda_kernels.h"

/* An ID that ops.def does not have fails to compile; a second row for an op is a compiler warning. */
static const ckpt_bind_kernel kernels[CKPT_OP_COUNT] = {
#define X(ID, name) [CKPT_OP_##ID] = ckpt_cuda_##name,
#include "cuda/kernels.def"
#undef X
};

bool ckpt_cuda_supports(ckpt_op op) { return (unsigned)op < CKPT_OP_COUNT && kernels[op]; }

static ckpt_status refuse(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    (void)launch;
    return ckpt_fail(err, CKPT_MODEL, "node '%s': CUDA has no kernel for its operator", ckpt_cuda_node_name(bind));
}

ckpt_bind_kernel ckpt_cuda_kernel(ckpt_op op) { return ckpt_cuda_supports(op) ? kernels[op] : refuse; }

const char *ckpt_cuda_node_name(const ckpt_bind *bind) { return bind->node->name ? bind->node->name : "?"; }

void *ckpt_cuda_launch(const ckpt_bind *bind, size_t size,
                       void (*run)(const void *self, const ckpt_scalars *scalars), ckpt_launch *launch,
                       ckpt_error *err) {
    void *self = ckpt_pool_alloc(bind->pool, 1, size);
    if (!self) {
        ckpt_fail(err, CKPT_NOMEM, "no memory to bind node '%s'", ckpt_cuda_node_name(bind));
        return NULL;
    }
    *(const ckpt_cuda_context **)self = ckpt_cuda_context_of(bind);
    *launch = (ckpt_launch){.run = run, .self = self};
    return self;
}

static int64_t tensor_count(const ckpt_bind *bind, int tensor) {
    return tensor >= 0 ? bind->graph->tensor[tensor].count : 0;
}

int64_t ckpt_cuda_out_count(const ckpt_bind *bind, int out) {
    return out < bind->node->out_count ? tensor_count(bind, bind->node->out[out]) : 0;
}

int64_t ckpt_cuda_in_count(const ckpt_bind *bind, int in) {
    return in < bind->node->in_count ? tensor_count(bind, bind->node->in[in]) : 0;
}

void *ckpt_cuda_in(const ckpt_bind *bind, int in) { return in < bind->node->in_count ? bind->in[in] : NULL; }
void *ckpt_cuda_out(const ckpt_bind *bind, int out) { return out < bind->node->out_count ? bind->out[out] : NULL; }

ckpt_status ckpt_cuda_require(const ckpt_bind *bind, int in, int out, ckpt_error *err) {
    const ckpt_node *node = bind->node;
    const char *name = ckpt_cuda_node_name(bind);
    if (node->in_count < in || node->out_count < out)
        return ckpt_fail(err, CKPT_MODEL, "node '%s' has %d inputs and %d outputs where %d and %d are needed", name,
                         node->in_count, node->out_count, in, out);
    for (int i = 0; i < in; i++)
        if (!bind->in[i] && ckpt_cuda_in_count(bind, i) > 0)
            return ckpt_fail(err, CKPT_MODEL, "node '%s': input %d has no address", name, i);
    for (int i = 0; i < out; i++)
        if (!bind->out[i] && ckpt_cuda_out_count(bind, i) > 0)
            return ckpt_fail(err, CKPT_MODEL, "node '%s': output %d has no address", name, i);
    return CKPT_OK;
}

ckpt_reduce_attr ckpt_cuda_merge_axes(const ckpt_reduce_attr *reduce) {
    ckpt_reduce_attr merged = {.alpha = reduce->alpha};
    for (int i = 0; i < reduce->rank; i++) {
        const uint32_t kept = reduce->keep >> i & 1;
        if (reduce->dim[i] == 1) continue;
        if (merged.rank > 0 && (merged.keep >> (merged.rank - 1) & 1) == kept) {
            merged.dim[merged.rank - 1] *= reduce->dim[i];
        } else {
            merged.keep |= kept << merged.rank;
            merged.dim[merged.rank++] = reduce->dim[i];
        }
    }
    return merged;
}

ckpt_cuda_epilogue ckpt_cuda_epilogue_of(const ckpt_bind *bind, const ckpt_epilogue *attr, int64_t count) {
    const int64_t batch = bind->graph->batch;
    return (ckpt_cuda_epilogue){.attr = *attr,
                                .stream = attr->stream + bind->stream_salt,
                                .sample_elements = batch > 0 ? count / batch : 0};
}
