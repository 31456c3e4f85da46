"""The loss around images against its closed form, and what masked gradients look like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.errors import InputError
from jaxdefense.evaluation import loss_surface
from tests.conftest import Linear

CLASSIFIER = Linear.classifier(Linear.weights() / 4)
X, Y = Linear.data(count=5)
EPS, POINTS, MIDDLE = 0.1, 5, 2


def test_along_the_gradient_the_loss_is_that_of_fgsm_of_every_size():
    found = loss_surface(CLASSIFIER, X, Y, EPS, points=POINTS)
    np.testing.assert_allclose(found.offsets, np.linspace(-EPS, EPS, POINTS), rtol=1e-6)
    assert found.loss.shape == (len(X), POINTS, POINTS)
    for i, size in enumerate(found.offsets):
        slope = jax.grad(lambda x: jd.losses.cross_entropy(CLASSIFIER(x), Y).sum())(X)
        point = jnp.clip(X + size * jnp.sign(slope), 0, 1)
        wanted = jd.losses.cross_entropy(CLASSIFIER(point), Y)
        np.testing.assert_allclose(found.loss[:, i, MIDDLE], wanted, rtol=1e-4, atol=1e-6)
    assert (np.diff(found.loss[:, :, MIDDLE], axis=1) > 0).all()


def test_across_it_the_signs_are_random_and_of_each_image_its_own():
    found = loss_surface(CLASSIFIER, X, Y, EPS, points=POINTS, key=jax.random.key(1))
    other = loss_surface(CLASSIFIER, X, Y, EPS, points=POINTS, key=jax.random.key(2))
    np.testing.assert_allclose(found.loss[:, :, MIDDLE], other.loss[:, :, MIDDLE], rtol=1e-6)
    assert not np.allclose(found.loss[:, MIDDLE, 0], other.loss[:, MIDDLE, 0], rtol=1e-3)
    steps = lambda loss: np.abs(np.diff(loss, axis=1)).mean()
    assert steps(found.loss[:, MIDDLE]) < steps(found.loss[:, :, MIDDLE])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_size_changes_nothing(batch_size):
    whole = loss_surface(CLASSIFIER, X, Y, EPS, points=3)
    parts = loss_surface(CLASSIFIER, X, Y, EPS, points=3, batch_size=batch_size)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)


def test_a_quantised_input_is_flat_along_its_gradient_and_jumps_elsewhere():
    hidden = lambda x: CLASSIFIER(jnp.round(4 * x) / 4)  # whose gradient is zero
    found = loss_surface(hidden, X, Y, 0.2, points=POINTS)
    assert np.ptp(found.loss[:, :, MIDDLE], axis=1).max() == 0
    assert np.ptp(found.loss[:, MIDDLE], axis=1).min() > 0


def test_what_cannot_be_drawn_is_said():
    for bad, message in (
        ({"x": X[0]}, "shape"),
        ({"x": 255 * X}, "pixels from"),
        ({"eps": 8.0}, "divide by 255"),
        ({"points": 4}, "odd"),
        ({"classifier": jd.Randomized(lambda keys, x: CLASSIFIER(x))}, "give a key"),
    ):
        given = {"classifier": CLASSIFIER, "x": X, "y": Y, "eps": EPS, **bad}
        with pytest.raises(InputError, match=message):
            loss_surface(**given)
