"""How PyTorch and Keras lay out the weights of a layer."""

from typing import Any, NamedTuple

import numpy as np

from jaxdefense.errors import InputError


class Layer(NamedTuple):
    """One layer's arrays as ours hold them.

    Attributes:
        name: for messages; of a layer of ours its path.
        kind: "conv", "upconv" (transposed), "dense" or "norm".
        arrays: by our names.
        transposed: the kernel, were this a transposed convolution: state dicts do not say so.
    """

    name: Any
    kind: str
    arrays: dict[str, np.ndarray]
    transposed: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel, or of the scale of a norm."""
        return self.arrays["scale" if self.kind == "norm" else "kernel"].shape


def torch_layers(arrays: dict[str, np.ndarray]) -> list[Layer]:
    """Layers of a PyTorch state dict, in its order."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = array
    layers = []
    for name, group in groups.items():
        weight, bias = group.get("weight"), group.get("bias")
        more = {} if bias is None else {"bias": bias}
        if weight is None:
            raise InputError(f"{name} has no weight: it is no layer known here")
        if "running_mean" in group:
            made = {"scale": weight, **more, "mean": group["running_mean"],
                    "var": group["running_var"]}  # fmt: skip
            layers.append(Layer(name, "norm", made))
        elif weight.ndim == 4:
            kernel = weight.transpose(2, 3, 1, 0)  # OIHW to HWIO
            # IOHW, and the gradient of a convolution: the kernel is turned round.
            turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
            layers.append(Layer(name, "conv", {"kernel": kernel, **more}, turned))
        elif weight.ndim == 2:
            layers.append(Layer(name, "dense", {"kernel": weight.T, **more}))
        else:
            raise InputError(f"{name}: a weight of shape {list(weight.shape)} is not known here")
    return layers


_EPSILON = 1e-5  # of every batch normalisation of ours, and PyTorch's


def keras_layers(items: list[tuple[str, np.ndarray]], epsilon: float) -> list[Layer]:
    """Layers of a Keras model's weights, in their order.

    Their batch normalisations divide by ``sqrt(var + epsilon)``, ours by another's: what differs
    becomes a part of the variance.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in items:
        prefix, _, last = name.partition(":")[0].rpartition("/")
        groups.setdefault(prefix, {})[last] = array
    layers = []
    for name, group in groups.items():
        if "kernel" in group:
            kernel = group["kernel"]
            if kernel.ndim == 4:
                turned = kernel[::-1, ::-1].swapaxes(2, 3)  # HWOI, turned round
                layers.append(Layer(name, "conv", group, turned))
            else:
                layers.append(Layer(name, "dense", group))
        elif "gamma" in group:
            if not {"beta", "moving_mean", "moving_variance"} <= set(group):
                raise InputError(
                    f"{name} holds {', '.join(group)}: a batch normalisation needs all"
                )
            made = {"scale": group["gamma"], "bias": group["beta"], "mean": group["moving_mean"],
                    "var": group["moving_variance"] + (epsilon - _EPSILON)}  # fmt: skip
            layers.append(Layer(name, "norm", made))
        else:
            raise InputError(f"{name} holds {', '.join(group)}: it is no layer known here")
    return layers


def read_h5(path: str) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of a Keras weights file (.h5 of Keras 2 or 3), in the order of its layers.

    Needs h5py (``pip install h5py``).

    Raises:
        InputError: no such file, no weights in it, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise InputError("reading .h5 files needs h5py: pip install h5py") from None
    try:
        with h5py.File(path, "r") as file:
            found = _legacy(file.get("model_weights", file)) or _keras3(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}") from None
    if not found:
        raise InputError(f"{path} holds no weights of a Keras model")
    return found


def _legacy(group: Any) -> list[tuple[str, np.ndarray]]:
    """Keras 2, and ``save_weights("x.h5")``: names are attributes."""
    text = lambda name: name.decode() if isinstance(name, bytes) else name
    layers = [text(name) for name in group.attrs.get("layer_names", [])]
    return [
        (text(name), np.asarray(group[layer][text(name)]))
        for layer in layers
        for name in group[layer].attrs["weight_names"]
    ]


_VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean",
                                                         "moving_variance")}  # fmt: skip


def _keras3(file: Any) -> list[tuple[str, np.ndarray]]:
    """Keras 3's ``.weights.h5``: numbered variables below each layer's name."""
    found: list[tuple[str, np.ndarray]] = []

    def visit(group: Any, path: str) -> None:
        held = group.get("vars")
        if held is not None and len(held):
            names = _VARIABLES.get(len(held), ())
            ordered = sorted(held, key=int)
            found.extend(
                (f"{path}/{name}", np.asarray(held[number]))
                for name, number in zip(names, ordered, strict=False)
            )
        for name in sorted(group, key=_numbered):
            if name != "vars" and hasattr(group[name], "keys"):
                visit(group[name], f"{path}/{name}")

    visit(file, "")
    return found


def _numbered(name: str) -> tuple[str, int]:
    """By kind, and then conv2d, conv2d_1, ..., conv2d_10 in this order."""
    base, _, number = name.rpartition("_")
    return (base, int(number)) if number.isdigit() else (name, 0)
