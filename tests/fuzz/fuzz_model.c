/* Fuzz target: a model and the external data beside it, through reading, import, autodiff, planning, a training step,
 * saving and reading again. Four bytes choose the options and what lies beside the model, the rest is the model. */
#include "fuzz_target.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz_proto.h"
#include "fuzz_step.h"
#include "graph/autodiff.h"
#include "graph/batch_axis.h"
#include "import/model.h"
#include "planner/plan_size.h"
#include "proto/onnx_file.h"
#include "runtime/backend.h"

enum { HEADER = 4, MOST_NODES = 60, MOST_VALUES = 1 << 16, SECRET_BYTES = 1 << 15, SECRET = 0xee };

/* place: what "d" is in the model's folder. */
enum { NOTHING, REGULAR, SYMLINK, HARD_LINK, FOLDER, PIPE, IN_FOLDER, LINKED_FOLDER };

static char root[64];

/* "root/name"; good until the fourth call after it. The working directory stays the fuzzer's. */
static const char *at(const char *name) {
    static char paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void clean(void) {
    static const char *const made[] = {"in/s/d", "in/s", "in/d", "in/m.onnx", "in/out.onnx", "in/out.onnx.data",
                                       "in/out.onnx.1.data", "in", "secret", "outside/d", "outside", ""};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) remove(at(made[i]));
}

static void write_file(const char *path, const void *bytes, size_t size) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_EXPECT(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* The model's folder, and outside of it a file that no model may read: its bytes are not like any others. */
static void set_up(void) {
    static uint8_t secret[SECRET_BYTES];
    if (*root) return;
    snprintf(root, sizeof root, "%s/ckpt-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_EXPECT(mkdtemp(root) && mkdir(at("in"), 0700) == 0 && mkdir(at("outside"), 0700) == 0);
    memset(secret, SECRET, sizeof secret);
    write_file(at("secret"), secret, sizeof secret);
    write_file(at("outside/d"), secret, sizeof secret);
    atexit(clean);
}

static void put_external(unsigned place, size_t size) {
    static uint8_t bytes[SECRET_BYTES];
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i * 5 % 64);
    unlink(at("in/d"));
    rmdir(at("in/d"));
    unlink(at("in/s/d"));
    unlink(at("in/s"));
    rmdir(at("in/s"));
    switch (place) {
    case REGULAR: write_file(at("in/d"), bytes, size); break;
    case SYMLINK: FUZZ_EXPECT(symlink("../secret", at("in/d")) == 0); break;
    case HARD_LINK: FUZZ_EXPECT(link(at("secret"), at("in/d")) == 0); break;
    case FOLDER: FUZZ_EXPECT(mkdir(at("in/d"), 0700) == 0); break;
    case PIPE: FUZZ_EXPECT(mkfifo(at("in/d"), 0600) == 0); break;
    case IN_FOLDER:
        FUZZ_EXPECT(mkdir(at("in/s"), 0700) == 0);
        write_file(at("in/s/d"), bytes, size);
        break;
    case LINKED_FOLDER: FUZZ_EXPECT(symlink("../outside", at("in/s")) == 0); break;
    default: break;
    }
}

/* Reads every tensor of the file: what comes from a file of its own comes from the folder. */
static void read_tensors(const char *path) {
    static uint8_t bytes[8 * MOST_VALUES];
    static float floats[MOST_VALUES];
    ckpt_onnx_file *file;
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) return;
    for (size_t i = 0; i < file->model->graph->n_initializer && i < 100; i++) {
        const Onnx__TensorProto *tensor = file->model->graph->initializer[i];
        if (ckpt_onnx_tensor_describe(file, tensor, &info, &err) != CKPT_OK || info.count > MOST_VALUES ||
            info.bytes > sizeof bytes)
            continue;
        if (ckpt_onnx_tensor_read(file, tensor, bytes, info.bytes, &err) == CKPT_OK && info.external)
            for (size_t k = 0; k < info.bytes; k++) FUZZ_EXPECT(bytes[k] != SECRET);
        ckpt_onnx_tensor_read_f32(file, tensor, floats, info.count, &err);
        ckpt_onnx_tensor_read_i64(file, tensor, (int64_t *)(void *)bytes, info.count, &err);
    }
    ckpt_onnx_free(file);
}

/* Saves the parameters as made-up values; what is saved can be read. */
static void save(ckpt_model *model) {
    const ckpt_graph *g = &model->graph;
    static float values[MOST_VALUES];
    ckpt_error err;
    const float **list = calloc((size_t)g->tensor_count + 1, sizeof *list);
    bool small = list != NULL;
    for (int t = 0; list && t < g->tensor_count; t++)
        if (g->tensor[t].role == CKPT_ROLE_PARAM) {
            small = small && g->tensor[t].count <= MOST_VALUES;
            list[t] = values;
        }
    if (small && ckpt_model_save(model, list, at("in/out.onnx"), false, &err) == CKPT_OK) {
        ckpt_onnx_file *again;
        /* Over itself: what was saved is read for the data that it needs. */
        FUZZ_EXPECT(ckpt_model_save(model, list, at("in/out.onnx"), false, &err) == CKPT_OK);
        FUZZ_EXPECT(ckpt_onnx_read(at("in/out.onnx"), &again, &err) == CKPT_OK);
        ckpt_onnx_free(again);
        FUZZ_EXPECT(access(at("in/out.onnx.data"), F_OK) != 0); /* it is out.onnx.1.data now, or there is none */
        unlink(at("in/out.onnx"));
        unlink(at("in/out.onnx.1.data"));
    }
    free(list);
}

/* The last batch of an epoch, of one sample, in the memory of a plan. */
static void resize_and_plan(const ckpt_model *whole, const ckpt_plan *plan, const ckpt_model_options *options,
                            const ckpt_training_options *training) {
    ckpt_model model;
    ckpt_error err;
    ckpt_model_options one = *options;
    ckpt_training_options like = *training;
    one.batch = 1;
    like.like = &whole->graph;
    if (ckpt_model_resize(whole, &one, &model, &err) != CKPT_OK) return;
    if (ckpt_autodiff_run(&model.graph, &like, &err) == CKPT_OK) {
        const ckpt_plan_room room = {&whole->graph, plan, plan->memory.arena};
        ckpt_plan *resized;
        int *origin = calloc((size_t)model.graph.tensor_count + 1, sizeof *origin);
        const ckpt_status status = origin ? ckpt_plan_resize(&room, &model.graph, ckpt_backend_cpu()->traits, origin, &resized, &err)
                                          : CKPT_NOMEM;
        FUZZ_EXPECT(status != CKPT_FAILED);
        if (status == CKPT_OK) FUZZ_EXPECT(resized->memory.total == plan->memory.total);
        if (status == CKPT_OK) ckpt_plan_free(resized);
        free(origin);
    }
    ckpt_model_free(&model);
}

static void find_across(const ckpt_graph *graph) {
    ckpt_error err;
    bool *across = calloc((size_t)graph->node_count + 1, sizeof *across);
    if (across) (void)ckpt_batch_find_across(graph, across, &err);
    free(across);
}

static void plan_and_run(ckpt_model *model, unsigned strategy, const ckpt_model_options *loaded, ckpt_training_options training) {
    ckpt_graph *g = &model->graph;
    ckpt_graph evaluation;
    ckpt_error err;
    ckpt_plan *plan, *plain;
    const ckpt_traits *traits = ckpt_backend_cpu()->traits;
    if (ckpt_graph_for_evaluation(g, &evaluation, &err) != CKPT_OK) return;
    const ckpt_plan_options options = {.strategy = strategy % CKPT_STRATEGY_COUNT, .every = 2, .layers = "*",
                                       .budget_bytes = 1 << 14, .eval = &evaluation};
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE, .eval = &evaluation};
    ckpt_training_defaults(&training);
    if (ckpt_autodiff_run(g, &training, &err) == CKPT_OK) {
        const ckpt_status status = ckpt_plan_make(g, &options, traits, NULL, &plan, &err);
        FUZZ_EXPECT(status != CKPT_FAILED); /* the checker refuses none of our own plans */
        char hash[65], plain_hash[65];
        if (status == CKPT_OK && fuzz_step(g, &evaluation, plan, hash) &&
            ckpt_plan_make(g, &none, traits, NULL, &plain, &err) == CKPT_OK) {
            if (fuzz_step(g, &evaluation, plain, plain_hash)) FUZZ_EXPECT(strcmp(hash, plain_hash) == 0);
            ckpt_plan_free(plain);
        }
        find_across(g);
        if (status == CKPT_OK) resize_and_plan(model, plan, loaded, &training);
        if (status == CKPT_OK) ckpt_plan_free(plan);
    }
    ckpt_graph_free(&evaluation);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    ckpt_model model;
    ckpt_error err;
    if (size < HEADER) return 0;
    set_up();
    put_external(bytes[1] & 7, (size_t)bytes[2] << (bytes[1] >> 3 & 7));
    write_file(at("in/m.onnx"), bytes + HEADER, size - HEADER);
    const ckpt_dim_binding dim = {.name = "N", .value = 3};
    const ckpt_model_options options = {.batch = bytes[0] & 3, .loss_auto = bytes[0] & 4, .loss = CKPT_LOSS_MSE,
                                        .as_written = (bytes[0] & 0xf8) == 0xf8, .dim_count = 1, .dim = &dim,
                                        .dropout = bytes[0] & 128 ? 0.5f : 0, .untie = (ckpt_untie)((bytes[1] >> 6) % 3)};
    const ckpt_training_options training = {
        .optimizer = (ckpt_optimizer)(((bytes[0] >> 3 & 3) | (bytes[0] >> 4 & 4)) % CKPT_OPTIMIZER_COUNT), .accumulate = bytes[0] & 32};
    if (bytes[1] & 7) read_tensors(at("in/m.onnx"));
    if (ckpt_model_load(at("in/m.onnx"), &options, &model, &err) != CKPT_OK) return 0;
    if (bytes[3] & 128) save(&model);
    /* Planning is what takes the time: half of the inputs stop before. */
    if (!options.as_written && bytes[3] & 64 && model.graph.node_count < MOST_NODES) plan_and_run(&model, bytes[3] & 63, &options, training);
    ckpt_model_free(&model);
    return 0;
}

/* Mostly the model as messages, sometimes plain bytes, sometimes the header. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed) {
    if (size > HEADER && seed % 16 < 13) {
        const size_t made = fuzz_proto_mutate(bytes + HEADER, size - HEADER, max_size - HEADER, seed / 16);
        if (made) return HEADER + made;
    }
    if (size > HEADER && seed % 16 < 14) {
        LLVMFuzzerMutate(bytes, HEADER, HEADER);
        return size;
    }
    return LLVMFuzzerMutate(bytes, size, max_size);
}
