"""Grad-CAM in closed form: with an averaging head the heat is the maps' own weighted sum."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense import Frozen, Purified, models
from jaxdefense.errors import InputError
from jaxdefense.evaluation import grad_cam

RNG = np.random.default_rng(0)
WEIGHTS = np.array([[1.0, -2.0], [0.5, 1.0], [-1.0, 0.25]], np.float32)  # three maps, two classes
X = RNG.uniform(size=(5, 6, 6, 3)).astype(np.float32)


def maps(x):
    return x


def head(seen):
    return seen.mean((1, 2)) @ jnp.asarray(WEIGHTS)


def expected(classes):
    heat = np.maximum((X * WEIGHTS.T[classes][:, None, None]).sum(-1), 0)
    top = heat.max((1, 2), keepdims=True)
    return np.where(top > 0, heat / np.where(top > 0, top, 1), 0)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_the_heat_of_an_averaging_head(batch_size):
    classes = np.array([0, 1, 0, 1, 1])
    found = grad_cam(maps, head, X, classes, batch_size)
    np.testing.assert_allclose(found, expected(classes), atol=1e-5)


def test_the_predicted_class_is_explained_if_none_is_given():
    predicted = np.asarray(head(X)).argmax(-1)
    np.testing.assert_allclose(grad_cam(maps, head, X), expected(predicted), atol=1e-5)


def test_nothing_speaks_for_a_class_whose_weights_are_all_against_it():
    against = lambda seen: -seen.mean((1, 2))
    found = grad_cam(lambda x: x[..., :1], lambda m: jnp.repeat(against(m), 2, 1), X)
    assert not found.any()


def test_small_maps_are_enlarged_to_the_image():
    found = grad_cam(lambda x: x[:, ::3, ::3], head, X)
    assert found.shape == (5, 6, 6)


def test_parts_of_a_network_behind_a_purifier_are_explained():
    model = models.build("pooled_cnn", num_classes=2, widths=(2, 3), hidden=4)
    variables = models.initialize(model, jnp.zeros(2, jnp.uint32), (8, 8, 1))
    part = lambda method: Frozen(model, variables, (("method", method),))
    x = X[:, :, :, :1].repeat(2, 1).repeat(2, 2)[:, :8, :8]
    bare = grad_cam(part("maps"), part("head"), x)
    dark = Purified(lambda x: x / 2, part("maps"))
    assert bare.shape == (5, 8, 8)
    np.testing.assert_allclose(
        grad_cam(dark, part("head"), x), grad_cam(part("maps"), part("head"), x / 2), atol=1e-5
    )


def test_what_is_no_image_or_no_map_is_refused():
    with pytest.raises(InputError, match="at least one"):
        grad_cam(maps, head, X[:0])
    with pytest.raises(InputError, match="divide by 255"):
        grad_cam(maps, head, 255 * X)
    with pytest.raises(InputError, match="exactly one label"):
        grad_cam(maps, head, X, np.zeros(3, int))
    with pytest.raises(InputError, match="feature maps have shape"):
        grad_cam(lambda x: x.mean((1, 2)), lambda m: m, X)
