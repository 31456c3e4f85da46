"""Winograd's convolution against XLA's own: values, gradients, paddings, odd sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdefense import winograd
from jaxdefense.convolutions import canonicalize

KEY = jax.random.key(3)
PADDINGS = ["SAME", "VALID", ((2, 0), (0, 3))]


def layer(padding, kernel, layout="NHWC"):
    def call(x):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=(layout, "HWIO", layout)
        )

    return call


def products(function, *args):
    return str(jax.make_jaxpr(function)(*args)).count("dot_general")


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("side", [12, 13])
def test_values_and_gradients_are_those_of_the_convolution(side, padding, layout):
    keys = jax.random.split(KEY)
    x = jax.random.normal(keys[0], (2, side, side + 2, 32))
    x = x if layout == "NHWC" else x.transpose(0, 3, 1, 2)
    kernel = jax.random.normal(keys[1], (3, 3, 32, 40)) / 17
    call = layer(padding, kernel, layout)
    energy = lambda x: (jnp.sin(call(x)) ** 2).sum()
    for function in (call, jax.grad(energy)):
        fast = canonicalize(function)
        assert products(function, x) == 0
        assert products(fast, x) >= 16
        plain = function(x)
        np.testing.assert_allclose(fast(x), plain, atol=3e-6 * float(abs(plain).max()), rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel", "settings"),
    [
        ((1, 16, 16, 31), (3, 3, 31, 64), {}),
        ((1, 16, 16, 64), (3, 3, 64, 31), {}),
        ((1, 7, 16, 32), (3, 3, 32, 32), {}),
        ((1, 16, 16, 32), (5, 5, 32, 32), {}),
        ((1, 16, 16, 32), (3, 3, 32, 32), {"window_strides": (2, 2)}),
        ((1, 16, 16, 32), (3, 3, 32, 32), {"lhs_dilation": (2, 2)}),
        ((1, 16, 16, 32), (3, 3, 32, 32), {"rhs_dilation": (2, 2)}),
        ((1, 16, 16, 64), (3, 3, 32, 64), {"feature_group_count": 2}),
    ],
)
def test_others_are_left_to_xla(shape, kernel, settings):
    settings = {"window_strides": (1, 1), **settings}
    weights = jnp.ones(kernel)
    call = lambda x: lax.conv_general_dilated(
        x, weights, padding=((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings
    )
    assert products(canonicalize(call), jnp.ones(shape)) == 0


def test_half_precision_is_left_to_xla():
    x = jnp.ones((1, 16, 16, 32), jnp.bfloat16)
    call = layer("SAME", jnp.ones((3, 3, 32, 32), jnp.bfloat16))
    assert products(canonicalize(call), x) == 0


def test_it_is_as_precise_as_float32_allows():
    """Transforms cost some bits: against float64, no more than four times XLA's own error."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((1, 16, 16, 64)), rng.standard_normal((3, 3, 64, 64)) / 24
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = sum(
        padded[:, i : i + 16, j : j + 16] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    call = layer("SAME", jnp.asarray(kernel, jnp.float32))
    error = lambda function: float(abs(np.asarray(function(jnp.float32(x))) - exact).max())
    assert error(canonicalize(call)) <= 4 * max(error(call), 1e-6)


def test_the_smallest_sides_and_channels_are_told_apart():
    params = {
        "window_strides": (1, 1), "lhs_dilation": (1, 1), "rhs_dilation": (1, 1),
        "feature_group_count": 1, "batch_group_count": 1, "padding": ((1, 1), (1, 1)),
    }  # fmt: skip
    suits = lambda side, channels: winograd.suits(
        jnp.ones((1, side, side, channels)), jnp.ones((3, 3, channels, channels)), params
    )
    assert suits(winograd.SIDE, winograd.CHANNELS)
    assert not suits(winograd.SIDE - 1, winograd.CHANNELS)
    assert not suits(winograd.SIDE, winograd.CHANNELS - 1)
