/* What loading costs: memory bounded by a small multiple of the file, time that grows as the file does. Counted are bytes
 * handed out by the pools, resident size, and the processor's time at two sizes of the same kind of file; every kind is one
 * that some part of the importer could take too long over. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "run_program.h"

/* ---- Models of any number of parts, written as protobuf's wire format -------------------------------- */

typedef struct bytes {
    unsigned char *data;
    size_t size, room;
} bytes;

static void add(bytes *b, const void *data, size_t size) {
    while (b->size + size > b->room) {
        b->room = b->room ? 2 * b->room : 4096;
        b->data = realloc(b->data, b->room);
        assert_non_null(b->data);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void add_number(bytes *b, uint64_t value) {
    for (; value >= 128; value >>= 7) add(b, &(unsigned char){(unsigned char)(value | 128)}, 1);
    add(b, &(unsigned char){(unsigned char)value}, 1);
}

static void add_field(bytes *b, unsigned field, const void *data, size_t size) {
    add_number(b, field << 3 | 2);
    add_number(b, size);
    add(b, data, size);
}

static void add_text(bytes *b, unsigned field, const char *text) { add_field(b, field, text, strlen(text)); }

static void add_int(bytes *b, unsigned field, uint64_t value) {
    add_number(b, field << 3);
    add_number(b, value);
}

/* Puts `part` into `whole` as a field, and empties it. */
static void move_field(bytes *whole, unsigned field, bytes *part) {
    add_field(whole, field, part->data, part->size);
    part->size = 0;
}

static bytes part, inner; /* what is being written */

static void add_weight(bytes *graph, const char *name, int rows, int columns) {
    static const float zeros[64];
    add_int(&part, 1, (uint64_t)rows);
    add_int(&part, 1, (uint64_t)columns);
    add_int(&part, 2, 1);
    add_text(&part, 8, name);
    add_field(&part, 9, zeros, sizeof *zeros * (size_t)(rows * columns));
    move_field(graph, 5, &part);
}

static void add_node(bytes *graph, const char *op, const char *in, const char *also, const char *out) {
    add_text(&part, 1, in);
    if (*also) add_text(&part, 1, also);
    add_text(&part, 2, out);
    add_text(&part, 4, op);
    move_field(graph, 1, &part);
}

/* An input or output of [batch, 2] floats. */
static void add_value(bytes *graph, unsigned field, const char *name) {
    static const char type[] = "\12\21\10\1\22\15\12\7\22\5batch\12\2\10\2";
    add_text(&part, 1, name);
    add_field(&part, 2, type, sizeof type - 1);
    move_field(graph, field, &part);
}

/* ---- Kinds ------------------------------------------------------------------------------------------- */

static char text[64], other[64];
static const char *numbered(char *to, const char *name, int i) { return snprintf(to, 64, "%s%d", name, i), to; }

static void chain(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_node(g, "Sigmoid", i ? numbered(other, "h", i - 1) : "y", "", numbered(text, "h", i));
}
static void unsupported(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_node(g, "NoSuchOperator", i ? numbered(other, "h", i - 1) : "y", "", numbered(text, "h", i));
}
static void unknown(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_node(g, "NoSuchOperator", "y", "", numbered(text, "u", i));
}
static void tiny_tensors(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_weight(g, numbered(text, "t", i), 1, 1);
}
static void inputs(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_value(g, 11, numbered(text, "i", i));
}
static void outputs(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_value(g, 12, "y");
}
static void one_reader_after_another(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_node(g, "Add", "y", "w", numbered(text, "a", i));
}
static void shape_arithmetic(bytes *g, int n) {
    for (int i = 0; i < n; i++) add_node(g, i ? "Add" : "Shape", i ? numbered(other, "s", i - 1) : "y", i ? "s0" : "", numbered(text, "s", i));
}
static void long_names(bytes *g, int n) {
    char *name = malloc((size_t)n * 20 + 1);
    assert_non_null(name);
    memset(name, 'n', (size_t)n * 20);
    name[n * 20] = 0;
    add_node(g, "Relu", "y", "", name);
    add_weight(g, name + n, 1, 1);
    add_value(g, 11, name + 2 * n);
    free(name);
}
/* Names that FNV-1a, the usual hash of names, sends to few places. */
static void colliding_names(bytes *g, int n) {
    uint32_t found = 0;
    for (uint32_t i = 0; (int)found < n; i++) {
        uint32_t h = 2166136261u;
        snprintf(text, sizeof text, "%x", i);
        for (const char *c = text; *c; c++) h = (h ^ (unsigned char)*c) * 16777619u;
        if (h & 0x3ff) continue;
        add_weight(g, text, 1, 1);
        found++;
    }
}

static const struct kind {
    const char *name;
    void (*fill)(bytes *graph, int n);
    int n;
} kinds[] = {{"a chain of nodes", chain, 4000}, {"a chain of unsupported nodes", unsupported, 20000},
             {"many unsupported nodes", unknown, 20000}, {"tiny tensors", tiny_tensors, 20000}, {"inputs", inputs, 20000},
             {"equal outputs", outputs, 20000}, {"readers of one weight", one_reader_after_another, 8000},
             {"shape arithmetic", shape_arithmetic, 8000}, {"long names", long_names, 40000},
             {"colliding names", colliding_names, 8000}};

static size_t write_model(const struct kind *kind, int n, const char *path) {
    bytes graph = {0}, model = {0}, opset = {0};
    add_node(&graph, "MatMul", "x", "w", "y");
    kind->fill(&graph, n);
    add_weight(&graph, "w", 2, 2);
    add_value(&graph, 11, "x");
    add_value(&graph, 12, kind->fill == chain ? numbered(text, "h", n - 1) : "y");
    add_int(&model, 1, 8);
    move_field(&model, 7, &graph);
    add_int(&opset, 2, 17);
    move_field(&model, 8, &opset);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(model.data, 1, model.size, file), model.size);
    fclose(file);
    free(graph.data);
    free(model.data);
    free(opset.data);
    return model.size;
}

typedef struct cost {
    double seconds; /* of the processor */
    long kib;
    size_t file;
} cost;

static cost measure(const struct kind *kind, int n) {
    struct rusage before, after;
    cost c = {.file = write_model(kind, n, "m.onnx")};
    getrusage(RUSAGE_CHILDREN, &before);
    program_run run = run_program("plan", "m.onnx --batch 2");
    getrusage(RUSAGE_CHILDREN, &after);
    if (run.status != 0) fail_msg("%s: status %d: %s", kind->name, run.status, run.err);
    c.kib = run.peak_kib;
    c.seconds = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
                1e-6 * (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec);
    program_free(&run);
    return c;
}

/* Bytes of memory that each further byte of file may take. Nodes that train take most, in a file of nothing but nodes of 24
 * bytes: forward and backward node, tensors, the evaluation graph, plans. */
enum { MOST_BYTES = 500, TIMES = 4 };
#ifdef __SANITIZE_ADDRESS__
enum { SHORTER = 4 }; /* everything takes ten times as long */
#else
enum { SHORTER = 1 };
#endif

static void test_growth(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const int n = kinds[k].n / SHORTER;
        const cost small = measure(&kinds[k], n / TIMES), large = measure(&kinds[k], n);
        const double multiple = (double)(large.kib - small.kib) * 1024 / (double)(large.file - small.file);
        print_message("%-30s %8zu bytes: %6ld KiB resident, %5.1f bytes a byte of file, %.2f s; a quarter of it %.2f s\n",
                      kinds[k].name, large.file, large.kib, multiple, large.seconds, small.seconds);
#ifndef __SANITIZE_ADDRESS__ /* whose redzones are larger than what they guard */
        if (multiple > MOST_BYTES) fail_msg("%s: %g bytes for a byte of file", kinds[k].name, multiple);
#endif
        /* No measure of speed: were it quadratic, the largest would take minutes. */
        if (large.seconds > 20) fail_msg("%s: %g s", kinds[k].name, large.seconds);
    }
}

/* Beyond what is supported: one line that says the limit. */
static void test_limits(void **state) {
    (void)state;
    static const struct kind long_chain = {"a chain of nodes", chain, 0};
    write_model(&long_chain, 100000, "m.onnx");
    program_run run = run_program("plan", "m.onnx --batch 2");
    if (run.status != 3 || !strstr(run.err, "at most 65536")) fail_msg("status %d: %s", run.status, run.err);
    program_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_growth), cmocka_unit_test(test_limits)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(part.data);
    free(inner.data);
    return failed;
}
