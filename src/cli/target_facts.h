/* What the values of a target array are like, so that a loss can be chosen by them (graph/loss_choice.h). */
#ifndef CKPT_TARGET_FACTS_H
#define CKPT_TARGET_FACTS_H

#include "data/dataset.h"
#include "graph/loss_choice.h"

/* Reads the array once for each of its axes; facts->name is the array's. */
void ckpt_target_facts_find(const ckpt_array *array, ckpt_target_facts *facts);

#endif
