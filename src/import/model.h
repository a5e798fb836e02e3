/* A model file as a forward graph with its loss, and back.
 *
 *     ckpt_model_options options = {.batch = 64};
 *     ckpt_model model;
 *     ckpt_model_load("mlp.onnx", &options, &model, &err);
 *     ckpt_autodiff_run(&model.graph, &training, &err);
 *     options.batch = 10;                                   // and what the last batch of an epoch needs
 *     ckpt_model_resize(&model, &options, &last, &err);
 *     ...
 *     ckpt_model_save(&model, trained, "trained.onnx", false, &err);
 *     ckpt_model_free(&model);
 */
#ifndef CKPT_MODEL_H
#define CKPT_MODEL_H

#include "base/status.h"
#include "graph/build.h"
#include "graph/graph.h"
#include "graph/loss_choice.h"
#include "import/provenance.h"
#include "import/ruling.h"
#include "import/ties.h"

typedef struct ckpt_dim_binding {
    const char *name;
    int64_t value;
} ckpt_dim_binding;

/* A loss that is asked for. */
typedef struct ckpt_loss_wish {
    const char *output; /* name of an output; NULL: the one that suits best */
    bool automatic;     /* by output and targets, else */
    ckpt_loss loss;     /* this one; CKPT_LOSS_FILE: the output is the loss */
    float scale;        /* in the sum of all */
} ckpt_loss_wish;

/* What is known of the targets, by loss in their order. */
typedef struct ckpt_loss_data {
    ckpt_target_facts target[CKPT_MAX_TARGETS];
    const float *weights[CKPT_MAX_TARGETS]; /* class weights, or NULL: they are not known yet */
    int64_t weight_count[CKPT_MAX_TARGETS];
} ckpt_loss_data;

/* An input whose value is known before anything runs: it is read as if it were an initializer. */
typedef struct ckpt_known_input {
    const char *name;
    const void *tensor; /* Onnx__TensorProto; must outlive the model */
} ckpt_known_input;

typedef struct ckpt_model_options {
    int64_t batch; /* 0: the size that the file fixes, else 64 */
    bool batch_decides; /* also where `dim` names the batch dimension */
    int dim_count;
    const ckpt_dim_binding *dim; /* other symbolic dimensions */
    bool loss_auto; /* one loss, chosen automatically, or */
    ckpt_loss loss; /* this one; CKPT_LOSS_NONE: forward only; or, */
    int wish_count; /* where it is not 0, these */
    const ckpt_loss_wish *wish;
    const char *output;         /* that a wish without one means, or NULL */
    int class_axis;             /* as in ckpt_loss_question, as the next three */
    float smoothing;
    const char *weights;
    bool ignores;               /* class indices of this value instead of -100: */
    int64_t ignore;
    const ckpt_loss_data *data; /* NULL: unknown */
    ckpt_untie untie; /* what becomes of shared weights; not with as_written */
    const char *train, *freeze; /* lists of names, globs, modules and layers; --train wins; NULL: none */
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
    int weights;    /* of the classes: a tensor, or -1 */
    bool ignores;   /* this class: */
    int64_t ignore;
    bool mean;      /* over what counts, not a sum over the targets */
} ckpt_file_loss;

/* One of the losses whose sum is trained. */
typedef struct ckpt_model_loss {
    int output;       /* of model.output */
    const char *name; /* of the output in the file */
    ckpt_loss loss;   /* what is computed: a choice's, or FILE */
    float scale;
    bool chosen;      /* question and choice are set: it is not a loss that the file computes */
    ckpt_loss_question question;
    ckpt_loss_choice choice;
    const char *sentence;
    int target;         /* index into graph.target; -1: it reads none, but inputs of the model */
    const char *labels; /* the input of the file that the target was, or NULL */
    int64_t classes;    /* of class indices, else 0; */
    bool ignores;       /* of which this value counts for nothing */
    int64_t ignore;
    bool mean;          /* the loss of a batch is the mean of its parts', by samples, or their sum */
    bool in_parts;      /* or neither, as far as can be seen: then it is not for micro-batches */
} ckpt_model_loss;

typedef struct ckpt_model {
    struct ckpt_onnx_file *file;
    bool borrowed;         /* the file is another model's */
    int64_t fixed_batch;   /* the batch that the file's first input has as a number; 0: it has a name, or any size */
    ckpt_graph graph;
    int loss_count;          /* 0: forward only */
    ckpt_model_loss losses[CKPT_MAX_TARGETS];
    const char *loss_reason; /* one sentence: what was chosen and why; in the graph's pool */
    const char *unread;      /* "'a', 'b'": outputs that no loss is on, or NULL */
    ckpt_onnx_dense dense;   /* sparse initializers of the file, which are dense ones here and where it is saved */
    ckpt_tie_report ties;    /* weights that several nodes shared in the file */
    ckpt_pool file_pool;     /* of ties, provenance and rulings: what is known of the file */
    ckpt_provenance provenance;
    int ruling_count;
    ckpt_ruling *ruling; /* on the float tensors of the file that the graph reads, in the file's order, initializers first */
    const char *prediction;  /* name of the file's output that the first loss is on */
    bool *is_label;          /* by input of the graph: nothing but the labels of a loss that the file computes */
    const ckpt_file_loss *file_loss; /* the newest; in the graph's pool */
    int output_count;        /* views of the file's outputs, in order; tensor -1: not computable here */
    ckpt_view *output;
} ckpt_model;

/* Reads, checks and simplifies. CKPT_USAGE: unreadable file, unbound dimension (naming it and the option);
 * CKPT_MODEL: invalid or unsupported (naming node, operator and opset). Values are read only where they show what a tensor
 * is (parameters.h) or whether two are one (ties.h). */
ckpt_status ckpt_model_load(const char *path, const ckpt_model_options *options, ckpt_model *model, ckpt_error *err);

/* Says anew what the losses are, after their questions and choices have been set to others of the same graph. */
ckpt_status ckpt_model_describe_losses(ckpt_model *model, ckpt_error *err);

/* The same file, which is not read again, for another batch: with the options that `of` was loaded with, but for the
 * batch, the graph is the one that ckpt_model_load makes. `of` must outlive it and owns the file. */
ckpt_status ckpt_model_resize(const ckpt_model *of, const ckpt_model_options *options, ckpt_model *model, ckpt_error *err);

/* The initial values of a PARAM or CONST tensor in its own type: count * element bytes at `values`. Reads
 * external data only now. */
ckpt_status ckpt_model_read_values(const ckpt_model *model, int tensor, void *values, ckpt_error *err);

/* Writes the file again with new values of all PARAM and STATISTIC tensors. values: by tensor id, NULL for others.
 * Everything else stays as it was. overwrite: `path` may be the file that was read. */
ckpt_status ckpt_model_save(const ckpt_model *model, const float *const *values, const char *path, bool overwrite,
                            ckpt_error *err);

/* Fails, naming the file and the tensor, where ckpt_model_save would whatever the values: to be asked before they are trained.
 * Whether `path` itself can be written is not asked. */
ckpt_status ckpt_model_check_savable(const ckpt_model *model, const char *path, ckpt_error *err);

/* CKPT_MODEL unless `supports` holds for every node of the model's graph and every trained tensor can be written back;
 * names the first node, its operator and `device`. */
ckpt_status ckpt_model_check_trainable(const ckpt_model *model, bool (*supports)(ckpt_op op), const char *device,
                                       ckpt_error *err);

/* The PARAM and STATISTIC tensors in the order in which the file defines them: initializers, then Constant nodes. ids has room for
 * graph.tensor_count; returns how many. weights_sha256 is over them in this order. */
int ckpt_model_parameters(const ckpt_model *model, int *ids);

void ckpt_model_free(ckpt_model *model);

#endif
