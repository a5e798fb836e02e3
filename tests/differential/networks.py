"""Random networks of the trainer's tier, as PyTorch modules.

    spec = networks.random_spec(seed)          # plain data, which JSON can hold
    net = networks.build(spec)                 # the module, the same for the same spec
    arrays = networks.data(spec, net)          # float32 inputs and targets

A network is a list of blocks and a head. A block is made from its kind, a seed of its own and the width that reaches it, so that
the others stay as they are when one is taken away (differential.py --minimise)."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Fn(nn.Module):
    """A function with parameters, buffers and modules of its own."""

    def __init__(self, function, **owned):
        super().__init__()
        self.function = function
        for name, value in owned.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def weight(*shape, scale=0.5):
    return nn.Parameter(torch.randn(*shape) * scale)


# --- element functions ------------------------------------------------------------------------------------------------------


def activation(r, width, tokens):
    u = lambda low, high: round(r.uniform(low, high), 2)
    return r.choice(
        [
            lambda: nn.ReLU(),
            lambda: nn.ReLU6(),
            lambda: nn.LeakyReLU(u(0.01, 0.3)),
            lambda: nn.ELU(u(0.5, 1.5)),
            lambda: nn.SELU(),
            lambda: nn.CELU(u(0.5, 2)),
            lambda: nn.GELU(),
            lambda: nn.GELU(approximate="tanh"),
            lambda: nn.SiLU(),
            lambda: nn.Mish(),
            lambda: nn.Softplus(),
            lambda: nn.Softplus(beta=u(0.5, 3)),
            lambda: nn.Softsign(),
            lambda: nn.Tanh(),
            lambda: nn.Sigmoid(),
            lambda: nn.Hardtanh(u(-2, -0.5), u(0.5, 2)),
            lambda: nn.Hardsigmoid(),
            lambda: nn.Hardswish(),
            lambda: nn.LogSigmoid(),
            lambda: nn.Tanhshrink(),
            lambda: nn.Softshrink(u(0.1, 0.6)),
            lambda: nn.Hardshrink(u(0.1, 0.6)),
            lambda: nn.Threshold(u(-0.5, 0.5), u(-0.5, 0.5)),
            lambda: nn.PReLU(init=u(0.05, 0.4)),
            lambda: nn.PReLU(tokens or width, init=u(0.05, 0.4)),
        ]
    )()


FORMULAS = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "squared_relu": lambda x: F.relu(x) ** 2,
    "clamped_silu": lambda x: x.clamp(max=1.5) * torch.sigmoid(x),
    "clamped_softsign": lambda x: x / (1 + x.abs().clamp(max=1.0)),
    "clamped_mish": lambda x: x.clamp(-1, 2) * torch.tanh(F.softplus(x)),
    "where_softplus": lambda x: torch.where(x > 1, 2 * x - 1, F.softplus(x)),
    "almost_gelu": lambda x: 0.5 * x * (1 + torch.erf(x * 0.7)),
    "gelu_by_tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "half_silu": lambda x: 0.5 * x * torch.sigmoid(2 * x) + 0.1,
    "gauss": lambda x: torch.exp(-x * x),
    "softsign": lambda x: x / (1 + x.abs()),
    "hypot": lambda x: torch.sqrt(x * x + 1),
    "log": lambda x: torch.log(x * x + 1.5),
    "reciprocal": lambda x: 1 / (2 + x * x),
    "erf": torch.erf,
    "abs": torch.abs,
    "cube": lambda x: x**3 * 0.1,
    "neg": lambda x: 1 - x,
    "max_number": lambda x: torch.maximum(x, torch.tensor(0.25, dtype=x.dtype)),
    "min_max": lambda x: torch.minimum(torch.maximum(x, -0.5 * x), 2 + 0.1 * x),
    "root": lambda x: (x.abs() + 0.1) ** 0.5,
}


def formula(r, width, tokens):
    name = r.choice(sorted(FORMULAS))
    function = FORMULAS[name]
    return Fn(lambda m, x: function(x))


# --- products ---------------------------------------------------------------------------------------------------------------


def linear(r, width, tokens):
    return nn.Linear(width, r.choice([2, 3, 4, 5, 6, 8]), bias=r.random() < 0.7)


def tied(r, width, tokens):
    return Fn(lambda m, x: m.f(torch.tanh(m.f(x))), f=nn.Linear(width, width, bias=r.random() < 0.5))


def tied_transposed(r, width, tokens):
    return Fn(lambda m, x: torch.relu(x @ m.w) @ m.w.t(), w=weight(width, r.choice([2, 3, 5])))


def plain_product(r, width, tokens):
    return Fn(lambda m, x: x @ m.w + m.b, w=weight(width, r.choice([3, 4, 5])), b=weight(1))


def left_product(r, width, tokens):
    if tokens:
        return Fn(lambda m, x: torch.matmul(m.w, x), w=weight(tokens, tokens))
    return Fn(lambda m, x: (m.w @ x.t()).t(), w=weight(r.choice([3, 4, 5]), width))


def lora(r, width, tokens):
    out, rank = r.choice([2, 3, 4]), r.choice([1, 2])
    scale = r.choice([1, 0.5])
    return Fn(lambda m, x: F.linear(x, m.w + scale * (m.b @ m.a)), w=weight(out, width), a=weight(rank, width), b=weight(out, rank))


def lora_beside(r, width, tokens):
    return Fn(lambda m, x: m.f(x) + (x @ m.a) @ m.b, f=nn.Linear(width, 4), a=weight(width, 2), b=weight(2, 4))


DERIVED = {
    "softplus": lambda w: F.softplus(w),
    "exp": lambda w: torch.exp(w) * 0.3,
    "abs": torch.abs,
    "square": lambda w: w * w,
    "pow3": lambda w: w**3,
    "centred": lambda w: w - w.mean(1, keepdim=True),
    "standardized": lambda w: (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True, unbiased=False) + 0.1),
    "normed": lambda w: w / (w.norm(dim=1, keepdim=True) + 1e-3),
    "clamped": lambda w: w.clamp(-0.6, 0.6),
    "tanh": torch.tanh,
    "max": lambda w: torch.maximum(w, -0.3 * w),
    "div": lambda w: w / 3,
    "sub": lambda w: 0.1 - w,
    "transposed": lambda w: w.t().reshape(w.shape[1], -1).t(),
    "softmax": lambda w: torch.softmax(w, 1),
    "sigmoid": torch.sigmoid,
}


def derived(r, width, tokens):
    name = r.choice(sorted(DERIVED))
    function = DERIVED[name]
    return Fn(
        lambda m, x: F.linear(x, function(m.w), m.b), w=weight(r.choice([3, 4, 5]), width), b=nn.Parameter(torch.randn(()) * 0.3)
    )


def cut_weight(r, width, tokens):
    """A fused weight that the graph cuts: slice, chunk, split, and a concatenation of two."""
    kind = r.choice(["slice", "chunk", "split", "concat", "view"])
    if kind == "slice":
        return Fn(lambda m, x: x @ m.w[:, 1:4], w=weight(width, 5))
    if kind == "chunk":
        return Fn(lambda m, x: (x @ m.w.chunk(2, 1)[0]) * torch.sigmoid(x @ m.w.chunk(2, 1)[1]), w=weight(width, 6))
    if kind == "split":
        return Fn(lambda m, x: torch.cat([F.linear(x, p) for p in torch.split(m.w, [1, 3])], -1), w=weight(4, width))
    if kind == "concat":
        return Fn(lambda m, x: x @ torch.cat([m.p, m.q], 1), p=weight(width, 2), q=weight(width, 3))
    return Fn(lambda m, x: F.linear(x, m.w.view(3, width)), w=weight(3 * width))


def weight_norm(r, width, tokens):
    return Fn(
        lambda m, x: F.linear(x, m.g * m.v / m.v.norm(dim=1, keepdim=True)),
        g=nn.Parameter(torch.rand(3, 1) + 0.5),
        v=weight(3, width),
    )


def diagonal(r, width, tokens):
    return Fn(lambda m, x: x * m.d + m.e, d=nn.Parameter(1 + 0.3 * torch.randn(width)), e=weight(width, scale=0.1))


def bilinear_gate(r, width, tokens):
    return Fn(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)), a=nn.Linear(width, 4), b=nn.Linear(width, 4))


# --- scalars and vectors ----------------------------------------------------------------------------------------------------


def scalar(r, width, tokens):
    t = nn.Parameter(torch.tensor(round(r.uniform(0.4, 1.4), 2)).reshape(r.choice([(), (1,)])))
    kind = r.choice(["mul", "div", "exp", "add", "sub", "minus", "max", "pow", "softplus", "min", "sigmoid"])
    return Fn(
        {
            "mul": lambda m, x: x * m.t,
            "div": lambda m, x: x / m.t,
            "exp": lambda m, x: x * torch.exp(m.t),
            "add": lambda m, x: x + m.t,
            "sub": lambda m, x: x - m.t,
            "minus": lambda m, x: m.t - x,
            "max": lambda m, x: torch.maximum(x, m.t),
            "min": lambda m, x: torch.minimum(x, m.t),
            "pow": lambda m, x: (x.abs() + 0.2) ** m.t,
            "softplus": lambda m, x: x * F.softplus(m.t),
            "sigmoid": lambda m, x: x * torch.sigmoid(m.t),
        }[kind],
        t=t,
    )


def vector(r, width, tokens):
    v = nn.Parameter(torch.rand(width) + 0.5)
    kind = r.choice(["div", "sub", "minus", "max", "min", "pow", "expand", "softplus", "concat", "ratio", "abs"])
    return Fn(
        {
            "div": lambda m, x: x / m.v,
            "sub": lambda m, x: x - m.v,
            "minus": lambda m, x: m.v - x,
            "max": lambda m, x: torch.maximum(x, m.v),
            "min": lambda m, x: torch.minimum(x, m.v),
            "pow": lambda m, x: (x.abs() + 0.2) ** m.v,
            "expand": lambda m, x: x + m.v.expand(x.shape),
            "softplus": lambda m, x: x * F.softplus(m.v),
            "concat": lambda m, x: torch.cat([x, m.v.expand(x.shape)], -1),
            "ratio": lambda m, x: m.v / (1 + x * x),
            "abs": lambda m, x: x * torch.abs(m.v),
        }[kind],
        v=v,
    )


def rezero(r, width, tokens):
    f = nn.Linear(width, width)
    return Fn(
        lambda m, x: x + m.alpha * torch.relu(m.f(x)), alpha=nn.Parameter(torch.tensor([0.0 if r.random() < 0.3 else 0.3])), f=f
    )


def layer_scale(r, width, tokens):
    return Fn(
        lambda m, x: x + m.gamma * m.g(F.gelu(m.f(x))),
        gamma=nn.Parameter(torch.full((width,), 0.1)),
        f=nn.Linear(width, 5),
        g=nn.Linear(5, width),
    )


def residual(r, width, tokens):
    f = nn.Sequential(nn.Linear(width, width), activation(r, width, tokens))
    return Fn(lambda m, x: x + m.f(x), f=f)


def branches(r, width, tokens):
    kind = r.choice(["add", "mul", "max", "concat", "sub", "mean"])
    f = nn.Sequential(nn.Linear(width, 4), activation(r, 4, tokens))
    g = nn.Linear(width, 4, bias=False)
    return Fn(
        {
            "add": lambda m, x: m.f(x) + m.g(x),
            "mul": lambda m, x: m.f(x) * m.g(x),
            "max": lambda m, x: torch.maximum(m.f(x), m.g(x)),
            "concat": lambda m, x: torch.cat([m.g(x), x, m.f(x)], -1),
            "sub": lambda m, x: m.f(x) - m.g(x),
            "mean": lambda m, x: torch.stack([m.f(x), m.g(x)], -1).mean(-1),
        }[kind],
        f=f,
        g=g,
    )


# --- buffers ----------------------------------------------------------------------------------------------------------------


def bits(*shape):
    """Zeros and ones, at least one of each."""
    mask = (torch.rand(*shape) < 0.6).float()
    flat = mask.view(-1)
    flat[0], flat[-1] = 1.0, 0.0
    return mask


def mask_features(r, width, tokens):
    return Fn(lambda m, x: x * m.mask, mask=bits(width))


def mask_weight(r, width, tokens):
    return Fn(lambda m, x: F.linear(x, m.w * m.mask, m.b), w=weight(4, width), mask=bits(4, width), b=weight(4))


def mask_softmax(r, width, tokens):
    low = r.choice([float("-inf"), -1e9, -1e4])
    return Fn(lambda m, x: x * torch.softmax(x + m.mask, -1), mask=torch.where(bits(width) > 0, 0.0, low))


def normalization_constants(r, width, tokens):
    return Fn(lambda m, x: (x - m.mean) * m.scale, mean=torch.randn(width) * 0.5, scale=torch.rand(width) + 0.6)


def fixed_projection(r, width, tokens):
    return Fn(lambda m, x: torch.tanh(x @ m.p), p=torch.randn(width, 4) * 0.5)


def positions(r, width, tokens):
    if not tokens:
        return Fn(lambda m, x: x + m.table, table=torch.sin(torch.arange(width) * 0.7))
    table = torch.sin(torch.arange(tokens).unsqueeze(1) / 10 ** (torch.arange(width) / width))
    return Fn(lambda m, x: x + m.table, table=table)


def computed_positions(r, width, tokens):
    def forward(m, x):
        place = torch.arange(x.shape[-1], dtype=x.dtype)
        return x + 0.1 * place * m.t

    return Fn(forward, t=nn.Parameter(torch.tensor(0.7)))


# --- normalization ----------------------------------------------------------------------------------------------------------


def layer_norm(r, width, tokens):
    return r.choice(
        [
            lambda: nn.LayerNorm(width),
            lambda: nn.LayerNorm(width, bias=False),
            lambda: nn.LayerNorm(width, elementwise_affine=False),
        ]
    )()


def group_norm(r, width, tokens):
    channels = tokens or width
    groups = r.choice([g for g in range(1, channels + 1) if channels % g == 0 and (tokens or g < channels)])
    return nn.GroupNorm(groups, channels, affine=r.random() < 0.7)


def batch_norm(r, width, tokens):
    return nn.BatchNorm1d(tokens or width, affine=r.random() < 0.8)


def rms_norm(r, width, tokens):
    if r.random() < 0.5:
        return Fn(
            lambda m, x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * m.w, w=nn.Parameter(torch.rand(width) + 0.5)
        )
    return nn.RMSNorm(width, eps=1e-5, elementwise_affine=r.random() < 0.7)


def instance_norm(r, width, tokens):
    if width < 2:
        return nn.Identity()
    return nn.InstanceNorm1d(tokens, affine=r.random() < 0.5)


def own_norm(r, width, tokens):
    kind = r.choice(["mean", "standard", "l2", "l1", "max"])
    return Fn(
        {
            "mean": lambda m, x: x - x.mean(-1, keepdim=True),
            "standard": lambda m, x: (
                (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + 0.1) if x.shape[-1] > 1 else x
            ),
            "l2": lambda m, x: x / torch.sqrt((x * x).sum(-1, keepdim=True) + 0.1),
            "l1": lambda m, x: x / (x.abs().sum(-1, keepdim=True) + 0.1),
            "max": lambda m, x: x - x.amax(-1, keepdim=True),
        }[kind]
    )


def across_samples(r, width, tokens):
    kind = r.choice(["mean", "standard", "softmax", "gram", "max", "sum"])
    if tokens and kind == "gram":
        kind = "mean"
    return Fn(
        {
            "mean": lambda m, x: x - x.mean(0),
            "standard": lambda m, x: (x - x.mean(0)) / torch.sqrt(((x - x.mean(0)) ** 2).mean(0) + 0.1),
            "softmax": lambda m, x: x * torch.softmax(x, 0),
            "gram": lambda m, x: x + 0.1 * torch.softmax(x @ x.t(), -1) @ x,
            "max": lambda m, x: x - x.amax(0, keepdim=True),
            "sum": lambda m, x: x + 0.05 * x.sum(0, keepdim=True),
        }[kind]
    )


# --- softmax, shapes --------------------------------------------------------------------------------------------------------


def soft_attention(r, width, tokens):
    if not tokens:
        return Fn(lambda m, x: x * torch.softmax(m.f(x), -1), f=nn.Linear(width, width))
    causal = torch.triu(torch.full((tokens, tokens), float("-inf")), 1)
    heads = 2 if width % 2 == 0 and r.random() < 0.5 else 1

    def forward(m, x):
        def split(y):
            return y.reshape(-1, tokens, heads, width // heads).transpose(1, 2)

        q, k, v = split(m.q(x)), split(m.k(x)), split(m.v(x))
        scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
        return (torch.softmax(scores + m.causal, -1) @ v).transpose(1, 2).reshape(-1, tokens, width)

    return Fn(forward, q=nn.Linear(width, width), k=nn.Linear(width, width, bias=False), v=nn.Linear(width, width), causal=causal)


def slices(r, width, tokens):
    if width < 3:
        return nn.Identity()
    kind = r.choice(["drop", "glu", "swap", "split", "step"])
    half = width // 2
    return Fn(
        {
            "drop": lambda m, x: x[..., 1:],
            "glu": lambda m, x: x[..., :half] * torch.sigmoid(x[..., half : 2 * half]),
            "swap": lambda m, x: torch.cat([x[..., half:], x[..., :half]], -1),
            "split": lambda m, x: torch.split(x, [1, width - 1], -1)[1] * torch.split(x, [1, width - 1], -1)[0],
            "step": lambda m, x: torch.cat([x, x[..., ::2]], -1),
        }[kind]
    )


def reshapes(r, width, tokens):
    if width % 2 or tokens:
        return nn.Identity()
    kind = r.choice(["interleave", "mean_pairs", "per_head_softmax"])
    return Fn(
        {
            "interleave": lambda m, x: x.view(-1, 2, width // 2).transpose(1, 2).reshape(-1, width),
            "mean_pairs": lambda m, x: x.view(-1, width // 2, 2).mean(2),
            "per_head_softmax": lambda m, x: torch.softmax(x.view(-1, 2, width // 2), -1).view(-1, width),
        }[kind]
    )


def dropout(r, width, tokens):
    return nn.Dropout(0.0)


def transposed_linear(r, width, tokens):
    """Mixes over the tokens by way of two transposes, as MLP-Mixer does."""
    return Fn(lambda m, x: m.f(x.transpose(1, 2)).transpose(1, 2), f=nn.Linear(tokens, tokens))


# kind: (how often, function, layouts: f flat, t tokens)
BLOCKS = {
    "linear": (14, linear, "ft"),
    "activation": (14, activation, "ft"),
    "formula": (7, formula, "ft"),
    "tied": (1, tied, "ft"),
    "tied_transposed": (1, tied_transposed, "ft"),
    "plain_product": (2, plain_product, "ft"),
    "left_product": (3, left_product, "ft"),
    "lora": (2, lora, "ft"),
    "lora_beside": (1, lora_beside, "ft"),
    "derived": (5, derived, "ft"),
    "cut_weight": (4, cut_weight, "ft"),
    "weight_norm": (1, weight_norm, "ft"),
    "diagonal": (2, diagonal, "ft"),
    "bilinear_gate": (1, bilinear_gate, "ft"),
    "scalar": (4, scalar, "ft"),
    "vector": (4, vector, "ft"),
    "rezero": (1, rezero, "ft"),
    "layer_scale": (1, layer_scale, "ft"),
    "residual": (3, residual, "ft"),
    "branches": (3, branches, "ft"),
    "mask_features": (2, mask_features, "ft"),
    "mask_weight": (2, mask_weight, "ft"),
    "mask_softmax": (1, mask_softmax, "ft"),
    "normalization_constants": (1, normalization_constants, "ft"),
    "fixed_projection": (1, fixed_projection, "ft"),
    "positions": (1, positions, "ft"),
    "computed_positions": (1, computed_positions, "ft"),
    "layer_norm": (3, layer_norm, "ft"),
    "group_norm": (3, group_norm, "ft"),
    "batch_norm": (3, batch_norm, "ft"),
    "rms_norm": (2, rms_norm, "ft"),
    "instance_norm": (3, instance_norm, "t"),
    "own_norm": (3, own_norm, "ft"),
    "across_samples": (2, across_samples, "ft"),
    "soft_attention": (2, soft_attention, "ft"),
    "slices": (3, slices, "ft"),
    "reshapes": (2, reshapes, "f"),
    "dropout": (2, dropout, "ft"),
    "transposed_linear": (3, transposed_linear, "t"),
}
ACROSS = {"batch_norm", "across_samples"}

# --- heads and losses -------------------------------------------------------------------------------------------------------
# head: (how often, layouts, loss). The targets' shape follows from it.
HEADS = {
    "logits_ce": (6, "ft", "ce"),
    "softmax_ce": (2, "ft", "ce"),
    "log_softmax_nll": (2, "ft", "nll"),
    "mse": (6, "ft", "mse"),
    "sigmoid_bce": (2, "ft", "bce"),
    "logits_bce": (2, "ft", "bce"),
    "one_bce": (1, "ft", "bce"),
    "tokens_ce": (3, "t", "ce"),
    "classes_first_ce": (3, "t", "ce"),
    "classes_first_softmax_ce": (1, "t", "ce"),
    "tokens_mse": (1, "t", "mse"),
    "file_mse": (1, "f", "output"),
    "file_ce": (1, "f", "output"),
    "soft_ce": (1, "f", "ce"),
}


class Network(nn.Module):
    """body, then head; the loss is of what forward returns, or that itself."""

    def __init__(self, spec):
        super().__init__()
        width, tokens = spec["width"], spec["tokens"]
        made = []
        for block in spec["blocks"]:
            module = make_block(block, width, tokens)
            probe = module.train()(
                torch.zeros(4, *([tokens] if tokens else []), width) + torch.randn(4, *([tokens] if tokens else []), width)
            )
            for norm in [m for m in module.modules() if isinstance(m, nn.BatchNorm1d)]:
                norm.reset_running_stats()
            width = probe.shape[-1]
            made.append(module)
        self.body = nn.Sequential(*made)
        torch.manual_seed(spec["head_seed"])
        self.kind, self.tokens, self.pool = spec["head"], tokens, spec["pool"]
        if tokens and self.pool == "flatten" and not self.per_token():
            width *= tokens
        outputs = 1 if self.kind == "one_bce" else spec["outputs"]
        self.head = nn.Linear(width, outputs, bias=spec["head_bias"])

    def per_token(self):
        return self.kind in ("tokens_ce", "classes_first_ce", "classes_first_softmax_ce", "tokens_mse")

    def forward(self, x, second=None):
        y = self.body(x)
        if self.tokens and not self.per_token():
            y = y.mean(1) if self.pool == "mean" else y.flatten(1)
        y = self.head(y)
        if self.kind in ("classes_first_ce", "classes_first_softmax_ce"):
            y = y.transpose(1, 2)
        if self.kind == "softmax_ce":
            y = torch.softmax(y, -1)
        if self.kind == "classes_first_softmax_ce":
            y = torch.softmax(y, 1)
        if self.kind == "log_softmax_nll":
            y = torch.log_softmax(y, -1)
        if self.kind == "sigmoid_bce":
            y = torch.sigmoid(y)
        if self.kind == "file_mse":
            return ((y - second) ** 2).mean()
        if self.kind == "file_ce":
            return F.cross_entropy(y, second)
        return y


def make_block(block, width, tokens):
    torch.manual_seed(block["seed"])
    return BLOCKS[block["kind"]][1](random.Random(block["seed"]), width, tokens)


def pick(r, table, layout):
    names = [n for n, row in table.items() if layout in (row[2] if callable(row[1]) else row[1])]
    return r.choices(names, [table[n][0] for n in names])[0]


def random_spec(seed, dynamo_share=0.2):
    r = random.Random(seed)
    layout = r.choice("fft")
    blocks = [{"kind": pick(r, BLOCKS, layout), "seed": r.randrange(1 << 30)} for _ in range(r.randint(1, 7))]
    batch = r.choice([4, 5, 6, 8])
    head = pick(r, HEADS, layout)
    across = any(b["kind"] in ACROSS for b in blocks)
    spec = {
        "seed": seed,
        "width": r.choice([3, 4, 5, 6]),
        "tokens": r.choice([2, 3]) if layout == "t" else 0,
        "blocks": blocks,
        "head": head,
        "pool": r.choice(["mean", "flatten"]),
        "outputs": r.choice([4, 5]) if "softmax" in head or "ce" in head else r.choice([1, 2, 4]),
        "head_bias": r.random() < 0.8,
        "head_seed": r.randrange(1 << 30),
        "loss": HEADS[head][2],
        "say_loss": head in ("logits_bce", "soft_ce") or r.random() < 0.6,
        "batch": batch,
        "samples": r.choice([batch, 2 * batch, 2 * batch - 2, batch + 2, 2 * batch + 3]),
        "epochs": r.choice([1, 2]),
        "optimizer": r.choice(["sgd", "sgd", "momentum", "adam"]),
        "second_plan": r.choice(["min", "sqrt"]),
        "micro": 0,
        "ignore": None,
        "smoothing": 0,
        "class_weights": False,
        "freeze": r.random() < 0.08,
    }
    if "bce" in head:
        spec["outputs"] = r.choice([2, 3])
    if not across and r.random() < 0.2:
        spec["micro"] = r.choice([d for d in range(1, batch) if batch % d == 0])
    if spec["loss"] == "ce" and head != "soft_ce":
        spec["ignore"] = r.choice([None, None, None, -100, 255, -1])
        spec["smoothing"] = r.choice([0, 0, 0, 0.1])
        spec["class_weights"] = r.random() < 0.15
    if r.random() < dynamo_share:
        spec["export"] = {"by": "dynamo", "optimize": r.random() < 0.7, "train": r.random() < 0.6}
    else:
        spec["export"] = r.choice(
            [
                {"by": "torchscript", "mode": "eval", "fold": True},
                {"by": "torchscript", "mode": "eval", "fold": False},
                {"by": "torchscript", "mode": "training", "fold": False},
            ]
        )
    return spec


def build(spec):
    net = Network(spec)
    if spec["freeze"]:
        parameters = list(net.parameters())
        if len(parameters) > 1:
            parameters[spec["seed"] % len(parameters)].requires_grad_(False)
    return net.train()


def data(spec, net):
    """Input x and targets y; classes include ignored ones where the loss ignores."""
    r = np.random.default_rng(spec["seed"])
    n, tokens = spec["samples"], spec["tokens"]
    x = r.standard_normal((n, tokens, spec["width"]) if tokens else (n, spec["width"])).astype(np.float32)
    outputs, head = spec["outputs"], spec["head"]
    per_token = net.per_token()
    shape = (n, tokens) if per_token else (n,)
    if head == "soft_ce":
        y = r.dirichlet(np.ones(outputs), n).astype(np.float32)
    elif spec["loss"] in ("ce", "nll") or head == "file_ce":
        y = r.integers(0, outputs, shape)
        if spec["ignore"] is not None:
            skipped = r.random(shape) < 0.3
            skipped.flat[0] = False
            y = np.where(skipped, spec["ignore"], y)
    elif spec["loss"] == "bce":
        y = r.integers(0, 2, (n, 1 if head == "one_bce" else outputs)).astype(np.float32)
    else:
        y = r.standard_normal((*shape, outputs)).astype(np.float32)
    arrays = {"x": x, "y": y.astype(np.int64) if y.dtype.kind == "i" else y}
    if spec["class_weights"]:
        arrays["class_weights"] = (r.random(outputs) + 0.5).astype(np.float32)
    return arrays
