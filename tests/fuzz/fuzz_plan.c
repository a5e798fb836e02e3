/* Fuzz target: plan files. The first byte chooses a training graph, the rest is the plan file; "?" in it stands for the
 * graph's hash, so that inputs outlive changes of what is hashed. A plan that is accepted runs, takes the memory that it
 * says, and gives the same bits as a plan that recomputes nothing: a damaged plan is refused or does no harm. */
#include "fuzz_target.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz_graph.h"
#include "fuzz_step.h"
#include "planner/plan_file.h"
#include "runtime/backend.h"

enum { MOST_PLACES = 8192, MOST_TEXT = 1 << 18 };

typedef struct subject {
    ckpt_graph training, evaluation;
    char hash[65]; /* of the gradients of one step */
} subject;

static void must(ckpt_status status) { FUZZ_EXPECT(status == CKPT_OK); }

static ckpt_plan *make_plan(const subject *s, const ckpt_plan_options *base) {
    ckpt_plan_options options = *base;
    ckpt_plan *plan;
    ckpt_error err;
    options.eval = &s->evaluation;
    must(ckpt_plan_make(&s->training, &options, ckpt_backend_cpu()->traits, NULL, &plan, &err));
    return plan;
}

static const subject *get_subject(int kind) {
    static subject all[FUZZ_GRAPHS];
    if (!all[kind].training.node_count) {
        const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
        fuzz_graph_make(kind, &all[kind].training, &all[kind].evaluation);
        ckpt_plan *plan = make_plan(&all[kind], &none);
        FUZZ_EXPECT(fuzz_step(&all[kind].training, &all[kind].evaluation, plan, all[kind].hash));
        ckpt_plan_free(plan);
    }
    return &all[kind];
}

/* The bytes as a file with the graph's hash in place of "?". */
static int plan_file(const uint8_t *bytes, size_t size, const char *hash, char path[64]) {
    const uint8_t *mark = memmem(bytes, size, "\"?\"", 3);
    const size_t before = mark ? (size_t)(mark - bytes) + 1 : size;
    const int fd = memfd_create("plan", MFD_CLOEXEC);
    FUZZ_EXPECT(fd >= 0 && write(fd, bytes, before) == (ssize_t)before);
    if (mark) FUZZ_EXPECT(write(fd, hash, 64) == 64 && write(fd, mark + 2, size - before - 1) == (ssize_t)(size - before - 1));
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char path[64], hash[65];
    ckpt_plan *plan;
    ckpt_error err;
    if (size < 1) return 0;
    const subject *s = get_subject(bytes[0] % FUZZ_GRAPHS);
    const ckpt_traits *traits = ckpt_backend_cpu()->traits;
    const int fd = plan_file(bytes + 1, size - 1, s->training.hash, path);
    if (ckpt_plan_read(path, &s->training, &s->evaluation, &plan, &err) == CKPT_OK) {
        /* As ckpttrain asks of a plan before it runs. */
        if (strcmp(plan->device, traits->device) == 0 && plan->alignment_bytes % traits->alignment_bytes == 0 &&
            plan->input_buffers == traits->input_buffers && fuzz_step(&s->training, &s->evaluation, plan, hash))
            FUZZ_EXPECT(strcmp(hash, s->hash) == 0);
        ckpt_plan_free(plan);
    }
    close(fd);
    return 0;
}

/* ---- Mutations of the JSON --------------------------------------------------------------------------- */

static uint64_t rng_state;

/* xorshift64 (Marsaglia 2003). */
static size_t draw(size_t below) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return below ? (size_t)(rng_state >> 16) % below : 0;
}

static struct {
    json_t *value[MOST_PLACES];
    size_t count;
} places;

static void find_places(json_t *value) {
    const char *key;
    json_t *inner;
    size_t i;
    if (places.count < MOST_PLACES) places.value[places.count++] = value;
    json_object_foreach(value, key, inner) find_places(inner);
    json_array_foreach(value, i, inner) find_places(inner);
}

static void change_array(json_t *array) {
    const size_t count = json_array_size(array), at = draw(count), other = draw(count);
    json_t *moved = json_array_get(array, at);
    if (!moved) return;
    switch (draw(4)) {
    case 0: json_array_remove(array, at); break;
    case 1: json_array_insert_new(array, other, json_deep_copy(moved)); break;
    case 2: /* a pair in the other order: steps, instances */
        json_incref(moved);
        json_array_remove(array, at);
        json_array_insert_new(array, other < count - 1 ? other : count - 1, moved);
        break;
    default: json_array_set_new(array, at, json_deep_copy(json_array_get(array, other))); break;
    }
}

static void change_number(json_t *number) {
    static const json_int_t delta[] = {1, -1, 2, -2, 64, -64, 256, -256, 1024};
    static const json_int_t fixed[] = {0, -1, 1, INT32_MAX, INT64_MAX, INT64_MIN, 1 << 30, 512, 4096};
    const json_int_t now = json_integer_value(number);
    const json_t *other = places.value[draw(places.count)];
    json_int_t made = now;
    if (draw(3) == 0 && json_is_integer(other)) made = json_integer_value(other);
    else if (draw(2)) __builtin_add_overflow(now, delta[draw(9)], &made);
    else made = fixed[draw(9)];
    json_integer_set(number, made);
}

static void change(json_t *value) {
    if (json_is_array(value)) change_array(value);
    if (json_is_integer(value)) change_number(value);
    if (json_is_string(value)) json_string_set(value, draw(2) ? "cpu" : "?");
    if (json_is_object(value) && json_object_size(value) && draw(8) == 0) json_object_del(value, json_object_iter_key(json_object_iter(value)));
}

/* A sound plan to begin with. Returns its size, or 0. */
static size_t fresh_plan(uint8_t *bytes, size_t max_size) {
    const ckpt_plan_options some[] = {{.strategy = CKPT_STRATEGY_NONE}, {.strategy = CKPT_STRATEGY_SQRT},
                                      {.strategy = CKPT_STRATEGY_EVERY, .every = 2}, {.strategy = CKPT_STRATEGY_SELECTIVE},
                                      {.strategy = CKPT_STRATEGY_MIN}, {.strategy = CKPT_STRATEGY_LAYERS, .layers = "*"}};
    const int kind = (int)draw(FUZZ_GRAPHS);
    const subject *s = get_subject(kind);
    ckpt_plan *plan = make_plan(s, &some[draw(sizeof some / sizeof *some)]);
    char path[] = "/tmp/ckpt-plan-XXXXXX";
    ckpt_error err;
    const int fd = mkstemp(path);
    FUZZ_EXPECT(fd >= 0);
    close(fd);
    must(ckpt_plan_write(plan, path, &err));
    ckpt_plan_free(plan);
    json_t *root = json_load_file(path, 0, NULL);
    unlink(path);
    json_object_set_new(root, "graph_hash", json_string("?"));
    bytes[0] = (uint8_t)kind;
    const size_t size = json_dumpb(root, (char *)bytes + 1, max_size - 1, JSON_COMPACT);
    json_decref(root);
    return size < max_size ? 1 + size : 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed) {
    rng_state = seed + UINT64_C(88172645463325252);
    for (int i = 0; i < 4; i++) draw(2);
    if (draw(200) == 0 || size < 3) {
        const size_t made = fresh_plan(bytes, max_size);
        if (made) return made;
    }
    json_t *root = size > 1 && draw(20) ? json_loadb((const char *)bytes + 1, size - 1, 0, NULL) : NULL;
    if (!root) return LLVMFuzzerMutate(bytes, size, max_size);
    for (size_t changes = 1 + draw(3); changes--;) {
        places.count = 0;
        find_places(root);
        change(places.value[draw(places.count)]);
    }
    static char text[MOST_TEXT];
    const size_t made = json_dumpb(root, text, sizeof text, JSON_COMPACT);
    json_decref(root);
    if (made >= max_size || made > sizeof text) return LLVMFuzzerMutate(bytes, size, max_size);
    memcpy(bytes + 1, text, made);
    return 1 + made;
}
