#include "fuzz_proto.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_target.h"
#include "proto/onnx_file.h"
#include "proto/onnx_scan.h"

enum { ARENA_BYTES = 8 << 20, MOST_MESSAGES = 4096, MOST_STRINGS = 2048 };

/* Everything that one mutation makes, gone with the next. */
static _Alignas(max_align_t) unsigned char arena[ARENA_BYTES];
static size_t arena_used;

static void *arena_alloc(void *unused, size_t size) {
    (void)unused;
    size = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (size > ARENA_BYTES - arena_used) return NULL;
    void *piece = arena + arena_used;
    arena_used += size;
    return memset(piece, 0, size);
}

static void arena_free(void *unused, void *pointer) { (void)unused, (void)pointer; }

static ProtobufCAllocator allocator = {arena_alloc, arena_free, NULL};

static uint64_t rng_state;

/* xorshift64 (Marsaglia 2003). */
static size_t draw(size_t below) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return below ? (size_t)(rng_state >> 16) % below : 0;
}

/* What the messages of a model offer to a mutation. */
static struct {
    ProtobufCMessage *message[MOST_MESSAGES];
    size_t message_count;
    char *string[MOST_STRINGS];
    size_t string_count;
} seen;

#define X(op, function, attributes) #op,
static const char *const operators[] = {
#include "import/onnx_ops.def"
};
static const char *const words[] = {
#include "import/onnx_ops.def"
#undef X
    "alpha", "beta", "axis", "axes", "perm", "transA", "transB", "epsilon", "keepdims", "ratio", "to", "value", "shape",
    "location", "offset", "length", "checksum", "basepath", "d", "s/d", "./d", "../secret", "s/../../secret", "/etc/passwd",
    "d/", "s//d", "..", ".", "", "0", "8", "64", "4096", "-1", "18446744073709551615", "9223372036854775807", " 4", "0x8",
    "x", "y", "w", "batch", "N", "ai.onnx", "ai.onnx.ml", "tanh", "none"};

static const int64_t numbers[] = {0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 18, 64, 255, 1024, 65536, -1, -2, -8, INT32_MAX, INT32_MIN,
                                  INT64_MAX, INT64_MIN, INT64_C(1) << 31, INT64_C(1) << 32, INT64_C(1) << 40, INT64_C(1) << 58,
                                  INT64_C(1) << 59, INT64_C(1) << 60, INT64_C(1) << 62};

static int64_t some_number(void) { return draw(3) ? numbers[draw(sizeof numbers / sizeof *numbers)] : (int64_t)draw(10); }

static char *copy_string(const char *text) {
    char *copy = arena_alloc(NULL, strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static char *some_string(void) {
    if (seen.string_count && draw(2)) return seen.string[draw(seen.string_count)];
    if (draw(4)) return copy_string(words[draw(sizeof words / sizeof *words)]);
    char text[32];
    snprintf(text, sizeof text, "n%zu", draw(40));
    return copy_string(text);
}

/* ---- Fields, by their descriptors -------------------------------------------------------------------- */

static void *member(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) { return (char *)m + f->offset; }
static void *quantifier(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) { return (char *)m + f->quantifier_offset; }

static bool is_oneof(const ProtobufCFieldDescriptor *f) { return f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF; }

/* Whether a singular message or string is there to be looked at. */
static bool is_set(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    if (is_oneof(f) && *(uint32_t *)quantifier(m, f) != f->id) return false;
    return *(void **)member(m, f) != NULL;
}

static void look_at(ProtobufCMessage *m);

static void look_at_value(const ProtobufCFieldDescriptor *f, void *value) {
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) look_at(value);
    if (f->type == PROTOBUF_C_TYPE_STRING && seen.string_count < MOST_STRINGS) seen.string[seen.string_count++] = value;
}

static void look_at(ProtobufCMessage *m) {
    if (seen.message_count == MOST_MESSAGES) return;
    seen.message[seen.message_count++] = m;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE && f->type != PROTOBUF_C_TYPE_STRING) continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_set(m, f)) look_at_value(f, *(void **)member(m, f));
            continue;
        }
        void **list = *(void ***)member(m, f);
        for (size_t k = 0; k < *(size_t *)quantifier(m, f); k++) look_at_value(f, list[k]);
    }
}

static size_t size_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT64: case PROTOBUF_C_TYPE_SINT64: case PROTOBUF_C_TYPE_SFIXED64: case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_STRING: case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    default: return 4;
    }
}

static ProtobufCMessage *deep_copy(const ProtobufCMessage *m) {
    const size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = arena_alloc(NULL, size + 1);
    if (!bytes) return NULL;
    protobuf_c_message_pack(m, bytes);
    return protobuf_c_message_unpack(m->descriptor, &allocator, size, bytes);
}

/* Another message of the type, from anywhere in the model, or an empty one. */
static ProtobufCMessage *some_message(const ProtobufCMessageDescriptor *type) {
    for (int tries = 0; tries < 40; tries++) {
        const ProtobufCMessage *m = seen.message[draw(seen.message_count)];
        if (m->descriptor == type) return deep_copy(m);
    }
    ProtobufCMessage *fresh = arena_alloc(NULL, type->sizeof_message);
    if (fresh) type->message_init(fresh);
    return fresh;
}

static void set_value(const ProtobufCFieldDescriptor *f, void *value) {
    const int64_t number = some_number();
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *m = some_message(f->descriptor);
        if (m) *(void **)value = m;
        return;
    }
    case PROTOBUF_C_TYPE_STRING: {
        char *text = some_string();
        if (text) *(void **)value = text;
        return;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData *data = value;
        const size_t length = draw(3) ? data->len : 4 * draw(20);
        uint8_t *bytes = arena_alloc(NULL, length + 64);
        if (!bytes) return;
        if (data->len) memcpy(bytes, data->data, length < data->len ? length : data->len);
        *data = (ProtobufCBinaryData){.data = bytes, .len = draw(2) ? length : LLVMFuzzerMutate(bytes, length, length + 64)};
        return;
    }
    case PROTOBUF_C_TYPE_FLOAT: *(float *)value = draw(2) ? (float)number : 0.25f * (float)draw(9); return;
    case PROTOBUF_C_TYPE_DOUBLE: *(double *)value = (double)number; return;
    case PROTOBUF_C_TYPE_BOOL: *(protobuf_c_boolean *)value = draw(2) != 0; return;
    default: memcpy(value, &number, size_of(f->type)); return;
    }
}

static void change_list(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    const size_t size = size_of(f->type);
    size_t *count = quantifier(m, f);
    char **list = member(m, f);
    const size_t at = draw(*count), other = draw(*count);
    switch (draw(5)) {
    case 0: { /* one more */
        char *longer = arena_alloc(NULL, (*count + 1) * size);
        if (!longer) return;
        if (*count) memcpy(longer, *list, *count * size);
        if (*count) memcpy(longer + *count * size, *list + at * size, size);
        void *before = size == sizeof(void *) ? *(void **)(void *)(longer + *count * size) : longer;
        if (f->type != PROTOBUF_C_TYPE_MESSAGE || draw(2)) set_value(f, longer + *count * size);
        else if (before) *(void **)(void *)(longer + *count * size) = deep_copy(before);
        if (size == sizeof(void *) && f->type >= PROTOBUF_C_TYPE_STRING && !*(void **)(void *)(longer + *count * size)) return;
        *list = longer;
        ++*count;
        return;
    }
    case 1: /* one less */
        if (!*count) return;
        memmove(*list + at * size, *list + (at + 1) * size, (*count - at - 1) * size);
        --*count;
        return;
    case 2: { /* in another order */
        char held[sizeof(ProtobufCBinaryData)];
        if (!*count) return;
        memcpy(held, *list + at * size, size);
        memcpy(*list + at * size, *list + other * size, size);
        memcpy(*list + other * size, held, size);
        return;
    }
    default:
        if (*count) set_value(f, *list + at * size);
    }
}

static void change_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        change_list(m, f);
        return;
    }
    const bool pointer = f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING;
    if (is_oneof(f)) {
        uint32_t *which = quantifier(m, f);
        if (*which != f->id) memset(member(m, f), 0, size_of(f->type));
        set_value(f, member(m, f));
        if (!pointer || *(void **)member(m, f)) *which = f->id;
        else *which = 0;
        return;
    }
    if (pointer) {
        if (draw(6) == 0) *(void **)member(m, f) = NULL;
        else set_value(f, member(m, f));
        return;
    }
    set_value(f, member(m, f));
    *(protobuf_c_boolean *)quantifier(m, f) = draw(8) != 0;
}

/* ---- Nodes ------------------------------------------------------------------------------------------- */

/* One more operator between a node's output and whoever reads it: chains of operators that no seed has. */
static void insert_node(Onnx__GraphProto *g) {
    if (!g->n_node) return;
    const size_t at = draw(g->n_node);
    Onnx__NodeProto *fresh = (Onnx__NodeProto *)deep_copy(&g->node[draw(g->n_node)]->base);
    Onnx__NodeProto **longer = arena_alloc(NULL, (g->n_node + 1) * sizeof *longer);
    char *name = arena_alloc(NULL, 32);
    if (!fresh || !longer || !name || !g->node[at]->n_output || !fresh->n_output || !fresh->n_input) return;
    snprintf(name, 32, "f%zu", draw(1000));
    if (draw(2)) {
        fresh->op_type = copy_string(operators[draw(sizeof operators / sizeof *operators)]);
        fresh->n_attribute = draw(3) ? 0 : fresh->n_attribute;
        if (!fresh->op_type) return;
    }
    char *old = g->node[at]->output[0];
    fresh->input[0] = old;
    fresh->output[0] = name;
    fresh->name = name;
    memcpy(longer, g->node, (at + 1) * sizeof *longer);
    longer[at + 1] = fresh;
    memcpy(longer + at + 2, g->node + at + 1, (g->n_node - at - 1) * sizeof *longer);
    g->node = longer;
    g->n_node++;
    for (size_t n = at + 2; n < g->n_node; n++)
        for (size_t i = 0; i < g->node[n]->n_input; i++)
            if (strcmp(g->node[n]->input[i], old) == 0) g->node[n]->input[i] = name;
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i]->name && strcmp(g->output[i]->name, old) == 0) g->output[i]->name = name;
}

size_t fuzz_proto_mutate(uint8_t *bytes, size_t size, size_t max_size, unsigned seed) {
    const ProtobufCMessageDescriptor *type = &onnx__model_proto__descriptor;
    ckpt_onnx_fault fault;
    arena_used = 0;
    rng_state = seed + UINT64_C(88172645463325252);
    for (int i = 0; i < 4; i++) draw(2);
    if (!ckpt_onnx_scan(type, bytes, size, &fault)) return 0;
    ProtobufCMessage *root = protobuf_c_message_unpack(type, &allocator, size, bytes);
    if (!root) return 0;
    for (size_t changes = 1 + draw(3); changes--;) {
        seen.message_count = seen.string_count = 0;
        look_at(root);
        if (draw(5) == 0) {
            Onnx__GraphProto *graph = ((Onnx__ModelProto *)root)->graph;
            if (graph) insert_node(graph);
            continue;
        }
        ProtobufCMessage *m = seen.message[draw(seen.message_count)];
        if (m->descriptor->n_fields) change_field(m, &m->descriptor->fields[draw(m->descriptor->n_fields)]);
    }
    const size_t packed = protobuf_c_message_get_packed_size(root);
    if (packed > max_size || packed == 0) return 0;
    return protobuf_c_message_pack(root, bytes);
}
