#include "planner/report/report.h"

#include <math.h>

#include "base/units.h"

enum { WIDTH = 1200, HEIGHT = 420, LEFT = 92, RIGHT = 30, TOP = 62, BASE = HEIGHT - 62 };

typedef struct scale {
    double x_from, x_to, y_to; /* bytes; share of a step's arithmetic */
    bool root;                 /* the height is the square root of the share: small plans recompute many times over */
} scale;

static double x_of(const scale *s, double bytes) {
    return LEFT + (bytes - s->x_from) / (s->x_to - s->x_from) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const scale *s, double share) {
    const double height = s->root ? sqrt(share / s->y_to) : share / s->y_to;
    return BASE - height * (BASE - TOP);
}

static double share_of(const ckpt_report *r, uint64_t cost) {
    return ckpt_report_share(r, cost) * (double)r->parts;
}

static scale find_scale(const ckpt_report *r) {
    const ckpt_frontier *f = r->frontier;
    double least = (double)f->point[0].total_bytes, most = (double)f->point[f->count - 1].total_bytes;
    double share = share_of(r, f->point[0].recompute_cost);
    if ((double)r->store_all_bytes > most) most = (double)r->store_all_bytes;
    if (r->plan) {
        if ((double)r->plan->memory.total > most) most = (double)r->plan->memory.total;
        if (share_of(r, r->plan->compute.recompute_cost) > share) share = share_of(r, r->plan->compute.recompute_cost);
    }
    if (most - least < 0.01 * most) least = 0.99 * most;
    const double air = 0.05 * (most - least);
    return (scale){.x_from = least > air ? least - air : 0, .x_to = most + air, .y_to = share > 0 ? 1.12 * share : 0.1,
                   .root = share > 1};
}

static void add_axes(const scale *s, ckpt_markup *out) {
    const char *unit_name;
    const double unit = ckpt_report_unit(s->x_to, &unit_name);
    const double tick = ckpt_report_tick(s->x_to - s->x_from, unit / 1000, 9);
    for (double x = ceil(s->x_from / tick) * tick; x <= s->x_to; x += tick)
        ckpt_markup_add(out,
                        "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n<text class=\"faint mid\" x=\"%.1f\" y=\"%d\">%.5g %s</text>\n",
                        x_of(s, x), TOP, BASE, x_of(s, x), BASE + 18, x / unit, unit_name);
    static const double roots[] = {0, .1, .5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
    const double step = ckpt_report_tick(s->y_to, 1e-6, 6);
    double last = 1e9;
    for (int i = 0; s->root ? i < (int)(sizeof roots / sizeof *roots) : i < 64; i++) {
        const double share = s->root ? roots[i] : i * step;
        if (share > s->y_to) break;
        const double y = y_of(s, share);
        if (last - y < 18) continue;
        last = y;
        ckpt_markup_add(out,
                        "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n<text class=\"faint end\" x=\"%d\" y=\"%.1f\">%.4g%%</text>\n",
                        LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4, 100 * share);
    }
}

/* Where no plan can be: below the bound, and left of the smallest plan. Between two samples the later, smaller bound
 * holds. */
static void add_bound(const ckpt_report *r, const scale *s, ckpt_markup *out) {
    const ckpt_frontier *f = r->frontier;
    for (int pass = 0; pass < 2; pass++) {
        const char *class = pass ? "bound" : "never";
        ckpt_markup_add(out, "<path class=\"%s\" d=\"M%.1f ", class, x_of(s, (double)f->bound[0].total_bytes));
        if (pass) ckpt_markup_add(out, "%.1f", y_of(s, share_of(r, f->bound[0].cost)));
        else ckpt_markup_add(out, "%d", BASE);
        for (int i = 0; i < f->bound_count; i++)
            ckpt_markup_add(out, "%s%.1f%s%.1f", pass ? "V" : i ? "V" : "V", y_of(s, share_of(r, f->bound[i].cost)), "H",
                            x_of(s, (double)f->bound[i + 1 < f->bound_count ? i + 1 : i].total_bytes));
        ckpt_markup_add(out, pass ? "\"/>\n" : "V%dZ\"/>\n", BASE);
    }
    ckpt_markup_add(out, "<rect class=\"never\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", LEFT, TOP,
                    x_of(s, (double)f->point[0].total_bytes) - LEFT, BASE - TOP);
}

static void add_point_text(const ckpt_report *r, uint64_t bytes, uint64_t cost, ckpt_markup *out) {
    char size[CKPT_SIZE_TEXT], count[CKPT_REPORT_TEXT];
    ckpt_markup_add(out, "%s (%s bytes)\nrecomputes %.2f%% of a step", ckpt_units_format_size(bytes, size),
                    ckpt_report_count(bytes, count), 100 * share_of(r, cost));
}

static void add_points(const ckpt_report *r, const scale *s, ckpt_markup *out) {
    const ckpt_frontier *f = r->frontier;
    ckpt_markup_add(out, "<path class=\"curve\" d=\"M%.1f %.1f", x_of(s, (double)f->point[0].total_bytes),
                    y_of(s, share_of(r, f->point[0].recompute_cost)));
    for (int i = 1; i < f->count; i++)
        ckpt_markup_add(out, "H%.1fV%.1f", x_of(s, (double)f->point[i].total_bytes),
                        y_of(s, share_of(r, f->point[i].recompute_cost)));
    ckpt_markup_add(out, "H%d\"/>\n", WIDTH - RIGHT);
    for (int i = 0; i < f->count; i++) {
        const ckpt_frontier_point *p = &f->point[i];
        ckpt_markup_add(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", x_of(s, (double)p->total_bytes),
                        y_of(s, share_of(r, p->recompute_cost)));
        add_point_text(r, p->total_bytes, p->recompute_cost, out);
        ckpt_markup_add(out, "\nno plan under this budget recomputes less than %.2f%%</title></circle>\n",
                        100 * share_of(r, p->lower_bound_cost));
    }
}

static void add_label(double x, double y, const char *what, uint64_t bytes, ckpt_markup *out) {
    char size[CKPT_SIZE_TEXT];
    const char *side = x > WIDTH * 0.75 ? " end" : "";
    ckpt_markup_add(out, "<text class=\"strong halo%s\" x=\"%.1f\" y=\"%.1f\">%s %s</text>\n", side, x + (*side ? 0 : 12), y,
                    what, ckpt_units_format_size(bytes, size));
}

static void add_chosen(const ckpt_report *r, const scale *s, ckpt_markup *out) {
    const ckpt_frontier_point *low = &r->frontier->point[0], *high = &r->frontier->point[r->frontier->count - 1];
    add_label(x_of(s, (double)low->total_bytes), y_of(s, share_of(r, low->recompute_cost)) - 9, "smallest:", low->total_bytes,
              out);
    const bool whole = r->plan && r->plan->memory.total >= high->total_bytes;
    const double x_high = x_of(s, (double)high->total_bytes), x = r->plan ? x_of(s, (double)r->plan->memory.total) : LEFT;
    /* Two labels near each other stand one above the other. */
    if (!whole) add_label(x_high, BASE - (x_high - x < 340 ? 50 : 30), "no recomputation:", high->total_bytes, out);
    if (!r->plan) return;
    const double y = y_of(s, share_of(r, r->plan->compute.recompute_cost));
    ckpt_markup_add(out, "<path class=\"limit\" d=\"M%.1f %.1fV%d\"/>\n<circle class=\"chosen-dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n"
                         "<circle class=\"chosen\" pointer-events=\"all\" cx=\"%.1f\" cy=\"%.1f\" r=\"8\"><title>this plan\n",
                    x, y, BASE, x, y, x, y);
    add_point_text(r, r->plan->memory.total, r->plan->compute.recompute_cost, out);
    ckpt_markup_add(out, "</title></circle>\n");
    if (r->plan->memory.total != low->total_bytes) add_label(x + 4, y - (x > 0.75 * WIDTH ? 26 : 14), "this plan:", r->plan->memory.total, out);
}

void ckpt_report_frontier_chart(const ckpt_report *r, bool alone, ckpt_markup *out) {
    const scale s = find_scale(r);
    ckpt_report_svg_open(out, "Recomputation over memory", WIDTH, HEIGHT, alone);
    ckpt_markup_add(out, "<text class=\"title\" x=\"%d\" y=\"21\">What memory costs</text>\n"
                         "<text class=\"faint\" x=\"%d\" y=\"44\">recomputed share of a step's arithmetic%s, by total memory</text>\n",
                    LEFT, LEFT, s.root ? " (square root scale)" : "");
    add_axes(&s, out);
    add_bound(r, &s, out);
    ckpt_markup_add(out, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, BASE, WIDTH - RIGHT);
    add_points(r, &s, out);
    add_chosen(r, &s, out);
    ckpt_markup_add(out, "<path class=\"curve\" d=\"M%d %dh26\"/><text class=\"faint\" x=\"%d\" y=\"%d\">plans, %d of them%s</text>\n",
                    LEFT, HEIGHT - 18, LEFT + 34, HEIGHT - 14, r->frontier->count,
                    r->frontier->complete ? "" : "; there are more between them");
    ckpt_markup_add(out, "<rect class=\"never\" x=\"%d\" y=\"%d\" width=\"26\" height=\"12\"/><path class=\"bound\" d=\"M%d %dh26\"/>"
                         "<text class=\"faint\" x=\"%d\" y=\"%d\">no plan can be here: lower bound, and smallest plan</text>\n</svg>\n",
                    LEFT + 420, HEIGHT - 24, LEFT + 420, HEIGHT - 24, LEFT + 454, HEIGHT - 14);
}

ckpt_status ckpt_report_frontier_svg(const ckpt_report *r, ckpt_markup *out, ckpt_error *err) {
    ckpt_report_frontier_chart(r, true, out);
    return out->failed ? ckpt_fail(err, CKPT_NOMEM, "out of host memory for the chart") : CKPT_OK;
}
