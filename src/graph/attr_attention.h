/* Attributes of ATTENTION. */
#ifndef CKPT_ATTR_ATTENTION_H
#define CKPT_ATTR_ATTENTION_H

#include "graph/tensor.h"

/* ONNX Attention: `heads` queries share kv_heads keys and values; head_in and head_out are the sizes of a head of the
 * keys and of the values. packed: the heads of the queries,
 * packed_keys: those of keys and values, lie beside each other in a row (3-D inputs). */
typedef struct ckpt_attention_attr {
    int64_t batch, heads, kv_heads, queries, keys, head_in, head_out;
    float scale, softcap;
    bool causal, packed, packed_keys;
} ckpt_attention_attr;

#endif
