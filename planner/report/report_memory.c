#include "planner/report/report.h"

#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "planner/report/usage.h"

enum { WIDTH = 1200, HEIGHT = 486, LEFT = 92, RIGHT = 20, TOP = 62, PLOT = 290, LANE = 13, COLUMNS = 480 };
enum { PLOT_WIDTH = WIDTH - LEFT - RIGHT, BASE = TOP + PLOT, LANES = BASE + 30 };

/* Of layers, first to last: lightness rises, so that neighbours differ without their hue. */
static const char *const layer_colour[CKPT_USAGE_GROUPS] = {"#46327e", "#413f8a", "#365c8d", "#2f6c8e", "#277f8e", "#21918c",
                                                            "#1fa187", "#38b977", "#5ec962", "#8fd744", "#bddf26", "#f3e51e"};

static const char *colour_of(const ckpt_usage *u, int group) {
    return layer_colour[u->group_count < 2 ? 4 : group * (CKPT_USAGE_GROUPS - 1) / (u->group_count - 1)];
}

static double x_of(const ckpt_usage *u, int column) { return LEFT + (double)PLOT_WIDTH * column / u->column_count; }

/* Bytes to a height, with some air above the highest. */
static double y_of(uint64_t bytes, double most) { return BASE - (most > 0 ? PLOT * (double)bytes / most : 0); }

/* Bytes of the bands below `band`. */
static uint64_t below(const ckpt_usage *u, int column, int band) {
    uint64_t sum = 0;
    for (int b = 0; b < band; b++) sum += u->bytes[column * u->band_count + b];
    return sum;
}

/* One closed path for each run of columns in which the band is not empty: its top from left to right and its
 * bottom back. */
static void add_path(const ckpt_usage *u, int band, double most, ckpt_markup *out) {
    for (int c = 0; c < u->column_count;) {
        int end = c;
        while (end < u->column_count && u->bytes[end * u->band_count + band]) end++;
        if (end > c) {
            ckpt_markup_add(out, "M%.1f %.1f", x_of(u, c), y_of(below(u, c, band + 1), most));
            for (int i = c; i < end; i++)
                ckpt_markup_add(out, "V%.1fH%.1f", y_of(below(u, i, band + 1), most), x_of(u, i + 1));
            for (int i = end - 1; i >= c; i--)
                ckpt_markup_add(out, "V%.1fH%.1f", y_of(below(u, i, band), most), x_of(u, i));
            ckpt_markup_add(out, "Z");
        }
        c = end > c ? end : c + 1;
    }
}

static bool band_is_empty(const ckpt_usage *u, int band) {
    for (int c = 0; c < u->column_count; c++)
        if (u->bytes[c * u->band_count + band]) return false;
    return true;
}

static void add_bands(const ckpt_usage *u, double most, ckpt_markup *out) {
    for (int band = 0; band < u->band_count; band++) {
        if (band_is_empty(u, band)) continue;
        const bool rest = band == u->band_count - 1, again = !rest && band >= u->group_count;
        if (rest) ckpt_markup_add(out, "<path class=\"rest\" d=\"");
        else ckpt_markup_add(out, "<path fill=\"%s\" d=\"", colour_of(u, band % u->group_count));
        add_path(u, band, most, out);
        ckpt_markup_add(out, "\"/>\n");
        if (!again) continue;
        ckpt_markup_add(out, "<path fill=\"url(#hatch)\" d=\"");
        add_path(u, band, most, out);
        ckpt_markup_add(out, "\"/>\n");
    }
}

static void add_axes(const ckpt_report *r, double most, ckpt_markup *out) {
    const char *unit_name;
    const double unit = ckpt_report_unit(most, &unit_name), tick = ckpt_report_tick(most, unit / 1000, 6);
    for (int i = 0; (double)i * tick <= most; i++) {
        const double y = BASE - PLOT * (double)i * tick / most;
        if (i) ckpt_markup_add(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, y, WIDTH - RIGHT);
        ckpt_markup_add(out, "<text class=\"faint end\" x=\"%d\" y=\"%.1f\">%.4g %s</text>\n", LEFT - 8, y + 4,
                        (double)i * tick / unit, unit_name);
    }
    const int steps = r->plan->step_count;
    const int jump = (int)ckpt_report_tick(steps, 1, 12);
    for (int s = 0; s < steps; s += jump)
        ckpt_markup_add(out, "<text class=\"faint mid\" x=\"%.1f\" y=\"%d\">%d</text>\n",
                        LEFT + PLOT_WIDTH * (s + .5) / steps, BASE + 16, s);
}

/* A row of marks for each kind of step. */
static void add_lanes(const ckpt_report *r, const ckpt_usage *u, ckpt_markup *out) {
    for (int kind = 0; kind < CKPT_STEP_KINDS; kind++) {
        const int y = LANES + kind * (LANE + 3);
        const char *name = ckpt_step_kind_name((ckpt_step_kind)kind);
        ckpt_markup_add(out, "<text class=\"faint end\" x=\"%d\" y=\"%d\">%s</text>\n<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n",
                        LEFT - 8, y + 10, name, LEFT, y + LANE / 2.0, WIDTH - RIGHT);
        ckpt_markup_add(out, "<path class=\"%s\" d=\"", name);
        for (int c = 0, from = -1; c <= u->column_count; c++) {
            bool there = false;
            for (int s = c < u->column_count ? u->column[c].first : 0; c < u->column_count && s < u->column[c].end; s++)
                there = there || (int)ckpt_plan_step_kind(r->graph, r->plan, s) == kind;
            if (there && from < 0) from = c;
            if (there || from < 0) continue;
            ckpt_markup_add(out, "M%.1f %dH%.1fv%dH%.1fZ", x_of(u, from), y, x_of(u, c), LANE, x_of(u, from));
            from = -1;
        }
        ckpt_markup_add(out, "\"/>\n");
    }
}

static void add_legend(const ckpt_usage *u, ckpt_markup *out) {
    int x = LEFT;
    const int y = HEIGHT - 14;
    ckpt_markup_add(out, "<text x=\"%d\" y=\"%d\">layers</text>\n", x, y);
    x += 46;
    for (int g = 0; g < u->group_count; g++) {
        char name[32];
        const int first = u->group_first[g], last = u->group_first[g + 1] - 1;
        if (first == last) snprintf(name, sizeof name, "%d", first);
        else snprintf(name, sizeof name, "%d\xe2\x80\x93%d", first, last);
        ckpt_markup_add(out,
                        "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" rx=\"2\" fill=\"%s\"/>"
                        "<text class=\"faint\" x=\"%d\" y=\"%d\">%s</text>\n",
                        x, y - 10, colour_of(u, g), x + 16, y, name);
        x += 32 + 7 * (int)strlen(name);
    }
    /* Top right: how a colour is filled. */
    static const struct {
        const char *fill, *over, *text;
        int x;
    } kinds[] = {{"fill=\"#277f8e\"", NULL, "from the forward pass", 690},
                 {"fill=\"#277f8e\"", "url(#hatch)", "recomputed", 870},
                 {"class=\"rest\"", NULL, "results of the backward pass", 986}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        ckpt_markup_add(out, "<rect x=\"%d\" y=\"10\" width=\"14\" height=\"12\" rx=\"2\" %s/>", kinds[i].x - 40, kinds[i].fill);
        if (kinds[i].over)
            ckpt_markup_add(out, "<rect x=\"%d\" y=\"10\" width=\"14\" height=\"12\" rx=\"2\" fill=\"%s\"/>", kinds[i].x - 40,
                            kinds[i].over);
        ckpt_markup_add(out, "<text class=\"faint\" x=\"%d\" y=\"20\">%s</text>\n", kinds[i].x - 20, kinds[i].text);
    }
}

static void add_part(ckpt_markup *out, const char *name, uint64_t bytes) {
    char size[CKPT_SIZE_TEXT];
    if (bytes) ckpt_markup_add(out, "\n%s %s", name, ckpt_units_format_size(bytes, size));
}

/* A column to point at, with what is to say of it. */
static void add_hit(const ckpt_report *r, const ckpt_usage *u, int c, ckpt_markup *out) {
    const ckpt_usage_column *column = &u->column[c];
    const ckpt_node *node = &r->graph->node[r->plan->step[column->step].node];
    char size[CKPT_SIZE_TEXT], count[CKPT_REPORT_TEXT];
    ckpt_markup_add(out, "<rect class=\"hit\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\"><title>", x_of(u, c), TOP,
                    (double)PLOT_WIDTH / u->column_count, LANES + 4 * (LANE + 3) - TOP);
    if (column->end - column->first > 1)
        ckpt_markup_add(out, "steps %d\xe2\x80\x93%d, most at ", column->first, column->end - 1);
    ckpt_markup_add(out, "step %d of %d: %s\n", column->step, r->plan->step_count,
                    ckpt_step_kind_name(ckpt_plan_step_kind(r->graph, r->plan, column->step)));
    ckpt_markup_xml(out, node->name);
    ckpt_markup_add(out, "\n%s live (%s bytes)", ckpt_units_format_size(column->live_bytes, size),
                    ckpt_report_count(column->live_bytes, count));
    const uint64_t kept = below(u, c, u->group_count), made = below(u, c, 2 * u->group_count);
    add_part(out, "from the forward pass:", kept);
    add_part(out, "recomputed:", made - kept);
    add_part(out, "from the backward pass:", column->live_bytes - made);
    ckpt_markup_add(out, "</title></rect>\n");
}

static void add_peak(const ckpt_usage *u, double most, ckpt_markup *out) {
    const double y = y_of(u->peak_bytes, most), x = x_of(u, u->peak_column) + PLOT_WIDTH / 2.0 / u->column_count;
    const bool left = x > WIDTH / 2.0;
    char size[CKPT_SIZE_TEXT];
    ckpt_markup_add(out,
                    "<path class=\"limit\" d=\"M%d %.1fH%d\"/>\n<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" class=\"chosen-dot\"/>\n"
                    "<text class=\"strong halo%s\" x=\"%.1f\" y=\"%.1f\">most live: %s, at step %d</text>\n",
                    LEFT, y, WIDTH - RIGHT, x, y, left ? " end" : "", left ? x - 8 : x + 8, y - 8,
                    ckpt_units_format_size(u->peak_bytes, size), u->column[u->peak_column].step);
}

ckpt_status ckpt_report_memory_chart(const ckpt_report *r, bool alone, ckpt_markup *out, ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_usage u;
    const ckpt_status status = ckpt_usage_find(r->graph, r->plan, COLUMNS, &pool, &u, err);
    if (status == CKPT_OK) {
        const double most = 1.1 * (double)u.peak_bytes;
        ckpt_report_svg_open(out, "Memory over the step", WIDTH, HEIGHT, alone);
        ckpt_markup_add(out, "<defs><pattern id=\"hatch\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
                             "patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M2 0V7\"/><path class=\"hatch2\" d=\"M3.6 0V7\"/></pattern></defs>\n"
                             "<text class=\"title\" x=\"%d\" y=\"21\">Memory over the step</text>\n"
                             "<text class=\"faint\" x=\"%d\" y=\"44\">live in the arena, by step", LEFT, LEFT);
        if (u.column_count < r->plan->step_count)
            ckpt_markup_add(out, "; a column shows the largest of up to %d steps",
                            (r->plan->step_count + u.column_count - 1) / u.column_count);
        ckpt_markup_add(out, "</text>\n");
        if (u.column_count > 0 && u.peak_bytes > 0) {
            add_axes(r, most, out);
            add_bands(&u, most, out);
            ckpt_markup_add(out, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, BASE, WIDTH - RIGHT);
            add_lanes(r, &u, out);
            add_peak(&u, most, out);
            add_legend(&u, out);
            for (int c = 0; c < u.column_count; c++) add_hit(r, &u, c, out);
        }
        ckpt_markup_add(out, "</svg>\n");
    }
    ckpt_pool_free(&pool);
    return status;
}

ckpt_status ckpt_report_memory_svg(const ckpt_report *r, ckpt_markup *out, ckpt_error *err) {
    CKPT_TRY(ckpt_report_memory_chart(r, true, out, err));
    return out->failed ? ckpt_fail(err, CKPT_NOMEM, "out of host memory for the chart") : CKPT_OK;
}
