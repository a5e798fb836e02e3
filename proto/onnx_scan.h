/* The check of a file's wire format before protobuf-c sees it.
 *
 * protobuf-c trusts its input: it recurses once per nested message without a limit, cuts a string at its
 * first NUL byte and merges a message that appears twice. The scan refuses such files, with one stack of
 * fixed depth and no allocation, and says where the damage is.
 *
 *     ckpt_onnx_fault fault;
 *     if (!ckpt_onnx_scan(&onnx__model_proto__descriptor, bytes, size, &fault)) report(fault.offset);
 */
#ifndef CKPT_ONNX_SCAN_H
#define CKPT_ONNX_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* Messages inside messages. Real models stay under 20; each level of control flow adds 4. */
enum { CKPT_ONNX_MAX_DEPTH = 100 };

typedef enum ckpt_onnx_fault_kind {
    CKPT_ONNX_FAULT_FOREIGN,   /* damaged before any field of the schema was seen: another kind of file */
    CKPT_ONNX_FAULT_TRUNCATED, /* the file ends inside a field of the outermost message */
    CKPT_ONNX_FAULT_DAMAGED,
    CKPT_ONNX_FAULT_DEEP /* more than CKPT_ONNX_MAX_DEPTH messages inside each other */
} ckpt_onnx_fault_kind;

typedef struct ckpt_onnx_fault {
    ckpt_onnx_fault_kind kind;
    size_t offset;       /* bytes from the start to the tag of the field at fault */
    const char *message; /* "TensorProto": the message type that the field is in */
    const char *field;   /* "raw_data", or "" where the schema knows no such field */
    const char *what;    /* "the length goes beyond the enclosing message" */
} ckpt_onnx_fault;

/* True when protobuf-c can unpack `bytes` as a message of type `root`; else *fault says why not. Fields
 * that the schema does not know pass when they are well formed. */
bool ckpt_onnx_scan(const ProtobufCMessageDescriptor *root, const uint8_t *bytes, size_t size,
                    ckpt_onnx_fault *fault);

#endif
