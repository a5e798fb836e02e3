"""What PyTorch makes of a network: the loss of each step and the parameters after them, in float64 or float32."""

import copy

import numpy as np
import torch
import torch.nn.functional as F

OPTIMIZERS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "adam": lambda p, lr: torch.optim.Adam(p, lr),
}
RATES = {"sgd": 0.05, "momentum": 0.02, "adam": 0.005}


def loss_of(spec, net, x, y, class_weights):
    head = spec["head"]
    if spec["loss"] == "output":
        return net(x, y)
    out = net(x)
    if spec["loss"] == "mse":
        return F.mse_loss(out, y)
    if spec["loss"] == "nll":
        return F.nll_loss(out if out.dim() == 2 else out.movedim(-1, 1), y)
    if spec["loss"] == "bce":
        return F.binary_cross_entropy(out, y) if head == "sigmoid_bce" else F.binary_cross_entropy_with_logits(out, y)
    if "softmax" in head:
        out = torch.log(out)
    if head == "tokens_ce":
        out = out.movedim(-1, 1)
    ignore = -100 if spec["ignore"] is None else spec["ignore"]
    return F.cross_entropy(out, y, weight=class_weights, ignore_index=ignore, label_smoothing=spec["smoothing"])


class Result:
    def __init__(self, losses, net, gradients):
        self.losses, self.net, self.gradients = losses, net, gradients


def train(spec, net, arrays, dtype=torch.float64):
    """The same batches in the same order as ckpttrain takes them: no shuffling, the last one smaller."""
    net = copy.deepcopy(net).to(dtype).train()
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    optimizer = OPTIMIZERS[spec["optimizer"]]([p for p in net.parameters() if p.requires_grad], RATES[spec["optimizer"]])
    losses, gradients = [], {}
    for _ in range(spec["epochs"]):
        for at in range(0, spec["samples"], spec["batch"]):
            optimizer.zero_grad()
            loss = loss_of(
                spec,
                net,
                tensors["x"][at : at + spec["batch"]],
                tensors["y"][at : at + spec["batch"]],
                tensors.get("class_weights"),
            )
            loss.backward()
            for name, p in net.named_parameters():
                if p.grad is not None:
                    gradients[name] = max(gradients.get(name, 0.0), float(p.grad.abs().max()))
            optimizer.step()
            losses.append(float(loss.detach()))
    return Result(losses, net, gradients)


def doubles(state):
    return {name: value.detach().double().numpy() for name, value in state.items() if value.is_floating_point()}


def unfit(spec, net, exact, single):
    """Why a network says nothing about single precision, or None: it is not finite, it explodes, or PyTorch's own float32,
    `single`, is farther from float64 than a tenth of what is allowed."""
    if not np.all(np.isfinite(exact.losses)) or max(map(abs, exact.losses)) > 1e3:
        return "not finite, or a large loss"
    if abs(exact.losses[0]) < 1e-2:
        return "a loss of nearly zero"
    if not np.all(np.isfinite(single.losses)) or abs(single.losses[0] - exact.losses[0]) > 1e-6 * abs(exact.losses[0]):
        return "the loss depends on rounding"
    before, after, rounded = doubles(net.state_dict()), doubles(exact.net.state_dict()), doubles(single.net.state_dict())
    largest = max(exact.gradients.values(), default=0.0)
    for name, p in net.named_parameters():
        change, error = np.linalg.norm(after[name] - before[name]), np.linalg.norm(rounded[name] - after[name])
        if not np.isfinite(change) or change > 100:
            return "a weight explodes"
        if exact.gradients.get(name, 0.0) < 1e-6 * largest:
            if spec["optimizer"] == "adam" and p.requires_grad and name in exact.gradients:
                return "adam of a gradient that is zero but for rounding"
            continue
        if error > 1e-4 * change + floor(before[name]):
            return "the weights depend on rounding"
    return None


def rounding(exact, single):
    """{parameter: how far PyTorch's own float32 is from float64 in it}"""
    after, rounded = doubles(exact.net.state_dict()), doubles(single.net.state_dict())
    return {name: np.linalg.norm(rounded[name] - after[name]) for name in after}


def floor(value):
    """What single precision cannot tell apart in a weight after a few steps."""
    return 3e-7 * np.linalg.norm(value) + 3e-8
