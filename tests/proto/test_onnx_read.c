/* Reading of damaged, foreign and hostile files. */
#include "onnx_support.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/onnx_internal.h"
#include "proto/onnx_scan.h"

static void reads_small_model(void **state) {
    small_model m;
    small_model_start(&m);
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(&m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    assert_string_equal(file->path, path);
    assert_string_equal(file->directory, *state);
    assert_int_equal(file->model->ir_version, 8);
    assert_string_equal(file->model->producer_name, "");
    assert_null(file->model->doc_string);
    assert_int_equal(file->model->graph->n_initializer, 2);
    ckpt_onnx_free(file);
    ckpt_onnx_free(NULL);
}

static void distinct_messages(void **state) {
    const char *path = in_scratch(state, "bad.onnx");
    expect_read_error(path, CKPT_USAGE, "No such file");
    put_file(path, "", 0);
    expect_read_error(path, CKPT_MODEL, "empty");
    expect_read_error(*state, CKPT_MODEL, "directory");
    put_file(path, "PK\3\4rest", 8);
    expect_read_error(path, CKPT_MODEL, "torch.onnx.export");
    put_file(path, "version https://git-lfs.github.com/spec/v1\n", 43);
    expect_read_error(path, CKPT_MODEL, "git lfs pull");
    put_file(path, "hello world\n", 12);
    expect_read_error(path, CKPT_MODEL, "not an ONNX model");
    put_file(path, "\x78\1", 2); /* an unknown field alone is well formed */
    expect_read_error(path, CKPT_MODEL, "neither ir_version nor graph");
    put_file(path, "\x08\x08", 2);
    expect_read_error(path, CKPT_MODEL, "no graph");
    put_file(path, "\x3a\0", 2);
    expect_read_error(path, CKPT_MODEL, "no ir_version");
    put_file(path, "\x08\x08\x3a\x7f", 4);
    expect_read_error(path, CKPT_MODEL, "cut off");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not block */
    expect_read_error(path, CKPT_MODEL, "not a regular file");
}

static void unreadable(void **state) {
    if (geteuid() == 0) {
        print_message("skipped: root can read every file\n");
        skip();
    }
    const char *path = in_scratch(state, "secret.onnx");
    put_file(path, "\x08\x08", 2);
    assert_int_equal(chmod(path, 0), 0);
    expect_read_error(path, CKPT_USAGE, "permissions");
}

static void larger_than_2_gib(void **state) {
    const char *path = in_scratch(state, "huge.onnx");
    put_file(path, "\x08\x08", 2);
    if (truncate(path, INT64_C(1) << 31) != 0) skip(); /* sparse; not every file system */
    expect_read_error(path, CKPT_MODEL, "external data");
}

/* Damage that protobuf-c would let through or die of. */
static void wire_format(void **state) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
        {"\x08\x08\x3a\3\x0a\x05\0", 7, "beyond the enclosing message"}, /* node longer than the graph */
        {"\x08\x08\x3a\2\x0a\x85", 6, "cut off"},           /* its length cut by the graph's end */
        {"\x08\x08\x3b\x3c", 4, "not of the field's type"}, /* graph as a group */
        {"\x08\x08\x7b\x7c", 4, "unknown wire type"},       /* unknown group */
        {"\x08\x08\0\0", 4, "no field has such a number"},
        {"\x08\x08\x0a\1\1", 5, "not of the field's type"}, /* ir_version as bytes */
        {"\x08\x08\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 14, "too many bytes"},
        {"\x08\x08\xff\xff\xff\xff\xff\1", 8, "too many bytes"},     /* tag */
        {"\x08\x08\x3a\x80\x80\x80\x80\x80\0", 9, "too many bytes"}, /* length */
        {"\x08\x08\x3a\0\x3a\0", 6, "appears twice"},
        {"\x08\x08\x12\3a\0b\x3a\0", 9, "NUL"},
        {"\x08\x08\x3a\7\x2a\5\x22\3\0\0\0", 11, "end inside a number"}, /* float_data of 3 bytes */
        {"\x08\x08\x3a\5\x2a\3\x3a\1\x80", 9, "cut off"},                /* int64_data, unfinished */
    };
    const char *path = in_scratch(state, "wire.onnx");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file(path, cases[i].bytes, cases[i].size);
        expect_read_error(path, CKPT_MODEL, cases[i].part);
    }
}

/* Builds from the inside out: graph { node { attribute { g: graph { ... } } } }. */
static uint8_t *nest(size_t levels, size_t *start, size_t room) {
    uint8_t *bytes = malloc(room);
    assert_non_null(bytes);
    size_t at = room;
    static const uint8_t tags[] = {0x32, 0x2a, 0x0a}; /* Attribute.g, Node.attribute, Graph.node */
    for (size_t i = 0; i < levels; i++) {
        size_t length = room - at;
        uint8_t prefix[6] = {i + 1 == levels ? 0x3a : tags[i % 3]};
        size_t n = 1;
        for (; length >= 0x80; length >>= 7) prefix[n++] = (uint8_t)(length | 0x80);
        prefix[n++] = (uint8_t)length;
        at -= n;
        memcpy(bytes + at, prefix, n);
    }
    at -= 2;
    memcpy(bytes + at, "\x08\x08", 2);
    *start = at;
    return bytes;
}

static void deep_nesting(void **state) {
    enum { ROOM = 320 * 1024, LEVELS = 3 * 20000 + 1 };
    size_t start;
    uint8_t *bytes = nest(LEVELS, &start, ROOM);
    assert_true(ROOM - start > 234 * 1000);
    const char *path = in_scratch(state, "deep.onnx");
    put_file(path, bytes + start, ROOM - start);
    free(bytes);
    expect_read_error(path, CKPT_MODEL, "messages inside each other");
    /* The limit itself: ModelProto is the first of the 100. */
    bytes = nest(97, &start, ROOM);
    put_file(path, bytes + start, ROOM - start);
    free(bytes);
    ckpt_onnx_free(read_or_fail(path));
}

/* 2 bytes in the file, some 350 in memory each: refused before the memory is taken. */
static void bomb_of_empty_messages(void **state) {
    enum { COUNT = 400000, BODY = 2 * COUNT };
    uint8_t *bytes = malloc(BODY + 6);
    assert_non_null(bytes);
    memcpy(bytes, "\x08\x08\x3a", 3);
    for (int i = 0; i < 3; i++) bytes[3 + i] = (uint8_t)((BODY >> 7 * i & 0x7f) | (i < 2 ? 0x80 : 0));
    for (size_t i = 0; i < COUNT; i++) memcpy(bytes + 6 + 2 * i, "\x2a\0", 2);
    const char *path = in_scratch(state, "bomb.onnx");
    put_file(path, bytes, BODY + 6);
    free(bytes);
    expect_read_error(path, CKPT_MODEL, "bytes of memory");
}

/* Dense honest content stays within the limit: a million small ints, and as many in a packed field. */
static void dense_numbers(void **state) {
    enum { COUNT = 1000000 };
    small_model m;
    small_model_start(&m);
    int64_t *ones = malloc(COUNT * sizeof *ones);
    assert_non_null(ones);
    for (size_t i = 0; i < COUNT; i++) ones[i] = 1;
    m.value.t = NULL;
    m.value.ints = ones;
    m.value.n_ints = COUNT;
    m.w.int64_data = ones;
    m.w.n_int64_data = COUNT;
    const char *path = in_scratch(state, "dense.onnx");
    small_model_save(&m, path);
    free(ones);
    ckpt_onnx_free(read_or_fail(path));
}

static void truncated_everywhere(void **state) {
    small_model m;
    small_model_start(&m);
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(&m, path);
    size_t size;
    uint8_t *bytes = get_file(path, &size);
    for (size_t cut = size; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        ckpt_error err = {0};
        ckpt_onnx_file *file;
        if (ckpt_onnx_read(path, &file, &err) == CKPT_OK) {
            ckpt_onnx_free(file); /* a cut between two fields, after the graph */
        } else {
            assert_int_equal(err.status, CKPT_MODEL);
            assert_non_null(strstr(err.message, path));
        }
    }
    free(bytes);
}

static void use_everything(ckpt_onnx_file *file) {
    const Onnx__GraphProto *graph = file->model->graph;
    for (size_t i = 0; i < graph->n_initializer; i++) {
        ckpt_onnx_tensor_info info;
        ckpt_error err;
        if (ckpt_onnx_tensor_describe(file, graph->initializer[i], &info, &err) != CKPT_OK) continue;
        assert_true(info.bytes < 1000); /* all data is inline, so no more than the file has */
        char buffer[8 * 1000];
        ckpt_onnx_tensor_read(file, graph->initializer[i], buffer, info.bytes, &err);
        float floats[1000];
        int64_t ints[1000];
        if (info.count > 1000) continue;
        ckpt_onnx_tensor_read_f32(file, graph->initializer[i], floats, info.count, &err);
        ckpt_onnx_tensor_read_i64(file, graph->initializer[i], ints, info.count, &err);
    }
}

static uint32_t xorshift(uint32_t *x) {
    *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5;
    return *x;
}

static void random_mutations(void **state) {
    enum { ROUNDS = 20000 };
    small_model m;
    small_model_start(&m);
    const char *path = in_scratch(state, "m.onnx");
    const char *out = in_scratch(state, "out.onnx");
    small_model_save(&m, path);
    size_t size, valid = 0;
    uint8_t *bytes = get_file(path, &size), *mutant = malloc(size);
    assert_non_null(mutant);
    uint32_t random = 20240607;
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(mutant, bytes, size);
        for (uint32_t n = 1 + xorshift(&random) % 4; n > 0; n--) {
            size_t at = xorshift(&random) % size;
            uint32_t how = xorshift(&random);
            uint32_t flipped = mutant[at] ^ (1u << (how >> 8 & 7));
            mutant[at] = (uint8_t)(how & 1 ? how >> 8 : flipped);
        }
        put_file(path, mutant, size);
        ckpt_error err = {0};
        ckpt_onnx_file *file;
        if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) {
            assert_true(err.status == CKPT_MODEL && strstr(err.message, path));
            continue;
        }
        use_everything(file);
        if (++valid % 500 == 0) ckpt_onnx_write(file, out, NULL, 0, 0, &err); /* writing flushes: costly */
        ckpt_onnx_free(file);
    }
    print_message("%zu of %d mutants are still models\n", valid, ROUNDS);
    assert_true(valid > 100 && valid < ROUNDS);
    free(mutant);
    free(bytes);
}

/* Every allocation of protobuf-c fails once. */
static void memory_runs_out(void **state) {
    (void)state;
    small_model m;
    small_model_start(&m);
    uint8_t bytes[2000];
    assert_true(onnx__model_proto__get_packed_size(&m.model) <= sizeof bytes - 4);
    size_t size = onnx__model_proto__pack(&m.model, bytes);
    memcpy(bytes + size, "\xfa\x3f\1x", 4); /* an unknown field allocates too */
    size += 4;
    bool done = false;
    for (size_t limit = 0; !done; limit += 8) {
        onnx_heap heap;
        onnx_heap_start(&heap, limit);
        Onnx__ModelProto *model = onnx__model_proto__unpack(&heap.api, size, bytes);
        assert_true(model ? !heap.refused : heap.refused);
        if (model) onnx__model_proto__free_unpacked(model, &heap.api);
        assert_int_equal(heap.live_bytes, 0);
        done = model != NULL;
    }
}

static size_t read_folder(const char *folder, size_t *tensors) {
    size_t models = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.') continue;
        if (strncmp(entry->d_name, "test_", 5) == 0) {
            char inner[4500];
            snprintf(inner, sizeof inner, "%s/model.onnx", path);
            if (access(inner, R_OK) != 0) continue;
            ckpt_onnx_free(read_or_fail(inner));
            models++;
            ckpt_onnx_file *file;
            snprintf(inner, sizeof inner, "%s/test_data_set_0/input_0.pb", path);
            if (ckpt_onnx_read_tensor_pb(inner, &file, NULL) != CKPT_OK) continue; /* none, or a sequence */
            ckpt_onnx_tensor_info info;
            if (ckpt_onnx_tensor_describe(file, file->tensor, &info, NULL) == CKPT_OK) (*tensors)++;
            ckpt_onnx_free(file);
        } else if (strstr(entry->d_name, ".onnx")) {
            ckpt_onnx_file *file = read_or_fail(path);
            for (size_t i = 0; i < file->model->graph->n_initializer; i++, (*tensors)++) {
                ckpt_onnx_tensor_info info;
                ckpt_error err;
                if (ckpt_onnx_tensor_describe(file, file->model->graph->initializer[i], &info, &err) !=
                    CKPT_OK) {
                    fail_msg("%s", err.message);
                }
            }
            ckpt_onnx_free(file);
            models++;
        }
    }
    closedir(dir);
    return models;
}

static void real_files(void **state) {
    (void)state;
    const char *root = getenv("CKPT_SHARED_DATA");
    if (!root) {
        print_message("skipped: CKPT_SHARED_DATA is not set\n");
        skip();
    }
    static const char *const folders[] = {"exported", "onnx-node"};
    for (size_t i = 0; i < 2; i++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/%s", root, folders[i]);
        size_t tensors = 0, models = read_folder(folder, &tensors);
        print_message("%s: %zu models, %zu tensors\n", folders[i], models, tensors);
        assert_true(models > 0 && tensors > 0);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(reads_small_model),    CASE(distinct_messages),
        CASE(unreadable),           CASE(larger_than_2_gib),
        CASE(wire_format),          CASE(deep_nesting),
        CASE(dense_numbers),        CASE(bomb_of_empty_messages),
        CASE(truncated_everywhere), CASE(random_mutations),
        CASE(memory_runs_out),      CASE(real_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
