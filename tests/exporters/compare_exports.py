#!/usr/bin/env python3
"""Exports small networks with the exporters of this Python, trains each for five SGD steps with ckpttrain and with its
own framework on the same batches, and compares every step's loss and what the two trained networks answer.

    compare_exports.py CKPTTRAIN [--only SUBSTRING] [--list]

The frameworks: PyTorch (torch.onnx by TorchScript and by dynamo), Keras (tf2onnx), scikit-learn (skl2onnx); each is
left out, with a line, where it cannot be imported. Exit status 0: all agree, 1: some do not, 77: no framework.
"""
import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "onnx"))
import model_files

warnings.filterwarnings("ignore")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

STEPS, BATCH, INPUTS, CLASSES, RATE = 5, 16, 8, 4, 0.05
LOSS_TOLERANCE, ANSWER_TOLERANCE = 1e-5, 1e-5
random = np.random.default_rng(1)
X = random.standard_normal((STEPS * BATCH, INPUTS)).astype(np.float32)
PROBE = random.standard_normal((32, INPUTS)).astype(np.float32)
TARGETS = {
    "ce": random.integers(0, CLASSES, STEPS * BATCH),
    "bce": random.integers(0, 2, STEPS * BATCH),
    "mse": random.standard_normal((STEPS * BATCH, CLASSES)).astype(np.float32),
    "mse1": random.standard_normal((STEPS * BATCH, 1)).astype(np.float32),
}


class Case:
    """One exported network: `export` writes the file; `train` returns its framework's losses and answers to PROBE."""

    def __init__(self, name, target, export, train):
        self.name, self.target, self.export, self.train = name, target, export, train


def relative(a, b):
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


# --- PyTorch ---------------------------------------------------------------------------------------------------


def torch_cases():
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(INPUTS), nn.LayerNorm(INPUTS)
            self.up, self.down = nn.Linear(INPUTS, 24), nn.Linear(24, INPUTS)
            self.head = nn.Linear(INPUTS, CLASSES)

        def forward(self, x):
            x = x + self.down(nn.functional.silu(self.up(self.norm1(x))))
            return self.head(self.norm2(x))

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, CLASSES)

        def forward(self, x):
            return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))

    class BatchNorm(nn.BatchNorm1d):
        """When trained here, with ONNX's running variance, of the population; PyTorch's is of the sample."""

        trained_here = False

        def forward(self, x):
            if not (self.training and self.trained_here):
                return super().forward(x)
            with torch.no_grad():
                for running, now in ((self.running_mean, x.mean(0)), (self.running_var, x.var(0, unbiased=False))):
                    running.lerp_(now, self.momentum)
            return nn.functional.batch_norm(x, None, None, self.weight, self.bias, True, 0, self.eps)

    def mlp(activation, *, last=CLASSES, norm=None):
        layers = [nn.Linear(INPUTS, 16), activation, nn.Dropout(0.0), nn.Linear(16, 16)]
        return nn.Sequential(*layers, *([norm] if norm else []), activation, nn.Linear(16, last))

    makers = {
        "relu": (lambda: mlp(nn.ReLU()), "ce"),
        "gelu-layernorm": (lambda: mlp(nn.GELU(), norm=nn.LayerNorm(16)), "ce"),
        "tanh-mse": (lambda: mlp(nn.Tanh()), "mse"),
        "elu-logsoftmax": (lambda: nn.Sequential(mlp(nn.ELU()), nn.LogSoftmax(-1)), "ce"),
        "selu-softmax": (lambda: nn.Sequential(mlp(nn.SELU()), nn.Softmax(-1)), "ce"),
        "softplus-sigmoid": (lambda: nn.Sequential(mlp(nn.Softplus(), last=1), nn.Sigmoid()), "bce"),
        "mish": (lambda: mlp(nn.Mish()), "ce"),
        "hardswish": (lambda: mlp(nn.Hardswish()), "ce"),
        "prelu": (lambda: mlp(nn.PReLU(16)), "ce"),
        "residual": (Residual, "ce"),
        "shared": (Shared, "ce"),
        "batchnorm": (lambda: mlp(nn.ReLU(), norm=BatchNorm(16)), "ce"),
    }

    def loss_of(target, answer, y):
        if target == "bce":
            return nn.functional.binary_cross_entropy(answer.squeeze(-1), y.float())
        return nn.functional.mse_loss(answer, y)

    def make(name):
        torch.manual_seed(2)
        return makers[name][0]()

    def case(name, exporter, training):
        target = makers[name][1]
        written = {}  # what is in the file: tracing moves the statistics of a model in training

        def export(path):
            model = make(name).train(training)
            sample = (torch.from_numpy(X[:3].copy()),)
            if exporter == "dynamo":
                torch.onnx.export(model, sample, path, dynamo=True, input_names=["x"], output_names=["y"],
                                  dynamic_shapes=({0: "N"},), external_data=True, verbose=False,
                                  optimize=name != "batchnorm")  # it would fold the normalization into the product
            else:
                mode = torch.onnx.TrainingMode
                torch.onnx.export(model, sample, path, dynamo=False, input_names=["x"], output_names=["y"],
                                  dynamic_axes={"x": {0: "N"}}, do_constant_folding=not training,
                                  training=mode.TRAINING if training else mode.EVAL)
            written.update(model.state_dict())

        def train():
            model = make(name).train(name == "batchnorm")
            model.load_state_dict(written)
            for module in model.modules():
                module.trained_here = True
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            x, y = torch.from_numpy(X), torch.from_numpy(TARGETS[target])
            losses = []
            for i in range(0, STEPS * BATCH, BATCH):
                answer = model(x[i:i + BATCH])
                if target == "ce":
                    log = {"selu-softmax": torch.log}.get(name, lambda a: torch.log_softmax(a, -1))(answer)
                    loss = nn.functional.nll_loss(log, y[i:i + BATCH])
                else:
                    loss = loss_of(target, answer, y[i:i + BATCH])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            with torch.no_grad():
                return losses, model.eval()(torch.from_numpy(PROBE)).numpy()

        return Case(f"torch-{exporter}-{'train' if training else 'eval'}-{name}", target, export, train)

    for name in makers:
        for exporter in ("torchscript", "dynamo"):
            for training in (False, True):
                if name == "batchnorm" and exporter == "torchscript" and not training:
                    continue  # folded into the product
                yield case(name, exporter, training)


# --- Keras -----------------------------------------------------------------------------------------------------


def keras_cases():
    import tensorflow as tf
    import tf2onnx

    layers = tf.keras.layers

    def dense(size, activation=None):
        # A bias of zeros would be left out of the file: the exporter's doing, but not what is compared here.
        return layers.Dense(size, activation=activation, bias_initializer="random_normal")

    def sequential(*hidden, last=None, outputs=CLASSES):
        return lambda: tf.keras.Sequential([layers.Input((INPUTS,)), *[h() for h in hidden], dense(outputs, last)])

    def residual():
        x = layers.Input((INPUTS,))
        h = layers.Add()([x, dense(INPUTS, "relu")(x)])
        return tf.keras.Model(x, dense(CLASSES, "softmax")(h))

    makers = {
        "relu-softmax": (sequential(lambda: dense(16, "relu"), lambda: dense(16, "relu"), last="softmax"), "ce"),
        "gelu": (sequential(lambda: layers.Dense(16, activation=lambda x: tf.keras.activations.gelu(x, approximate=True),
                                                 bias_initializer="random_normal"), last="softmax"), "ce"),
        "swish-sigmoid": (sequential(lambda: dense(16, "swish"), last="sigmoid", outputs=1), "bce"),
        "selu-elu-mse": (sequential(lambda: dense(16, "selu"), lambda: dense(16, "elu")), "mse"),
        "leaky-mish-mse": (sequential(lambda: dense(16, "leaky_relu"), lambda: dense(16, "mish")), "mse"),
        "residual": (residual, "ce"),
    }

    def make(name):
        tf.keras.utils.set_random_seed(3)
        return makers[name][0]()

    def case(name):
        target = makers[name][1]

        def export(path):
            model = make(name)
            spec = (tf.TensorSpec((None, INPUTS), tf.float32, name="x"),)
            call = tf.function(lambda x: model(x, training=False), input_signature=spec)
            proto, _ = tf2onnx.convert.from_function(call, input_signature=spec, opset=17)
            with open(path, "wb") as file:
                file.write(proto.SerializeToString())

        def train():
            model, optimizer, losses = make(name), tf.keras.optimizers.SGD(RATE), []
            kind = {"ce": tf.keras.losses.SparseCategoricalCrossentropy(), "bce": tf.keras.losses.BinaryCrossentropy(),
                    "mse": tf.keras.losses.MeanSquaredError()}[target]
            for i in range(0, STEPS * BATCH, BATCH):
                y = TARGETS[target][i:i + BATCH]
                with tf.GradientTape() as tape:
                    loss = kind(y.reshape(-1, 1) if target == "bce" else y, model(X[i:i + BATCH]))
                optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
                losses.append(float(loss))
            return losses, model(PROBE).numpy()

        return Case(f"keras-tf2onnx-{name}", target, export, train)

    for name in makers:
        yield case(name)


# --- scikit-learn ----------------------------------------------------------------------------------------------


def sklearn_cases():
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = {"classifier": (MLPClassifier, "ce"), "binary": (MLPClassifier, "bce"), "regressor": (MLPRegressor, "mse1")}

    def case(kind, scaled):
        estimator, target = kinds[kind]

        def make():
            net = estimator(hidden_layer_sizes=(16, 16), activation="relu" if scaled else "tanh", solver="sgd", alpha=0,
                            batch_size=BATCH, learning_rate_init=RATE, momentum=0, shuffle=False, random_state=4)
            scaler = StandardScaler().fit(X * 3 + 1) if scaled else None
            y = TARGETS[target].ravel()
            extra = {} if kind == "regressor" else {"classes": np.unique(y)}
            see = (lambda x: scaler.transform(x).astype(np.float32)) if scaled else (lambda x: x)
            net.learning_rate_init = 0.0  # builds the weights and leaves them
            object.__setattr__(net, "_validate_params", lambda: None)
            net.partial_fit(see(X[:BATCH]), y[:BATCH], **extra)
            net.learning_rate_init = RATE
            net._optimizer.learning_rate_init = net._optimizer.learning_rate = RATE
            return net, scaler, see, y

        def export(path):
            net, scaler, see, y = make()
            with open(path, "wb") as file:
                file.write(to_onnx(make_pipeline(scaler, net) if scaled else net, X[:1]).SerializeToString())

        def train():
            net, scaler, see, y = make()
            losses = []
            for i in range(0, STEPS * BATCH, BATCH):
                net.partial_fit(see(X[i:i + BATCH]), y[i:i + BATCH])
                # scikit-learn's squared error is halved; a step of twice the rate on it is a step on the mean.
                losses.append(2 * net.loss_ if kind == "regressor" else net.loss_)
            answer = net.predict(see(PROBE)) if kind == "regressor" else net.predict_proba(see(PROBE))
            return losses, answer

        return Case(f"sklearn-skl2onnx-{kind}{'-scaled' if scaled else ''}", target, export, train)

    for kind in kinds:
        for scaled in (False, True):
            yield case(kind, scaled)


# --- comparing -------------------------------------------------------------------------------------------------


def run_ckpt(program, case, folder):
    model, saved, log, data = (os.path.join(folder, n) for n in ("model.onnx", "saved.onnx", "log.jsonl", "data.npz"))
    np.savez(data, x=X, y=TARGETS[case.target])
    # The regressor of scikit-learn halves its error, so its step is half of ours.
    rate = RATE / 2 if case.name.startswith("sklearn") and case.target == "mse1" else RATE
    command = [program, model, "--device", "cpu", "--data", data, "--batch", str(BATCH), "--steps", str(STEPS), "--epochs", "1",
               "--shuffle", "off", "--lr", repr(rate), "--checkpoint", "on", "--save", saved, "--log", log, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    losses = [json.loads(line)["loss"] for line in open(log) if "step" in json.loads(line)][:STEPS]
    return saved, losses


def answer_of(path, case):
    """What the saved file answers to PROBE: by onnxruntime, or by ONNX's reference evaluator."""
    import onnx
    onnx.checker.check_model(path)
    model = model_files.for_evaluation(onnx.load(path))
    path = os.path.join(os.path.dirname(path), "evaluation.onnx")
    onnx.save(model, path)
    try:
        import onnxruntime
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        result = session.run(None, {session.get_inputs()[0].name: PROBE})
    except ImportError:
        from onnx.reference import ReferenceEvaluator
        session = ReferenceEvaluator(model)
        result = session.run(None, {session.input_names[0]: PROBE})
    last = result[-1]
    if isinstance(last, list):  # ZipMap's dictionaries
        last = np.array([[row[k] for k in sorted(row)] for row in last])
    return last


def compare(program, case):
    with tempfile.TemporaryDirectory() as folder:
        try:
            case.export(os.path.join(folder, "model.onnx"))
        except Exception as error:  # the exporter's own failure says nothing of ckpt
            print(f"not exported  {case.name}: {str(error).splitlines()[0][:120]}")
            return True
        try:
            saved, losses = run_ckpt(program, case, folder)
            wanted, answer = case.train()
            loss_error = max(relative(a, b) for a, b in zip(losses, wanted, strict=True))
            answer_error = relative(answer_of(saved, case), answer)
        except Exception as error:
            print(f"FAILED        {case.name}: {error}")
            return False
    good = loss_error <= LOSS_TOLERANCE and answer_error <= ANSWER_TOLERANCE
    print(f"{'agrees' if good else 'DIFFERS':13} {case.name}: losses {loss_error:.1e}, answers {answer_error:.1e}")
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cases = []
    for name, packages, source in (("PyTorch", ("torch", "onnxscript"), torch_cases), ("Keras", ("tensorflow", "tf2onnx"), keras_cases),
                                   ("scikit-learn", ("sklearn", "skl2onnx"), sklearn_cases)):
        try:
            versions = [f"{p} {importlib.import_module(p).__version__}" for p in packages]
            cases += list(source())
            print(", ".join(versions))
        except ImportError as error:
            print(f"left out: {name} ({error})")
    cases = [c for c in cases if options.only in c.name]
    if options.list:
        print("\n".join(c.name for c in cases))
        return 0
    if not cases:
        print("skipped: no framework with its exporter; set CKPT_PYTHON to a Python that has one")
        return 77
    failed = [c.name for c in cases if not compare(options.program, c)]
    print(f"{len(cases) - len(failed)} of {len(cases)} agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
