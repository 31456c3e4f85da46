"""Convolution gradients at full speed inside compiled loops on a CPU.

XLA on CPU tidies convolutions only in a program's entry computation. Inside ``scan``,
``fori_loop``, ``while_loop`` or ``cond`` the input gradient of a convolution keeps a layout that no
fast kernel takes and runs 6 to 10 times slower (jax issue 12868). Writing every convolution as
NHWC, HWIO -> NHWC before the loop is compiled cures it. On the way thin convolutions and max pools
become programs that are fast on a CPU anywhere (`folding`). The numbers are the same, up to the
order of sums.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core as jex

from jaxdefense import folding, winograd

_ARRAYS = jax.Array | np.ndarray | np.generic
_CALLS = {"pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call"}


def _canonical(lhs: jax.Array, rhs: jax.Array, params: dict[str, Any], often: bool) -> jax.Array:
    numbers = params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    # Specs are (batch, feature, *spatial) for lhs and out, (out, in, *spatial) for rhs.
    channels_last = lax.ConvDimensionNumbers(
        (0, rank - 1, *range(1, rank - 1)),
        (rank - 1, rank - 2, *range(rank - 2)),
        (0, rank - 1, *range(1, rank - 1)),
    )
    if numbers == channels_last:
        return _convolve(lhs, rhs, params, often)
    (n, c, *space), (o, i, *window), out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    result = _convolve(
        lax.transpose(lhs, (n, *space, c)),
        lax.transpose(rhs, (*window, i, o)),
        {**params, "dimension_numbers": channels_last},
        often,
    )
    source = (out[0], *out[2:], out[1])
    inverse = [source.index(axis) for axis in range(rank)]
    return lax.transpose(result, inverse)


def _convolve(lhs: jax.Array, rhs: jax.Array, params: dict[str, Any], often: bool) -> jax.Array:
    if folding.is_thin(lhs, rhs, params):
        return folding.fold(lhs, rhs, params)
    if often and winograd.suits(lhs, rhs, params):
        return winograd.convolve(lhs, rhs, params)
    result: jax.Array = lax.conv_general_dilated_p.bind(lhs, rhs, **params)
    return result


def _pooled(equation: Any, inputs: list[Any]) -> jax.Array | None:
    """Max pooling or its gradient, where there is a faster program for it."""
    name, params = equation.primitive.name, equation.params
    if name == "reduce_window_max" and folding.is_tiled(params):
        return folding.pool(inputs[0], params)
    largest = params.get("select_prim") is lax.ge_p
    if name == "select_and_scatter_add" and largest and folding.is_tiled(params):
        return folding.unpool(inputs[0], inputs[1], params)
    return None


def _evaluate(jaxpr, consts, often, *args):
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))
    read = lambda atom: atom.val if isinstance(atom, jex.Literal) else values[atom]
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        primitive = equation.primitive
        with equation.ctx.manager:  # what the user had set there, such as a way to draw numbers
            if primitive is lax.conv_general_dilated_p:
                outputs = [_canonical(inputs[0], inputs[1], equation.params, often)]
            elif (pooled := _pooled(equation, inputs)) is not None:
                outputs = [pooled]
            elif primitive.name in _CALLS:
                inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
                outputs = _evaluate(inner.jaxpr, inner.consts, often, *inputs)
            else:
                outputs = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
                if not primitive.multiple_results:
                    outputs = [outputs]
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def canonicalize(function: Callable[..., Any], often: bool = True) -> Callable[..., Any]:
    """The same function with every convolution written NHWC, HWIO -> NHWC.

    Apply it to a *whole gradient step*: the gradient of a canonicalized forward pass makes new
    convolutions. Loops inside the function are left as they are. Worth it on a CPU only: inside a
    compiled loop, or where thin convolutions or max pools take much of the time.

    Args:
        function: pytrees to a pytree of arrays. What is no array, such as ``train=True`` or the
            activation in an equinox module, reaches it as it is. Gradient rules of its own
            (`jax.custom_vjp`) are gone from the outcome, which is one more reason to give the
            whole step.
        often: whether it will run often enough to pay back the longer compiling of the
            fastest programs; else only those that compile as quickly as it does untouched.

    Returns:
        A function of the same signature and, up to the order of sums, the same values.

    Example:
        >>> import jax.numpy as jnp
        >>> float(canonicalize(lambda x: 2 * x)(jnp.ones(())))
        2.0
    """

    @functools.wraps(function)
    def canonicalized(*args, **settings):
        leaves, tree = jax.tree.flatten((args, settings))
        where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, _ARRAYS)]
        arrays = [leaves[i] for i in where]

        def call(*arrays):
            given = dict(zip(where, arrays, strict=True))
            whole = [given.get(i, leaf) for i, leaf in enumerate(leaves)]
            args, settings = jax.tree.unflatten(tree, whole)
            return function(*args, **settings)

        jaxpr, shape = jax.make_jaxpr(call, return_shape=True)(*arrays)
        outputs = _evaluate(jaxpr.jaxpr, jaxpr.consts, often, *arrays)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return canonicalized
