/* Which tensors of a file are trained: the one rule that planning, training, saving and every table follow.
 *
 *     while importing:    ckpt_parameters_by_file(...)       what the file and the user say
 *     then:               ckpt_parameters_by_use(...)        what is plainly a number, a mask or a table
 *     with the loss:      ckpt_parameters_by_gradient(...)   what the loss does not reach, and layers named by --freeze
 *
 * The verdicts stay in model->ruling, for messages and --json.
 *
 * Where the file says what a tensor is (provenance.h), that is what it is. Otherwise every floating initializer that the
 * loss's gradient reaches is a parameter, wherever it stands, but for the exceptions in CKPT_VERDICT_LIST, each of which
 * is plainly no parameter. --train and --freeze decide against all of it.
 */
#ifndef CKPT_PARAMETERS_H
#define CKPT_PARAMETERS_H

#include "import/model.h"
#include "import/provenance.h"

typedef enum ckpt_trainable {
    CKPT_NEVER_TRAINED,
    CKPT_MAYBE_TRAINED, /* unless its values or its use show a number, a mask or a table, or no gradient reaches it */
    CKPT_SURELY_TRAINED /* said or asked for: no operator may take it for a number */
} ckpt_trainable;

/* Something that may be a weight, as it is found in the file. */
typedef struct ckpt_weight_question {
    const char *name;
    uint64_t count;
    bool is_float, is_initializer; /* else the tensor of a Constant node */
    bool in_function;              /* of a function's body, which is the same for every call */
    bool weighs_classes;           /* it goes into losses of the file, as weights of their classes, and nowhere else */
} ckpt_weight_question;

ckpt_verdict ckpt_parameters_by_file(const ckpt_provenance *provenance, const ckpt_model_options *options,
                                     const ckpt_weight_question *question);
ckpt_trainable ckpt_verdict_trainable(ckpt_verdict verdict);

/* Gives each float tensor of the imported graph the role PARAM or CONST. Single numbers that an element function may turn
 * out to be spelled with stay CONST until the gradient has been followed. */
ckpt_status ckpt_parameters_by_use(ckpt_model *model, ckpt_error *err);

/* Of the graph with its loss and its layers: what no gradient reaches or --freeze names becomes CONST. CKPT_USAGE: --train
 * or --freeze names what is not there, or what cannot be trained; CKPT_MODEL: nothing is left to train. */
ckpt_status ckpt_parameters_by_gradient(ckpt_model *model, const ckpt_model_options *options, ckpt_error *err);

#endif
