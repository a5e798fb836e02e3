/* A model file as a forward graph with its loss, and back.
 *
 *     ckpt_model_options options = {.batch = 64};
 *     ckpt_model model;
 *     ckpt_model_load("mlp.onnx", &options, &model, &err);
 *     ckpt_autodiff_run(&model.graph, &training, &err);
 *     ...
 *     ckpt_model_save(&model, trained, "trained.onnx", &err);
 *     ckpt_model_free(&model);
 */
#ifndef CKPT_MODEL_H
#define CKPT_MODEL_H

#include "base/status.h"
#include "graph/build.h"
#include "graph/graph.h"
#include "import/ties.h"

typedef struct ckpt_dim_binding {
    const char *name;
    int64_t value;
} ckpt_dim_binding;

/* What the training data say of the targets, where there are any, so that `auto` can choose the loss. */
typedef enum ckpt_target_hint { CKPT_TARGET_UNKNOWN, CKPT_TARGET_CLASSES, CKPT_TARGET_FLOAT } ckpt_target_hint;

/* An input whose value is known before anything runs: it is read as if it were an initializer. */
typedef struct ckpt_known_input {
    const char *name;
    const void *tensor; /* Onnx__TensorProto; must outlive the model */
} ckpt_known_input;

typedef struct ckpt_model_options {
    int64_t batch; /* 0: the size that the file fixes, else 64 */
    int dim_count;
    const ckpt_dim_binding *dim; /* other symbolic dimensions */
    bool loss_auto;
    ckpt_loss loss; /* without loss_auto; CKPT_LOSS_NONE: forward only */
    ckpt_target_hint target;
    ckpt_untie untie; /* what becomes of shared weights; not with as_written */
    int known_count;
    const ckpt_known_input *known;
    ckpt_drop_rng dropout_rng;
    float dropout; /* above 0: put dropout after each hidden activation (ckpt_rewrite_add_dropout); not with as_written */
    bool as_written; /* the file's own semantics for inference: element types kept, Dropout only where its
                        training_mode says so, nothing fused. For running a model, not for training it */
} ckpt_model_options;

/* A loss that is a node of the file. */
typedef struct ckpt_file_loss {
    const struct ckpt_file_loss *next;
    const char *node;
    int value;      /* the tensor with the loss, one number */
    ckpt_loss kind; /* CE or NLL, of */
    ckpt_view x;    /* these scores, (batch, classes, ...), */
    int target;     /* and these classes */
    int64_t classes;
    bool sum;   /* over the targets, not their weighted mean */
    bool plain; /* the same as CKPT_LOSS_CE or CKPT_LOSS_NLL on x: a mean, nothing weighted, nothing ignored */
} ckpt_file_loss;

typedef struct ckpt_model {
    struct ckpt_onnx_file *file;
    ckpt_graph graph;
    ckpt_loss loss;
    const char *loss_reason; /* one sentence: what was chosen and why; in the graph's pool */
    ckpt_tie_report ties;    /* weights that several nodes shared in the file */
    ckpt_pool ties_pool;
    const char *prediction;  /* name of the file's output that the loss is on */
    ckpt_view predicted;     /* what the loss reads of it */
    int64_t classes;         /* of a loss that is a node of the file; else 0 */
    const char *labels;      /* the input that was its target, no longer one of graph.input; else NULL */
    const ckpt_file_loss *file_loss; /* the newest; in the graph's pool */
    int output_count;        /* views of the file's outputs, in order; tensor -1: not computable here */
    ckpt_view *output;
} ckpt_model;

/* Reads, checks and simplifies. CKPT_USAGE: unreadable file, unbound dimension (naming it and the option);
 * CKPT_MODEL: invalid or unsupported (naming node, operator and opset). Weights are not read. */
ckpt_status ckpt_model_load(const char *path, const ckpt_model_options *options, ckpt_model *model, ckpt_error *err);

/* The initial values of a PARAM or CONST tensor in its own type: count * element bytes at `values`. Reads
 * external data only now. */
ckpt_status ckpt_model_read_values(const ckpt_model *model, int tensor, void *values, ckpt_error *err);

/* Writes the file again with new values of all PARAM and STATISTIC tensors. values: by tensor id, NULL for others.
 * Everything else stays as it was. overwrite: `path` may be the file that was read. */
ckpt_status ckpt_model_save(const ckpt_model *model, const float *const *values, const char *path, bool overwrite,
                            ckpt_error *err);

/* CKPT_MODEL unless `supports` holds for every node of the model's graph and every trained tensor can be written back;
 * names the first node, its operator and `device`. */
ckpt_status ckpt_model_check_trainable(const ckpt_model *model, bool (*supports)(ckpt_op op), const char *device,
                                       ckpt_error *err);

/* The PARAM and STATISTIC tensors in the order in which the file defines them: initializers, then Constant nodes. ids has room for
 * graph.tensor_count; returns how many. weights_sha256 is over them in this order. */
int ckpt_model_parameters(const ckpt_model *model, int *ids);

void ckpt_model_free(ckpt_model *model);

#endif
