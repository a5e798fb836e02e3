/* The shapes of all tensors of whole networks against onnx.shape_inference: golden/networks/NAME.shapes, which says its
 * version, for a batch of 2 and sequences of 16. Files that others wrote are in $CKPT_SHARED_DATA, and skipped without. */
#include "harness.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/onnx_file.h"

#define FOLDER CKPT_SOURCE_DIR "/tests/golden/networks"
enum { MOST = 4096 };

typedef struct expected {
    char name[512];
    int rank;
    int64_t dim[CKPT_MAX_RANK];
} expected;

static expected want[MOST];

static int read_golden(const char *path) {
    char line[512];
    int count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char *rest = strchr(line, ' ');
        if (line[0] == '#') continue;
        assert_true(count < MOST);
        expected *e = &want[count++];
        line[strcspn(line, " \n")] = 0;
        snprintf(e->name, sizeof e->name, "%s", line);
        for (e->rank = 0; rest; e->rank++) {
            char *end;
            e->dim[e->rank] = strtoll(rest + (e->rank == 0), &end, 10);
            rest = *end == ' ' ? end : NULL;
        }
    }
    fclose(file);
    return count;
}

/* The same file with every expected tensor as an output. */
static void write_probe(const char *path, const char *probe, int count) {
    ckpt_error err;
    ckpt_onnx_file *file;
    MUST(ckpt_onnx_read(path, &file, &err), &err);
    Onnx__GraphProto *graph = file->model->graph, own = *graph;
    Onnx__ValueInfoProto *output = calloc((size_t)count, sizeof *output), **list = calloc((size_t)count, sizeof *list);
    for (int i = 0; i < count; i++) {
        onnx__value_info_proto__init(&output[i]);
        output[i].name = want[i].name;
        list[i] = &output[i];
    }
    own.n_output = (size_t)count;
    own.output = list;
    file->model->graph = &own;
    const size_t size = onnx__model_proto__get_packed_size(file->model);
    unsigned char *bytes = malloc(size);
    onnx__model_proto__pack(file->model, bytes);
    file->model->graph = graph;
    FILE *out = fopen(probe, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(out);
    free(bytes), free(output), free(list);
    ckpt_onnx_free(file);
}

static bool same_shape(const ckpt_view *view, const expected *e) {
    bool same = view->tensor >= 0 && view->rank == e->rank;
    for (int i = 0; same && i < e->rank; i++) same = view->dim[i] == e->dim[i];
    return same;
}

static void check(const char *name, const char *path, int count) {
    static const ckpt_dim_binding dims[] = {{"batch", 2}, {"seq", 16}};
    const ckpt_model_options options = {.as_written = true, .dim = dims, .dim_count = 2};
    ckpt_error err;
    ckpt_model model;
    write_probe(path, "probe.onnx", count);
    MUST(ckpt_model_load("probe.onnx", &options, &model, &err), &err);
    assert_int_equal(model.output_count, count);
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        if (same_shape(&model.output[i], &want[i])) continue;
        printf("%s: '%s' has rank %d, first size %" PRId64 "; wanted %d, %" PRId64 "%s\n", name, want[i].name, model.output[i].rank,
               model.output[i].dim[0], want[i].rank, want[i].dim[0], model.output[i].tensor < 0 ? " (not imported)" : "");
        wrong++;
    }
    assert_int_equal(wrong, 0);
    want[count - 1].dim[0]++; /* a shape that differs is seen */
    want[count - 1].rank += !want[count - 1].rank;
    assert_false(same_shape(&model.output[count - 1], &want[count - 1]));
    ckpt_model_free(&model);
    remove("probe.onnx");
    printf("%s: %d shapes\n", name, count);
}

static int is_golden(const struct dirent *entry) { return strstr(entry->d_name, ".shapes") != NULL; }

static void test_shapes(void **state) {
    (void)state;
    const char *shared = getenv("CKPT_SHARED_DATA");
    struct dirent **entry;
    const int count = scandir(FOLDER, &entry, is_golden, alphasort);
    int checked = 0;
    for (int i = 0; i < count; i++) {
        char path[3][1024], golden[1024];
        const int length = (int)strcspn(entry[i]->d_name, ".");
        const char *name = entry[i]->d_name;
        snprintf(golden, sizeof golden, "%s/%s", FOLDER, name);
        snprintf(path[0], sizeof path[0], "%s/%.*s.onnx", FOLDER, length, name);
        snprintf(path[1], sizeof path[1], "%s/onnx-light/%.*s.onnx", shared ? shared : "", length, name);
        snprintf(path[2], sizeof path[2], "%s/exported/%.*s.onnx", shared ? shared : "", length, name);
        const char *found = NULL;
        for (int k = 0; k < 3 && !found; k++)
            if (access(path[k], R_OK) == 0) found = path[k];
        if (found) check(name, found, read_golden(golden)), checked++;
        else printf("%s: skipped, its model is not in CKPT_SHARED_DATA\n", name);
        free(entry[i]);
    }
    free(entry);
    assert_true(checked >= 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
