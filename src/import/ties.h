/* Weights that several nodes share. Some are meant to be shared; others an exporter made one because they were equal
 * when it ran, as all scales of fresh normalizations are. Trained on, the second kind would be a different model.
 *
 *     ckpt_tie_report report;
 *     const ckpt_tie_question question = {.graph = &graph, ..., .how = CKPT_UNTIE_AUTO};
 *     CKPT_TRY(ckpt_ties_resolve(file, &question, &pool, &report, err));
 *     if (report.copies) import_again();
 *
 * A tie is accidental when the initializer holds one value throughout, as nothing that was trained does, and its
 * readers do not otherwise belong to one module that is called twice: what the exporter says of them shows different
 * modules or, where it says nothing, the nearest weight matrix above or below them is not the same. Readers of one
 * Identity's output count as one. Where the file says what its tensors are, it also says which of them each node was written
 * with, and that decides, whatever the values are: deep copies of a layer are equal too, and an exporter's own constant may
 * have been made one with a parameter. A weight and a running statistic of BatchNormalization never belong together, not even in
 * one node: the one is trained, the other follows the batches. The file in memory is edited: an accidental tie's other
 * readers get an initializer of their own, under the name of the Identity that stood for it, or NAME_2 and so on.
 *
 * The opposite happens too: while it folds constants, an exporter writes a weight once as it is and once transposed, as the
 * embedding that is also the last layer. Where the second one's name or origin shows that it was computed and its values
 * are those of the first, it becomes a Transpose of it.
 */
#ifndef CKPT_TIES_H
#define CKPT_TIES_H

#include "base/pool.h"
#include "base/status.h"
#include "graph/graph.h"
#include "import/provenance.h"
#include "import/ruling.h"
#include "proto/onnx_file.h"

typedef enum ckpt_untie { CKPT_UNTIE_AUTO, CKPT_UNTIE_ALL, CKPT_UNTIE_NONE } ckpt_untie;

typedef struct ckpt_tie {
    const char *name;   /* of the initializer */
    int readers;        /* nodes, or Identity names, that shared it */
    int copies;         /* initializers that it is now; 1: still tied */
    const char *reason; /* half a sentence */
} ckpt_tie;

/* A parameter that an exporter wrote a second time, transposed, while it folded constants: one again. */
typedef struct ckpt_join {
    const char *name, *source;
} ckpt_join;

typedef struct ckpt_tie_report {
    int count, copies; /* copies: initializers added in all */
    ckpt_tie *tie;     /* in the pool, in the order of the initializers */
    int join_count;
    ckpt_join *join;
} ckpt_tie_report;

/* What the file became: its graph, and the verdicts on its tensors. What is added to the file is noted in `provenance`. */
typedef struct ckpt_tie_question {
    const ckpt_graph *graph;
    const ckpt_ruling *ruling;
    int ruling_count;
    ckpt_provenance *provenance;
    ckpt_untie how;
} ckpt_tie_question;

/* CKPT_NOMEM, CKPT_MODEL. */
ckpt_status ckpt_ties_resolve(ckpt_onnx_file *file, const ckpt_tie_question *question, ckpt_pool *pool, ckpt_tie_report *report,
                              ckpt_error *err);

#endif
