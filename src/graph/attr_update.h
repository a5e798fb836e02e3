/* Attributes of optimizer updates; each reads those that its formula has. */
#ifndef CKPT_ATTR_UPDATE_H
#define CKPT_ATTR_UPDATE_H


typedef struct ckpt_update_attr {
    float beta1, beta2, epsilon, weight_decay, momentum;
} ckpt_update_attr;

#endif
