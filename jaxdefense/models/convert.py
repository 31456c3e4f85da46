"""Weights from PyTorch and Keras for the architectures of this package.

Neither library is needed: a state dict is a mapping of arrays, and so are a Keras model's weights.
Layers are matched by kind, shape and order, so names do not matter; whether the result is the same
network is told by logits of the original, which every conversion should be given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdefense.errors import InputError
from jaxdefense.models.layouts import Layer, keras_layers, torch_layers
from jaxdefense.models.layouts import read_h5 as read_h5
from jaxdefense.precision import float32_products
from jaxdefense.typing import PyTree

_KINDS = {nn.Conv: "conv", nn.ConvTranspose: "upconv", nn.Dense: "dense", nn.BatchNorm: "norm"}
_TOLERANCE = 1e-4


def from_torch(
    model: nn.Module,
    state_dict: Mapping[str, Any],
    image_shape: Sequence[int],
    reference: tuple[np.ndarray, np.ndarray] | None = None,
) -> PyTree:
    """Variables of a model from a PyTorch state dict of the same architecture.

    Kernels are turned from OIHW to HWIO, rows behind a flattening from (c, h, w) to (h, w, c),
    transposed convolutions the right way round.

    Args:
        model: a linen model of this package.
        state_dict: of the PyTorch network: name -> tensor or array, in the order of its layers.
        image_shape: ``(h, w, c)`` of one image.
        reference: images ``[n, h, w, c]`` and what the original returns for them: logits ``[n, k]``
            or images ``[n, h, w, c]``. Where ours differ by more than 1e-4 of the largest, this is
            another network.

    Returns:
        Variables for ``Frozen(model, variables)``.

    Raises:
        InputError: layers that do not match, or another answer than the original's.

    Example:
        >>> state_dict = torch.load("lenet.pt")  # doctest: +SKIP
        >>> variables = from_torch(models.build("lenet5"), state_dict, (28, 28, 1),
        ...                        reference=(x, logits))  # doctest: +SKIP
    """
    arrays = {name: _array(value) for name, value in state_dict.items()}
    return _convert(model, torch_layers(arrays), image_shape, reference, channels_first=True)


def from_keras(
    model: nn.Module,
    weights: Sequence[tuple[str, Any]] | Mapping[str, Any],
    image_shape: Sequence[int],
    reference: tuple[np.ndarray, np.ndarray] | None = None,
    epsilon: float = 1e-3,
) -> PyTree:
    """Variables of a model from the weights of a Keras model of the same architecture.

    Args:
        model: a linen model of this package.
        weights: name -> array in the order of the layers, as
            ``[(w.path, w.numpy()) for w in keras_model.weights]``; `read_h5` reads them from a
            weights file.
        image_shape, reference: as in `from_torch`.
        epsilon: of its batch normalisations, which weights do not say; Keras's own by default.

    Returns:
        Variables.

    Raises:
        InputError: as in `from_torch`.
    """
    items = weights.items() if isinstance(weights, Mapping) else weights
    layers = keras_layers([(name, np.asarray(value)) for name, value in items], epsilon)
    return _convert(model, layers, image_shape, reference, channels_first=False)


# --------------------------------------------------------------------------------------- matching


def _convert(model, theirs: list[Layer], image_shape, reference, *, channels_first) -> PyTree:
    variables, ours = _our_layers(model, image_shape)
    pairs = _matched(ours, theirs, channels_first)
    flat = {path: dict(_at(variables, path)) for path in (layer.name for layer, _ in pairs)}
    for layer, arrays in pairs:
        known = {name for values in flat[layer.name].values() for name in values}
        if unknown := sorted(set(arrays) - known):
            raise InputError(
                f"{_told(layer)}: the original has {', '.join(unknown)} besides, which would be "
                "lost: it is another architecture"
            )
        for kind, values in flat[layer.name].items():
            for name, old in values.items():
                if name not in arrays or arrays[name].shape != old.shape:
                    raise InputError(f"{_told(layer)}: the original has no {name} of its shape")
                flat[layer.name][kind][name] = jnp.asarray(arrays[name], old.dtype)
    made = variables
    for path, kinds in flat.items():
        for kind, values in kinds.items():
            made = _put(made, (kind, *path), values)
    if reference is not None:
        _check(model, made, *map(np.asarray, reference))
    return made


def _our_layers(model: nn.Module, image_shape) -> tuple[PyTree, list[Layer]]:
    """Zeros in the shape of the variables, and the layers in the order in which they are called."""
    called: list[tuple[tuple[str, ...], str]] = []

    def note(next_function, args, kwargs, context):
        kind = _KINDS.get(type(context.module))
        if kind is not None and context.method_name == "__call__":
            called.append((context.module.path, kind))
        return next_function(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note):
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    layers = []
    for path, kind in dict.fromkeys(called):
        arrays = {k: v for values in _at(variables, path).values() for k, v in values.items()}
        layers.append(Layer(path, kind, arrays))
    return variables, layers


def _at(variables: PyTree, path: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Collection -> arrays of one layer."""
    found = {}
    for kind, tree in variables.items():
        for name in path:
            tree = tree.get(name, {})
        if tree:
            found[kind] = dict(tree)
    return found


def _put(tree: Any, path: tuple[str, ...], values: dict[str, Any]) -> Any:
    if not path:
        return values
    return {**tree, path[0]: _put(tree[path[0]], path[1:], values)}


def _matched(ours: list[Layer], theirs: list[Layer], channels_first: bool):
    """Pairs of our layer and the original's arrays.

    Kernels by shape, the first that is left; norms by the kernel before them, because branches may
    be defined in another order than they are called, or, where the original lists layers by kind,
    as kernels.
    """
    left, pairs = list(theirs), []
    kinds = [layer.kind == "norm" for layer in theirs]
    by_kind = kinds == sorted(kinds, reverse=True)
    last: dict[int, int] = {}  # our position -> theirs, of kernels
    for index, layer in enumerate(ours):
        if layer.kind == "norm":
            continue
        found = next(((t, k) for t in left if (k := _kernel(t, layer)) is not None), None)
        if found is None:
            raise _unmatched(layer, [t for t in left if t.kind != "norm"])
        fit, kernel = found
        left = [t for t in left if t is not fit]
        last[index] = next(i for i, t in enumerate(theirs) if t is fit)
        arrays = {**fit.arrays, "kernel": kernel}
        if channels_first and layer.kind == "dense":
            arrays["kernel"] = _channels_last(arrays["kernel"], ours[:index])
        pairs.append((layer, arrays))
    for index, layer in enumerate(ours):
        if layer.kind != "norm":
            continue
        before = max((i for i in last if i < index), default=None)
        start = -1 if before is None else last[before]
        between = index - (-1 if before is None else before)
        candidate = theirs[start + between] if start + between < len(theirs) else None
        norms = [t for t in left if t.kind == "norm"]
        if not any(candidate is t and t.shape == layer.shape for t in norms):
            candidate = next((t for t in norms if by_kind and t.shape == layer.shape), None)
        if candidate is None:
            raise _unmatched(layer, norms)
        left = [t for t in left if t is not candidate]
        pairs.append((layer, candidate.arrays))
    if left:
        raise InputError(
            f"the original has layers that the model has not: {', '.join(map(_told, left))}; is it "
            "the same architecture, with the same settings?"
        )
    return pairs


def _array(value: Any) -> np.ndarray:
    """A tensor's numbers, on whatever device and of whatever precision it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return np.asarray(value)


def _kernel(theirs: Layer, layer: Layer) -> np.ndarray | None:
    """The original's kernel as a layer of ours wants it, if it can be that layer."""
    if layer.kind == "upconv":
        kernel = theirs.transposed
    else:
        kernel = theirs.arrays.get("kernel") if theirs.kind == layer.kind else None
    return kernel if kernel is not None and kernel.shape == layer.shape else None


def _channels_last(kernel: np.ndarray, before: list[Layer]) -> np.ndarray:
    """Rows from (c, h, w) to (h, w, c), where the layer stands right behind the convolutions."""
    previous = next((layer for layer in reversed(before) if layer.kind != "norm"), None)
    if previous is None or previous.kind == "dense":
        return kernel
    rows, columns = kernel.shape
    channels = previous.shape[-1]
    if rows % channels or rows == channels:
        return kernel
    return kernel.reshape(channels, -1, columns).swapaxes(0, 1).reshape(rows, columns)


def _unmatched(layer: Layer, left: list[Layer]) -> InputError:
    known = ", ".join(map(_told, left)) or "none"
    return InputError(
        f"{_told(layer)} has no counterpart in the original, of whose layers are left: {known}; is "
        "it the same architecture, with the same settings?"
    )


def _told(layer: Layer) -> str:
    name = "/".join(layer.name) if isinstance(layer.name, tuple) else layer.name
    return f"{name} ({layer.kind} {list(layer.shape)})"


def _check(model: nn.Module, variables: PyTree, x: np.ndarray, wanted: np.ndarray) -> None:
    with float32_products():
        made = np.asarray(model.apply(variables, jnp.asarray(x, jnp.float32)))
    gap = np.inf
    if made.shape == wanted.shape:
        gap = float(np.abs(made - wanted).max() / max(1.0, np.abs(wanted).max()))
    if not gap <= _TOLERANCE:
        raise InputError(
            f"the converted network answers otherwise than the original: outputs "
            f"{list(made.shape)} and {list(wanted.shape)} differ by {gap:.2g} of the largest, "
            f"allowed {_TOLERANCE:g}. Are both in evaluation mode, with the same normalisation, "
            "padding, activations and epsilon of batch normalisations?"
        )
