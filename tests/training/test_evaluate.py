"""Means over a set: padding does not count, one compilation, bad input."""

import numpy as np
import pytest
from tiny_training import SIDE, TinyAutoencoder, data, variables

from jaxdefense.errors import InputError
from jaxdefense.training import Classification, Reconstruction, evaluate, mean, validation
from jaxdefense.training.objectives import gaussian_noise

WEIGHTS = np.random.default_rng(0).normal(size=(SIDE * SIDE, 3)).astype(np.float32)


def linear(weights, x):
    return x.reshape(x.shape[0], -1) @ weights


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 64])
def test_evaluate_is_the_mean_over_the_set_whatever_the_batch_size(batch_size):
    x, y = data(11)
    scores = evaluate(linear, WEIGHTS, x, y, batch_size)
    logits = linear(WEIGHTS.astype(np.float64), x / 255)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(11), y]
    assert scores["accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
    assert scores["loss"] == pytest.approx(loss.mean(), rel=1e-5)


def test_padding_that_gives_nan_does_not_count():
    x, y = data(5)
    x[:, 0, 0] = 255  # padded images are black there
    values = mean(BlackIsNan(), None, x, y, batch_size=4)
    assert values == {"value": 1.0}


class BlackIsNan:
    def __call__(self, variables, x, y):
        corner = x[:, 0, 0, 0]
        return {"value": corner / corner}


def test_one_compilation_for_all_batches_and_epochs():
    traces = []

    def counted(weights, x):
        traces.append(x.shape)
        return linear(weights, x)

    x, y = data(11)
    validate = validation(Classification(counted), x, y, batch_size=4)
    first = validate(WEIGHTS)
    assert validate(WEIGHTS) == first
    assert validate(2 * WEIGHTS) != first
    assert validation(Classification(counted), x, y, batch_size=4)(WEIGHTS) == first
    assert traces == [(4, SIDE, SIDE, 1)]


def test_reconstruction_error_with_and_without_noise():
    x, y = data(11)
    model = TinyAutoencoder()
    made = variables(model)
    restored = np.asarray(model.apply(made, x.astype(np.float32) / 255))
    clean = mean(Reconstruction(model.apply), made, x, y, batch_size=4)
    assert clean["loss"] == pytest.approx(np.mean((restored - x / 255) ** 2), rel=1e-4)
    noise = gaussian_noise(0.5)
    noisy = [mean(Reconstruction(model.apply, noise, seed), made, x, y) for seed in (0, 0, 1)]
    assert noisy[0] == noisy[1] != noisy[2]
    assert noisy[0]["loss"] > clean["loss"]


X, Y = data(6)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X.astype(np.float32) / 255, Y, "stored as uint8"),
        (X[..., 0], Y, r"\[n, h, w, c\]"),
        (X.tolist(), Y, "images are list"),
        (X[:0], Y[:0], "no images"),
        (X, Y[:-1], "6 images need 6 integer labels"),
        (X, Y.astype(np.float32), "integer labels"),
        (X, Y - 1, "smallest label is -1"),
        (X, Y + 1, "largest label is 3.*3 classes"),
    ],
)
def test_bad_data_is_named(x, y, message):
    with pytest.raises(InputError, match=message):
        evaluate(linear, WEIGHTS, x, y)
