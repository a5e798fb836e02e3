/* How many bytes a slot of the tables is: one that all sizes are whole in, or one for which little is lost. */
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "planner/chain/chain_table.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Divides every size that a plan can be made of. */
static uint64_t exact_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        unit = ckpt_common_divisor(unit, stage->out_bytes);
        unit = ckpt_common_divisor(unit, stage->gradient_bytes);
        for (int o = 0; o < ckpt_chain_options(stage); o++) {
            const ckpt_chain_option *option = &stage->option[o];
            for (int i = 0; i < 2; i++)
                if (option->early_bytes[i] != CKPT_CHAIN_NEVER) unit = ckpt_common_divisor(unit, option->early_bytes[i]);
            unit = ckpt_common_divisor(unit, option->kept_bytes);
            unit = ckpt_common_divisor(unit, option->forward_bytes[0]);
            unit = ckpt_common_divisor(unit, option->forward_bytes[1]);
            for (int i = 0; i < 4; i++) unit = ckpt_common_divisor(unit, option->backward_bytes[i / 2][i % 2]);
        }
    }
    return unit ? unit : 1;
}

/* The size that most checkpoints have, if that is half of them: it is then worth being whole in slots. */
static uint64_t usual_size(const ckpt_chain *chain) {
    uint64_t usual = 0;
    int ahead = 0; /* majority vote of Boyer and Moore */
    for (int k = 1; k < chain->stage_count; k++) {
        if (!ahead) usual = chain->stage[k].out_bytes;
        ahead += chain->stage[k].out_bytes == usual ? 1 : -1;
    }
    int votes = 0;
    for (int k = 1; k < chain->stage_count; k++) votes += chain->stage[k].out_bytes == usual;
    return 2 * votes >= chain->stage_count - 1 ? usual : 0;
}

uint64_t ckpt_chain_held_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k < chain->stage_count; k++)
        for (int o = 0; o < chain->stage[k].option_count; o++)
            unit = ckpt_common_divisor(unit, chain->stage[k].out_bytes + chain->stage[k].option[o].kept_bytes);
    return unit ? unit : 1;
}

/* Checkpoints of a size, and how much it matters that they are whole in slots. */
typedef struct sizes_of {
    uint64_t bytes, cost;
    double count, weight;
} sizes_of;

static int by_rate(const void *a, const void *b) {
    const sizes_of *x = a, *y = b;
    const double left = (double)x->cost * (double)y->bytes, right = (double)y->cost * (double)x->bytes;
    return left > right ? -1 : left < right;
}

/* Small ones matter most: there are most of them. Of a budget those that save most a byte do, as many as fit. Returns how many
 * sizes there are. */
static int list_sizes(const ckpt_chain *chain, uint64_t budget_bytes, sizes_of *size, int most) {
    int count = 0;
    uint64_t smallest = UINT64_MAX;
    for (int k = 1; k < chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        int i = 0;
        while (i < count && (size[i].bytes != stage->out_bytes || size[i].cost != stage->forward_cost)) i++;
        if (stage->out_bytes == 0 || i == most) continue;
        if (i == count) size[count++] = (sizes_of){.bytes = stage->out_bytes, .cost = stage->forward_cost};
        size[i].count++;
        smallest = smaller(smallest, stage->out_bytes);
    }
    qsort(size, (size_t)count, sizeof *size, by_rate);
    double left = (double)budget_bytes;
    for (int i = 0; i < count; i++) {
        const double part = (double)smallest / (double)size[i].bytes, held = fmin(left / (double)size[i].bytes, size[i].count);
        size[i].weight = budget_bytes ? held : size[i].count * part * part * part;
        left -= held * (double)size[i].bytes;
    }
    return count;
}

/* How far they are from whole, rounded up or down. */
static double lost_part(const sizes_of *size, int count, uint64_t unit, bool down) {
    double lost = 0;
    for (int i = 0; i < count; i++) {
        const uint64_t rest = size[i].bytes % unit;
        if (rest > 0) lost += (double)(down ? rest : unit - rest) * size[i].weight;
    }
    return lost;
}

uint64_t ckpt_chain_best_unit(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, uint64_t most, bool down) {
    enum { MOST_SIZES = 32, MOST_PARTS = 64 };
    sizes_of size[MOST_SIZES];
    const int sizes = list_sizes(chain, budget_bytes, size, MOST_SIZES);
    uint64_t best = 0;
    double best_lost = 0;
    for (int i = 0; i < sizes && down; i++) most = smaller(most, size[i].bytes); /* sizes are told from nothing */
    for (int i = 0; i < sizes; i++)
        for (uint64_t parts = size[i].bytes / least, tried = 0; parts > 0 && tried < MOST_PARTS; parts--, tried++) {
            const uint64_t unit = size[i].bytes / parts;
            if (unit > most) break;
            const double lost = lost_part(size, sizes, unit, down);
            if (best && lost >= best_lost) continue;
            best = unit;
            best_lost = lost;
        }
    return best;
}

/* Slots of the usual size of a checkpoint lose little, so more of them are allowed. */
void ckpt_chain_choose_unit(ckpt_chain_tables *tables, uint64_t slots, bool given) {
    const uint64_t most = larger(tables->cap_bytes, 1), allowed = given ? slots : tables->repeated ? 4 * slots : slots + 1024;
    uint64_t unit = exact_unit(tables->chain);
    tables->exact = most / unit <= slots;
    tables->even = tables->exact;
    if (!tables->exact) {
        unit = ckpt_chain_held_unit(tables->chain);
        tables->even = most / unit <= allowed;
        if (!tables->even) unit = usual_size(tables->chain);
        if (unit == 0 || most / unit > allowed) {
            const uint64_t plain = most / slots + 1, budget = tables->from_bytes ? smaller(most, 2 * tables->from_bytes) : 0;
            unit = tables->repeated ? ckpt_chain_best_unit(tables->chain, budget, plain - plain / 5, 2 * plain, false) : 0;
            if (unit == 0) unit = plain;
        } else {
            while (unit % 2 == 0 && most / (unit / 2) <= slots) unit /= 2;
        }
    }
    tables->unit_bytes = unit;
}

/* How long runs are, of all stages' size, that fit the budget with all they make. */
static double held_stages(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    double bytes = 1;
    for (int k = 1; k <= tables->count; k++) bytes += (double)tables->chain->stage[k].out_bytes;
    return (double)budget_bytes * tables->count / bytes;
}

/* How long a run that is made again from its first stage may have to be: as if stages were equal, of which all but one in so many
 * hold something (Griewank and Walther: of C(held + times, times) stages the first C(held + times - 1, times - 1)). */
int ckpt_chain_guess_longest(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    const double held = held_stages(tables, budget_bytes);
    double stages = 1;
    int times = 0;
    while (stages < tables->count && times < tables->count) stages *= (held + times + 1) / (times + 1), times++;
    return (int)fmin(2.8 * times / (held + times) * tables->count + 16, tables->count);
}
