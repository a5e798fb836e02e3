/* Sparse initializers: read as dense in both forms of indices, written as dense, refused by name where they are malformed. */
#include "onnx_support.h"

typedef struct sparse_model {
    small_model small;
    Onnx__SparseTensorProto sparse, *list[1];
    Onnx__TensorProto values, indices;
    int64_t dims[9], value_dims[2], index_dims[2], index[12];
    float data[6];
} sparse_model;

/* The small model whose w, (2, 3), is sparse: 0 5 0 / 7 0 9. */
static void start(sparse_model *m, bool by_axis) {
    static const int64_t linear[] = {1, 3, 5}, axes[] = {0, 1, 1, 0, 1, 2};
    memset(m, 0, sizeof *m);
    small_model_start(&m->small);
    onnx__sparse_tensor_proto__init(&m->sparse);
    onnx__tensor_proto__init(&m->values);
    onnx__tensor_proto__init(&m->indices);
    m->values.name = "w";
    m->values.has_data_type = m->indices.has_data_type = 1;
    m->values.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    m->indices.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    m->data[0] = 5, m->data[1] = 7, m->data[2] = 9;
    m->values.float_data = m->data, m->values.n_float_data = 3;
    m->value_dims[0] = 3;
    m->values.dims = m->value_dims, m->values.n_dims = 1;
    memcpy(m->index, by_axis ? axes : linear, by_axis ? sizeof axes : sizeof linear);
    m->indices.int64_data = m->index, m->indices.n_int64_data = by_axis ? 6 : 3;
    m->index_dims[0] = 3, m->index_dims[1] = 2;
    m->indices.dims = m->index_dims, m->indices.n_dims = by_axis ? 2 : 1;
    m->dims[0] = 2, m->dims[1] = 3;
    m->sparse.values = &m->values, m->sparse.indices = &m->indices;
    m->sparse.dims = m->dims, m->sparse.n_dims = 2;
    m->list[0] = &m->sparse;
    m->small.graph.sparse_initializer = m->list, m->small.graph.n_sparse_initializer = 1;
    m->small.initializers[0] = &m->small.b; /* b alone is dense */
    m->small.graph.n_initializer = 1;
}

static void read_as_dense(void **state) {
    static const float dense[6] = {0, 5, 0, 7, 0, 9}, trained[6] = {1, 2, 3, 4, 5, 6};
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    for (int by_axis = 0; by_axis < 2; by_axis++) {
        sparse_model m;
        ckpt_onnx_dense done;
        ckpt_error err;
        float values[6];
        start(&m, by_axis);
        small_model_save(&m.small, in);
        ckpt_onnx_file *file = read_or_fail(in);
        assert_int_equal(ckpt_onnx_make_dense(file, &done, &err), CKPT_OK);
        assert_int_equal(done.count, 1);
        assert_string_equal(done.first, "w");
        assert_true(done.stored == 3 && done.elements == 6);
        const Onnx__TensorProto *w = file->model->graph->initializer[1];
        assert_string_equal(w->name, "w");
        assert_true(w->n_dims == 2 && w->dims[0] == 2 && w->dims[1] == 3);
        assert_int_equal(ckpt_onnx_tensor_read_f32(file, w, values, 6, &err), CKPT_OK);
        assert_memory_equal(values, dense, sizeof dense);
        if (ckpt_onnx_write(file, out, &(ckpt_onnx_replacement){"w", trained, 6}, 1, 0, &err) != CKPT_OK) fail_msg("%s", err.message);
        ckpt_onnx_free(file);
        file = read_or_fail(out);
        assert_int_equal(file->model->graph->n_sparse_initializer, 0);
        assert_int_equal(file->model->graph->n_initializer, 2);
        assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[1], values, 6, &err), CKPT_OK);
        assert_memory_equal(values, trained, sizeof trained);
        assert_int_equal(ckpt_onnx_make_dense(file, &done, &err), CKPT_OK); /* none is left */
        assert_true(done.count == 0 && !done.first);
        ckpt_onnx_free(file);
    }
}

static void refused(void **state, const sparse_model *m, const char *part) {
    const char *in = in_scratch(state, "in.onnx");
    ckpt_onnx_dense done;
    ckpt_error err = {0};
    small_model_save(&m->small, in);
    ckpt_onnx_file *file = read_or_fail(in);
    assert_int_equal(ckpt_onnx_make_dense(file, &done, &err), CKPT_MODEL);
    if (!strstr(err.message, part) || !strstr(err.message, in) || strchr(err.message, '\n')) fail_msg("%s, wanted %s", err.message, part);
    ckpt_onnx_free(file);
}

static void malformed_ones_are_refused(void **state) {
    for (int by_axis = 0; by_axis < 2; by_axis++) {
        sparse_model m;
        const int width = by_axis + 1;
        start(&m, by_axis), m.index[2 * width] = by_axis ? 2 : 6, refused(state, &m, "'w' has an index outside its dimensions; store it as a dense");
        start(&m, by_axis), m.index[0] = -1, refused(state, &m, "outside its dimensions");
        start(&m, by_axis), m.index[0] = INT64_MAX, refused(state, &m, "outside its dimensions");
        start(&m, by_axis), memcpy(m.index, m.index + width, sizeof *m.index * (size_t)width), refused(state, &m, "do not ascend"); /* twice */
        start(&m, by_axis), m.index[width] = 0, m.index[2 * width - 1] = 0, refused(state, &m, "do not ascend");
        start(&m, by_axis), m.dims[1] = 0, refused(state, &m, "a dimension below 1");
        start(&m, by_axis), m.dims[0] = -2, refused(state, &m, "a dimension below 1");
        start(&m, by_axis), m.dims[0] = INT64_MAX, refused(state, &m, "larger than any memory");
        start(&m, by_axis), m.dims[0] = 1 << 30, refused(state, &m, "is too sparse, or too large");
        start(&m, by_axis), m.dims[0] = INT64_MAX / 16, refused(state, &m, "is too sparse, or too large");
        start(&m, by_axis), m.dims[0] = m.dims[1] = 1, refused(state, &m, "more values than its dimensions hold");
        start(&m, by_axis), m.index_dims[0] = 2, m.indices.n_int64_data = 2 * (size_t)width, refused(state, &m, "not one index for each value");
        start(&m, by_axis), m.indices.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT32, refused(state, &m, "int64_data");
        start(&m, by_axis), m.sparse.indices = NULL, refused(state, &m, "no values or no indices");
        start(&m, by_axis), m.values.name = "", refused(state, &m, "has no name");
        start(&m, by_axis), m.value_dims[1] = 1, m.values.n_dims = 2, refused(state, &m, "values that are not a list");
        start(&m, by_axis), m.values.n_float_data = 2, refused(state, &m, "float_data has 2 entries");
    }
    sparse_model m;
    start(&m, true), m.sparse.n_dims = 1, refused(state, &m, "not one index for each value");
    start(&m, false), m.sparse.n_dims = 9, refused(state, &m, "more than 8 dimensions");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {CASE(read_as_dense), CASE(malformed_ones_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
