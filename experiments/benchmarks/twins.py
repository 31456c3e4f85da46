"""PyTorch twins of our flax models with the same weights, and a count of what a twin is asked."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from flax import linen as nn
from torch import nn as tnn

from jaxdefense import Frozen, Purified
from jaxdefense.errors import JaxdefenseError, UnknownNameError
from jaxdefense.models import Autoencoder, LeNet5, ResNet


def place() -> str:
    """The device of the twins: the one that our side runs on.

    Raises:
        JaxdefenseError: PyTorch has no access to it.
    """
    backend = jax.default_backend()
    if backend == "cpu":
        return "cpu"
    if backend == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise JaxdefenseError(
        f"JAX runs on a {backend} that this PyTorch ({torch.__version__}) cannot use, and times on "
        "different devices do not compare: install a PyTorch for it, or set JAX_PLATFORMS=cpu"
    )


def targets(y: np.ndarray) -> torch.Tensor:
    """Our labels as PyTorch wants them."""
    return torch.from_numpy(np.asarray(y, np.int64)).to(place())


# Logits of the two may differ by this share of the largest.
AGREEMENT = 1e-5


def twin(net: Frozen | Purified) -> tnn.Module:
    """The PyTorch network with the weights of `net`; it takes images NCHW and is in eval mode.

    Raises:
        UnknownNameError: a module without a twin here.
    """
    made = _build(net)
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    # Convolutions of few channels are up to five times faster so, which is to the peers' favour.
    return _ChannelsLast(made.to(place(), memory_format=torch.channels_last)).eval()


def _build(net: Any) -> tnn.Module:
    if isinstance(net, Purified):
        return tnn.Sequential(_build(net.purifier), _build(net.classifier))
    build = _BUILDERS.get(type(net.module))
    if build is None:
        known = [kind.__name__ for kind in _BUILDERS]
        raise UnknownNameError("model with a PyTorch twin", type(net.module).__name__, known)
    return build(net.module, jax.device_get(net.variables))


def nchw(x: np.ndarray) -> torch.Tensor:
    """Our images NHWC as PyTorch wants them."""
    images = np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2))
    return torch.from_numpy(images).to(place())


def nhwc(x: torch.Tensor | np.ndarray) -> np.ndarray:
    """PyTorch's images NCHW as ours."""
    images = x.numpy(force=True) if isinstance(x, torch.Tensor) else np.asarray(x)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def check(network: tnn.Module, net: Frozen | Purified, x: np.ndarray) -> float:
    """How far the logits of both are apart at most, as a share of the largest.

    Raises:
        JaxdefenseError: too far to be the same network.
    """
    logits = np.asarray(net(x))
    with torch.no_grad():
        theirs = network(nchw(x)).numpy(force=True)
    gap = float(np.abs(logits - theirs).max() / max(1.0, np.abs(logits).max()))
    if not gap <= AGREEMENT:
        raise JaxdefenseError(
            f"the PyTorch twin is another network: logits differ by {gap:.1e} of the largest, "
            f"allowed {AGREEMENT:g} (on a GPU, set JAX_DEFAULT_MATMUL_PRECISION=highest)"
        )
    return gap


def predict(network: tnn.Module, x: np.ndarray) -> np.ndarray:
    """Classes of our images; -1 where a logit is not a number, which is no correct answer."""
    with torch.no_grad():
        logits = network(nchw(np.asarray(x, np.float32))).numpy(force=True)
    return np.where(np.isnan(logits).any(-1), -1, logits.argmax(-1))


class Counted(tnn.Module):
    """A network that counts the rows it is asked for, as `Cost` does.

    A gradient is one backward pass of one row; a forward pass that is followed by a backward pass
    belongs to its gradient and is not counted again.
    """

    def __init__(self, network: tnn.Module):
        super().__init__()
        self.network = network
        self.gradients = self.forwards = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, counted."""
        logits, rows, first = self.network(x), len(x), True
        self.forwards += rows

        def differentiated(_: torch.Tensor) -> None:
            nonlocal first
            self.gradients += rows
            if first:
                self.forwards -= rows
            first = False

        if logits.requires_grad:
            logits.register_hook(differentiated)
        return logits


class _ChannelsLast(tnn.Module):
    def __init__(self, network: tnn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last))


# ------------------------------------------------------------------------------- architectures


def _lenet5(module: LeNet5, variables: Any) -> tnn.Module:
    params = dict(variables["params"])
    (_, _, inputs, _), channels = params["Conv_0"]["kernel"].shape, 16
    # Rows run over (h, w, c) in Flax and over (c, h, w) in PyTorch.
    rows, hidden = params["Dense_0"]["kernel"].shape
    kernel = params["Dense_0"]["kernel"].reshape(-1, channels, hidden).swapaxes(0, 1)
    params["Dense_0"] = {**params["Dense_0"], "kernel": kernel.reshape(rows, hidden)}
    classes = module.num_classes
    made = tnn.Sequential(
        tnn.Conv2d(inputs, 6, 5, padding=2), tnn.ReLU(), tnn.MaxPool2d(2),
        tnn.Conv2d(6, channels, 5), tnn.ReLU(), tnn.MaxPool2d(2), tnn.Flatten(),
        tnn.Linear(rows, hidden), tnn.ReLU(), tnn.Linear(hidden, 84), tnn.ReLU(),
        tnn.Linear(84, classes),
    )  # fmt: skip
    layers = [layer for layer in made if hasattr(layer, "weight")]
    for layer, name in zip(layers, sorted(params), strict=True):
        _fill(layer, params[name])
    return made


class _Block(tnn.Module):
    """`models.BasicBlock`."""

    def __init__(self, params: Any, statistics: Any, stride: int):
        super().__init__()
        # Flax counts layers in the order they are called: the shortcut's first, if it has any.
        last = len(params) // 2 - 1
        part = lambda *which: tnn.Sequential(*_convolved(params, statistics, *which))
        self.shortcut = part(0, 1, stride) if last == 2 else tnn.Identity()
        self.first, self.second = part(last - 1, 3, stride), part(last, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def _resnet(module: ResNet, variables: Any) -> tnn.Module:
    params, statistics = variables["params"], variables["batch_stats"]
    strides = [
        2 if stage > 0 and index == 0 else 1
        for stage, count in enumerate(module.blocks)
        for index in range(count)
    ]
    names = [f"BasicBlock_{i}" for i in range(len(strides))]
    head = tnn.Linear(*params["Dense_0"]["kernel"].shape)
    _fill(head, params["Dense_0"])
    return tnn.Sequential(
        *_convolved(params, statistics, 0, 3, 1), tnn.ReLU(),
        *(_Block(params[n], statistics[n], s) for n, s in zip(names, strides, strict=True)),
        tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), head,
    )  # fmt: skip


def _convolved(
    params: Any, statistics: Any, index: int, size: int, stride: int
) -> tuple[tnn.Module, tnn.Module]:
    """A convolution and its batch norm."""
    kernel = params[f"Conv_{index}"]["kernel"]
    _, _, inputs, outputs = kernel.shape
    convolution = tnn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    _fill(convolution, params[f"Conv_{index}"])
    norm = tnn.BatchNorm2d(outputs, eps=1e-5)
    scale, kept = params[f"BatchNorm_{index}"], statistics[f"BatchNorm_{index}"]
    values = (scale["scale"], scale["bias"], kept["mean"], kept["var"])
    for tensor, value in zip(
        (norm.weight, norm.bias, norm.running_mean, norm.running_var), values, strict=True
    ):
        tensor.data.copy_(torch.from_numpy(np.array(value)))
    return convolution, norm


class _Autoencoder(tnn.Module):
    """`models.Autoencoder`."""

    def __init__(self, module: Autoencoder, variables: Any):
        super().__init__()
        params, widths = variables["params"], tuple(module.widths)
        channels = (params["Conv_0"]["kernel"].shape[2], *widths)
        down = zip(channels, widths, strict=False)
        self.down = tnn.ModuleList(tnn.Conv2d(i, o, 3, 2, padding=1) for i, o in down)
        up = zip(reversed(channels), reversed(channels[:-1]), strict=False)
        self.up = tnn.ModuleList(tnn.ConvTranspose2d(i, o, 3, 2) for i, o in up)
        for index, layer in enumerate(self.down):
            _fill(layer, params[f"Conv_{index}"])
        for index, layer in enumerate(self.up):
            given = params[f"ConvTranspose_{index}"]
            # PyTorch's is the gradient of a convolution, so its kernel is turned round, and IOHW.
            kernel = np.asarray(given["kernel"])[::-1, ::-1].transpose(2, 3, 0, 1)
            layer.weight.data.copy_(torch.from_numpy(kernel.copy()))
            layer.bias.data.copy_(torch.from_numpy(np.array(given["bias"])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = []
        for layer in self.down:
            sizes.append(x.shape[2:])
            x = torch.relu(layer(x))
        for index, layer in enumerate(self.up):
            height, width = sizes.pop()
            x = layer(x)[:, :, :height, :width]
            x = torch.relu(x) if index < len(self.up) - 1 else torch.sigmoid(x)
        return x


def _fill(layer: tnn.Module, params: Any) -> None:
    kernel = np.asarray(params["kernel"])
    kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T  # HWIO to OIHW
    values = {"weight": kernel} | ({"bias": params["bias"]} if "bias" in params else {})
    layer.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in values.items()})


NAMES = ("lenet5", "resnet8", "resnet18", "resnet20", "resnet56", "resnet110")
_BUILDERS: dict[type[nn.Module], Callable[[Any, Any], tnn.Module]] = {
    Autoencoder: _Autoencoder,
    LeNet5: _lenet5,
    ResNet: _resnet,
}
