/* Losses and updates. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

/* A loss that the file computed. */
static void own_loss(const ckpt_bind *b, const ckpt_scalars *s) {
    const double factor = b->node->attr.loss.sum ? 1 : (double)s->valid_samples / s->denominator[b->node->attr.loss.term];
    if (b->node->op == CKPT_OP_LOSS_GRAD) ((float *)b->out[0])[0] = (float)factor;
    else ((double *)b->out[0])[0] += factor * (double)((const float *)b->in[0])[0];
}

/* Loss of one value or row, and its gradient before the division by the number of rows or values. */
void ckpt_reference_run_loss(const ckpt_bind *b, const ckpt_scalars *s) {
    if (b->node->attr.loss.kind == CKPT_LOSS_FILE) {
        own_loss(b, s);
        return;
    }
    const ckpt_loss kind = b->node->attr.loss.kind;
    const bool grad = b->node->op == CKPT_OP_LOSS_GRAD, classes = kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL;
    const int64_t cols = classes ? b->node->attr.loss.classes : b->node->attr.loss.inner;
    const int64_t all_rows = classes ? ckpt_loss_items(b->node) : b->node->attr.loss.outer;
    const int64_t rows = s->valid_samples * (all_rows / b->graph->batch);
    const double norm = s->denominator[b->node->attr.loss.term];
    const float *x = b->in[0], *tf = b->in[1];
    const int32_t *ti = b->in[1];
    double loss = 0, correct = 0;
    for (int64_t r = 0; r < all_rows; r++) {
        const bool counts = r < rows && !(classes && ti[r] < 0);
        double most = -INFINITY, sum = 0;
        int64_t best = 0;
        for (int64_t c = 0; c < cols; c++) {
            if ((double)x[r * cols + c] > most) most = (double)x[r * cols + c], best = c;
        }
        for (int64_t c = 0; c < cols; c++) sum += exp((double)x[r * cols + c] - most);
        if (counts && kind == CKPT_LOSS_CE) loss += log(sum) + most - (double)x[r * cols + ti[r]];
        if (counts && kind == CKPT_LOSS_NLL) loss -= (double)x[r * cols + ti[r]];
        if (counts && classes) correct += best == ti[r];
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = r * cols + c;
            const double v = (double)x[at], t = classes ? counts && c == ti[r] : (double)tf[at];
            double d = kind == CKPT_LOSS_CE ? exp(v - most) / sum - t : kind == CKPT_LOSS_NLL ? -t
                     : kind == CKPT_LOSS_BCE ? 1 / (1 + exp(-v)) - t : 2 * (v - t);
            if (counts && kind == CKPT_LOSS_BCE) loss += fmax(v, 0) - v * t + log1p(exp(-fabs(v))), correct += (v > 0) == (t > 0.5);
            if (counts && kind == CKPT_LOSS_MSE) loss += (v - t) * (v - t);
            if (grad) ((float *)b->out[0])[at] = (float)(counts ? d / norm : 0);
        }
    }
    if (!grad) ((double *)b->out[0])[0] += loss / norm, ((double *)b->out[0])[1] += correct;
}

void ckpt_reference_run_class_loss(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t classes = b->node->attr.class_loss.classes, inner = b->node->attr.class_loss.inner;
    const float *x = b->in[0], *weights = b->node->in_count > 2 ? b->in[2] : NULL;
    const int32_t *target = b->in[1];
    for (int64_t i = 0; i < out_count(b); i++) {
        const int32_t t = target[i];
        const bool counts = t >= 0 && t != b->node->attr.class_loss.ignore;
        const double weight = !counts ? 0 : t >= classes ? NAN : weights ? (double)weights[t] : 1;
        ((float *)b->out[0])[i] = !counts || t >= classes
                                      ? (float)weight
                                      : (float)(-weight * (double)x[(i / inner * classes + t) * inner + i % inner]);
        if (b->node->out_count > 1) ((float *)b->out[1])[i] = (float)weight;
    }
}

void ckpt_reference_run_class_loss_grad(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t classes = b->node->attr.class_loss.classes, inner = b->node->attr.class_loss.inner;
    const float *dy = b->in[0], *weights = b->node->in_count > 2 ? b->in[2] : NULL;
    const int32_t *target = b->in[1];
    for (int64_t n = 0; n < out_count(b); n++) {
        const int64_t c = n / inner % classes, i = n / inner / classes * inner + n % inner;
        const bool here = target[i] == c && c != b->node->attr.class_loss.ignore;
        ((float *)b->out[0])[n] = here ? (float)(-(weights ? (double)weights[c] : 1) * (double)dy[i]) : 0;
    }
}

void ckpt_reference_run_update(const ckpt_bind *b, const ckpt_scalars *s) {
    const ckpt_attr *a = &b->node->attr;
    float *w = b->out[0], *m = b->node->out_count > 1 ? b->out[1] : NULL, *v = b->node->out_count > 2 ? b->out[2] : NULL;
    const float *g = b->in[1];
    const double lr = (double)s->learning_rate, t = s->step + 1.0, decay = (double)a->update.weight_decay;
    const double b1 = (double)a->update.beta1, b2 = (double)a->update.beta2;
    for (int64_t i = 0; i < out_count(b); i++) {
        double wi = (double)w[i], gi = (double)g[i];
        if (b->node->op == CKPT_OP_ADAMW) wi *= 1 - lr * decay;
        else gi += decay * wi;
        if (b->node->op == CKPT_OP_SGD) {
            wi -= lr * gi;
        } else if (b->node->op == CKPT_OP_MOMENTUM) {
            m[i] = (float)((double)a->update.momentum * (double)m[i] + gi);
            wi -= lr * (double)m[i];
        } else if (b->node->op == CKPT_OP_NESTEROV) {
            m[i] = (float)((double)a->update.momentum * (double)m[i] + gi);
            wi -= lr * (gi + (double)a->update.momentum * (double)m[i]);
        } else if (b->node->op == CKPT_OP_ADAGRAD) {
            m[i] = (float)((double)m[i] + gi * gi);
            wi -= lr * gi / (sqrt((double)m[i]) + (double)a->update.epsilon);
        } else {
            m[i] = (float)(b1 * (double)m[i] + (1 - b1) * gi);
            v[i] = (float)(b2 * (double)v[i] + (1 - b2) * gi * gi);
            wi -= lr * ((double)m[i] / (1 - pow(b1, t))) / (sqrt((double)v[i] / (1 - pow(b2, t))) + (double)a->update.epsilon);
        }
        w[i] = (float)wi;
    }
}
