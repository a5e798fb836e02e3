#include "cuda/cuda_fuse.h"

#include "runtime/act_math.h"
#include "runtime/philox.h"

/* Describing nodes */

enum { NODE_INPUTS = 6, NODE_STEPS = 5 };

/* A launch that can be fused: its own kernel, and the same as instructions. In these a, b and c are inputs, or results of
 * earlier steps counted from NODE_INPUTS. */
typedef struct pointwise {
    const ckpt_cuda_context *context;
    ckpt_launch alone;
    int64_t count, cols;
    int inputs, steps;
    ckpt_fuse_memory input[NODE_INPUTS], output;
    bool dies[NODE_INPUTS]; /* the input's memory need not hold it afterwards */
    ckpt_fuse_step step[NODE_STEPS];
} pointwise;

static void run_alone(const void *self, const ckpt_scalars *scalars) {
    const pointwise *p = self;
    p->alone.run(p->alone.self, scalars);
}

static bool is_float(ckpt_dtype type) { return type == CKPT_F32 || type == CKPT_BF16 || type == CKPT_F16; }

static ckpt_dtype type_of(const ckpt_bind *bind, int tensor) { return bind->graph->tensor[tensor].dtype; }

/* Input `in` of the node as the next input of the description. `at` may point into it. */
static int add_input(pointwise *p, const ckpt_bind *bind, int in, const void *at, ckpt_fuse_shape shape) {
    p->input[p->inputs] = (ckpt_fuse_memory){.at = (void *)(uintptr_t)at, .shape = shape, .dtype = type_of(bind, bind->node->in[in])};
    p->dies[p->inputs] = bind->dies >> in & 1;
    return p->inputs++;
}

static int add_dense(pointwise *p, const ckpt_bind *bind, int in) {
    return add_input(p, bind, in, bind->in[in], CKPT_FUSE_DENSE);
}

static ckpt_fuse_step *add_step(pointwise *p, ckpt_fuse_code code, int kind, int a, int b) {
    ckpt_fuse_step *s = &p->step[p->steps++];
    *s = (ckpt_fuse_step){.code = (uint8_t)code, .kind = (uint8_t)kind, .a = (uint8_t)a, .b = (uint8_t)b, .c = CKPT_FUSE_NOWHERE};
    return s;
}

static int last_result(const pointwise *p) { return NODE_INPUTS + p->steps - 1; }

static void add_drop(pointwise *p, const ckpt_cuda_epilogue *e, uint32_t stream) {
    ckpt_fuse_step *s = add_step(p, CKPT_FUSE_DROP, 0, last_result(p), CKPT_FUSE_NOWHERE);
    s->factor = ckpt_drop_scale(e->attr.drop);
    s->stream = stream;
    s->threshold = ckpt_drop_threshold(e->attr.drop);
    s->sample_elements = e->sample_elements;
}

static bool describe_act(pointwise *p, const ckpt_bind *bind) {
    const ckpt_cuda_epilogue e = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, p->count);
    ckpt_fuse_step *s = add_step(p, CKPT_FUSE_ACT, e.attr.act, add_dense(p, bind, 0), CKPT_FUSE_NOWHERE);
    s->alpha = e.attr.alpha, s->beta = e.attr.beta;
    if (e.attr.drop > 0) add_drop(p, &e, e.stream);
    return true;
}

/* As act_grad_kernel in cuda_act.cuh. */
static bool describe_act_grad(pointwise *p, const ckpt_bind *bind) {
    const ckpt_cuda_epilogue e = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, p->count);
    const ckpt_act act = e.attr.act;
    const bool constant = ckpt_act_slope_is_constant(act);
    const int g = add_dense(p, bind, 0), v = constant ? g : add_dense(p, bind, 1);
    if (ckpt_drop_from_output(&e.attr)) {
        add_step(p, CKPT_FUSE_POSITIVE, 0, g, v)->factor = ckpt_drop_scale(e.attr.drop);
        return true;
    }
    ckpt_fuse_step *s = add_step(p, CKPT_FUSE_SLOPE, act, g, v);
    s->alpha = e.attr.alpha, s->beta = e.attr.beta;
    s->factor = e.attr.drop > 0 && ckpt_act_from_output(act) ? 1.0f - e.attr.drop : 1.0f;
    if (e.attr.drop > 0) add_drop(p, &e, e.attr.stream);
    return true;
}

/* An operand of a broadcast over at most two axes: how it lies, or false where that is none of the shapes. */
static bool find_shape(const ckpt_binary_attr *g, const int64_t *stride, ckpt_fuse_shape *shape) {
    const int64_t rows = g->rank == 2 ? g->dim[0] : 1, cols = g->rank ? g->dim[g->rank - 1] : 1;
    const int64_t row = g->rank == 2 ? stride[0] : 0, col = g->rank ? stride[g->rank - 1] : 0;
    if (g->rank > 2) return false;
    if ((col == 1 || cols == 1) && (row == cols || rows == 1)) *shape = CKPT_FUSE_DENSE;
    else if (col == 0 && row == 0) *shape = CKPT_FUSE_SCALAR;
    else if (col == 1 && row == 0) *shape = CKPT_FUSE_BY_COLUMN;
    else if (col == 0 && row == 1) *shape = CKPT_FUSE_BY_ROW;
    else return false;
    return true;
}

/* Operands a and b are the node's inputs `first` and first + 1. */
static bool add_operands(pointwise *p, const ckpt_bind *bind, const ckpt_binary_attr *g, int first) {
    const int64_t *stride[2] = {g->stride_a, g->stride_b};
    for (int i = 0; i < 2; i++) {
        ckpt_fuse_shape shape;
        if (!find_shape(g, stride[i], &shape)) return false;
        add_input(p, bind, first + i, bind->in[first + i], shape);
        if (shape == CKPT_FUSE_BY_COLUMN || shape == CKPT_FUSE_BY_ROW) p->cols = g->dim[1];
    }
    return true;
}

static bool describe_pair_grad(pointwise *p, const ckpt_bind *bind) {
    const int dc = add_dense(p, bind, 0);
    if (!add_operands(p, bind, &bind->node->attr.pair.geometry, 1)) return false;
    ckpt_fuse_step *s = add_step(p, CKPT_FUSE_PAIR_SLOPE, bind->node->attr.pair.kind, dc, 1);
    s->c = 2;
    s->second = bind->node->attr.pair.second;
    return true;
}

static bool describe_cast(pointwise *p, const ckpt_bind *bind) {
    add_step(p, CKPT_FUSE_ROUND, p->output.dtype, add_dense(p, bind, 0), CKPT_FUSE_NOWHERE);
    return true;
}

/* Rows of channels: ((x - mean) - rest) * inv_std * scale + bias, as in runtime/norm_math.h. */
static bool describe_batchnorm(pointwise *p, const ckpt_bind *bind) {
    static const ckpt_binary kinds[NODE_STEPS] = {CKPT_BINARY_SUB, CKPT_BINARY_SUB, CKPT_BINARY_MUL, CKPT_BINARY_MUL, CKPT_BINARY_ADD};
    const int64_t channels = bind->node->attr.group.channels;
    const float *stats = bind->in[3];
    if (bind->node->attr.group.inner != 1) return false;
    const struct { int in; const void *at; } vector[NODE_STEPS] = {
        {3, stats}, {3, stats + channels}, {3, stats + 3 * channels}, {1, bind->in[1]}, {2, bind->in[2]}};
    int value = add_dense(p, bind, 0);
    for (int i = 0; i < NODE_STEPS; i++) {
        add_step(p, CKPT_FUSE_BINARY, kinds[i], value, add_input(p, bind, vector[i].in, vector[i].at, CKPT_FUSE_BY_COLUMN));
        value = last_result(p);
    }
    p->cols = channels;
    return true;
}

static bool describe(pointwise *p, const ckpt_bind *bind) {
    const ckpt_node *node = bind->node;
    switch (node->op) {
    case CKPT_OP_ACT: return describe_act(p, bind);
    case CKPT_OP_ACT_GRAD: return describe_act_grad(p, bind);
    case CKPT_OP_BATCHNORM: return describe_batchnorm(p, bind);
    case CKPT_OP_CAST: return describe_cast(p, bind);
    case CKPT_OP_PAIR_GRAD: return describe_pair_grad(p, bind);
    case CKPT_OP_BINARY:
        add_step(p, CKPT_FUSE_BINARY, node->attr.binary.kind, 0, 1);
        return add_operands(p, bind, &node->attr.binary, 0);
    case CKPT_OP_PAIR:
        add_step(p, CKPT_FUSE_PAIR, node->attr.pair.kind, 0, 1);
        return add_operands(p, bind, &node->attr.pair.geometry, 0);
    default: return false;
    }
}

/* The types that the operator's own kernel takes: a CAST any floats, others floats, or bf16 alone where they are kept in that. */
static bool takes(ckpt_op op, ckpt_dtype in, ckpt_dtype out) {
    if (op == CKPT_OP_CAST) return is_float(in) && is_float(out);
    const bool kept = op == CKPT_OP_ACT || op == CKPT_OP_ACT_GRAD || op == CKPT_OP_BINARY;
    return in == out && (in == CKPT_F32 || (kept && in == CKPT_BF16));
}

ckpt_status ckpt_cuda_fuse_describe(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_node *node = bind->node;
    pointwise p = {.context = ckpt_cuda_context_of(bind), .alone = *launch, .count = ckpt_cuda_out_count(bind, 0)};
    bool fits = p.count > 0 && node->out_count == 1;
    const ckpt_dtype made = fits ? type_of(bind, node->out[0]) : CKPT_F32;
    for (int i = 0; fits && i < node->in_count; i++) fits = node->in[i] >= 0 && takes(node->op, type_of(bind, node->in[i]), made);
    if (!fits) return CKPT_OK;
    p.output = (ckpt_fuse_memory){.at = bind->out[0], .shape = CKPT_FUSE_DENSE, .dtype = made};
    if (!describe(&p, bind)) return CKPT_OK;
    if (p.output.dtype != CKPT_F32 && node->op != CKPT_OP_CAST) /* what a later node reads is what would be in memory */
        add_step(&p, CKPT_FUSE_ROUND, p.output.dtype, last_result(&p), CKPT_FUSE_NOWHERE);
    pointwise *kept = ckpt_pool_alloc(bind->pool, 1, sizeof *kept);
    if (!kept) return ckpt_fail(err, CKPT_NOMEM, "no memory to bind node '%s'", ckpt_cuda_node_name(bind));
    *kept = p;
    *launch = (ckpt_launch){.run = run_alone, .self = kept};
    return CKPT_OK;
}

/* Joining them */

/* A value of a chain: loaded, then read by steps up to `last`; or made by step `first`. */
typedef struct value {
    int first, last;
} value;

typedef struct builder {
    ckpt_fuse_program *program;
    const pointwise *const *node;
    int values;
    value value[CKPT_FUSE_VALUES + CKPT_FUSE_STEPS]; /* the loaded ones first, in order */
    int load_value[CKPT_FUSE_VALUES];
    int result[CKPT_FUSE_STEPS], result_step[CKPT_FUSE_STEPS]; /* by node: its value, and the step that makes it */
    bool stored[CKPT_FUSE_STEPS];
} builder;

static uint64_t bytes_of(const builder *b, const ckpt_fuse_memory *m) {
    const int64_t count = b->program->count, cols = b->program->cols;
    const int64_t values = m->shape == CKPT_FUSE_DENSE ? count : m->shape == CKPT_FUSE_SCALAR ? 1
                         : m->shape == CKPT_FUSE_BY_COLUMN ? cols : count / cols;
    return (uint64_t)values * ckpt_dtype_bytes(m->dtype);
}

static bool overlap(const builder *b, const ckpt_fuse_memory *x, const ckpt_fuse_memory *y) {
    const uintptr_t at_x = (uintptr_t)x->at, at_y = (uintptr_t)y->at;
    return at_x < at_y + bytes_of(b, y) && at_y < at_x + bytes_of(b, x);
}

/* Element on element at the same place. */
static bool coincide(const ckpt_fuse_memory *x, const ckpt_fuse_memory *y) {
    return x->at == y->at && x->shape == CKPT_FUSE_DENSE && y->shape == CKPT_FUSE_DENSE &&
           ckpt_dtype_bytes(x->dtype) == ckpt_dtype_bytes(y->dtype);
}

static int new_value(builder *b, int first) {
    b->value[b->values] = (value){first, first};
    return b->values++;
}

/* The value of input i of node n: what an earlier node made, what is loaded already, or a load; -1: cannot be joined. */
static int find_input(builder *b, int n, int i, bool *shared) {
    const ckpt_fuse_memory *in = &b->node[n]->input[i];
    ckpt_fuse_program *program = b->program;
    for (int m = n - 1; m >= 0; m--) {
        const ckpt_fuse_memory *out = &b->node[m]->output;
        if (!overlap(b, in, out)) continue;
        if (!coincide(in, out) || in->dtype != out->dtype) return -1;
        if (b->node[n]->dies[i]) b->stored[m] = false;
        *shared = true;
        return b->result[m];
    }
    for (int k = 0; k < program->loads; k++) {
        const ckpt_fuse_memory *load = &program->load[k];
        if (load->at != in->at || load->shape != in->shape || load->dtype != in->dtype) continue;
        *shared = true;
        return b->load_value[k];
    }
    if (program->loads == CKPT_FUSE_VALUES) return -1;
    program->load[program->loads] = *in;
    return b->load_value[program->loads++] = new_value(b, -1);
}

/* Whether node n may write where it does: over no array that the chain loads, but at the very place of one. What an earlier
 * node made there is dead, and its readers have it from a register: it need not be stored. */
static bool may_store(builder *b, int n) {
    const ckpt_fuse_memory *out = &b->node[n]->output;
    for (int k = 0; k < b->program->loads; k++)
        if (overlap(b, out, &b->program->load[k]) && !coincide(out, &b->program->load[k])) return false;
    for (int m = 0; m < n; m++)
        if (overlap(b, out, &b->node[m]->output)) b->stored[m] = false;
    return true;
}

static bool add_node(builder *b, int n) {
    const pointwise *p = b->node[n];
    ckpt_fuse_program *program = b->program;
    int of[NODE_INPUTS + NODE_STEPS]; /* values by the description's numbers */
    bool shared = n == 0;
    if (program->steps + p->steps > CKPT_FUSE_STEPS) return false;
    for (int i = 0; i < p->inputs; i++)
        if ((of[i] = find_input(b, n, i, &shared)) < 0) return false;
    if (!shared || !may_store(b, n)) return false;
    for (int k = 0; k < p->steps; k++) {
        ckpt_fuse_step *s = &program->step[program->steps];
        *s = p->step[k];
        uint8_t *const operand[3] = {&s->a, &s->b, &s->c};
        for (int i = 0; i < 3; i++) {
            if (*operand[i] == CKPT_FUSE_NOWHERE) continue;
            *operand[i] = (uint8_t)of[*operand[i]];
            b->value[*operand[i]].last = program->steps;
        }
        of[NODE_INPUTS + k] = s->to = (uint8_t)new_value(b, program->steps);
        program->steps++;
    }
    b->result[n] = of[NODE_INPUTS + p->steps - 1];
    b->result_step[n] = program->steps - 1;
    b->stored[n] = true;
    return true;
}

/* Puts values into places; a result may take the place of what its step reads for the last time. */
static bool find_places(builder *b) {
    ckpt_fuse_program *program = b->program;
    int holds[CKPT_FUSE_VALUES]; /* the value in a place, or -1 */
    uint8_t place[CKPT_FUSE_VALUES + CKPT_FUSE_STEPS];
    for (int r = 0; r < CKPT_FUSE_VALUES; r++) holds[r] = r < program->loads ? b->load_value[r] : -1;
    for (int k = 0; k < program->loads; k++) place[b->load_value[k]] = (uint8_t)k;
    for (int t = 0; t < program->steps; t++) {
        ckpt_fuse_step *s = &program->step[t];
        const int made = s->to;
        uint8_t *const operand[3] = {&s->a, &s->b, &s->c};
        for (int i = 0; i < 3; i++)
            if (*operand[i] != CKPT_FUSE_NOWHERE) *operand[i] = place[*operand[i]];
        s->to = CKPT_FUSE_NOWHERE;
        if (b->value[made].last == t) continue; /* only stored */
        for (int r = 0; r < CKPT_FUSE_VALUES && s->to == CKPT_FUSE_NOWHERE; r++)
            if (holds[r] < 0 || b->value[holds[r]].last <= t) s->to = (uint8_t)r;
        if (s->to == CKPT_FUSE_NOWHERE) return false;
        holds[s->to] = made;
        place[made] = s->to;
    }
    return true;
}

static void find_vectors(ckpt_fuse_program *program, ckpt_fuse_memory *m) {
    const bool quads = m->shape == CKPT_FUSE_DENSE || m->shape == CKPT_FUSE_BY_COLUMN;
    m->vector = quads && program->cols % 4 == 0 && (uintptr_t)m->at % (4 * ckpt_dtype_bytes(m->dtype)) == 0;
}

/* The program of node[0 .. count), or false where they cannot be one. */
static bool join(const pointwise *const *node, int count, ckpt_fuse_program *program) {
    builder b = {.program = program, .node = node};
    *program = (ckpt_fuse_program){.count = node[0]->count};
    for (int n = 0; n < count; n++) {
        if (node[n]->count != program->count || node[n]->context != node[0]->context) return false;
        if (node[n]->cols && program->cols && node[n]->cols != program->cols) return false;
        if (node[n]->cols) program->cols = node[n]->cols;
    }
    for (int n = 0; n < count; n++)
        if (!add_node(&b, n)) return false;
    if (!find_places(&b)) return false;
    for (int k = 0; k < program->loads; k++) find_vectors(program, &program->load[k]);
    for (int n = 0; n < count; n++) {
        ckpt_fuse_memory *store = &program->step[b.result_step[n]].store;
        if (b.stored[n]) *store = node[n]->output;
        find_vectors(program, store);
    }
    return true;
}

typedef struct fused {
    const ckpt_cuda_context *context;
    ckpt_fuse_program program;
} fused;

static void run_fused(const void *self, const ckpt_scalars *scalars) {
    const fused *f = self;
    (void)scalars;
    ckpt_cuda_fused_start(f->context, &f->program);
}

/* How many launches, the first included, are one chain; its program. */
static int longest(const ckpt_launch *launches, int count, ckpt_fuse_program *program) {
    const pointwise *node[CKPT_FUSE_STEPS];
    int n = 0;
    while (n < count && n < CKPT_FUSE_STEPS && launches[n].run == run_alone) {
        ckpt_fuse_program longer;
        node[n] = launches[n].self;
        if (!join(node, n + 1, &longer)) break;
        *program = longer;
        n++;
    }
    return n;
}

int ckpt_cuda_fuse(const ckpt_launch *launches, int count, ckpt_launch *merged, ckpt_pool *pool) {
    int left = 0;
    for (int i = 0; i < count;) {
        ckpt_fuse_program program;
        const int n = longest(launches + i, count - i, &program);
        merged[left] = launches[i];
        if (n > 1) {
            fused *f = ckpt_pool_alloc(pool, 1, sizeof *f);
            if (!f) return -1;
            f->context = ((const pointwise *)launches[i].self)->context;
            f->program = program;
            merged[left] = (ckpt_launch){.run = run_fused, .self = f};
        }
        left++;
        i += n > 1 ? n : 1;
    }
    return left;
}
