/* Mutations of ONNX models as messages: nodes, names, dimensions and external_data entries change and the file stays one
 * that a parser accepts, so that the fuzzer spends its time behind the parser.
 *
 *     size = fuzz_proto_mutate(bytes, size, max_size, seed);   // 0: not a model, mutate the bytes instead
 */
#ifndef CKPT_FUZZ_PROTO_H
#define CKPT_FUZZ_PROTO_H

#include <stddef.h>
#include <stdint.h>

/* Replaces the model in `bytes` by a mutation of it of at most max_size bytes; returns its size, or 0 when `bytes` are no
 * model or the result is too large. The same for the same arguments. */
size_t fuzz_proto_mutate(uint8_t *bytes, size_t size, size_t max_size, unsigned seed);

#endif
