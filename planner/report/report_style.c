/* How reports look: colours by class, light and dark. Phases have the colours of Okabe and Ito's palette, which
 * people with colour-blindness tell apart; layers have a scale of rising lightness. */
#include "planner/report/report.h"

#include <stdio.h>

const char ckpt_report_chart_style[] =
    ".paper{fill:#fff}text{font:12px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1c2126}"
    ".faint{fill:#5b636c}.title{font-size:15px;font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}"
    ".strong{font-weight:600}"
    ".grid{stroke:#e4e7ea;stroke-width:1}.axis{stroke:#8b939b;stroke-width:1}"
    ".rest{fill:#b4bbc2}"
    ".hatch{stroke:#fff;stroke-opacity:.8;stroke-width:2}.hatch2{stroke:#1c2126;stroke-opacity:.75;stroke-width:1.2}"
    ".limit{stroke:#1c2126;stroke-width:1.2;stroke-dasharray:5 4}"
    ".halo{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}"
    ".hit{fill:#1c2126;fill-opacity:0}.hit:hover{fill-opacity:.14}"
    ".forward{fill:#0072b2}.recompute{fill:#d55e00}.backward{fill:#009e73}.update{fill:#b3589a}"
    ".never{fill:#8b939b;fill-opacity:.16}.curve{fill:none;stroke:#0072b2;stroke-width:2}"
    ".bound{fill:none;stroke:#5b636c;stroke-width:1.4;stroke-dasharray:2 3}"
    ".dot{fill:#0072b2;stroke:#fff;stroke-width:1}.dot:hover{fill:#d55e00}"
    ".chosen{fill:none;stroke:#d55e00;stroke-width:2.5}.chosen-dot{fill:#d55e00}"
    "@media (prefers-color-scheme:dark){.paper{fill:#15181b}text{fill:#e6e9ec}.faint{fill:#a0a8b0}"
    ".grid{stroke:#2b3036}.axis{stroke:#6d757d}.rest{fill:#6a727a}"
    ".limit{stroke:#e6e9ec}.halo{stroke:#15181b}.hit{fill:#fff}"
    ".forward{fill:#4aa8e0}.recompute{fill:#f0803c}.backward{fill:#2fc49a}.update{fill:#d98bc1}"
    ".never{fill:#a0a8b0;fill-opacity:.15}.curve{stroke:#4aa8e0}.bound{stroke:#a0a8b0}"
    ".dot{fill:#4aa8e0;stroke:#15181b}.dot:hover{fill:#f0803c}.chosen{stroke:#f0803c}.chosen-dot{fill:#f0803c}}";

const char ckpt_report_page_style[] =
    ":root{color-scheme:light dark;--paper:#f4f6f8;--card:#fff;--ink:#1c2126;--faint:#5b636c;--line:#dfe3e7;"
    "--keep:#0072b2;--again:#b84f00;--bar:#cfe3f1}"
    "@media (prefers-color-scheme:dark){:root{--paper:#0d0f11;--card:#15181b;--ink:#e6e9ec;--faint:#a0a8b0;"
    "--line:#2b3036;--keep:#6bbcf0;--again:#f59a5f;--bar:#1f3b4f}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:15px/1.45 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    "main{max-width:1240px;margin:0 auto;padding:24px 20px 48px}h1{font-size:24px;margin:0 0 4px;overflow-wrap:anywhere}"
    "h2{font-size:17px;margin:0 0 10px}p{margin:4px 0}.sub{color:var(--faint)}code{font-size:13px}"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin-top:18px}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:14px;margin-top:18px}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 18px}"
    ".card b{display:block;font-size:25px;font-weight:650;line-height:1.25}.card span{color:var(--faint);font-size:13px}"
    "section{overflow-x:auto}svg{display:block;width:100%;min-width:820px;height:auto}.scroll{overflow:auto;max-height:640px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}"
    "th{position:sticky;top:0;background:var(--card);color:var(--faint);font-weight:600;font-size:13px}"
    ".l{text-align:left}.name{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:140px}"
    ".sum td{font-weight:650}.keep,.again{font-weight:600}.keep{color:var(--keep)}.again{color:var(--again)}"
    ".bar{background:linear-gradient(var(--bar),var(--bar)) no-repeat right/var(--w) 100%}"
    "#tip{position:fixed;display:none;pointer-events:none;white-space:pre-line;background:var(--ink);color:var(--card);"
    "padding:8px 11px;border-radius:7px;font-size:13px;max-width:420px;overflow-wrap:anywhere;z-index:9}";

/* The browser's own tooltips, sooner and by the pointer. Without characters that XML would want escaped. */
const char ckpt_report_script[] =
    "var tip=document.getElementById('tip');"
    "document.querySelectorAll('.hit,.dot,.chosen').forEach(function(e){"
    "var t=e.querySelector('title');if(!t)return;var s=t.textContent;t.remove();e.setAttribute('aria-label',s);"
    "e.addEventListener('mousemove',function(v){tip.textContent=s;tip.style.display='block';"
    "var r=tip.getBoundingClientRect();"
    "tip.style.left=Math.max(4,Math.min(v.clientX+14,innerWidth-r.width-8))+'px';"
    "tip.style.top=Math.max(4,Math.min(v.clientY+16,innerHeight-r.height-8))+'px'});"
    "e.addEventListener('mouseleave',function(){tip.style.display='none'})});";

void ckpt_report_svg_open(ckpt_markup *out, const char *label, int width, int height, bool alone) {
    ckpt_markup_add(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" ", width, height);
    if (alone) ckpt_markup_add(out, "width=\"%d\" height=\"%d\" ", width, height);
    ckpt_markup_add(out, "role=\"img\" aria-label=\"%s\">\n", label);
    if (!alone) return;
    ckpt_markup_add(out, "<style>%s</style>\n<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", ckpt_report_chart_style,
                    width, height);
}

double ckpt_report_tick(double most, double unit, int count) {
    static const double factors[] = {2, 2.5, 2};
    double tick = unit;
    while (tick * count * 10 < most) tick *= 10;
    for (int i = 0; tick * count < most; i++) tick *= factors[i % 3];
    return tick;
}

double ckpt_report_unit(double bytes, const char **name) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double unit = 1;
    size_t i = 0;
    for (; i + 1 < sizeof names / sizeof *names && bytes >= 2 * 1024 * unit; i++) unit *= 1024;
    *name = names[i];
    return unit;
}

double ckpt_report_share(const ckpt_report *r, uint64_t cost) {
    const double whole = (double)r->compute.step_cost;
    return whole > 0 ? (double)cost / whole : 0;
}

char *ckpt_report_count(uint64_t value, char text[CKPT_REPORT_TEXT]) {
    char digits[CKPT_REPORT_TEXT], *to = text;
    const int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return text;
}

