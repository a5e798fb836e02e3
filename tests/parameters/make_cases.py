"""Modules whose parameters are easy to take for something else, exported in four ways, with what PyTorch makes of them.

usage: make_cases.py FOLDER   (needs torch, onnx, onnxscript)

Writes MODULE_EXPORT.onnx, MODULE.npz and cases.txt: a line a file with the number of trained values (those of
named_parameters() that have a gradient) and the losses of steps 1 and 6 of plain SGD in float64.
"""
import copy, sys, warnings
import numpy as np, onnx, torch, torch.nn as nn, torch.nn.functional as F

warnings.filterwarnings('ignore')
folder = sys.argv[1]
P = nn.Parameter
LR, STEPS, BATCH = 0.05, 6, 8


def rand(*shape): return torch.randn(*shape) * 0.5


class Mixed(nn.Module):
    """Scalars, an exponent, a left operand, buffers, normalizations with and without what is theirs."""
    shape = (5, 6)
    def __init__(s):
        super().__init__()
        s.l = nn.Linear(6, 6); s.l2 = nn.Linear(6, 6, bias=False); s.gn = nn.GroupNorm(2, 6); s.plain = nn.LayerNorm(6, elementwise_affine=False)
        s.unbiased = nn.LayerNorm(6, bias=False); s.alpha = P(torch.zeros(1)); s.t = P(torch.tensor(1.5)); s.r = P(torch.rand(6) + 0.5)
        s.tok = P(rand(5, 5)); s.register_buffer('mask', torch.tensor([1., 0, 1, 0, 1, 1]))
    def forward(s, x):
        y = s.l2(s.l(x)); y = s.gn(y.transpose(1, 2)).transpose(1, 2); y = s.plain(y) * s.t / 2.5 + s.alpha * x
        y = s.unbiased(y) * s.mask; y = torch.pow(y * y + 1.01, s.r); y = s.tok @ y
        return y / torch.sqrt((y * y).mean(-1, keepdim=True) + 1e-5)


class Tied(nn.Module):
    """One matrix that encodes and, transposed, decodes."""
    shape = (4, 6)
    def __init__(s): super().__init__(); s.w = P(rand(6, 3)); s.b = P(torch.zeros(6))
    def forward(s, x): return torch.tanh(x @ s.w) @ s.w.T + s.b


class Copies(nn.Module):
    """Deep copies of one layer start equal and are trained apart."""
    shape = (4, 6)
    def __init__(s):
        super().__init__()
        block = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU())
        s.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(3))
    def forward(s, x):
        for b in s.blocks: x = x + b(x)
        return x


class Zeros(nn.Module):
    """Scale and bias of a normalization both zero at first, in one node and in two."""
    shape = (6, 4)
    def __init__(s):
        super().__init__()
        s.l = nn.Linear(4, 4); s.ln = nn.LayerNorm(4); s.gn = nn.GroupNorm(3, 6)
        for p in (*s.ln.parameters(), *s.gn.parameters()): nn.init.zeros_(p)
    def forward(s, x): return s.l(x) + s.ln(s.l(x)) + s.gn(x)


class Ones(nn.Module):
    """Parameters of 1 beside the code's own 1."""
    shape = (6,)
    def __init__(s): super().__init__(); s.l = nn.Linear(6, 6); s.a = P(torch.tensor(1.0)); s.b = P(torch.tensor(1.0)); s.g = P(torch.ones(6))
    def forward(s, x): return (1.0 - torch.sigmoid(s.a * s.l(x))) * s.g + (s.b * x + 1.0) * torch.sigmoid(x * s.b)


class Lora(nn.Module):
    shape = (6,)
    def __init__(s): super().__init__(); s.w = P(rand(6, 6)); s.a = P(rand(6, 2)); s.b = P(torch.zeros(2, 6)); s.n = nn.BatchNorm1d(6)
    def forward(s, x): return s.n(F.linear(x, s.w + s.a @ s.b))


class Bounds(nn.Module):
    """Parameters in Max, Min, Clip, Concat, Expand, Div, Sub, Abs, Exp, Softplus, Slice, Split."""
    shape = (6,)
    def __init__(s):
        super().__init__()
        s.lo = P(rand(6) - 0.5); s.hi = P(torch.tensor(0.4)); s.wa = P(rand(6, 3)); s.wb = P(rand(6, 3)); s.e = P(rand(1, 6)); s.d = P(torch.rand(6) + 1)
        s.q = P(rand(12, 6)); s.c = P(rand(6))
    def forward(s, x):
        w = torch.cat([s.wa, s.wb], 1); q1, q2 = s.q.chunk(2, 0)
        y = torch.minimum(torch.maximum(x @ w, s.lo), s.hi) + s.e.expand(x.shape[0], 6) / s.d
        return y @ F.softplus(q1) + torch.abs(q2[:, :6]).sum(0) * (x - s.c) + y @ torch.exp(q2 * 0.1)


class Tables(nn.Module):
    """Buffers that TorchScript does not call so, known by their values."""
    shape = (8, 6)
    def __init__(s):
        super().__init__()
        s.q = nn.Linear(6, 6); s.k = nn.Linear(6, 6); s.v = nn.Linear(6, 6)
        pos = torch.arange(8)[:, None] * (100.0 ** (-torch.arange(3) / 3))[None]
        s.register_buffer('pe', torch.stack([pos.sin(), pos.cos()], -1).flatten(1)); s.register_buffer('causal', torch.triu(torch.full((8, 8), float('-inf')), 1))
        s.register_buffer('cos', torch.cat([pos.cos(), pos.cos()], 1)); s.register_buffer('sin', torch.cat([pos.sin(), pos.sin()], 1))
        s.register_buffer('index', torch.arange(8.)[:, None]); s.register_buffer('drop', (torch.arange(6) % 3 != 0).float()); s.bias = P(torch.zeros(8))
    def turn(s, x): return x * s.cos + torch.cat([-x[..., 3:], x[..., :3]], -1) * s.sin
    def forward(s, x):
        y = x + s.pe
        a = torch.softmax(s.turn(s.q(y)) @ s.turn(s.k(y)).transpose(1, 2) / 6 ** 0.5 + s.causal + s.bias, -1)
        return a @ s.v(y) * s.drop * s.index


class Normed(nn.Module):
    """Weight normalization by hand, norms of activations, and parts of a list of sizes."""
    shape = (6,)
    def __init__(s): super().__init__(); s.v = P(rand(6, 6)); s.g = P(torch.ones(6, 1) * 1.3); s.b = P(rand(6)); s.k = P(rand(4, 6))
    def forward(s, x):
        y = F.linear(x, s.v / s.v.norm(dim=1, keepdim=True) * s.g, s.b)
        a, b = torch.split(y, [2, 4], 1)
        return F.normalize(b, dim=1) @ s.k / (1.5 + a.abs().sum(1, keepdim=True)) + (a ** 2).sum(1, keepdim=True) * x


class Viewed(nn.Module):
    """A weight that reaches its product by way of views, which the exporter folds; the bias goes there directly."""
    shape = (4, 6)
    def __init__(s): super().__init__(); s.w = P(rand(6, 6)); s.b = P(rand(6)); s.l = nn.Linear(6, 6)
    def forward(s, x): return s.l(torch.tanh(F.linear(x, s.w.t().reshape(-1).view(6, 6).t(), s.b)))


EXPORTS = {
    'script': lambda m, x, f: torch.onnx.export(m, (x,), f, dynamo=False, opset_version=17, input_names=['x'], output_names=['y'], dynamic_axes={'x': {0: 'b'}, 'y': {0: 'b'}}),
    'train': lambda m, x, f: torch.onnx.export(m, (x,), f, dynamo=False, opset_version=17, input_names=['x'], output_names=['y'], dynamic_axes={'x': {0: 'b'}, 'y': {0: 'b'}},
                                               training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False),
    'dynamo': lambda m, x, f: torch.onnx.export(m, (x,), f, dynamo=True, opset_version=18, input_names=['x'], output_names=['y'], dynamic_shapes=({0: torch.export.Dim('b')},), verbose=False, external_data=False),
    'plain': lambda m, x, f: torch.onnx.export(m, (x,), f, dynamo=True, opset_version=18, input_names=['x'], output_names=['y'], dynamic_shapes=({0: torch.export.Dim('b')},), verbose=False, optimize=False, external_data=False),
}


def strip(path):
    model = onnx.load(path)
    for n in model.graph.node:
        keep = [p for p in n.metadata_props if p.key == 'pkg.torch.onnx.fx_node']
        del n.metadata_props[:]; n.metadata_props.extend(keep)
        n.doc_string = ''
    onnx.save(model, path)


lines = []
for number, Module in enumerate((Mixed, Tied, Copies, Zeros, Ones, Lora, Bounds, Tables, Normed, Viewed)):
    torch.manual_seed(number)
    m, name = Module(), Module.__name__.lower()
    x, y = torch.randn(BATCH, *Module.shape), torch.randn(BATCH, *Module.shape)
    np.savez(f'{folder}/{name}.npz', x=x.numpy(), y=y.numpy())
    ref = copy.deepcopy(m).double().train()
    losses = []
    for _ in range(STEPS):
        loss = ((ref(x.double()) - y.double()) ** 2).mean()
        grads = torch.autograd.grad(loss, list(ref.parameters()))
        with torch.no_grad():
            for p, g in zip(ref.parameters(), grads): p -= LR * g
        losses.append(loss.item())
    count = sum(p.numel() for p in m.parameters())
    for kind, export in EXPORTS.items():
        if name == 'bounds' and kind == 'script' or name == 'normed' and kind in ('script', 'dynamo'): continue  # weights are folded away
        if name == 'ones' and kind == 'dynamo': continue  # it removes the scalars
        if name == 'lora' and kind in ('script', 'dynamo', 'plain'): continue  # they fold the normalization away
        path = f'{folder}/{name}_{kind}.onnx'
        export(copy.deepcopy(m).train(kind in ('train', 'plain')), torch.randn(3, *Module.shape), path)
        strip(path)
        lines.append(f'{name}_{kind} {name} {count} {losses[0]:.9g} {losses[-1]:.9g}')
with open(f'{folder}/cases.txt', 'w') as f:
    f.write(f'# made by make_cases.py with torch {torch.__version__}, onnx {onnx.__version__}: file, data, trained values, loss of steps 1 and 6\n')
    f.write('\n'.join(lines) + '\n')
