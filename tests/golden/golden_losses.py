"""terms/CASE: losses as PyTorch has them, with class weights, ignored classes, label smoothing, soft targets, classes on
any axis and several losses in one sum; and terms/trained, steps of a model under one of them."""

import numpy as np
import torch
import torch.nn.functional as F

from golden_files import normal

IGNORED = -1  # what the loss is given; the data may have another value
BATCH = 8


def classes_second(x, axis):
    """The axis of the classes where PyTorch wants it."""
    return x.movedim(axis, 1).contiguous()


def term_loss(kind, x, target, axis=1, soft=False, smoothing=0.0, weights=None):
    """The mean and what it is over."""
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(x, target), x.numel()
    if kind == "mse":
        return F.mse_loss(x, target), x.numel()
    x = classes_second(x, axis)
    if soft:
        loss = F.cross_entropy(x, classes_second(target, axis), weight=weights, label_smoothing=smoothing)
        return loss, x.numel() // x.shape[1]
    counted = target[target != IGNORED]
    denominator = float(weights[counted].sum()) if weights is not None else counted.numel()
    if denominator == 0:
        return (x * 0).sum(), 0.0  # PyTorch has NaN here
    if kind == "nll":
        return F.nll_loss(x, target, weight=weights, ignore_index=IGNORED), denominator
    loss = F.cross_entropy(x, target, weight=weights, ignore_index=IGNORED, label_smoothing=smoothing)
    return loss, denominator


def term_case(out, name, *terms):
    """Each term: kind, x, target, then scale and the options of term_loss. Line I of terms.txt says what term I is."""
    folder, lines, total = f"terms/{name}", [], 0
    leaves = []
    for i, (kind, x, target, options) in enumerate(terms):
        options = dict(options)
        scale, weights = options.pop("scale", 1.0), options.get("weights")
        leaf = torch.from_numpy(x.astype(np.float64)).requires_grad_()
        aim = torch.from_numpy(target.astype(np.float64) if target.dtype == np.float32 else target)
        if weights is not None:
            out.tensor(f"{folder}/weights_{i}.pb", weights, "weights")
            options["weights"] = torch.from_numpy(weights.astype(np.float64))
        loss, denominator = term_loss(kind, leaf, aim, **options)
        total = total + scale * loss
        leaves.append(leaf)
        out.tensor(f"{folder}/input_{i}.pb", x, "x")
        out.tensor(f"{folder}/target_{i}.pb", target, "target")
        lines.append(f"{kind} {options.get('axis', 1)} {int(options.get('soft', False))} {options.get('smoothing', 0.0)} "
                     f"{int(weights is not None)} {scale} {denominator!r}\n")
    total.backward()
    for i, leaf in enumerate(leaves):
        out.tensor(f"{folder}/grad_input_{i}.pb", leaf.grad, "grad_x")
    out.tensor(f"{folder}/loss.pb", total, "loss")
    out.files[f"{folder}/terms.txt"] = "".join(lines).encode()
    out.case(folder, len(terms))


LAYOUTS = {  # shape, axis of the classes
    "rows": ((BATCH, 5), 1),
    "wide": ((BATCH, 37), 1),
    "tokens": ((BATCH, 3, 5), 2),
    "pixels": ((BATCH, 5, 3, 7), 1),
    "middle": ((BATCH, 2, 18, 3), 2),
}


def make_layouts(out, random):
    for layout, (shape, axis) in LAYOUTS.items():
        count = shape[axis]
        rows = shape[:axis] + shape[axis + 1 :]
        x = normal(random, *shape) * np.float32(3)
        classes = random.randint(0, count, rows).astype(np.int64)
        partly = np.where(random.random_sample(rows) < 0.3, IGNORED, classes)
        partly[:2] = IGNORED  # nothing in a whole micro-batch of two
        weights = (random.random_sample(count) + 0.25).astype(np.float32)
        weights[1] = 0
        soft = random.random_sample(shape).astype(np.float32)
        soft /= soft.sum(axis, keepdims=True)
        case = lambda name, kind, target, **options: term_case(out, f"{name}_{layout}", (kind, x, target, {"axis": axis, **options}))
        case("ce", "ce", classes)
        case("ce_weights", "ce", classes, weights=weights)
        case("ce_ignored", "ce", partly)
        case("ce_smoothed", "ce", classes, smoothing=0.125)
        case("ce_all", "ce", partly, weights=weights, smoothing=0.25, scale=0.5)
        case("ce_soft", "ce", soft, soft=True)
        case("ce_soft_all", "ce", soft, soft=True, weights=weights, smoothing=0.25)
        case("nll", "nll", partly, weights=weights, scale=2.0)


def make_tails(out):
    """Confident and right: losses near 0, and one that is wrong beside them."""
    far = np.float32([15, 10, 18, 4, -15, -10, -18, -4]).reshape(BATCH, 1)
    one = np.float32(far > 0)
    term_case(out, "bce_tail", ("bce", far, one, {}))
    term_case(out, "bce_tail_wrong", ("bce", far, 1 - one, {}))
    term_case(out, "bce_tail_between", ("bce", far, np.float32(0.25) + one * np.float32(0.5), {}))
    pair = np.concatenate([-far, far], 1) / np.float32(2)
    classes = one[:, 0].astype(np.int64)
    both = np.stack([1 - one[:, 0], one[:, 0]], 1)
    term_case(out, "ce_tail", ("ce", pair, classes, {}))
    term_case(out, "ce_tail_soft", ("ce", pair, both, {"soft": True}))
    across = np.ascontiguousarray(np.stack([pair, pair[::-1]], 2))
    term_case(out, "ce_tail_across", ("ce", across, np.stack([classes, classes[::-1]], 1), {}))


def make_sums(out, random):
    x = normal(random, BATCH, 4, 3)
    classes = random.randint(0, 4, (BATCH, 3)).astype(np.int64)
    classes[3] = IGNORED
    weights = np.float32([0.5, 2, 1, 4])
    values, bits = normal(random, BATCH, 6), np.float32(random.random_sample((BATCH, 2)) < 0.5)
    ce = ("ce", x, classes, {"weights": weights, "scale": 0.5})
    mse = ("mse", normal(random, BATCH, 6), values, {"scale": 2.0})
    bce = ("bce", normal(random, BATCH, 2), bits, {"scale": 0.25})
    nothing = ("ce", normal(random, BATCH, 3), np.full(BATCH, IGNORED), {})
    term_case(out, "sum", ce, mse, bce)
    term_case(out, "sum_ignored", mse, nothing)
    term_case(out, "all_ignored", nothing)


def make_trained(out, random, width=6, count=4):
    """x w with SGD, batches of 8 over two epochs of 24 samples: the second batch has no class that counts, nor have the first
    two samples of the first. The data have 255 for what is ignored."""
    x = normal(random, 3 * BATCH, width)
    classes = random.randint(0, count, 3 * BATCH).astype(np.int64)
    classes[[0, 1, 5, 17, 20, 21]] = IGNORED
    classes[BATCH : 2 * BATCH] = IGNORED
    start, weights = normal(random, width, count), np.float32([0.5, 2, 1, 4])
    w, rate = torch.from_numpy(start.astype(np.float64)).requires_grad_(), 2.0**-2
    losses, right = [], []
    for step in range(6):
        rows = slice(step % 3 * BATCH, (step % 3 + 1) * BATCH)
        y, target = torch.from_numpy(x[rows].astype(np.float64)) @ w, torch.from_numpy(classes[rows])
        loss, _ = term_loss("ce", y, target, smoothing=0.125, weights=torch.from_numpy(weights.astype(np.float64)))
        w.grad = None
        loss.backward()
        losses.append(loss.detach())
        right.append(int(((y.argmax(1) == target) & (target != IGNORED)).sum()) / max(1, int((target != IGNORED).sum())))
        with torch.no_grad():
            w -= rate * w.grad
    y, target = torch.from_numpy(x.astype(np.float64)) @ w, torch.from_numpy(classes)
    whole, _ = term_loss("ce", y, target, smoothing=0.125, weights=torch.from_numpy(weights.astype(np.float64)))
    folder = "terms/trained"
    out.tensor(f"{folder}/x.pb", x, "x")
    out.tensor(f"{folder}/y.pb", np.where(classes == IGNORED, 255, classes), "y")
    out.tensor(f"{folder}/weights.pb", weights, "weights")
    out.tensor(f"{folder}/initial.pb", start, "w")
    out.tensor(f"{folder}/final.pb", w, "w")
    out.tensor(f"{folder}/losses.pb", torch.stack(losses), "losses")
    out.tensor(f"{folder}/accuracy.pb", np.float64(right), "accuracy")
    out.tensor(f"{folder}/evaluation.pb", whole, "loss")


def make_terms(out):
    random = np.random.RandomState(700)
    make_layouts(out, random)
    make_tails(out)
    make_sums(out, random)
    make_trained(out, random)
