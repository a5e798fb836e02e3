/* Losses and updates. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

/* The share of each sample of the batch, or the loss of a file as it is. */
static double own_factor(const ckpt_bind *b, const ckpt_scalars *s) {
    const double scale = (double)b->node->attr.loss.scale, all = s->denominator[b->node->attr.loss.term];
    return b->node->attr.loss.sum ? scale : all == 0 ? 0 : scale * (double)s->valid_samples / all;
}

/* A row of scores x[c * stride], or a value, whose targets are t[c], probabilities or values, of which `classes` there are:
 * its loss, its gradients d[c], and whether it is right. */
typedef struct loss_row {
    const ckpt_node *node;
    const float *weight;
    int64_t classes;
    double *x, *t, *d;
} loss_row;

static double values_loss(const loss_row *r, bool *correct) {
    const double x = r->x[0], t = r->t[0];
    if (r->node->attr.loss.kind == CKPT_LOSS_MSE) {
        r->d[0] = 2 * (x - t);
        return (x - t) * (x - t);
    }
    r->d[0] = 1 / (1 + exp(-x)) - t;
    *correct = (x > 0) == (t > 0.5);
    return fmax(x, 0) - x * t + log1p(exp(-fabs(x)));
}

static double classes_loss(const loss_row *r, bool *correct) {
    const bool likelihood = r->node->attr.loss.kind == CKPT_LOSS_NLL;
    const double smoothing = (double)r->node->attr.loss.smoothing;
    double most = -INFINITY, sum = 0, loss = 0, all = 0;
    int64_t best = 0, wanted = 0;
    for (int64_t c = 0; c < r->classes; c++) {
        if (r->x[c] > most) most = r->x[c], best = c;
        if (r->t[c] > r->t[wanted]) wanted = c;
    }
    *correct = best == wanted;
    for (int64_t c = 0; c < r->classes; c++) sum += exp(r->x[c] - most);
    for (int64_t c = 0; c < r->classes; c++) {
        const double share = (r->weight ? (double)r->weight[c] : 1) * (r->t[c] * (1 - smoothing) + smoothing / (double)r->classes);
        loss += share == 0 ? 0 : share * (likelihood ? -r->x[c] : most - r->x[c] + log(sum));
        r->d[c] = -share;
        all += share;
    }
    for (int64_t c = 0; c < r->classes && !likelihood; c++) r->d[c] += all * exp(r->x[c] - most) / sum;
    return loss;
}

/* Loss of each row or value, and its gradient, which are then divided by what counts. */
void ckpt_reference_run_loss(const ckpt_bind *b, const ckpt_scalars *s) {
    const bool grad = b->node->op == CKPT_OP_LOSS_GRAD, classes = ckpt_loss_takes_classes(b->node);
    const ckpt_loss kind = b->node->attr.loss.kind;
    if (kind == CKPT_LOSS_FILE) {
        if (grad) ((float *)b->out[0])[0] = (float)own_factor(b, s);
        else ((double *)b->out[0])[0] += own_factor(b, s) * (double)((const float *)b->in[0])[0];
        return;
    }
    const int64_t n = b->node->attr.loss.classes, inner = b->node->attr.loss.inner, items = ckpt_loss_items(b->node);
    const int64_t real = classes ? items : s->valid_samples * (items / b->graph->batch);
    const double all = s->denominator[b->node->attr.loss.term], factor = all == 0 ? 0 : (double)b->node->attr.loss.scale / all;
    const float *x = b->in[0], *t = b->in[1];
    const int32_t *class = b->in[1];
    double *rows = calloc(3 * (size_t)n, sizeof *rows), loss = 0, right = 0;
    const loss_row row = {b->node, b->node->in_count > 2 ? b->in[2] : NULL, n, rows, rows + n, rows + 2 * n};
    for (int64_t i = 0; i < items && rows; i++) {
        const int64_t at = i / inner * n * inner + i % inner;
        const bool counts = i < real && all != 0 && !(classes && class[i] < 0);
        for (int64_t c = 0; c < n; c++) {
            row.x[c] = (double)x[at + c * inner];
            row.t[c] = classes ? c == class[i] : (double)t[at + c * inner];
            row.d[c] = 0;
        }
        bool correct = false;
        if (counts) loss += kind == CKPT_LOSS_BCE || kind == CKPT_LOSS_MSE ? values_loss(&row, &correct) : classes_loss(&row, &correct);
        right += correct;
        for (int64_t c = 0; c < n && grad; c++) ((float *)b->out[0])[at + c * inner] = (float)(row.d[c] * factor);
    }
    free(rows);
    if (!grad) ((double *)b->out[0])[0] += loss * factor, ((double *)b->out[0])[1] += right;
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
