/* Which tensors of the model are trained, in one line and as JSON.
 *
 *     ckpt_parameters_say(&model, "ckptplan");
 *     // "trains 14 tensors, 8,407,050 values; keeps 3: m, s (BUFFER), mask (0/1 mask)"
 */
#ifndef CKPT_PARAMETERS_REPORT_H
#define CKPT_PARAMETERS_REPORT_H

#include <jansson.h>

#include "import/model.h"

/* Numbers of the code and constants that an exporter made are left out of the line, since nobody takes them for
 * parameters. Further notes name tensors that the exporter computed from parameters. */
void ckpt_parameters_say(const ckpt_model *model, const char *program);

/* [{"name", "values", "trained", "reason"}], every float tensor of the file that the graph reads; NULL: memory. */
json_t *ckpt_parameters_json(const ckpt_model *model);

#endif
