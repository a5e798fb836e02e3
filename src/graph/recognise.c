/* Element functions by structure. Exporters write GELU as x * 0.5 * (1 + erf(x / sqrt 2)) in many orders, with constants
 * rounded in many ways; instead of a pattern for each, the group of nodes between two tensors is brought into a normal form
 * and compared with that of the function.
 *
 * The normal form is a sum of terms k * x^power * atom. An atom is a function of such a sum that no rule takes apart: erf,
 * tanh, softplus, |.|, exp, 1 / ., and the ramp, which is its argument within 0 and 1. The rules are identities of the real
 * numbers, such as sigmoid(z) = 1/2 + 1/2 tanh(z / 2). Nothing is sampled, so a bound inside a group that the function does
 * not have is in the normal form, however far out it lies, and keeps the group from being that function.
 *
 * Only constants are compared with a tolerance: that of the type in which they were rounded. */
#include <math.h>
#include <string.h>

#include "graph/op.h"
#include "graph/rewrite.h"

enum { GROUP_LIMIT = 12, MOST_TERMS = 4, MOST_ATOMS = 24, NO_ATOM = -1 };

typedef enum atom_kind { ERF, TANH, SOFTPLUS, MAGNITUDE, EXPONENTIAL, INVERSE, RAMP, NONE } atom_kind;

typedef struct term {
    double k, error; /* the true coefficient is within k +- error */
    int power, atom;
} term;

typedef struct sum {
    int count;
    term term[MOST_TERMS]; /* by atom, then by power; none twice */
} sum;

typedef struct atom {
    atom_kind kind;
    sum of;
} atom;

typedef struct group {
    const ckpt_graph *graph;
    int node[GROUP_LIMIT], count; /* in falling order */
    int source;                   /* x */
    sum made[GROUP_LIMIT];        /* what each node computes; nothing for comparisons, which Select reads itself */
    int atom_count;
    atom atom[MOST_ATOMS];
} group;

/* y = linear * x + factor * x^power * atom(sum of c[i] x^i + inner(x)). */
static const struct known {
    ckpt_act act;
    double linear, factor;
    int power;
    atom_kind atom;
    double c[4];
    atom_kind inner;
} known[] = {
    {CKPT_ACT_GELU, 0.5, 0.5, 1, ERF, {0, 0.70710678118654752}, NONE},
    {CKPT_ACT_GELU_TANH, 0.5, 0.5, 1, TANH, {0, 0.79788456080286536, 0, 0.79788456080286536 * 0.044715}, NONE},
    {CKPT_ACT_SILU, 0.5, 0.5, 1, TANH, {0, 0.5}, NONE}, /* x * sigmoid(x) */
    {CKPT_ACT_SOFTPLUS, 0, 1, 0, SOFTPLUS, {0, 1}, NONE},
    {CKPT_ACT_MISH, 0, 1, 1, TANH, {0}, SOFTPLUS},
    {CKPT_ACT_HARD_SWISH, 0, 1, 1, RAMP, {0.5, 1.0 / 6}, NONE},
    {CKPT_ACT_SOFTSIGN, 0, 1, 1, INVERSE, {1}, MAGNITUDE},
};

/* --- constants -------------------------------------------------------------------------------------- */

/* How far a constant of a file may be from the number that was meant: half a unit in the last place of bfloat16, float16 or
 * float, whichever is the coarsest type that holds it. Numbers of up to four bits, such as 0.5 and 6, are meant as they are.
 * For float it is more, because constants are also written as decimals and computed from each other. */
static double rounding_of(double value) {
    int exponent, bits = 24;
    if (!isfinite(value)) return 0;
    uint64_t whole = (uint64_t)(frexp(fabs(value), &exponent) * 0x1p24);
    while (bits > 0 && whole % 2 == 0) whole /= 2, bits--;
    if (bits <= 4) return 0;
    return bits <= 8 ? ldexp(1, exponent - 9) : bits <= 11 ? ldexp(1, exponent - 12) : 1e-6 * fabs(value);
}

static bool is_about(const term *t, double wanted) { return fabs(t->k - wanted) <= t->error + 1e-12 * fabs(wanted); }

/* The single number in a constant, or false. */
static bool scalar_of(const ckpt_graph *graph, int tensor, double *value) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    if (t->role != CKPT_ROLE_CONST || t->count != 1 || t->dtype != CKPT_F32 || !t->data) return false;
    *value = (double)*(const float *)t->data;
    return true;
}

/* --- sums: the functions fail where one gets too long for anything that is looked for ----------------- */

static sum one_term(double k, double error, int power, int of) {
    return (sum){.count = 1, .term = {{.k = k, .error = error, .power = power, .atom = of}}};
}
static sum exact(double k) { return one_term(k, 0, 0, NO_ATOM); }
static sum constant(double k) { return one_term(k, rounding_of(k), 0, NO_ATOM); }

static bool add_term(sum *s, term t) {
    int at = 0;
    while (at < s->count && (s->term[at].atom < t.atom || (s->term[at].atom == t.atom && s->term[at].power < t.power))) at++;
    if (at < s->count && s->term[at].atom == t.atom && s->term[at].power == t.power) {
        s->term[at].k += t.k;
        s->term[at].error += t.error;
        if (s->term[at].k == 0) memmove(&s->term[at], &s->term[at + 1], sizeof t * (size_t)(--s->count - at));
        return true;
    }
    if (t.k == 0) return true;
    if (s->count == MOST_TERMS) return false;
    memmove(&s->term[at + 1], &s->term[at], sizeof t * (size_t)(s->count++ - at));
    s->term[at] = t;
    return true;
}

/* *y = a + k * b */
static bool add_scaled(const sum *a, double k, const sum *b, sum *y) {
    sum total = *a;
    for (int i = 0; i < b->count; i++) {
        term t = b->term[i];
        t.k *= k;
        t.error *= fabs(k);
        if (!add_term(&total, t)) return false;
    }
    *y = total;
    return true;
}

static bool multiply(const sum *a, const sum *b, sum *y) {
    sum total = {0};
    for (int i = 0; i < a->count; i++)
        for (int j = 0; j < b->count; j++) {
            const term *s = &a->term[i], *t = &b->term[j];
            if (s->atom != NO_ATOM && t->atom != NO_ATOM) return false;
            if (!add_term(&total, (term){.k = s->k * t->k, .error = fabs(s->k) * t->error + fabs(t->k) * s->error,
                                         .power = s->power + t->power, .atom = s->atom != NO_ATOM ? s->atom : t->atom}))
                return false;
        }
    *y = total;
    return true;
}

static sum scaled(double k, sum a) {
    for (int i = 0; i < a.count; i++) a.term[i].k *= k, a.term[i].error *= fabs(k);
    return a;
}

static bool is_same(const sum *a, const sum *b) {
    if (a->count != b->count) return false;
    for (int i = 0; i < a->count; i++) {
        const term *s = &a->term[i], *t = &b->term[i];
        if (s->atom != t->atom || s->power != t->power || s->k != t->k) return false;
    }
    return true;
}

static bool is_constant(const sum *a) { return a->count == 1 && a->term[0].power == 0 && a->term[0].atom == NO_ATOM; }
static bool is_source(const sum *a) {
    return a->count == 1 && a->term[0].power == 1 && a->term[0].atom == NO_ATOM && is_about(&a->term[0], 1);
}

/* Whether the term is the atom itself, and of this kind. */
static bool is_atom(const group *g, const term *t, atom_kind kind) {
    return t->atom != NO_ATOM && t->power == 0 && is_about(t, 1) && g->atom[t->atom].kind == kind;
}

/* --- functions of sums ------------------------------------------------------------------------------ */

/* a + b * kind(of), with one atom for equal arguments. */
static bool with_atom(group *g, double a, double b, atom_kind kind, const sum *of, sum *y) {
    int i = 0;
    while (i < g->atom_count && (g->atom[i].kind != kind || !is_same(&g->atom[i].of, of))) i++;
    if (i == MOST_ATOMS) return false;
    if (i == g->atom_count) g->atom[g->atom_count++] = (atom){.kind = kind, .of = *of};
    const sum offset = exact(a), value = one_term(b, 0, 0, i);
    return add_scaled(a == 0 ? &(sum){0} : &offset, 1, &value, y);
}

static double sign_of(const sum *a) { return a->count && a->term[0].k < 0 ? -1 : 1; }

/* erf and tanh are odd: the argument's first coefficient is made positive. */
static bool odd(group *g, double a, double b, atom_kind kind, const sum *of, sum *y) {
    const double sign = sign_of(of);
    const sum positive = scaled(sign, *of);
    return with_atom(g, a, sign * b, kind, &positive, y);
}

static bool sigmoid(group *g, const sum *of, sum *y) {
    const sum half = scaled(0.5, *of);
    return odd(g, 0.5, 0.5, TANH, &half, y);
}

/* `of` within low and high: low + (high - low) * ramp((of - low) / (high - low)). */
static bool clip(group *g, const sum *of, double low, double high, sum *y) {
    const double width = high - low;
    if (!(width > 0) || !isfinite(width)) return false;
    const sum bound = constant(low);
    sum shifted;
    if (!add_scaled(of, -1, &bound, &shifted)) return false;
    shifted = scaled(1 / width, shifted);
    for (int i = 0; i < shifted.count; i++) shifted.term[i].error += fabs(shifted.term[i].k) * rounding_of(high) / width;
    return with_atom(g, low, width, RAMP, &shifted, y);
}

/* The argument's first coefficient is made 1, and 1 / (1 + exp z) is sigmoid(-z). */
static bool inverse(group *g, const sum *of, sum *y) {
    const term *first = &of->term[0];
    if (of->count == 0) return false;
    if (is_constant(of)) {
        *y = one_term(1 / first->k, first->error / (first->k * first->k), 0, NO_ATOM);
        return true;
    }
    const sum unit = scaled(1 / first->k, *of);
    if (of->count == 2 && first->power == 0 && first->atom == NO_ATOM && is_atom(g, &unit.term[1], EXPONENTIAL)) {
        const sum negated = scaled(-1, g->atom[unit.term[1].atom].of);
        sum s;
        if (!sigmoid(g, &negated, &s)) return false;
        *y = scaled(1 / first->k, s);
        return true;
    }
    return with_atom(g, 0, 1 / first->k, INVERSE, &unit, y);
}

/* Whether softplus(beta x) / beta stands below a threshold for x and x itself above it. From beta x = 15 on the two are the
 * same float. */
static bool is_threshold(const group *g, const sum *compared, double least, const sum *above, const sum *below) {
    if (compared->count != 1 || below->count != 1) return false;
    const term *at = &compared->term[0], *t = &below->term[0];
    if (t->atom == NO_ATOM || t->power != 0 || g->atom[t->atom].kind != SOFTPLUS || g->atom[t->atom].of.count != 1) return false;
    const term *inner = &g->atom[t->atom].of.term[0];
    const term product = {.k = t->k * inner->k, .error = fabs(t->k) * inner->error + fabs(inner->k) * t->error};
    return at->power == 1 && at->atom == NO_ATOM && at->k > 0 && inner->power == 1 && inner->atom == NO_ATOM &&
           inner->k / at->k * least >= 15 && is_source(above) && is_about(&product, 1);
}

/* --- nodes ------------------------------------------------------------------------------------------ */

/* A node of element functions only: what may lie inside a group. */
static bool is_element_node(const ckpt_graph *graph, const ckpt_node *node) {
    if (node->op == CKPT_OP_ACT) return node->attr.act.drop == 0;
    if (node->op != CKPT_OP_BINARY && node->op != CKPT_OP_COMPARE && node->op != CKPT_OP_SELECT) return false;
    const int64_t count = graph->tensor[node->out[0]].count;
    double unused;
    for (int i = 0; i < node->in_count; i++)
        if (!scalar_of(graph, node->in[i], &unused) && graph->tensor[node->in[i]].count != count) return false;
    return true;
}

static bool sum_of_tensor(const group *g, int tensor, sum *value) {
    double number;
    if (tensor == g->source) {
        *value = one_term(1, 0, 1, NO_ATOM);
        return true;
    }
    if (scalar_of(g->graph, tensor, &number)) {
        *value = constant(number);
        return isfinite(number);
    }
    for (int i = 0; i < g->count; i++)
        if (g->graph->node[g->node[i]].out[0] == tensor) {
            *value = g->made[i];
            return true;
        }
    return false;
}

static bool sum_of_act(group *g, const ckpt_epilogue *e, const sum *x, sum *y) {
    const double alpha = (double)e->alpha, beta = (double)e->beta;
    const sum a = constant(alpha), b = constant(beta), positive = scaled(sign_of(x), *x);
    switch (e->act) {
    case CKPT_ACT_ERF: return odd(g, 0, 1, ERF, x, y);
    case CKPT_ACT_TANH: return odd(g, 0, 1, TANH, x, y);
    case CKPT_ACT_SIGMOID: return sigmoid(g, x, y);
    case CKPT_ACT_SOFTPLUS: return with_atom(g, 0, 1, SOFTPLUS, x, y);
    case CKPT_ACT_EXP: return with_atom(g, 0, 1, EXPONENTIAL, x, y);
    case CKPT_ACT_RECIPROCAL: return inverse(g, x, y);
    case CKPT_ACT_ABS: return with_atom(g, 0, 1, MAGNITUDE, &positive, y);
    case CKPT_ACT_CLIP: return clip(g, x, alpha, beta, y);
    case CKPT_ACT_NEG: *y = scaled(-1, *x); return true;
    case CKPT_ACT_SCALE: return multiply(x, &a, y) && add_scaled(y, 1, &b, y);
    case CKPT_ACT_HARD_SIGMOID: {
        sum inner;
        return multiply(x, &a, &inner) && add_scaled(&inner, 1, &b, &inner) && with_atom(g, 0, 1, RAMP, &inner, y);
    }
    default: return false; /* not part of any function looked for */
    }
}

/* Which of its inputs Select always gives, or -1: the branch below a threshold that changes nothing. */
static int branch_of(const group *g, const ckpt_node *node) {
    const int producer = g->graph->tensor[node->in[0]].producer;
    const ckpt_node *compare = producer < 0 ? NULL : &g->graph->node[producer];
    sum compared, bound, above, below;
    if (!compare || compare->op != CKPT_OP_COMPARE) return -1;
    const ckpt_compare how = compare->attr.compare.kind;
    const bool greater = how == CKPT_COMPARE_GREATER || how == CKPT_COMPARE_GREATER_EQUAL;
    if (!greater && how != CKPT_COMPARE_LESS && how != CKPT_COMPARE_LESS_EQUAL) return -1;
    double unused;
    const int right = scalar_of(g->graph, compare->in[1], &unused); /* the bound's side */
    const int branch = greater == (right == 1) ? 2 : 1;
    return sum_of_tensor(g, compare->in[1 - right], &compared) && sum_of_tensor(g, compare->in[right], &bound) &&
                   is_constant(&bound) && sum_of_tensor(g, node->in[3 - branch], &above) &&
                   sum_of_tensor(g, node->in[branch], &below) && is_threshold(g, &compared, bound.term[0].k, &above, &below)
               ? branch : -1;
}

static bool sum_of_node(group *g, const ckpt_node *node, sum *y) {
    sum a, b, inverted;
    *y = (sum){0};
    if (node->op == CKPT_OP_COMPARE) return true;
    if (node->op == CKPT_OP_SELECT) {
        const int branch = branch_of(g, node);
        return branch > 0 && sum_of_tensor(g, node->in[branch], y);
    }
    if (!sum_of_tensor(g, node->in[0], &a)) return false;
    if (node->op == CKPT_OP_ACT) return sum_of_act(g, &node->attr.act, &a, y);
    if (!sum_of_tensor(g, node->in[1], &b)) return false;
    switch (node->attr.binary.kind) {
    case CKPT_BINARY_ADD: return add_scaled(&a, 1, &b, y);
    case CKPT_BINARY_SUB: return add_scaled(&a, -1, &b, y);
    case CKPT_BINARY_MUL: return multiply(&a, &b, y);
    case CKPT_BINARY_DIV: return inverse(g, &b, &inverted) && multiply(&a, &inverted, y);
    }
    return false;
}

/* --- comparing -------------------------------------------------------------------------------------- */

static const term *find_term(const sum *s, int power, int of) {
    for (int i = 0; i < s->count; i++)
        if (s->term[i].power == power && s->term[i].atom == of) return &s->term[i];
    return NULL;
}

static bool is_argument(const group *g, const struct known *f, const sum *s) {
    int found = 0;
    for (int power = 0; power < 4; power++) {
        const term *t = find_term(s, power, NO_ATOM);
        if (!t != (f->c[power] == 0) || (t && !is_about(t, f->c[power]))) return false;
        found += t != NULL;
    }
    if (f->inner == NONE) return found == s->count;
    const term *last = &s->term[found];
    return found + 1 == s->count && is_atom(g, last, f->inner) && is_source(&g->atom[last->atom].of);
}

static bool is_function(const group *g, const struct known *f) {
    const sum *y = &g->made[0];
    if (y->count != (f->linear != 0) + 1) return false;
    const term *last = &y->term[y->count - 1];
    if (last->atom == NO_ATOM || last->power != f->power || !is_about(last, f->factor) || g->atom[last->atom].kind != f->atom)
        return false;
    if (f->linear != 0 && (y->term[0].atom != NO_ATOM || y->term[0].power != 1 || !is_about(&y->term[0], f->linear))) return false;
    return is_argument(g, f, &g->atom[last->atom].of);
}

/* The function that the group computes, CKPT_ACT_IDENTITY where it is one of the branches of the Select at its end, or
 * CKPT_ACT_COUNT. */
static ckpt_act function_of(group *g) {
    g->atom_count = 0;
    for (int i = g->count - 1; i >= 0; i--)
        if (!sum_of_node(g, &g->graph->node[g->node[i]], &g->made[i])) return CKPT_ACT_COUNT;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (is_function(g, &known[k])) return known[k].act;
    return g->graph->node[g->node[0]].op == CKPT_OP_SELECT ? CKPT_ACT_IDENTITY : CKPT_ACT_COUNT;
}

/* Adds a computed tensor to the frontier, once. */
static void reach(const ckpt_graph *graph, int *frontier, int *count, int tensor) {
    double unused;
    if (scalar_of(graph, tensor, &unused)) return;
    for (int i = 0; i < *count; i++)
        if (frontier[i] == tensor) return;
    frontier[(*count)++] = tensor;
}

/* Grows a group upwards from node `last`, always through the latest node, until all ways lead through one tensor from
 * which the group is a known function. *source: what the function is of, or the branch of the Select. */
static ckpt_act recognise(const ckpt_graph *graph, int last, int *source) {
    group g = {.graph = graph, .source = -1};
    int frontier[3 * GROUP_LIMIT + 3] = {graph->node[last].out[0]}, count = 1;
    while (g.count < GROUP_LIMIT) {
        int latest = -1, at = -1;
        for (int i = 0; i < count; i++) {
            const int producer = graph->tensor[frontier[i]].producer;
            if (producer > latest) latest = producer, at = i;
        }
        if (latest < 0 || !is_element_node(graph, &graph->node[latest])) return CKPT_ACT_COUNT;
        frontier[at] = frontier[--count];
        g.node[g.count++] = latest;
        for (int i = 0; i < graph->node[latest].in_count; i++) reach(graph, frontier, &count, graph->node[latest].in[i]);
        if (count != 1) continue;
        g.source = frontier[0];
        if (graph->tensor[g.source].count != graph->tensor[graph->node[last].out[0]].count) return CKPT_ACT_COUNT;
        const ckpt_act act = function_of(&g);
        if (act == CKPT_ACT_COUNT) continue;
        *source = act == CKPT_ACT_IDENTITY ? graph->node[last].in[branch_of(&g, &graph->node[last])] : g.source;
        return act;
    }
    return CKPT_ACT_COUNT;
}

/* What lay inside the group is dead now, unless read elsewhere; ckpt_rewrite_fuse drops it. */
static void replace(ckpt_graph *graph, ckpt_node *node, ckpt_act act, int source) {
    if (act == CKPT_ACT_IDENTITY) { /* does itself what makes the branch */
        const ckpt_node *branch = &graph->node[graph->tensor[source].producer];
        node->op = branch->op;
        node->attr = branch->attr;
        node->in_count = branch->in_count;
        memcpy(node->in, branch->in, sizeof node->in);
        return;
    }
    node->op = CKPT_OP_ACT;
    node->attr = (ckpt_attr){.act = {.act = act}};
    node->in_count = 1;
    node->in[0] = source;
}

ckpt_status ckpt_rewrite_recognise(ckpt_graph *graph, ckpt_error *err) {
    (void)err;
    for (int n = 0; n < graph->node_count; n++) {
        ckpt_node *node = &graph->node[n];
        int source;
        if (node->op != CKPT_OP_BINARY && node->op != CKPT_OP_SELECT) continue;
        const ckpt_act act = recognise(graph, n, &source);
        if (act != CKPT_ACT_COUNT) replace(graph, node, act, source);
    }
    return CKPT_OK;
}
