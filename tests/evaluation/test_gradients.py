"""Amplitudes of gradients in closed form, for every reading of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.errors import InputError
from jaxdefense.evaluation import gradient_amplitude
from tests.conftest import Linear

WEIGHTS = Linear.weights()
CLASSIFIER = Linear.classifier(WEIGHTS / 4)
X, Y = Linear.data(count=7)
WRONG = (Y + 1) % 3


def expected(of, labels):
    """By hand for logits W^T x: dp_k/dx = p_k (w_k - sum_j p_j w_j)."""
    w = np.asarray(WEIGHTS, np.float64) / 4
    logits = (np.asarray(X, np.float64).reshape(7, -1) - 0.5) @ w
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = p @ w.T
    slopes = p[:, :, None] * (w.T[None] - mean[:, None])
    if of == "softmax":
        return np.abs(slopes).sum((1, 2))
    if of == "probability":
        return np.abs(slopes[np.arange(7), p.argmax(-1)]).sum(-1)
    return np.abs(mean - w.T[np.asarray(labels)]).sum(-1)


@pytest.mark.parametrize("labels", [Y, WRONG])
@pytest.mark.parametrize("of", ["probability", "softmax", "cross_entropy"])
def test_amplitudes_of_a_linear_classifier(of, labels):
    found = gradient_amplitude(CLASSIFIER, X, labels, of=of)
    np.testing.assert_allclose(found.total, expected(of, labels), rtol=1e-4)
    np.testing.assert_allclose(found.mean, found.total / 48, rtol=1e-6)
    assert found.zero_share == 0


def test_readings_are_different_numbers_and_only_one_looks_at_the_labels():
    totals = {
        of: gradient_amplitude(CLASSIFIER, X, Y, of=of).total.mean()
        for of in ("probability", "softmax", "cross_entropy")
    }
    assert totals["softmax"] > 1.1 * totals["probability"]
    wrong = gradient_amplitude(CLASSIFIER, X, WRONG, of="cross_entropy").total.mean()
    assert wrong > 1.1 * totals["cross_entropy"]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_the_batch_size_changes_nothing(batch_size):
    found = gradient_amplitude(CLASSIFIER, X, Y, of="softmax", batch_size=batch_size)
    np.testing.assert_allclose(found.total, expected("softmax", Y), rtol=1e-4)
    assert found.total.shape == (7,)


def test_pixels_from_0_to_255_have_a_255th_of_the_amplitude():
    coarse = lambda x: CLASSIFIER(x / 255)
    fine = gradient_amplitude(CLASSIFIER, X, Y)
    found = gradient_amplitude(coarse, 255 * X, Y)
    np.testing.assert_allclose(found.total, fine.total / 255, rtol=1e-4)


def test_equal_classes_do_not_cancel():
    tie = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    found = gradient_amplitude(tie, jnp.zeros((1, 2, 2, 1)), jnp.array([0]))
    np.testing.assert_allclose(found.mean, 0.5)  # p (1 - p) * 2 at p = 1/2


def test_zero_gradients_are_counted():
    cut = np.median(np.asarray(X).mean((1, 2, 3)))
    masked = lambda x: CLASSIFIER(
        jnp.where(x.mean((1, 2, 3), keepdims=True) > cut, jnp.round(x), x)
    )
    assert gradient_amplitude(masked, X, Y).zero_share == pytest.approx(3 / 7)


def test_saturation_makes_amplitudes_small_and_temperature_undoes_it():
    hot = lambda x: 1e5 * CLASSIFIER(x)
    plain, saturated, undone = (
        gradient_amplitude(f, X, Y).mean.mean() for f in (CLASSIFIER, hot, jd.Tempered(hot, 1e5))
    )
    assert saturated < 0.1 * plain
    assert undone == pytest.approx(plain, rel=1e-4)


def test_a_random_classifier_needs_a_key_and_depends_on_nothing_else():
    noise = jax.vmap(lambda key: jax.random.normal(key, Linear.SHAPE))
    noisy = jd.Randomized(lambda keys, x: CLASSIFIER(x + noise(keys)))
    run = lambda seed, size: (
        gradient_amplitude(noisy, X, Y, key=jax.random.key(seed), batch_size=size).total
    )
    np.testing.assert_allclose(run(0, 7), run(0, 2), rtol=1e-4)
    assert not np.allclose(run(0, 7), run(1, 7), rtol=1e-3)
    with pytest.raises(InputError, match="random"):
        gradient_amplitude(noisy, X, Y)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="probability, softmax, cross_entropy"):
        gradient_amplitude(CLASSIFIER, X, Y, of="logits")
    for x, y in ((X, Y[:3]), (X[:0], Y[:0]), (X[0], Y)):
        with pytest.raises(InputError, match=r"\[n, h, w, c\]"):
            gradient_amplitude(CLASSIFIER, x, y)
