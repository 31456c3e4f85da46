"""Interval bounds: what no perturbation in an l-inf ball can do to a small network.

Loose on anything but small networks, sound on all: what an attack breaks within a certified radius
is a fault of the attack, of its scoring, or of the bounds.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxdefense import checks
from jaxdefense.classifiers import Static, join, split
from jaxdefense.errors import InputError
from jaxdefense.geometry import linf
from jaxdefense.precision import coarsest, float32_products
from jaxdefense.typing import Classifier, Images, Labels

# Float32 sums of thousands of terms; the bounds are widened by this share of what was summed.
_ROUNDING = 1e-5

_MONOTONE = {
    "max", "min", "reduce_max", "reduce_min", "reduce_window_max", "reduce_sum", "exp", "log",
    "logistic", "tanh", "reshape", "transpose", "broadcast_in_dim", "squeeze", "concatenate",
    "expand_dims", "slice", "convert_element_type", "copy", "erf", "sqrt",
    "reduce_window_sum", "add_any", "add", "rev", "pad", "clamp", "stack",
}  # fmt: skip
_LINEAR = {"dot_general", "conv_general_dilated"}
_CALLS = {"pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "core_call"}


def interval_bounds(
    classifier: Classifier,
    x: Images | np.ndarray,
    eps: float,
    y: Labels | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a network's logits over all images within eps of x (l-inf) and in [0, 1].

    Interval bound propagation (Gowal et al. 2018, arXiv 1810.12715) through the operations that the
    function is made of: convolutions, dense layers, pooling, monotone activations.

    Args:
        classifier: deterministic, made of such operations in evaluation mode.
        x: images ``[b, h, w, c]`` in [0, 1].
        eps: radius.
        y: labels ``[b]``; with them the bounds are of each logit minus that of the label.

    Returns:
        Lower and upper bounds ``[b, k]``. With labels, an image whose upper bounds are all below 0
        but the label's own, which is 0, cannot be broken within eps.

    Raises:
        InputError: an operation whose bounds are not known, or one in less than float32, whose
            rounding they do not hold; images, labels or a radius that cannot be right.

    Example:
        >>> import jax.numpy as jnp
        >>> model = lambda x: jnp.stack([s := jnp.maximum(x.sum((1, 2, 3)), 0.0), 1 - s], -1)
        >>> low, high = interval_bounds(model, jnp.full((1, 1, 1, 1), 0.5), 0.1)
        >>> print(low.round(3), high.round(3))
        [[0.4 0.4]] [[0.6 0.6]]
    """
    x = np.asarray(x)
    checks.check_images(x)
    checks.check_radii(np.atleast_1d(np.asarray(eps, np.float32)), linf, x[0].size)
    if y is not None:
        checks.check_labels(np.asarray(y), len(x))
    x = x.astype(np.float32)
    low, high = np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1)
    arrays, static = split(classifier)
    if coarsest(join(arrays, static), x[:1]) > np.finfo(np.float32).eps:
        raise InputError(
            "the network computes in less than float32, whose rounding interval bounds do not "
            "hold: build it with dtype=jnp.float32"
        )
    with float32_products():
        bounds = _bounds(static, arrays, jnp.asarray(low), jnp.asarray(high))
    least, most = (np.asarray(bound) for bound in bounds)
    if y is None:
        return least, most
    own = np.asarray(y)[:, None]
    over = np.take_along_axis(most, own, -1), np.take_along_axis(least, own, -1)
    least, most = least - over[0], most - over[1]
    for bound in (least, most):
        np.put_along_axis(bound, own, 0.0, -1)
    return least, most


def certified_within(
    classifier: Classifier, x: Images | np.ndarray, y: Labels | np.ndarray, eps: float
) -> np.ndarray:
    """Which images ``[b]`` no l-inf perturbation of this radius can break, by `interval_bounds`."""
    _, most = interval_bounds(classifier, x, eps, y)
    most = most.copy()
    np.put_along_axis(most, np.asarray(y)[:, None], -np.inf, -1)
    return most.max(-1) < 0


class _Interval:
    """A value that lies between two arrays."""

    def __init__(self, low: jax.Array, high: jax.Array):
        self.low, self.high = low, high


@functools.partial(jax.jit, static_argnums=0)
def _bounds(static: Static, arrays, low, high):
    closed = jax.make_jaxpr(join(arrays, static))(low)
    (out,) = _run(closed.jaxpr, closed.consts, [_Interval(low, high)])
    if not isinstance(out, _Interval):  # it does not depend on the image
        return out, out
    return out.low, out.high


def _run(jaxpr: Any, consts: Any, arguments: list[Any]) -> list[Any]:
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if any(isinstance(value, _Interval) for value in inputs):
            outputs = _rule(equation, inputs)
        else:
            outputs = _call(equation, inputs)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _call(equation: Any, inputs: list[Any]) -> list[Any]:
    found = equation.primitive.bind(*inputs, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _rule(equation: Any, inputs: list[Any]) -> list[Any]:
    name = equation.primitive.name
    bind = lambda *values: _call(equation, list(values))[0]
    if name in _CALLS:
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        return _run(inner.jaxpr, inner.consts, inputs)
    if name in _MONOTONE:
        return [_Interval(bind(*map(_low, inputs)), bind(*map(_high, inputs)))]
    if name == "neg":
        return [_Interval(-_high(inputs[0]), -_low(inputs[0]))]
    if name == "sub":
        one, other = inputs
        return [_Interval(_low(one) - _high(other), _high(one) - _low(other))]
    if name == "mul":
        return [_spread(bind, *inputs)]
    if name == "div" and not isinstance(inputs[1], _Interval):
        return [_spread(bind, *inputs)]
    if name in _LINEAR and not isinstance(inputs[1], _Interval):
        return [_linear(bind, *inputs)]
    raise InputError(
        f"interval bounds of the operation {name!r} are not known here: they are for small "
        "networks of convolutions, dense layers, pooling and monotone activations"
    )


def _linear(bind: Callable, x: _Interval, weights: jax.Array) -> _Interval:
    middle, radius = (x.high + x.low) / 2, (x.high - x.low) / 2
    centre, spread = bind(middle, weights), bind(radius, jnp.abs(weights))
    spread = spread + _ROUNDING * (bind(jnp.abs(middle), jnp.abs(weights)) + spread)
    return _Interval(centre - spread, centre + spread)


def _spread(bind: Callable, one: Any, other: Any) -> _Interval:
    ends = [bind(a, b) for a in (_low(one), _high(one)) for b in (_low(other), _high(other))]
    stacked = jnp.stack(ends)
    return _Interval(stacked.min(0), stacked.max(0))


def _low(value: Any) -> Any:
    return value.low if isinstance(value, _Interval) else value


def _high(value: Any) -> Any:
    return value.high if isinstance(value, _Interval) else value
