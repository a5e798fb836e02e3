#include "proto/onnx_scan.h"

#include <assert.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* Longest encodings: of 64 bits, and of the 32 bits that tags and lengths have. */
enum { MAX_VARINT = 10, MAX_VARINT32 = 5 };

typedef struct frame {
    const ProtobufCMessageDescriptor *type;
    const uint8_t *end;
    uint64_t seen; /* bit i: field i of `type`, a message that may appear once, has appeared */
} frame;

typedef struct scanner {
    const uint8_t *at;
    frame stack[CKPT_ONNX_MAX_DEPTH];
    size_t depth;
    bool known; /* a field of the schema has been read */
    const ProtobufCFieldDescriptor *field;
    const char *what;
    bool deep, cut;
} scanner;

static bool fault(scanner *s, const char *what) {
    s->what = what;
    return false;
}

/* The field needs more bytes than its message has. */
static bool fault_short(scanner *s, const char *what) {
    s->cut = s->depth == 1;
    return fault(s, what);
}

static bool read_varint(scanner *s, const uint8_t *end, size_t max_bytes, uint64_t *value) {
    *value = 0;
    for (size_t i = 0; i < max_bytes; i++) {
        if (s->at == end) return fault_short(s, "a number is cut off");
        uint8_t byte = *s->at++;
        *value |= (uint64_t)(byte & 0x7f) << (7 * i); /* bits beyond 64 fall off, as in protobuf */
        if (byte < 0x80) return true;
    }
    return fault(s, "a number has too many bytes");
}

static bool skip(scanner *s, const uint8_t *end, uint64_t count, const char *what) {
    if (count > (uint64_t)(end - s->at)) return fault_short(s, what);
    s->at += count;
    return true;
}

/* The wire type of one element of a known field. */
static int wire_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

static bool scan_packed(scanner *s, const uint8_t *end) {
    size_t length = (size_t)(end - s->at);
    int wire = wire_of(s->field->type);
    if (wire == WIRE_VARINT) {
        uint64_t ignored;
        while (s->at < end) {
            if (!read_varint(s, end, MAX_VARINT, &ignored)) return false;
        }
        return true;
    }
    if (length % (wire == WIRE_FIXED64 ? 8 : 4) != 0) return fault(s, "packed numbers end inside a number");
    s->at = end;
    return true;
}

static bool push(scanner *s, const ProtobufCMessageDescriptor *type, const uint8_t *end) {
    if (s->depth == CKPT_ONNX_MAX_DEPTH) {
        s->deep = true;
        return fault(s, "too many messages inside each other");
    }
    s->stack[s->depth++] = (frame){.type = type, .end = end};
    return true;
}

/* A string, bytes, packed numbers or a message, whose length comes first. */
static bool scan_bytes(scanner *s, frame *top) {
    const ProtobufCFieldDescriptor *field = s->field;
    uint64_t length;
    if (!read_varint(s, top->end, MAX_VARINT32, &length)) return false;
    if (length > (uint64_t)(top->end - s->at)) {
        return fault_short(s, "the length goes beyond the enclosing message");
    }
    const uint8_t *end = s->at + length;
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            size_t index = (size_t)(field - top->type->fields);
            assert(index < 64);
            if (top->seen >> index & 1) return fault(s, "the field appears twice");
            top->seen |= UINT64_C(1) << index;
        }
        return push(s, field->descriptor, end);
    }
    if (field && wire_of(field->type) != WIRE_BYTES) return scan_packed(s, end);
    if (field && field->type == PROTOBUF_C_TYPE_STRING && memchr(s->at, 0, length)) {
        return fault(s, "the text holds a NUL byte");
    }
    s->at = end;
    return true;
}

static bool scan_field(scanner *s) {
    frame *top = &s->stack[s->depth - 1];
    uint64_t tag;
    s->field = NULL;
    if (!read_varint(s, top->end, MAX_VARINT32, &tag)) return false;
    int wire = (int)(tag & 7);
    if (tag > UINT32_MAX || tag >> 3 == 0) return fault(s, "no field has such a number");
    s->field = protobuf_c_message_descriptor_get_field(top->type, (unsigned)(tag >> 3));
    if (s->field) {
        int expected = wire_of(s->field->type);
        bool packed = wire == WIRE_BYTES && s->field->label == PROTOBUF_C_LABEL_REPEATED;
        if (wire != expected && !packed) return fault(s, "the value is not of the field's type");
    }
    uint64_t ignored;
    bool good;
    switch (wire) {
    case WIRE_VARINT:
        good = read_varint(s, top->end, MAX_VARINT, &ignored);
        break;
    case WIRE_FIXED64:
        good = skip(s, top->end, 8, "a number is cut off");
        break;
    case WIRE_FIXED32:
        good = skip(s, top->end, 4, "a number is cut off");
        break;
    case WIRE_BYTES:
        good = scan_bytes(s, top);
        break;
    default:
        return fault(s, "a field has an unknown wire type");
    }
    if (good && s->field) s->known = true;
    return good;
}

static void describe(const scanner *s, size_t offset, ckpt_onnx_fault *fault) {
    fault->kind = s->cut && (s->known || s->field) ? CKPT_ONNX_FAULT_TRUNCATED
                  : !s->known                      ? CKPT_ONNX_FAULT_FOREIGN
                  : s->deep                        ? CKPT_ONNX_FAULT_DEEP
                                                   : CKPT_ONNX_FAULT_DAMAGED;
    fault->offset = offset;
    fault->message = s->stack[s->depth - 1].type->short_name;
    fault->field = s->field ? s->field->name : "";
    fault->what = s->what;
}

bool ckpt_onnx_scan(const ProtobufCMessageDescriptor *root, const uint8_t *bytes, size_t size,
                    ckpt_onnx_fault *fault) {
    scanner s = {.at = bytes};
    s.stack[s.depth++] = (frame){.type = root, .end = bytes + size};
    while (s.depth > 0) {
        if (s.at == s.stack[s.depth - 1].end) {
            s.depth--;
            continue;
        }
        size_t offset = (size_t)(s.at - bytes);
        if (!scan_field(&s)) {
            describe(&s, offset, fault);
            return false;
        }
    }
    return true;
}
