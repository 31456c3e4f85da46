"""The pooled network in parts, and the code of an autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense import models

X = np.random.default_rng(0).uniform(size=(3, 16, 16, 1)).astype(np.float32)


def test_the_parts_of_the_network_are_the_network():
    model = models.PooledCNN(widths=(2, 3), hidden=5, num_classes=2)
    variables = models.initialize(model, jax.random.key(0), X.shape[1:])
    apply = lambda x, method: model.apply(variables, x, method=method)
    maps = apply(X, "maps")
    assert maps.shape == (3, 8, 8, 3)
    logits = apply(X, "__call__")
    np.testing.assert_allclose(apply(maps, "head"), logits, atol=1e-6)
    output = variables["params"]["output"]
    by_hand = apply(X, "features") @ output["kernel"] + output["bias"][None]
    np.testing.assert_allclose(by_hand, logits, atol=1e-5)


def test_maps_that_average_to_the_same_have_the_same_features():
    model = models.PooledCNN(widths=(2, 3), hidden=5)
    variables = models.initialize(model, jax.random.key(0), X.shape[1:])
    maps = jnp.asarray(np.random.default_rng(1).uniform(size=(1, 8, 8, 3)), jnp.float32)
    turned = maps[:, ::-1, ::-1]
    heads = [model.apply(variables, each, method="head") for each in (maps, turned)]
    np.testing.assert_allclose(*heads, atol=1e-5)


@pytest.mark.parametrize("kind", [models.Autoencoder, models.UAutoencoder])
@pytest.mark.parametrize("side", [16, 15])
def test_the_code_is_what_two_convolutions_make(kind, side):
    model, x = kind(widths=(2, 3)), X[:, :side, :side]
    variables = models.initialize(model, jax.random.key(0), x.shape[1:])
    y = x
    for name in ("Conv_0", "Conv_1"):
        layer = variables["params"][name]
        y = jax.lax.conv_general_dilated(
            y, layer["kernel"], (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = jax.nn.relu(y + layer["bias"][None, None, None])
    found = models.bottleneck(model, variables, x)
    assert found.shape == (3, 4, 4, 3)
    np.testing.assert_allclose(found, y, atol=1e-5)
