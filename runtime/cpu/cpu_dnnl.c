#include "cpu/cpu_dnnl.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <oneapi/dnnl/dnnl.h>

enum { ARG_COUNT = 3 };

/* What one thread computes: a block of rows and columns, or some of the batch. `gemm` has its sizes and no addresses; the
 * distances between rows and between matrices are those of the whole product. */
typedef struct product_part {
    ckpt_gemm gemm;
    int64_t at_a, at_b, at_c; /* where its first elements are */
    dnnl_primitive_t primitive; /* NULL: dnnl_sgemm */
    dnnl_exec_arg_t arg[ARG_COUNT];
    int arg_count;
} product_part;

/* What products of one form share: one runs at a time, and a plan that recomputes much has thousands of them. */
typedef struct product_form {
    struct product_form *next;
    ckpt_gemm gemm; /* without addresses */
    int threads;
    bool led; /* part 0 has been run once */
    char implementation[48];
    int part_count;
    product_part part[];
} product_form;

struct ckpt_dnnl_product {
    ckpt_dnnl_product *next;
    ckpt_dnnl *dnnl;
    product_form *form;
    const float *a, *b;
    float *c;
};

struct ckpt_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    product_form *forms;         /* newest first */
    ckpt_dnnl_product *products; /* likewise */
    atomic_int status; /* the last ckpt_status other than CKPT_OK of a run */
};

/* oneDNN asks OpenMP's library how many threads it may start: none. A product is divided among our own threads before it
 * gets there, and each calls oneDNN for its part. This definition comes before the library's in the order of symbols; setting
 * the number instead would allocate in every thread, and end the process where that fails. */
int omp_get_max_threads(void);
int omp_get_max_threads(void) { return 1; }

/* --- out of memory ---
 *
 * oneDNN does not look at what some of its allocations return, and no exception of its C++ gets past its C interface: where
 * memory ends it crashes. So every call is made under a guard, which is jumped back to from where memory is refused: from
 * posix_memalign and mmap, defined here in front of the C library's, and from the handlers that C++ calls where `new` finds no memory and
 * where nobody catches an exception. What oneDNN held then is lost, locks included; it is never called again. */

static _Thread_local void **guard; /* five words of __builtin_setjmp: longjmp itself may need memory */
static atomic_bool lost;

int posix_memalign(void **address, size_t alignment, size_t bytes) {
    if (alignment < sizeof(void *) || alignment & (alignment - 1)) return EINVAL;
    void *block = memalign(alignment, bytes);
    if (!block && guard) __builtin_longjmp(guard, 1);
    if (!block) return ENOMEM;
    *address = block;
    return 0;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    void *block = (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
    if (block == MAP_FAILED && guard) __builtin_longjmp(guard, 1);
    return block;
}

/* std::set_new_handler and std::set_terminate. */
typedef void (*cxx_handler)(void);
cxx_handler set_new_handler(cxx_handler handler) __asm__("_ZSt15set_new_handlerPFvvE");
cxx_handler set_terminate(cxx_handler handler) __asm__("_ZSt13set_terminatePFvvE");
static cxx_handler outer_new, outer_terminate;

static void leave_new(void) {
    if (guard) __builtin_longjmp(guard, 1);
    if (outer_new) outer_new();
    else set_new_handler(NULL); /* the exception that it would have been */
}

static void leave_exception(void) {
    if (guard) __builtin_longjmp(guard, 1);
    if (outer_terminate) outer_terminate();
    abort();
}

static void set_handlers(void) {
    const cxx_handler before_new = set_new_handler(leave_new), before_terminate = set_terminate(leave_exception);
    if (before_new != leave_new) outer_new = before_new;
    if (before_terminate != leave_exception) outer_terminate = before_terminate;
}

/* False when memory ended, now or in an earlier call. */
static __attribute__((noinline)) bool call_guarded(void (*call)(void *context), void *context) {
    void *here[5];
    if (atomic_load(&lost)) return false;
    if (__builtin_setjmp(here)) {
        guard = NULL;
        atomic_store(&lost, true);
        return false;
    }
    guard = here;
    call(context);
    guard = NULL;
    return true;
}

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

typedef struct opening {
    ckpt_dnnl *dnnl;
    dnnl_status_t status;
} opening;

static void open_engine(void *context) {
    opening *o = context;
    o->status = dnnl_engine_create(&o->dnnl->engine, dnnl_cpu, 0);
    if (o->status == dnnl_success) o->status = dnnl_stream_create(&o->dnnl->stream, o->dnnl->engine, dnnl_stream_default_flags);
}

ckpt_status ckpt_dnnl_open(ckpt_dnnl **dnnl, ckpt_error *err) {
    ckpt_dnnl *d = calloc(1, sizeof *d);
    if (!d) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CPU device");
    set_handlers();
    opening o = {.dnnl = d, .status = dnnl_success};
    const bool whole = call_guarded(open_engine, &o);
    if (whole && o.status == dnnl_success) {
        *dnnl = d;
        return CKPT_OK;
    }
    ckpt_dnnl_close(d);
    if (!whole || o.status == dnnl_out_of_memory) return ckpt_fail(err, CKPT_NOMEM, "no memory for oneDNN");
    return ckpt_fail(err, CKPT_FAILED, "oneDNN cannot use the CPU (status %d)", (int)o.status);
}

static void part_free(product_part *part) {
    for (int i = 0; i < part->arg_count; i++) dnnl_memory_destroy(part->arg[i].memory);
    if (part->primitive) dnnl_primitive_destroy(part->primitive);
    part->primitive = NULL;
    part->arg_count = 0;
}

static void form_free(product_form *f) {
    for (int i = 0; i < f->part_count && !atomic_load(&lost); i++) part_free(&f->part[i]);
    free(f);
}

void ckpt_dnnl_close(ckpt_dnnl *dnnl) {
    if (!dnnl) return;
    for (ckpt_dnnl_product *p = dnnl->products, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    for (product_form *f = dnnl->forms, *next; f; f = next) {
        next = f->next;
        form_free(f);
    }
    if (dnnl->stream && !atomic_load(&lost)) dnnl_stream_destroy(dnnl->stream);
    if (dnnl->engine && !atomic_load(&lost)) dnnl_engine_destroy(dnnl->engine);
    free(dnnl);
}

static int64_t batch_count(const ckpt_gemm *g) {
    int64_t count = 1;
    for (int i = 0; i < g->batch_rank; i++) count *= g->batch_dim[i];
    return count;
}

/* Into how many parts a product is divided, along one axis of its batch or along rows and columns. */
typedef struct gemm_grid {
    int axis, batch_parts, row_parts, col_parts;
} gemm_grid;

/* Rows and columns that oneDNN's kernels compute at once; and operations that are worth a part: with fewer, waking a thread
 * costs more than it does (docs/benchmarks.md). */
enum { ROW_UNIT = 8, COL_UNIT = 16, PART_FLOPS = 8 << 20 };

/* As many parts as threads, or fewer where they would be small. Sums do not depend on how a product is divided, except that
 * kernels may add in another order for another number of rows or columns; so it depends on sizes and threads alone. */
static gemm_grid choose_grid(const ckpt_gemm *g, int threads) {
    gemm_grid best = {0, 1, 1, 1};
    const double worth = 2.0 * (double)g->m * (double)g->n * (double)g->k * (double)batch_count(g) / PART_FLOPS;
    for (int parts = worth < threads ? (int)worth : threads; parts > 1; parts--) {
        for (int i = 0; i < g->batch_rank; i++)
            if (g->batch_dim[i] >= parts) return (gemm_grid){i, parts, 1, 1};
        int64_t least = INT64_MAX; /* rows of a and b that are read */
        for (int rows = 1; rows <= parts; rows++) {
            const int cols = parts / rows;
            const int64_t read = rows * g->n + cols * g->m;
            const bool too_thin = (rows > 1 && rows * ROW_UNIT > g->m) || (cols > 1 && cols * COL_UNIT > g->n);
            if (parts % rows || too_thin || read >= least) continue;
            least = read;
            best = (gemm_grid){0, 1, rows, cols};
        }
        if (least < INT64_MAX) break;
    }
    return best;
}

/* Where share `index` of `shares` begins, in whole units. */
static int64_t share_begin(int64_t total, int64_t unit, int shares, int index) {
    const int64_t begin = (total + unit - 1) / unit * index / shares * unit;
    return begin < total ? begin : total;
}

static void take_part(const ckpt_gemm *whole, const gemm_grid *grid, int index, product_part *part) {
    ckpt_gemm *g = &part->gemm;
    const int row = index / grid->col_parts % grid->row_parts, col = index % grid->col_parts;
    const int64_t row_begin = share_begin(whole->m, ROW_UNIT, grid->row_parts, row);
    const int64_t col_begin = share_begin(whole->n, COL_UNIT, grid->col_parts, col);
    *g = *whole;
    g->m = share_begin(whole->m, ROW_UNIT, grid->row_parts, row + 1) - row_begin;
    g->n = share_begin(whole->n, COL_UNIT, grid->col_parts, col + 1) - col_begin;
    part->at_a = row_begin * (g->trans_a ? 1 : g->k);
    part->at_b = col_begin * (g->trans_b ? g->k : 1);
    part->at_c = row_begin * whole->n + col_begin;
    if (grid->batch_parts == 1) return;
    const int axis = grid->axis, share = index / (grid->row_parts * grid->col_parts);
    const int64_t begin = share_begin(whole->batch_dim[axis], 1, grid->batch_parts, share);
    int64_t run = 1;
    for (int i = axis + 1; i < g->batch_rank; i++) run *= g->batch_dim[i];
    part->at_a += begin * g->stride_a[axis] * g->m * g->k;
    part->at_b += begin * g->stride_b[axis] * g->k * g->n;
    part->at_c += begin * run * g->m * g->n;
    g->batch_dim[axis] = share_begin(whole->batch_dim[axis], 1, grid->batch_parts, share + 1) - begin;
}

/* Descriptors of a part's a, b and c with the batch dims in front; a broadcast dim has size 1. */
static dnnl_status_t describe(const ckpt_gemm *whole, const ckpt_gemm *part, md m[3]) {
    int64_t dim[3][CKPT_MAX_RANK + 2], stride[3][CKPT_MAX_RANK + 2], run = 1;
    const int r = whole->batch_rank;
    const int64_t size[3][2] = {{part->m, part->k}, {part->k, part->n}, {part->m, part->n}};
    const int64_t full[3][2] = {{whole->m, whole->k}, {whole->k, whole->n}, {whole->m, whole->n}};
    const bool trans[3] = {whole->trans_a, whole->trans_b, false};
    for (int i = r - 1; i >= 0; i--) {
        const int64_t step[3] = {whole->stride_a[i], whole->stride_b[i], run};
        run *= whole->batch_dim[i];
        for (int o = 0; o < 3; o++) {
            dim[o][i] = step[o] ? part->batch_dim[i] : 1;
            stride[o][i] = (step[o] ? step[o] : 1) * full[o][0] * full[o][1];
        }
    }
    dnnl_status_t status = dnnl_success;
    for (int o = 0; o < 3 && status == dnnl_success; o++) {
        for (int i = 0; i < 2; i++) dim[o][r + i] = size[o][i];
        stride[o][r] = trans[o] ? 1 : full[o][1];
        stride[o][r + 1] = trans[o] ? full[o][0] : 1;
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

/* Reference implementations are slower than a loop over dnnl_sgemm. Scratchpad mode "user" shows what an implementation would
 * need; the plan holds nothing for it. */
static bool acceptable(dnnl_primitive_desc_t pd, char name[48]) {
    const char *found = "";
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&found) != dnnl_success) return false;
    const_md pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    snprintf(name, 48, "%s", found);
    return (!pad || dnnl_memory_desc_get_size(pad) == 0) && !strstr(found, "ref");
}

static dnnl_status_t finish(product_part *part, dnnl_engine_t engine, dnnl_primitive_desc_t pd, md m[ARG_COUNT]) {
    static const int id[ARG_COUNT] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_status_t status = dnnl_primitive_create(&part->primitive, pd);
    for (int i = 0; i < ARG_COUNT && status == dnnl_success; i++) {
        part->arg[i].arg = id[i];
        status = dnnl_memory_create(&part->arg[i].memory, MD_ARG(m[i]), engine, DNNL_MEMORY_NONE);
        if (status == dnnl_success) part->arg_count++;
    }
    return status;
}

/* The first implementation that will do, in oneDNN's order of preference. */
static dnnl_status_t find_primitive(product_form *f, product_part *part, dnnl_engine_t engine) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    md m[ARG_COUNT];
    memset(m, 0, sizeof m);
    dnnl_status_t status = describe(&f->gemm, &part->gemm, m);
    if (status == dnnl_success) status = attributes(&f->gemm, &attr);
#if DNNL_VERSION_MAJOR >= 3
    if (status == dnnl_success) status = pd_make(&pd, engine, &m[0], &m[1], &m[2], attr);
    while (status == dnnl_success && !acceptable(pd, f->implementation)) status = pd_next(pd);
#else
    for (int skip = 0; status == dnnl_success; skip++) {
        status = pd_fetch(&pd, engine, &m[0], &m[1], &m[2], attr, skip);
        if (status != dnnl_success || acceptable(pd, f->implementation)) break;
        dnnl_primitive_desc_destroy(pd);
        pd = NULL;
    }
#endif
    if (status == dnnl_success) status = finish(part, engine, pd, m);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < ARG_COUNT; i++) md_free(&m[i]);
    return status;
}

static bool same_form(const product_form *f, const ckpt_gemm *g, int threads) {
    const ckpt_gemm *h = &f->gemm;
    bool same = f->threads == threads && h->m == g->m && h->n == g->n && h->k == g->k && h->trans_a == g->trans_a &&
                h->trans_b == g->trans_b && h->accumulate == g->accumulate && memcmp(&h->alpha, &g->alpha, sizeof g->alpha) == 0 &&
                h->batch_rank == g->batch_rank;
    for (int i = 0; same && i < g->batch_rank; i++)
        same = h->batch_dim[i] == g->batch_dim[i] && h->stride_a[i] == g->stride_a[i] && h->stride_b[i] == g->stride_b[i];
    return same;
}

typedef struct making {
    product_form *form;
    product_part *part;
    dnnl_engine_t engine;
    dnnl_status_t status;
} making;

static void make_part(void *context) {
    making *m = context;
    m->status = find_primitive(m->form, m->part, m->engine);
    if (m->status != dnnl_success) part_free(m->part);
}

static ckpt_status make_form(ckpt_dnnl *dnnl, const ckpt_gemm *gemm, int threads, product_form **form, ckpt_error *err) {
    const gemm_grid grid = choose_grid(gemm, threads);
    const int parts = grid.batch_parts * grid.row_parts * grid.col_parts;
    product_form *f = *form = calloc(1, sizeof *f + (size_t)parts * sizeof f->part[0]);
    if (!f) return ckpt_fail(err, CKPT_NOMEM, "no memory for a matrix product");
    f->next = dnnl->forms;
    dnnl->forms = f;
    f->gemm = *gemm;
    f->gemm.a = f->gemm.b = f->gemm.c = NULL;
    f->threads = threads;
    f->part_count = parts;
    const bool empty = gemm->m == 0 || gemm->n == 0 || gemm->k == 0 || batch_count(gemm) == 0;
    for (int i = 0; i < parts; i++) {
        making m = {.form = f, .part = &f->part[i], .engine = dnnl->engine, .status = dnnl_unimplemented};
        take_part(&f->gemm, &grid, i, &f->part[i]);
        if ((!empty && !call_guarded(make_part, &m)) || m.status == dnnl_out_of_memory)
            return ckpt_fail(err, CKPT_NOMEM, "no memory for oneDNN's kernel of a matrix product");
        if (m.status != dnnl_success) snprintf(f->implementation, sizeof f->implementation, "sgemm"); /* which takes every case */
    }
    return CKPT_OK;
}

ckpt_status ckpt_dnnl_make(ckpt_dnnl *dnnl, const ckpt_gemm *gemm, int threads, ckpt_dnnl_product **product, ckpt_error *err) {
    product_form *form = dnnl->forms;
    while (form && !same_form(form, gemm, threads)) form = form->next;
    if (!form) CKPT_TRY(make_form(dnnl, gemm, threads, &form, err));
    ckpt_dnnl_product *p = calloc(1, sizeof *p);
    if (!p) return ckpt_fail(err, CKPT_NOMEM, "no memory for a matrix product");
    *p = (ckpt_dnnl_product){.next = dnnl->products, .dnnl = dnnl, .form = form, .a = gemm->a, .b = gemm->b, .c = gemm->c};
    dnnl->products = *product = p;
    return CKPT_OK;
}

static dnnl_status_t run_plain(const ckpt_gemm *whole, const ckpt_gemm *g) {
    const int64_t count = batch_count(g);
    dnnl_status_t status = dnnl_success;
    if (g->m == 0 || g->n == 0) return status;
    for (int64_t i = 0; i < count && status == dnnl_success; i++) {
        int64_t a = 0, b = 0, c = 0, rest = i, run = 1;
        for (int d = g->batch_rank - 1; d >= 0; d--) {
            a += rest % g->batch_dim[d] * g->stride_a[d];
            b += rest % g->batch_dim[d] * g->stride_b[d];
            c += rest % g->batch_dim[d] * run;
            rest /= g->batch_dim[d];
            run *= whole->batch_dim[d];
        }
        float *to = g->c + c * whole->m * whole->n;
        if (g->k == 0) { /* an empty sum */
            for (int64_t row = 0; row < g->m && !g->accumulate; row++) memset(to + row * whole->n, 0, sizeof(float) * (size_t)g->n);
            continue;
        }
        status = dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha,
                            g->a + a * whole->m * whole->k, g->trans_a ? whole->m : whole->k, g->b + b * whole->k * whole->n,
                            g->trans_b ? whole->k : whole->n, g->accumulate ? 1 : 0, to, whole->n);
    }
    return status;
}

int ckpt_dnnl_parts(const ckpt_dnnl_product *product) { return product->form->part_count; }

typedef struct running {
    const ckpt_dnnl_product *product;
    const product_part *part;
    dnnl_status_t status;
} running;

static void run_guarded(void *context) {
    running *r = context;
    const product_part *part = r->part;
    const dnnl_stream_t stream = r->product->dnnl->stream;
    const float *const address[ARG_COUNT] = {r->product->a + part->at_a, r->product->b + part->at_b, r->product->c + part->at_c};
    if (!part->primitive) {
        ckpt_gemm gemm = part->gemm;
        gemm.a = address[0], gemm.b = address[1], gemm.c = r->product->c + part->at_c;
        r->status = run_plain(&r->product->form->gemm, &gemm);
        return;
    }
    for (int i = 0; i < ARG_COUNT && r->status == dnnl_success; i++)
        r->status = dnnl_memory_set_data_handle(part->arg[i].memory, (void *)(uintptr_t)address[i]);
    if (r->status == dnnl_success) r->status = dnnl_primitive_execute(part->primitive, stream, part->arg_count, part->arg);
    if (r->status == dnnl_success) r->status = dnnl_stream_wait(stream);
}

void ckpt_dnnl_run_part(const ckpt_dnnl_product *product, int part) {
    running r = {.product = product, .part = &product->form->part[part], .status = dnnl_success};
    if (!call_guarded(run_guarded, &r) || r.status == dnnl_out_of_memory) atomic_store(&product->dnnl->status, CKPT_NOMEM);
    else if (r.status != dnnl_success) atomic_store(&product->dnnl->status, CKPT_FAILED);
}

bool ckpt_dnnl_lead(ckpt_dnnl_product *product) {
    if (product->form->led) return false;
    product->form->led = true;
    ckpt_dnnl_run_part(product, 0);
    return true;
}

ckpt_status ckpt_dnnl_take_status(ckpt_dnnl *dnnl, ckpt_error *err) {
    const int status = atomic_exchange(&dnnl->status, CKPT_OK);
    if (status == CKPT_NOMEM) return ckpt_fail(err, CKPT_NOMEM, "no memory for what oneDNN packs inside a matrix product");
    return status == CKPT_OK ? CKPT_OK : ckpt_fail(err, CKPT_FAILED, "a matrix product of oneDNN failed");
}

const char *ckpt_dnnl_implementation(const ckpt_dnnl_product *product) { return product->form->implementation; }

const char *ckpt_dnnl_version(char text[32]) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, 32, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
