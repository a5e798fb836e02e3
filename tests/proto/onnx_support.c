#include "onnx_support.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

int scratch_setup(void **state) {
    const char *root = getenv("TMPDIR");
    char pattern[4000];
    snprintf(pattern, sizeof pattern, "%s/ckpt-proto-XXXXXX", root && *root ? root : "/tmp");
    if (!mkdtemp(pattern)) return -1;
    *state = strdup(pattern);
    return *state ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

int scratch_teardown(void **state) {
    int status = nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return status;
}

const char *in_scratch(void **state, const char *name) {
    static char paths[32][4400];
    static unsigned turn;
    char *path = paths[turn++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

void put_file(const char *path, const void *bytes, size_t size) {
    remove(path); /* truncating a file makes ext4 flush it on close, a new file waits: ten times as fast over many rounds */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (size) assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

uint8_t *get_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

size_t count_files(const char *directory) {
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    size_t count = 0;
    while (readdir(dir)) count++;
    closedir(dir);
    return count - 2; /* "." and ".." */
}

static void tensor_start(Onnx__TensorProto *tensor, char *name, int type, int64_t *dims, size_t rank) {
    onnx__tensor_proto__init(tensor);
    tensor->name = name;
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->dims = dims;
    tensor->n_dims = rank;
}

static void tensors_start(small_model *m) {
    m->w_dims[0] = 2, m->w_dims[1] = 3, m->b_dims[0] = 3, m->c_dims[0] = 2;
    for (int i = 0; i < 6; i++) m->w_data[i] = 0.25f * (float)(i - 2);
    for (int i = 0; i < 3; i++) m->b_data[i] = 10.0f + (float)i;
    m->c_data[0] = 0.1, m->c_data[1] = -0.2;
    tensor_start(&m->w, "w", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, m->w_dims, 2);
    m->w.has_raw_data = 1;
    m->w.raw_data.data = (uint8_t *)m->w_data;
    m->w.raw_data.len = sizeof m->w_data;
    tensor_start(&m->b, "b", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, m->b_dims, 1);
    m->b.float_data = m->b_data;
    m->b.n_float_data = 3;
    tensor_start(&m->c, "", ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE, m->c_dims, 1);
    m->c.double_data = m->c_data;
    m->c.n_double_data = 2;
}

static void nodes_start(small_model *m) {
    onnx__node_proto__init(&m->gemm);
    m->gemm.op_type = "Gemm";
    m->inputs[0] = "x", m->inputs[1] = "w", m->inputs[2] = "b";
    m->gemm.input = m->inputs;
    m->gemm.n_input = 3;
    m->outputs[0] = "y";
    m->gemm.output = m->outputs;
    m->gemm.n_output = 1;
    onnx__node_proto__init(&m->constant);
    m->constant.op_type = "Constant";
    m->constant_outputs[0] = "c";
    m->constant.output = m->constant_outputs;
    m->constant.n_output = 1;
    onnx__attribute_proto__init(&m->value);
    m->value.name = "value";
    m->value.has_type = 1;
    m->value.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    m->value.t = &m->c;
    m->attributes[0] = &m->value;
    m->constant.attribute = m->attributes;
    m->constant.n_attribute = 1;
}

void small_model_start(small_model *m) {
    memset(m, 0, sizeof *m);
    onnx__model_proto__init(&m->model);
    onnx__operator_set_id_proto__init(&m->opset);
    onnx__graph_proto__init(&m->graph);
    tensors_start(m);
    nodes_start(m);
    m->opset.has_version = 1;
    m->opset.version = 17;
    m->opsets[0] = &m->opset;
    m->nodes[0] = &m->constant, m->nodes[1] = &m->gemm;
    m->initializers[0] = &m->w, m->initializers[1] = &m->b;
    m->graph.name = "small";
    m->graph.node = m->nodes;
    m->graph.n_node = 2;
    m->graph.initializer = m->initializers;
    m->graph.n_initializer = 2;
    m->model.has_ir_version = 1;
    m->model.ir_version = 8;
    m->model.producer_name = ""; /* set to nothing: not the same as unset */
    m->model.opset_import = m->opsets;
    m->model.n_opset_import = 1;
    m->model.graph = &m->graph;
}

void small_model_externalize(small_model *m, const char *location, const char *offset, const char *length) {
    const char *const keys[] = {"location", "offset", "length"}, *const values[] = {location, offset, length};
    m->w.has_raw_data = 0;
    m->w.raw_data = (ProtobufCBinaryData){0};
    m->w.has_data_location = 1;
    m->w.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    m->w.external_data = m->external;
    m->w.n_external_data = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!values[i]) continue;
        Onnx__StringStringEntryProto *entry = &m->entries[m->w.n_external_data];
        onnx__string_string_entry_proto__init(entry);
        entry->key = (char *)keys[i];
        entry->value = (char *)values[i];
        m->external[m->w.n_external_data++] = entry;
    }
}

void small_model_save(const small_model *m, const char *path) {
    size_t size = onnx__model_proto__get_packed_size(&m->model);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    onnx__model_proto__pack(&m->model, bytes);
    put_file(path, bytes, size);
    free(bytes);
}

void expect_read_error(const char *path, ckpt_status status, const char *part) {
    ckpt_error err = {0};
    ckpt_onnx_file *file;
    assert_int_equal(ckpt_onnx_read(path, &file, &err), status);
    assert_null(file);
    assert_int_equal(err.status, status);
    if (!strstr(err.message, part)) fail_msg("'%s' is not in '%s'", part, err.message);
    assert_ptr_equal(strstr(err.message, path), err.message);
    assert_null(strchr(err.message, '\n'));
}

ckpt_onnx_file *read_or_fail(const char *path) {
    ckpt_error err = {0};
    ckpt_onnx_file *file;
    if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) fail_msg("%s", err.message);
    return file;
}
