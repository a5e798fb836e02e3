/* A path of forward nodes, each of which reads what the one before it made, is a chain inside the graph. Between two of its
 * nodes lies a cell: the tensors that are made from the first node and that the second is made from. Something of a cell has to
 * be there when the second node runs, and after a time in which nothing of it was there, the first thing to appear in it comes
 * out of the first node. So whatever a schedule does, its runs of the path's nodes are those of a schedule of a chain in which a
 * cell takes no more bytes than its smallest tensor. The path is the one that costs most.
 *
 *      path     o -----> o -----> o -----> o
 *      cells       [ ]      [ ]      [ ]            smallest tensor
 *      events       3        2        1             a backward node n reads from the cell
 *
 * Events. The nodes n of successive events depend on one another, so they run in this order in every order of the nodes. Other
 * readers of a cell, such as its weight gradient u, may run before or after n. Two chains say what is there; both hold.
 *
 *   1. An event is the moment at which the first of some readers runs, n among them, none of which depends on another. All
 *      depend on the n of the event before, so events keep their order. What is live besides is the least over the readers that
 *      may be first, while the others have not run (bound_step.c).
 *   2. The cell is read twice, by u and by n, and held in between over an ancestor m of n that follows the event before, or made
 *      again: u, m, n. If u runs after m, forward runs between m and u, or between m and n where u runs after n, may as well
 *      come before m: then the cell is there before m too, and what is held over m is what was held at u, or at n while u had
 *      not run. So over m no less is live than the least of these three. In the chain, a stage that costs nothing stands for the
 *      first reading.
 *
 * A cell without an event joins a neighbour: that one's tensors then stand for both. The chain's bounds are Lagrangian, and
 * Griewank and Walther's closed form (chain.h). */
#include "planner/bounds/bound_spine.h"

#include <string.h>

#include "base/units.h"
#include "planner/bounds/time_step.h"

enum { MOST_WORK = 3000000, MOST_READERS = 8 }; /* cells times nodes, some hundred nanoseconds each */

/* The nodes of an event: the first of them is the one that the next event depends on. Bytes are what is live at least but for
 * lower cells. */
typedef struct event {
    int count;
    int node[MOST_READERS];
    uint64_t bytes;
    bool twice;       /* the cell is read before node[0] too */
    uint64_t alone;   /* at node[0], whatever of the others has run */
    uint64_t between; /* between the readings, but for the cell */
    uint64_t late;    /* at the other reading, or at node[0], where that is the first: with the cell */
} event;

/* Cell k lies between path[k] and path[k + 1]; the last node of the path has none. */
typedef struct spine {
    const ckpt_problem *problem;
    ckpt_time_step step;
    int count; /* nodes of the path */
    int *path;
    int *cell;       /* by tensor; -1: in none */
    uint64_t *size;  /* by cell: of its smallest tensor */
    event *event;    /* by cell; count 0: none */
    uint64_t *heavy; /* by forward node: of the heaviest path that ends with it */
    int *from;       /* by forward node: the one before it on that path, or -1 */
    bool *wanted, *made; /* by tensor and by node, of one cell at a time */
    int *next;       /* by node: the highest cell below the one looked at from which a descendant reads, or -1 */
} spine;

static ckpt_status make_room(spine *s, ckpt_pool *scratch, ckpt_error *err) {
    const int nodes = s->problem->graph->node_count, tensors = s->problem->graph->tensor_count;
    s->path = ckpt_pool_array(scratch, nodes, int);
    s->cell = ckpt_pool_array(scratch, tensors, int);
    s->size = ckpt_pool_array(scratch, nodes, uint64_t);
    s->event = ckpt_pool_array(scratch, nodes, event);
    s->heavy = ckpt_pool_array(scratch, nodes, uint64_t);
    s->from = ckpt_pool_array(scratch, nodes, int);
    s->wanted = ckpt_pool_array(scratch, tensors, bool);
    s->made = ckpt_pool_array(scratch, nodes, bool);
    s->next = ckpt_pool_array(scratch, nodes, int);
    if (!s->path || !s->cell || !s->size || !s->event || !s->heavy || !s->from || !s->wanted || !s->made || !s->next)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    return ckpt_time_step_open(s->problem, scratch, &s->step, err);
}

static void find_path(spine *s) {
    const ckpt_graph *g = s->problem->graph;
    int end = -1;
    for (int n = 0; n < g->forward_count; n++) {
        s->from[n] = -1;
        if (g->node[n].op == CKPT_OP_LOSS) continue;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int p = g->tensor[t].producer;
            if (s->heavy[p] > s->heavy[n] || s->from[n] < 0) s->heavy[n] = s->heavy[p], s->from[n] = p;
        }
        s->heavy[n] += s->problem->costs->node[n];
        if (end < 0 || s->heavy[n] > s->heavy[end]) end = n;
    }
    for (int n = end; n >= 0; n = s->from[n]) s->count++;
    for (int n = end, k = s->count; n >= 0; n = s->from[n]) s->path[--k] = n;
}

/* The graph's order keeps all that lies between two nodes between them. */
static void find_cell(spine *s, int k) {
    const ckpt_graph *g = s->problem->graph;
    const int first = s->path[k], second = s->path[k + 1];
    for (int n = second; n >= first; n--) {
        bool leads = n == second;
        for (int i = 0; i < g->node[n].out_count; i++) leads |= g->node[n].out[i] >= 0 && s->wanted[g->node[n].out[i]];
        for (int i = 0; i < g->node[n].in_count && leads; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) s->wanted[g->node[n].in[i]] = true;
    }
    s->size[k] = UINT64_MAX;
    for (int n = first; n < second; n++) {
        s->made[n] = n == first;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            s->made[n] |= ckpt_tensor_is_step(g, t) && g->tensor[t].producer >= first && s->made[g->tensor[t].producer];
        }
        for (int i = 0; i < g->node[n].out_count && s->made[n]; i++) {
            const int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t) || !s->wanted[t]) continue;
            s->cell[t] = k;
            if (s->problem->bytes[t] < s->size[k]) s->size[k] = s->problem->bytes[t];
        }
    }
    for (int n = first; n <= second; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) s->wanted[g->node[n].in[i]] = false;
}

static bool reads_cell(const spine *s, int node, int k) {
    const ckpt_node *x = &s->problem->graph->node[node];
    for (int i = 0; i < x->in_count; i++)
        if (x->in[i] >= 0 && s->cell[x->in[i]] == k) return true;
    return false;
}

static void find_next(spine *s, int k) {
    const ckpt_problem *p = s->problem;
    for (int n = p->graph->node_count - 1; n >= p->graph->forward_count; n--) {
        s->next[n] = -1;
        for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++) {
            const int d = p->after[i];
            if (s->next[d] > s->next[n]) s->next[n] = s->next[d];
            for (int j = 0; j < p->graph->node[d].in_count; j++) {
                const int t = p->graph->node[d].in[j];
                if (t >= 0 && s->cell[t] < k && s->cell[t] > s->next[n]) s->next[n] = s->cell[t];
            }
        }
    }
}

/* What is live at least while `node` runs, where before[] have run and behind[] have not, but for tensors of cells below k. */
static uint64_t bytes_at(spine *s, int node, const int *before, int before_count, const int *behind, int behind_count, int k) {
    const ckpt_problem *p = s->problem;
    ckpt_time_step_set(&s->step, node, before, before_count, behind, behind_count);
    uint64_t bytes = s->step.bytes;
    for (int t = 0; t < p->graph->tensor_count; t++)
        if (s->cell[t] >= 0 && s->cell[t] < k && s->step.live[t]) bytes -= p->bytes[t];
    return bytes;
}

/* The least over the nodes that may be the first. */
static uint64_t bytes_of_event(spine *s, event e, int k) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < e.count; i++) {
        const int first = e.node[0];
        e.node[0] = e.node[i];
        e.node[i] = first;
        const uint64_t bytes = bytes_at(s, e.node[0], NULL, 0, e.node + 1, e.count - 1, k);
        if (bytes < least) least = bytes;
    }
    return least;
}

/* The event that begins with node `main`, and other readers where they make it larger. */
static event find_event(spine *s, int main, const int *reader, int count, int k) {
    event best = {.count = 1, .node = {main}};
    best.bytes = best.alone = bytes_of_event(s, best, k);
    for (int i = 0; i < count && best.count < MOST_READERS; i++) {
        event more = best;
        bool apart = true;
        ckpt_time_step_set(&s->step, reader[i], NULL, 0, NULL, 0);
        for (int j = 0; j < best.count; j++)
            apart &= best.node[j] != reader[i] && !s->step.done[best.node[j]] && !s->step.open[best.node[j]];
        if (!apart) continue;
        more.node[more.count++] = reader[i];
        more.bytes = bytes_of_event(s, more, k);
        if (more.bytes > best.bytes) best = more;
    }
    return best;
}

/* Backward nodes that read from cell k and depend on `before` (-1: on any); at most MOST_READERS. */
static int list_readers(spine *s, int before, int k, int *reader) {
    const ckpt_graph *g = s->problem->graph;
    int count = 0;
    if (before >= 0) ckpt_time_step_set(&s->step, before, NULL, 0, NULL, 0);
    for (int n = g->forward_count; n < g->node_count && count < MOST_READERS; n++)
        if ((before < 0 || s->step.open[n]) && reads_cell(s, n, k)) reader[count++] = n;
    return count;
}

/* Reader u of cell k runs before or after the event's node n; m is an ancestor of n that follows the event before. What is live
 * at least between two readings, if that is more than is known. */
static void read_twice(spine *s, int u, int m, int k, int above, event *e) {
    const int n = e->node[0];
    const uint64_t known = e->twice ? ckpt_min_u64(e->between, e->late - s->size[k]) : 0;
    const uint64_t between = bytes_at(s, m, &u, 1, &n, 1, above);
    if (between <= known) return;
    ckpt_time_step_set(&s->step, m, NULL, 0, NULL, 0);
    if (s->step.open[u]) return;
    uint64_t late = UINT64_MAX;
    if (!s->step.done[u]) late = ckpt_min_u64(bytes_at(s, u, &m, 1, &n, 1, k), bytes_at(s, n, &m, 1, &u, 1, k));
    if (late - s->size[k] <= known) return;
    e->twice = true;
    e->between = between;
    e->late = late;
}

static void find_twice(spine *s, int before, const int *reader, int count, int k, int above, event *e) {
    const int first = s->problem->graph->forward_count, n = e->node[0];
    int between[MOST_READERS], number = 0;
    bool apart[MOST_READERS];
    if (before >= 0) ckpt_time_step_set(&s->step, before, NULL, 0, NULL, 0);
    for (int m = first; m < n; m++) s->made[m] = before < 0 || s->step.open[m];
    ckpt_time_step_set(&s->step, n, NULL, 0, NULL, 0);
    for (int m = n - 1; m >= first && number < MOST_READERS; m--)
        if (s->made[m] && s->step.done[m]) between[number++] = m;
    for (int i = 0; i < count; i++) apart[i] = reader[i] != n && !s->step.done[reader[i]] && !s->step.open[reader[i]];
    for (int i = 0; i < count; i++)
        for (int j = 0; j < number && apart[i]; j++) read_twice(s, reader[i], between[j], k, above, e);
}

/* From the last cell down. From the node of a cell's event the nearest lower cell can be reached; of several the one with the most
 * bytes. A cell without such a node has no event if there are lower ones to reach. */
static void choose_events(spine *s) {
    int before = -1, above = s->count - 1; /* the last event's first node, and its cell */
    for (int k = s->count - 2; k >= 0; k--) {
        int reader[MOST_READERS], nearest = -1;
        const int count = list_readers(s, before, k, reader);
        find_next(s, k);
        const int reachable = before >= 0 ? s->next[before] : k - 1;
        for (int i = 0; i < count; i++)
            if (s->next[reader[i]] > nearest) nearest = s->next[reader[i]];
        if (nearest < 0 && reachable >= 0) continue;
        for (int i = 0; i < count; i++) {
            if (s->next[reader[i]] < nearest) continue;
            const event e = find_event(s, reader[i], reader, count, k);
            if (s->event[k].count == 0 || e.bytes > s->event[k].bytes) s->event[k] = e;
        }
        if (s->event[k].count == 0) continue;
        find_twice(s, before, reader, count, k, above, &s->event[k]);
        before = s->event[k].node[0];
        above = k;
    }
}

/* `bytes` with the input, of `input` bytes. */
static void set_backward(ckpt_chain_option *option, uint64_t bytes, uint64_t input) {
    for (int i = 0; i < 4; i++) option->backward_bytes[i / 2][i % 2] = bytes > input ? bytes - input : 0;
}

/* The last cell of the group of cell k, which has an event (-1: of those below all events); and the next cell that has one, or -1.
 * A cell without an event joins the lower neighbour where only the upper one has a larger tensor. */
static int end_group(const spine *s, int k, int *next) {
    int end = k;
    for (*next = k + 1; *next + 1 < s->count && s->event[*next].count == 0;) ++*next;
    if (*next + 1 >= s->count) return (*next = -1, k);
    for (int i = k + 1; i < *next && s->size[i] < s->size[*next] && k >= 0 && s->size[i] >= s->size[k]; i++) end = i;
    return end;
}

/* Stage j ends with the j-th group of cells. `twice`: a cell that is read twice is followed by a stage that costs nothing, for the
 * first of the readings. */
static bool make_stages(const spine *s, bool twice, ckpt_pool *pool, ckpt_chain *chain) {
    int count = 1, j = 1, next;
    for (int k = 0; k + 1 < s->count; k++) count += (s->event[k].count > 0) + (twice && s->event[k].twice);
    if (count == 1) return true;
    ckpt_chain_stage *stage = ckpt_pool_array(pool, count + 1, ckpt_chain_stage);
    ckpt_chain_option *option = ckpt_pool_array(pool, count + 1, ckpt_chain_option);
    if (!stage || !option) return false;
    int from = end_group(s, -1, &next) + 1;
    for (int at = 0; next >= 0; j++) {
        const int k = next, end = end_group(s, k, &next);
        const event *e = &s->event[k];
        uint64_t least = UINT64_MAX;
        for (int i = from; i <= end; i++) least = ckpt_min_u64(least, s->size[i]);
        for (; at <= k; at++) stage[j].forward_cost += s->problem->costs->node[s->path[at]];
        at = from = end + 1;
        stage[j].out_bytes = least;
        set_backward(&option[j + 1], twice && e->twice ? e->alone : e->bytes, least);
        if (!twice || !e->twice) continue;
        const uint64_t between = ckpt_min_u64(e->between, e->late - least);
        stage[++j].out_bytes = ckpt_min_u64(least, between);
        set_backward(&option[j + 1], between, stage[j].out_bytes);
    }
    for (int k = from; k < s->count; k++) stage[j].forward_cost += s->problem->costs->node[s->path[k]];
    for (int k = 1; k <= count; k++) {
        stage[k].kind = k;
        stage[k].option_count = 1;
        stage[k].option = &option[k];
    }
    *chain = (ckpt_chain){.stage_count = count, .stage = stage};
    return true;
}

ckpt_status ckpt_spine_find(const ckpt_problem *problem, ckpt_pool *pool, ckpt_chain chain[2], ckpt_error *err) {
    ckpt_pool scratch = {0};
    spine s = {.problem = problem};
    chain[0] = chain[1] = (ckpt_chain){0};
    ckpt_status status = make_room(&s, &scratch, err);
    if (status == CKPT_OK) {
        for (int t = 0; t < problem->graph->tensor_count; t++) s.cell[t] = -1;
        find_path(&s);
        for (int k = 0; k + 1 < s.count; k++) find_cell(&s, k);
        if ((int64_t)s.count * problem->graph->node_count <= MOST_WORK) choose_events(&s);
        if (!make_stages(&s, false, pool, &chain[0]) || !make_stages(&s, true, pool, &chain[1]))
            status = ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* Of one chain. */
static ckpt_status raise(const ckpt_problem *p, const ckpt_chain *chain, uint64_t step_bytes, uint64_t incumbent_cost,
                         uint64_t *lower_bound, ckpt_error *err) {
    uint64_t first = 0, least;
    if (chain->stage_count == 0 || *lower_bound >= incumbent_cost) return CKPT_OK;
    for (int k = 1; k <= chain->stage_count; k++) first += chain->stage[k].forward_cost;
    const uint64_t limit = incumbent_cost < UINT64_MAX / 2 ? first + incumbent_cost : UINT64_MAX / 2;
    CKPT_TRY(ckpt_chain_lower_bound(chain, step_bytes, limit, &least, err));
    if (least != CKPT_CHAIN_NEVER && least > first + *lower_bound)
        *lower_bound = ckpt_round_up(least - first, ckpt_costs_divisor(p->graph, p->costs));
    return CKPT_OK;
}

ckpt_status ckpt_bound_spine(const ckpt_problem *problem, const ckpt_solver_options *options, uint64_t step_bytes,
                             uint64_t incumbent_cost, uint64_t *lower_bound, ckpt_error *err) {
    if (options->without_spine || *lower_bound >= incumbent_cost) return CKPT_OK;
    ckpt_pool scratch = {0};
    ckpt_chain chain[2];
    ckpt_status status = ckpt_spine_find(problem, &scratch, chain, err);
    for (int i = 0; i < 2 && status == CKPT_OK; i++)
        status = raise(problem, &chain[i], step_bytes, incumbent_cost, lower_bound, err);
    ckpt_pool_free(&scratch);
    return status;
}
