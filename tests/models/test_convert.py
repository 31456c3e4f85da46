"""Weights from PyTorch and Keras: layouts by hand, and the original frameworks where installed."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxdefense import Frozen, models
from jaxdefense.errors import InputError
from jaxdefense.models import convert


def lenet_state(variables):
    params, state = variables["params"], {}
    for index, name in enumerate(sorted(params)):
        kernel = np.asarray(params[name]["kernel"])
        if kernel.ndim == 4:
            weight = kernel.transpose(3, 2, 0, 1)
        elif index == 2:  # behind the flattening: (h, w, c) to (c, h, w)
            rows, columns = kernel.shape
            weight = kernel.reshape(-1, 16, columns).swapaxes(0, 1).reshape(rows, columns).T
        else:
            weight = kernel.T
        state[f"layer{index}.weight"] = weight
        state[f"layer{index}.bias"] = np.asarray(params[name]["bias"])
    return state


@pytest.fixture(scope="module")
def lenet():
    model = models.build("lenet5")
    variables = models.initialize(model, jax.random.key(0), (28, 28, 1))
    x = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)
    return model, variables, x, np.asarray(model.apply(variables, x))


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_state_dict_comes_back_as_the_variables_it_was_made_of(lenet):
    model, variables, x, logits = lenet
    made = models.from_torch(model, lenet_state(variables), (28, 28, 1), (x, logits))
    same(made, variables)


class Elsewhere:
    """A tensor that NumPy cannot read where it is, nor as it is."""

    dtype = "torch.bfloat16"

    def __init__(self, value, ready=0):
        self.value, self.ready = value, ready

    def detach(self):
        return Elsewhere(self.value, self.ready + 1)

    cpu = float = detach

    def __array__(self, dtype=None, copy=None):
        assert self.ready == 3, "on another device, or bfloat16"
        return self.value


def test_tensors_of_an_accelerator_or_in_bfloat16_are_read(lenet):
    model, variables, x, logits = lenet
    state = {name: Elsewhere(value) for name, value in lenet_state(variables).items()}
    same(models.from_torch(model, state, (28, 28, 1), (x, logits)), variables)


def test_another_network_is_told_by_its_answers(lenet):
    model, variables, x, logits = lenet
    with pytest.raises(InputError, match="answers otherwise than the original"):
        models.from_torch(model, lenet_state(variables), (28, 28, 1), (x, logits + 0.1))


def test_layers_without_a_counterpart_are_named(lenet):
    model, variables, *_ = lenet
    state = lenet_state(variables)
    with pytest.raises(InputError, match="layers that the model has not: extra"):
        models.from_torch(model, {**state, "extra.weight": np.zeros((2, 2))}, (28, 28, 1))
    del state["layer1.weight"], state["layer1.bias"]
    with pytest.raises(InputError, match=r"Conv_1 .* has no counterpart"):
        models.from_torch(model, state, (28, 28, 1))
    with pytest.raises(InputError, match="has no weight"):
        models.from_torch(model, {"odd.gain": np.zeros(3)}, (28, 28, 1))


class Biasless(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(2, (3, 3), use_bias=False)(x))
        return nn.Dense(3)(x.mean((1, 2)))


def test_arrays_that_would_be_lost_are_named():
    """Keras gives every convolution a bias, also before a batch normalisation."""
    random = np.random.default_rng(0)
    state = {
        "conv.weight": random.normal(size=(2, 1, 3, 3)),
        **{f"norm.{name}": np.ones(2) for name in ("weight", "bias")},
        **{f"norm.running_{name}": np.ones(2) for name in ("mean", "var")},
        "dense.weight": random.normal(size=(3, 2)), "dense.bias": np.zeros(3),
    }  # fmt: skip
    models.from_torch(Biasless(), state, (8, 8, 1))
    biased = {"conv.weight": state["conv.weight"], "conv.bias": np.ones(2), **state}
    with pytest.raises(InputError, match=r"Conv_0 .* has bias besides"):
        models.from_torch(Biasless(), biased, (8, 8, 1))


def test_branches_may_be_defined_in_another_order_than_they_are_called():
    """PyTorch's residual blocks define the shortcut last; norms go with their convolutions."""
    model = models.build("resnet8", width=4)
    variables = models.initialize(model, jax.random.key(0), (8, 8, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda v: np.asarray(rng.uniform(0.5, 1, v.shape), np.float32), variables
    )
    params, stats = variables["params"], variables["batch_stats"]
    state = {}

    def unit(name, params, stats, index):
        state[f"{name}.conv.weight"] = params[f"Conv_{index}"]["kernel"].transpose(3, 2, 0, 1)
        norm, kept = params[f"BatchNorm_{index}"], stats[f"BatchNorm_{index}"]
        state[f"{name}.bn.weight"], state[f"{name}.bn.bias"] = norm["scale"], norm["bias"]
        state[f"{name}.bn.running_mean"] = kept["mean"]
        state[f"{name}.bn.running_var"] = kept["var"]
        state[f"{name}.bn.num_batches_tracked"] = np.array(3)

    unit("stem", params, stats, 0)
    for block in sorted(k for k in params if k.startswith("Basic")):
        last = len(params[block]) // 2 - 1
        order = (1, 2, 0) if last == 2 else (0, 1)
        for place, index in enumerate(order):
            unit(f"{block}.{place}", params[block], stats[block], index)
    state["head.weight"] = params["Dense_0"]["kernel"].T
    state["head.bias"] = params["Dense_0"]["bias"]
    same(models.from_torch(model, state, (8, 8, 3)), variables)


def test_transposed_convolutions_are_turned_round():
    model = models.build("autoencoder", width=3)
    variables = models.initialize(model, jax.random.key(0), (8, 8, 1))
    state = {}
    for name in ("Conv_0", "Conv_1", "ConvTranspose_0", "ConvTranspose_1"):
        kernel = np.asarray(variables["params"][name]["kernel"])
        if name.startswith("ConvT"):
            weight = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        else:
            weight = kernel.transpose(3, 2, 0, 1)
        state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = np.asarray(variables["params"][name]["bias"])
    same(models.from_torch(model, state, (8, 8, 1)), variables)


def test_keras_keeps_channels_last(lenet, tmp_path):
    model, variables, x, logits = lenet
    weights = [
        (f"{name.lower()}/{part}", np.asarray(variables["params"][name][part]))
        for name in sorted(variables["params"]) for part in ("kernel", "bias")
    ]  # fmt: skip
    same(models.from_keras(model, weights, (28, 28, 1), (x, logits)), variables)
    with pytest.raises(InputError, match="no layer known here"):
        models.from_keras(model, [("odd/gain", np.zeros(3))], (28, 28, 1))


def test_files_of_keras_are_read_in_the_order_of_their_layers(lenet, tmp_path):
    h5py = pytest.importorskip("h5py")
    model, variables, x, logits = lenet
    names = sorted(variables["params"])
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names"] = [
                f"{name}/{part}:0".encode() for part in ("kernel", "bias")
            ]
            for part in ("kernel", "bias"):
                group[f"{name}/{part}:0"] = np.asarray(variables["params"][name][part])
    same(models.from_keras(model, models.read_h5(tmp_path / "old.h5"), (28, 28, 1)), variables)
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:
        for index, name in enumerate(names):
            group = file.create_group(f"layers/layer_{index}/vars")
            for number, part in enumerate(("kernel", "bias")):
                group[str(number)] = np.asarray(variables["params"][name][part])
    found = models.read_h5(tmp_path / "new.weights.h5")
    same(models.from_keras(model, found, (28, 28, 1), (x, logits)), variables)
    (tmp_path / "bad.h5").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        models.read_h5(tmp_path / "bad.h5")


def test_keras_3_lists_layers_by_kind(tmp_path):
    """All batch_normalization, then all conv2d, then all dense, each in the order of calls."""
    h5py = pytest.importorskip("h5py")
    model = models.build("vgg16", width=2)
    variables = models.initialize(model, jax.random.key(0), (32, 32, 3))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda v: np.asarray(rng.uniform(0.5, 1, v.shape), np.float32), variables
    )
    _, layers = convert._our_layers(model, (32, 32, 3))
    class_names = {"norm": "batch_normalization", "conv": "conv2d", "dense": "dense"}
    counts = dict.fromkeys(class_names, 0)
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:
        for layer in layers:
            count = counts[layer.kind]
            counts[layer.kind] += 1
            name = class_names[layer.kind] + (f"_{count}" if count else "")
            held = convert._at(variables, layer.name)
            found = {k: v for values in held.values() for k, v in values.items()}
            order = ("scale", "bias", "mean", "var") if layer.kind == "norm" else ("kernel", "bias")
            for number, part in enumerate(part for part in order if part in found):
                file[f"layers/{name}/vars/{number}"] = found[part]
    weights = models.read_h5(tmp_path / "new.weights.h5")
    same(models.from_keras(model, weights, (32, 32, 3), epsilon=1e-5), variables)


def test_keras_divides_by_another_epsilon(tmp_path):
    """0.001 by default, ours 0.00001: where a channel hardly varies that is another network."""
    model = Normed()
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(4, 8, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(192, 5)).astype(np.float32)
    scale, shift, mean, var = (rng.uniform(size=3).astype(np.float32) for _ in range(4))
    weights = [
        ("norm/gamma", scale), ("norm/beta", shift), ("norm/moving_mean", mean),
        ("norm/moving_variance", 1e-3 * var), ("dense/kernel", kernel),
    ]  # fmt: skip
    theirs = scale * (x - mean) / np.sqrt(1e-3 * var + 1e-3) + shift
    logits = theirs.reshape(4, -1) @ kernel
    models.from_keras(model, weights, (8, 8, 3), (x, logits))
    with pytest.raises(InputError, match="epsilon of batch normalisations"):
        models.from_keras(model, weights, (8, 8, 3), (x, logits), epsilon=1e-5)
    with pytest.raises(InputError, match="needs all"):
        models.from_keras(model, [weights[0], *weights[2:]], (8, 8, 3))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, epsilon=1e-5)(x)
        return nn.Dense(5, use_bias=False)(x.reshape(len(x), -1))


@pytest.mark.parametrize("name", ["lenet5", "resnet8", "autoencoder"])
def test_networks_of_pytorch_itself(name):
    pytest.importorskip("torch")
    from experiments.benchmarks import twins
    from experiments.benchmarks.converted import answers

    shape = (28, 28, 1) if name == "lenet5" else (16, 16, 3)
    model = models.build(name)
    variables = models.initialize(model, jax.random.key(0), shape)
    network = twins.twin(Frozen(model, variables))
    x = np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)
    made = models.from_torch(model, network.state_dict(), shape, (x, answers(network, x)))
    same(made, jax.tree.map(np.asarray, variables))


@pytest.mark.filterwarnings("ignore")  # Keras's own
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["lenet5", "vgg16"])
def test_networks_of_keras_itself(name, legacy, tmp_path, monkeypatch):
    """Through its own weights files, with batch statistics that are no longer those of a start."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    shape = (28, 28, 1) if name == "lenet5" else (32, 32, 3)
    network = keras.Sequential([keras.Input(shape), *_layers_of_keras(keras, name)])
    rng = np.random.default_rng(0)
    network.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in network.get_weights()])
    x = rng.uniform(size=(2, *shape)).astype(np.float32)
    path = tmp_path / ("net.h5" if legacy else "net.weights.h5")
    network.save(path) if legacy else network.save_weights(path)
    with jax.numpy_rank_promotion("allow"):
        reference = x, np.asarray(network(x, training=False))
    settings = {} if name == "lenet5" else {"width": 2}
    model = models.build(name, **settings)
    made = models.from_keras(model, models.read_h5(path), shape, reference)
    np.testing.assert_allclose(Frozen(model, made)(x), reference[1], rtol=1e-4, atol=1e-4)


def _layers_of_keras(keras, name):
    k = keras.layers
    if name == "lenet5":
        return [
            k.Conv2D(6, 5, padding="same", activation="relu"), k.MaxPool2D(),
            k.Conv2D(16, 5, activation="relu"), k.MaxPool2D(), k.Flatten(),
            k.Dense(120, activation="relu"), k.Dense(84, activation="relu"), k.Dense(10),
        ]  # fmt: skip
    layers = []
    for width, depth in ((2, 2), (4, 2), (8, 3), (16, 3), (16, 3)):
        for _ in range(depth):
            layers += [k.Conv2D(width, 3, padding="same"), k.BatchNormalization(), k.ReLU()]
        layers.append(k.MaxPool2D())
    return [*layers, k.Flatten(), k.Dense(10)]
