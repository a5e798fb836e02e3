/* Pointwise nodes joined into one kernel, on the host device of tests/fake_cuda: programs of such nodes made at random, in
 * memory that is used again as a plan would, give the bits of a kernel a node and of the CPU; launches are counted, so that
 * they are known to be fewer; and a wrong word about what dies shows. */
#include "harness.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

/* Programs: nodes over an arena of floats, tensors of ROWS x COLS or a vector of one of the two. */

enum { MOST_NODES = 12, MOST_TENSORS = 40, ARENA = 1 << 16 };

typedef struct tensor {
    int id, first, last; /* nodes that make it and read it last; first -1: there before */
    int64_t offset, bytes;
} tensor;

typedef struct program {
    ckpt_graph graph;
    ckpt_node node[MOST_NODES];
    int nodes, tensors;
    tensor tensor[MOST_TENSORS];
    int64_t rows, cols;
    uint32_t random;
    bool cuda_only; /* has nodes in bf16 */
    bool lies; /* every input is said to die where it is first read */
} program;

static uint32_t draw(program *p, uint32_t below) {
    p->random = p->random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)p->random * below >> 32);
}

static int new_tensor(program *p, ckpt_dtype type, int64_t rows, int64_t cols, int first) {
    const int64_t dims[2] = {rows, cols};
    ckpt_error err;
    tensor *t = &p->tensor[p->tensors];
    assert_in_range(p->tensors, 0, MOST_TENSORS - 1);
    *t = (tensor){.first = first, .last = first};
    t->id = ckpt_graph_add_tensor(&p->graph, NULL, type, CKPT_ROLE_STEP, 2, dims, &err);
    assert_int_equal(t->id, p->tensors);
    t->bytes = (int64_t)ckpt_tensor_bytes(&p->graph.tensor[t->id]);
    return p->tensors++;
}

static bool is_whole(const program *p, int t) { return p->graph.tensor[t].count == p->rows * p->cols; }

/* A tensor that is there: of all elements and the type, or with `any` of another shape too. */
static int pick(program *p, ckpt_dtype type, bool any) {
    for (int tries = 0; tries < 200; tries++) {
        const int t = (int)draw(p, (uint32_t)p->tensors);
        if (p->graph.tensor[t].dtype == type && (any || is_whole(p, t))) return t;
    }
    return 0;
}

/* Whether a node is to be kept in bf16: where there is something to read. */
static bool choose_bf16(program *p) {
    if (draw(p, 2) || p->graph.tensor[pick(p, CKPT_BF16, false)].dtype != CKPT_BF16) return false;
    return p->cuda_only = true;
}

static void broadcast_of(const program *p, int t, int64_t stride[2]) {
    const ckpt_tensor *x = &p->graph.tensor[t];
    stride[0] = x->dim[0] == p->rows ? x->dim[1] : 0;
    stride[1] = x->dim[1] == p->cols ? 1 : 0;
    if (x->dim[0] == 1) stride[0] = 0;
}

static void add_node(program *p) {
    static const ckpt_op ops[] = {CKPT_OP_ACT,  CKPT_OP_ACT_GRAD, CKPT_OP_BINARY, CKPT_OP_PAIR,
                                  CKPT_OP_CAST, CKPT_OP_PAIR_GRAD, CKPT_OP_BINARY};
    ckpt_node *n = &p->node[p->nodes];
    memset(n, 0, sizeof *n);
    n->op = ops[draw(p, 7)];
    n->name = "node";
    const ckpt_dtype half = draw(p, 2) ? CKPT_BF16 : CKPT_F16;
    ckpt_dtype out = CKPT_F32;
    if (n->op == CKPT_OP_CAST) {
        const int to_half = draw(p, 2) || pick(p, half, false) == 0;
        n->in[n->in_count++] = pick(p, to_half ? CKPT_F32 : half, false);
        if (to_half) out = half;
    } else if (n->op == CKPT_OP_ACT || n->op == CKPT_OP_ACT_GRAD) {
        n->attr.act = (ckpt_epilogue){.act = (ckpt_act)draw(p, CKPT_ACT_COUNT), .alpha = 0.7f, .beta = 0.3f, .stream = draw(p, 9),
                                      .drop = draw(p, 3) ? 0 : 0.25f};
        if (choose_bf16(p)) out = CKPT_BF16;
        n->in[n->in_count++] = pick(p, out, false);
        if (n->op == CKPT_OP_ACT_GRAD) n->in[n->in_count++] = pick(p, out, false);
    } else {
        ckpt_binary_attr *g = n->op == CKPT_OP_BINARY ? &n->attr.binary : &n->attr.pair.geometry;
        if (n->op == CKPT_OP_PAIR_GRAD) n->in[n->in_count++] = pick(p, CKPT_F32, false);
        if (n->op == CKPT_OP_BINARY && choose_bf16(p)) out = CKPT_BF16;
        const int whole = pick(p, out, false), other = pick(p, out, true), swap = (int)draw(p, 2);
        n->in[n->in_count++] = swap ? other : whole;
        n->in[n->in_count++] = swap ? whole : other;
        if (n->op == CKPT_OP_BINARY) g->kind = (ckpt_binary)draw(p, 4);
        else n->attr.pair.kind = (ckpt_pair)draw(p, 3), n->attr.pair.second = draw(p, 2);
        if (is_whole(p, other)) {
            g->rank = 1;
            g->dim[0] = p->rows * p->cols;
            g->stride_a[0] = g->stride_b[0] = 1;
        } else {
            g->rank = 2;
            g->dim[0] = p->rows, g->dim[1] = p->cols;
            broadcast_of(p, n->in[n->in_count - 2], g->stride_a);
            broadcast_of(p, n->in[n->in_count - 1], g->stride_b);
        }
    }
    for (int i = 0; i < n->in_count; i++) p->tensor[n->in[i]].last = p->nodes;
    n->out[n->out_count++] = new_tensor(p, out, p->rows, p->cols, p->nodes);
    p->nodes++;
}

/* Offsets, when all is known: over an input of its size that dies there, or anywhere that is free just then. Some tensors are
 * outputs, never free again: those that nothing reads. */
static void place_tensors(program *p) {
    for (int t = 0; t < p->tensors; t++) {
        tensor *x = &p->tensor[t];
        const ckpt_node *n = x->first < 0 ? NULL : &p->node[x->first];
        if (x->last == x->first) x->last = MOST_NODES;
        bool placed = false;
        for (int i = 0; n && i < n->in_count && !placed; i++) {
            const tensor *in = &p->tensor[n->in[i]];
            if (in->last != x->first || in->bytes != x->bytes || draw(p, 2)) continue;
            if (n->op == CKPT_OP_PAIR_GRAD && i > 0 && !is_whole(p, in->id)) continue;
            x->offset = in->offset;
            placed = true;
        }
        for (int tries = 0; !placed; tries++) {
            assert_true(tries < 10000);
            x->offset = 16 * (int64_t)draw(p, (uint32_t)((ARENA - x->bytes) / 16));
            if (t > 0 && draw(p, 4)) x->offset = p->tensor[draw(p, (uint32_t)t)].offset + 16 * ((int64_t)draw(p, 9) - 4); /* over dead ones */
            placed = x->offset >= 0 && x->offset + x->bytes <= ARENA;
            for (int u = 0; u < t; u++) {
                const tensor *y = &p->tensor[u];
                const bool alive = x->first < 0 || y->last >= x->first;
                if (alive && x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes) placed = false;
            }
        }
    }
}

static void make_program(program *p, uint32_t seed) {
    memset(p, 0, sizeof *p);
    p->random = seed * 2654435761u + 1;
    p->graph.batch = 1;
    p->graph.result = -1;
    p->rows = 1 + draw(p, 12);
    p->cols = draw(p, 2) ? 4 * (1 + draw(p, 20)) : 1 + draw(p, 80);
    for (int i = 0; i < 2; i++) new_tensor(p, CKPT_F32, p->rows, p->cols, -1);
    new_tensor(p, CKPT_F32, 1, p->cols, -1);
    new_tensor(p, CKPT_F32, p->rows, 1, -1);
    new_tensor(p, CKPT_F32, 1, 1, -1);
    const int nodes = 2 + (int)draw(p, MOST_NODES - 2);
    while (p->nodes < nodes) add_node(p);
    place_tensors(p);
}

/* Runs it, and reads the arena back. */
static int run_program(const program *p, const ckpt_backend *backend, bool no_fusion, unsigned char *arena) {
    const ckpt_device_options options = {.poison = true, .threads = 1, .no_fusion = no_fusion};
    const ckpt_scalars scalars = {.seed = 77, .step = 3, .valid_samples = 1};
    ckpt_launch launch[MOST_NODES];
    ckpt_pool pool = {0};
    ckpt_device *device;
    ckpt_error err = {.message = ""};
    fake_cuda_counts before, after;
    void *memory;
    MUST(backend->open(&options, &device, &err), &err);
    MUST(backend->allocate(device, ARENA, &memory, &err), &err);
    MUST(backend->upload(device, memory, arena, ARENA, &err), &err);
    for (int k = 0; k < p->nodes; k++) {
        const ckpt_node *n = &p->node[k];
        ckpt_bind bind = {.graph = &p->graph, .node = n, .pool = &pool};
        for (int i = 0; i < n->in_count; i++) {
            bind.in[i] = (char *)memory + p->tensor[n->in[i]].offset;
            bind.dies |= (uint64_t)(p->tensor[n->in[i]].last == k || p->lies) << i;
        }
        bind.out[0] = (char *)memory + p->tensor[n->out[0]].offset;
        MUST(backend->bind(device, &bind, &launch[k], &err), &err);
    }
    fake_cuda_count(&before);
    MUST(backend->run(device, launch, p->nodes, &scalars, &err), &err);
    MUST(backend->download(device, arena, memory, ARENA, &err), &err);
    fake_cuda_count(&after); /* the fake puts work off until it is waited for */
    backend->close(device);
    ckpt_pool_free(&pool);
    return after.launches - before.launches;
}

static void fill(program *p, unsigned char *arena) {
    memset(arena, 0xFF, ARENA);
    for (int t = 0; t < p->tensors; t++)
        for (int64_t i = 0; p->tensor[t].first < 0 && i < p->graph.tensor[t].count; i++) {
            const float x = (float)draw(p, 1000) / 250.0f - 2.0f;
            memcpy(arena + p->tensor[t].offset + 4 * i, &x, 4);
        }
}

/* Any NaN is as good as another: which operand's bits go on is the compiler's choice. */
static bool same_element(ckpt_dtype type, const unsigned char *a, const unsigned char *b) {
    uint32_t x = 0, y = 0;
    const size_t size = (size_t)ckpt_dtype_bytes(type);
    const uint32_t infinity = type == CKPT_F32 ? 0x7F800000u : type == CKPT_BF16 ? 0x7F80u : 0x7C00u;
    const uint32_t magnitude = type == CKPT_F32 ? 0x7FFFFFFFu : 0x7FFFu;
    memcpy(&x, a, size), memcpy(&y, b, size);
    return x == y || ((x & magnitude) > infinity && (y & magnitude) > infinity);
}

/* Whether what is there at the end is the same. */
static bool same_outputs(const program *p, const unsigned char *a, const unsigned char *b) {
    for (int t = 0; t < p->tensors; t++) {
        const ckpt_tensor *x = &p->graph.tensor[t];
        const int64_t size = (int64_t)ckpt_dtype_bytes(x->dtype), at = p->tensor[t].offset;
        for (int64_t i = 0; p->tensor[t].last == MOST_NODES && i < x->count; i++)
            if (!same_element(x->dtype, a + at + i * size, b + at + i * size)) return false;
    }
    return true;
}

static void test_chains_give_the_bits_of_their_nodes(void **state) {
    (void)state;
    enum { PROGRAMS = 3000 };
    static unsigned char before[ARENA], cpu[ARENA], alone[ARENA], joined[ARENA];
    int nodes = 0, launches = 0, skipped_stores = 0, cuda_only = 0;
    for (uint32_t seed = 0; seed < PROGRAMS; seed++) {
        program p;
        make_program(&p, seed);
        fill(&p, before);
        memcpy(cpu, before, ARENA), memcpy(alone, before, ARENA), memcpy(joined, before, ARENA);
        if (!p.cuda_only) run_program(&p, ckpt_backend_cpu(), false, cpu);
        const int one_by_one = run_program(&p, ckpt_backend_cuda(), true, alone);
        const int together = run_program(&p, ckpt_backend_cuda(), false, joined);
        if (!p.cuda_only && !same_outputs(&p, cpu, alone)) fail_msg("program %u: kernels differ from the CPU", seed);
        if (!same_outputs(&p, alone, joined)) fail_msg("program %u of %d nodes: joined kernels differ", seed, p.nodes);
        assert_int_equal(one_by_one, p.nodes + 1); /* the scalars are put into their slot by a kernel */
        assert_true(together <= one_by_one);
        nodes += one_by_one;
        launches += together;
        cuda_only += p.cuda_only;
        skipped_stores += memcmp(alone, joined, ARENA) != 0;
        ckpt_graph_free(&p.graph);
    }
    print_message("%d launches instead of %d; results left in registers in %d of %d programs\n", launches, nodes, skipped_stores,
                  PROGRAMS);
    assert_true(launches * 2 < nodes);
    assert_in_range(cuda_only, PROGRAMS / 10, PROGRAMS / 2);
    assert_true(skipped_stores * 2 > PROGRAMS);
}

/* A tensor said to die before its last reader is not always in memory for it: the comparison notices. */
static void test_what_dies_matters(void **state) {
    (void)state;
    static unsigned char before[ARENA], alone[ARENA], joined[ARENA];
    int noticed = 0;
    for (uint32_t seed = 0; seed < 300; seed++) {
        program p;
        make_program(&p, seed);
        fill(&p, before);
        memcpy(alone, before, ARENA), memcpy(joined, before, ARENA);
        p.lies = true;
        run_program(&p, ckpt_backend_cuda(), true, alone);
        run_program(&p, ckpt_backend_cuda(), false, joined);
        noticed += !same_outputs(&p, alone, joined);
        ckpt_graph_free(&p.graph);
    }
    assert_true(noticed > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains_give_the_bits_of_their_nodes),
        cmocka_unit_test(test_what_dies_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
