/* What a file says of its own tensors.
 *
 *     ckpt_provenance p;
 *     CKPT_TRY(ckpt_provenance_read(file, &pool, &p, err));
 *     const ckpt_said_tensor *said = ckpt_provenance_find(&p, "fc1.weight");
 *     if (said && said->kind == CKPT_SAID_PARAMETER) ...
 *
 * PyTorch's dynamo exporter writes the signature of the exported program into the graph's metadata
 * (pkg.torch.export.ExportedProgram.graph_signature), the kind of each tensor beside its value_info
 * (pkg.torch.export.graph_signature.InputSpec.kind), and from what a constant was folded
 * (pkg.onnxscript.optimizer.folded_from). The TorchScript exporter says nothing, but always writes numbers of the code
 * as Constant nodes, and what belongs to a module as initializers.
 */
#ifndef CKPT_PROVENANCE_H
#define CKPT_PROVENANCE_H

#include "base/name_hash.h"
#include "base/pool.h"
#include "base/status.h"
#include "proto/onnx_file.h"

typedef enum ckpt_said_kind {
    CKPT_SAID_NOTHING, /* an input or output of the program */
    CKPT_SAID_PARAMETER,
    CKPT_SAID_BUFFER,
    CKPT_SAID_CONSTANT
} ckpt_said_kind;

typedef struct ckpt_said_tensor {
    const char *name; /* in the file, or the module's name for one that is no longer there */
    const char *fx;   /* its name in the texts of pkg.torch.onnx.fx_node, without the '%'; or NULL */
    const char *folded_from; /* "['a', 'b']": the values it was computed from when the file was written; or NULL */
    ckpt_said_kind kind;     /* of what it was folded from, where that is how it came about */
    const char *origin;      /* the parameter that it was folded from, or NULL */
} ckpt_said_tensor;

typedef struct ckpt_provenance {
    bool torch;  /* written by PyTorch */
    bool speaks; /* the file says of some tensor that it is a PARAMETER or BUFFER */
    ckpt_pool *pool;
    int count, capacity;
    ckpt_said_tensor *tensor;
    ckpt_name_key key;
    size_t slot_count;
    int *by_name, *by_fx; /* open addressing: 1 + index into tensor, 0 empty */
} ckpt_provenance;

/* Everything lives in `pool`; the file must outlive it. CKPT_NOMEM. */
ckpt_status ckpt_provenance_read(const ckpt_onnx_file *file, ckpt_pool *pool, ckpt_provenance *provenance, ckpt_error *err);

/* By the tensor's name in the file, or by its name in the exported program; NULL where the file says nothing of it. */
const ckpt_said_tensor *ckpt_provenance_find(const ckpt_provenance *provenance, const char *name);
const ckpt_said_tensor *ckpt_provenance_find_fx(const ckpt_provenance *provenance, const char *fx, size_t length);

/* Notes what a tensor is that was added to the file in memory. */
ckpt_status ckpt_provenance_note(ckpt_provenance *provenance, const char *name, ckpt_said_kind kind, ckpt_error *err);

/* The text of a node's metadata property, or NULL. */
const char *ckpt_node_property(const Onnx__NodeProto *node, const char *key);

/* Whether the TorchScript exporter names the output of a Constant node so ("/fc/Constant_1_output_0"). Tools that simplify
 * files make initializers of them, under the same name. */
bool ckpt_provenance_is_code_constant(const ckpt_provenance *provenance, const char *name);

#endif
