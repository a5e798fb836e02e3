#include "cpu/cpu_dnnl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

struct ckpt_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    ckpt_dnnl_product *products; /* newest first */
    bool failed;
};

enum { ARG_SRC, ARG_WEIGHTS, ARG_DST, ARG_SCRATCHPAD, ARG_COUNT };

struct ckpt_dnnl_product {
    ckpt_dnnl_product *next;
    ckpt_dnnl *dnnl;
    ckpt_gemm gemm;
    dnnl_primitive_t primitive; /* NULL: dnnl_sgemm */
    dnnl_exec_arg_t arg[ARG_COUNT];
    int arg_count;
    uint64_t scratchpad_bytes;
    char implementation[48];
};

/* A memory descriptor is a struct in 2.x and a handle in 3.x; the rest of the file holds it as `md`. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md;
typedef const_dnnl_memory_desc_t const_md;
#define MD_ARG(m) (m)
static dnnl_status_t md_make(md *m, int rank, const int64_t *dim, const int64_t *stride) {
    return dnnl_memory_desc_create_with_strides(m, rank, dim, dnnl_f32, stride);
}
static void md_free(md *m) {
    if (*m) dnnl_memory_desc_destroy(*m);
}
static dnnl_status_t append_scale(dnnl_post_ops_t ops, float alpha) {
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
}
static dnnl_status_t pd_make(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, md *a, md *b, md *c,
                             dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, NULL, *c, attr);
}
static dnnl_status_t pd_next(dnnl_primitive_desc_t pd) { return dnnl_primitive_desc_next_impl(pd); }
#else
typedef dnnl_memory_desc_t md;
typedef const dnnl_memory_desc_t *const_md;
#define MD_ARG(m) (&(m))
static dnnl_status_t md_make(md *m, int rank, const int64_t *dim, const int64_t *stride) {
    return dnnl_memory_desc_init_by_strides(m, rank, dim, dnnl_f32, stride);
}
static void md_free(md *m) { (void)m; }
static dnnl_status_t append_scale(dnnl_post_ops_t ops, float alpha) {
    return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_linear, alpha, 0);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }
/* 2.x walks implementations through an iterator; the descriptor fetched from it stays valid without it, so
 * each call starts over and steps `skip` times. */
static dnnl_status_t pd_fetch(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, md *a, md *b, md *c,
                              dnnl_primitive_attr_t attr, int skip) {
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_iterator_t it = NULL;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, NULL, c);
    if (status == dnnl_success) status = dnnl_primitive_desc_iterator_create(&it, &desc, attr, engine, NULL);
    for (; status == dnnl_success && skip > 0; skip--) status = dnnl_primitive_desc_iterator_next(it);
    *pd = status == dnnl_success ? dnnl_primitive_desc_iterator_fetch(it) : NULL;
    if (it) dnnl_primitive_desc_iterator_destroy(it);
    return *pd ? dnnl_success : dnnl_unimplemented;
}
#endif

ckpt_status ckpt_dnnl_open(ckpt_dnnl **dnnl, ckpt_error *err) {
    ckpt_dnnl *d = calloc(1, sizeof *d);
    if (!d) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CPU device");
    dnnl_status_t status = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (status == dnnl_success) status = dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        ckpt_dnnl_close(d);
        return ckpt_fail(err, CKPT_FAILED, "oneDNN cannot use the CPU (status %d)", (int)status);
    }
    *dnnl = d;
    return CKPT_OK;
}

static void product_free(ckpt_dnnl_product *p) {
    for (int i = 0; i < p->arg_count; i++) dnnl_memory_destroy(p->arg[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    free(p);
}

void ckpt_dnnl_close(ckpt_dnnl *dnnl) {
    if (!dnnl) return;
    for (ckpt_dnnl_product *p = dnnl->products, *next; p; p = next) {
        next = p->next;
        product_free(p);
    }
    if (dnnl->stream) dnnl_stream_destroy(dnnl->stream);
    if (dnnl->engine) dnnl_engine_destroy(dnnl->engine);
    free(dnnl);
}

static int64_t batch_count(const ckpt_gemm *g) {
    int64_t count = 1;
    for (int i = 0; i < g->batch_rank; i++) count *= g->batch_dim[i];
    return count;
}

/* Descriptors of a, b and c with the batch dims in front; a broadcast dim has size 1. */
static dnnl_status_t describe(const ckpt_gemm *g, md m[3]) {
    int64_t dim[3][CKPT_MAX_RANK + 2], stride[3][CKPT_MAX_RANK + 2], run = 1;
    const int r = g->batch_rank;
    const int64_t size[3][2] = {{g->m, g->k}, {g->k, g->n}, {g->m, g->n}};
    const bool trans[3] = {g->trans_a, g->trans_b, false};
    for (int i = r - 1; i >= 0; i--) {
        const int64_t step[3] = {g->stride_a[i], g->stride_b[i], run};
        run *= g->batch_dim[i];
        for (int o = 0; o < 3; o++) {
            dim[o][i] = step[o] ? g->batch_dim[i] : 1;
            stride[o][i] = (step[o] ? step[o] : 1) * size[o][0] * size[o][1];
        }
    }
    dnnl_status_t status = dnnl_success;
    for (int o = 0; o < 3 && status == dnnl_success; o++) {
        for (int i = 0; i < 2; i++) dim[o][r + i] = size[o][i];
        stride[o][r] = trans[o] ? 1 : size[o][1];
        stride[o][r + 1] = trans[o] ? size[o][0] : 1;
        status = md_make(&m[o], r + 2, dim[o], stride[o]);
    }
    return status;
}

static dnnl_status_t attributes(const ckpt_gemm *g, dnnl_primitive_attr_t *attr) {
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success) status = dnnl_post_ops_create(&ops);
    if (status == dnnl_success && g->alpha != 1) status = append_scale(ops, g->alpha);
    if (status == dnnl_success && g->accumulate) status = append_sum(ops);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return status;
}

/* Reference implementations are slower than a loop over dnnl_sgemm. */
static bool acceptable(dnnl_primitive_desc_t pd, uint64_t workspace_bytes, ckpt_dnnl_product *p) {
    const char *name = "";
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) != dnnl_success) return false;
    const_md pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    p->scratchpad_bytes = pad ? dnnl_memory_desc_get_size(pad) : 0;
    snprintf(p->implementation, sizeof p->implementation, "%s", name);
    return p->scratchpad_bytes <= workspace_bytes && !strstr(name, "ref");
}

static dnnl_status_t add_memory(ckpt_dnnl_product *p, int id, const_md m, const void *address) {
    dnnl_exec_arg_t *arg = &p->arg[p->arg_count];
    arg->arg = id;
    dnnl_status_t status = dnnl_memory_create(&arg->memory, m, p->dnnl->engine, (void *)(uintptr_t)address);
    if (status == dnnl_success) p->arg_count++;
    return status;
}

static dnnl_status_t finish(ckpt_dnnl_product *p, dnnl_primitive_desc_t pd, md m[3], void *workspace) {
    dnnl_status_t status = dnnl_primitive_create(&p->primitive, pd);
    if (status == dnnl_success) status = add_memory(p, DNNL_ARG_SRC, MD_ARG(m[0]), p->gemm.a);
    if (status == dnnl_success) status = add_memory(p, DNNL_ARG_WEIGHTS, MD_ARG(m[1]), p->gemm.b);
    if (status == dnnl_success) status = add_memory(p, DNNL_ARG_DST, MD_ARG(m[2]), p->gemm.c);
    if (status == dnnl_success && p->scratchpad_bytes)
        status = add_memory(p, DNNL_ARG_SCRATCHPAD, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0),
                            workspace);
    return status;
}

/* The first implementation that fits, in oneDNN's order of preference. */
static dnnl_status_t find_primitive(ckpt_dnnl_product *p, void *workspace, uint64_t workspace_bytes) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    md m[3];
    memset(m, 0, sizeof m);
    dnnl_status_t status = describe(&p->gemm, m);
    if (status == dnnl_success) status = attributes(&p->gemm, &attr);
#if DNNL_VERSION_MAJOR >= 3
    if (status == dnnl_success) status = pd_make(&pd, p->dnnl->engine, &m[0], &m[1], &m[2], attr);
    while (status == dnnl_success && !acceptable(pd, workspace_bytes, p)) status = pd_next(pd);
#else
    for (int skip = 0; status == dnnl_success; skip++) {
        status = pd_fetch(&pd, p->dnnl->engine, &m[0], &m[1], &m[2], attr, skip);
        if (status != dnnl_success || acceptable(pd, workspace_bytes, p)) break;
        dnnl_primitive_desc_destroy(pd);
        pd = NULL;
    }
#endif
    if (status == dnnl_success) status = finish(p, pd, m, workspace);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < 3; i++) md_free(&m[i]);
    return status;
}

ckpt_status ckpt_dnnl_make(ckpt_dnnl *dnnl, const ckpt_gemm *gemm, void *workspace, uint64_t workspace_bytes,
                           ckpt_dnnl_product **product, ckpt_error *err) {
    ckpt_dnnl_product *p = calloc(1, sizeof *p);
    if (!p) return ckpt_fail(err, CKPT_NOMEM, "no memory for a matrix product");
    p->next = dnnl->products;
    p->dnnl = dnnl;
    p->gemm = *gemm;
    dnnl->products = *product = p;
    const bool empty = gemm->m == 0 || gemm->n == 0 || gemm->k == 0 || batch_count(gemm) == 0;
    if (!empty && find_primitive(p, workspace, workspace_bytes) == dnnl_success) return CKPT_OK;
    /* dnnl_sgemm takes every 2-D case and keeps its packing buffers to itself. */
    for (int i = 0; i < p->arg_count; i++) dnnl_memory_destroy(p->arg[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    p->primitive = NULL;
    p->arg_count = 0;
    p->scratchpad_bytes = 0;
    snprintf(p->implementation, sizeof p->implementation, "sgemm");
    return CKPT_OK;
}

static bool run_plain(const ckpt_gemm *g) {
    const int64_t count = batch_count(g);
    bool ok = true;
    if (g->m == 0 || g->n == 0) return true;
    for (int64_t i = 0; i < count; i++) {
        int64_t a = 0, b = 0, rest = i;
        for (int d = g->batch_rank - 1; d >= 0; d--) {
            a += rest % g->batch_dim[d] * g->stride_a[d];
            b += rest % g->batch_dim[d] * g->stride_b[d];
            rest /= g->batch_dim[d];
        }
        float *c = g->c + i * g->m * g->n;
        if (g->k == 0) { /* an empty sum */
            if (!g->accumulate) memset(c, 0, sizeof(float) * (size_t)(g->m * g->n));
            continue;
        }
        ok &= dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha,
                         g->a + a * g->m * g->k, g->trans_a ? g->m : g->k, g->b + b * g->k * g->n,
                         g->trans_b ? g->k : g->n, g->accumulate ? 1 : 0, c, g->n) == dnnl_success;
    }
    return ok;
}

void ckpt_dnnl_run(const ckpt_dnnl_product *p) {
    bool ok = p->primitive ? dnnl_primitive_execute(p->primitive, p->dnnl->stream, p->arg_count, p->arg) ==
                                     dnnl_success &&
                                 dnnl_stream_wait(p->dnnl->stream) == dnnl_success
                           : run_plain(&p->gemm);
    if (!ok) p->dnnl->failed = true;
}

bool ckpt_dnnl_take_ok(ckpt_dnnl *dnnl) {
    bool ok = !dnnl->failed;
    dnnl->failed = false;
    return ok;
}

const char *ckpt_dnnl_implementation(const ckpt_dnnl_product *product) { return product->implementation; }

uint64_t ckpt_dnnl_scratchpad_bytes(const ckpt_dnnl_product *product) { return product->scratchpad_bytes; }

const char *ckpt_dnnl_version(char text[32]) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, 32, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
