"""The linear probe: nothing, everything, and normal distributions whose area is known."""

import numpy as np
import pytest
import scipy.stats

from jaxdefense.errors import InputError
from jaxdefense.evaluation import linear_probe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2, 3))


def test_equal_sets_are_not_told_apart_and_distant_ones_always():
    assert linear_probe(X, X) == (0.5, 0.5, 0.5)
    assert linear_probe(X, X + 50) == (1, 1, 1)


def test_the_area_of_shifted_normal_distributions():
    """Independent N(0, 1) and N(d, 1): the area is Phi(d / sqrt 2)."""
    one, other = RNG.normal(size=(1500, 1)), RNG.normal(1.0, size=(1500, 1))
    found, exact = linear_probe(one, other), scipy.stats.norm.cdf(1 / np.sqrt(2))
    assert found.auc == pytest.approx(exact, abs=0.03)
    assert found.low < exact < found.high
    assert 0.02 < found.high - found.low < 0.06


def test_an_image_is_not_recognised_by_its_other_version():
    """Each image has features of its own, and nothing in common tells the versions apart."""
    one = RNG.normal(size=(40, 200))
    found = linear_probe(one, one + 1e-3 * RNG.normal(size=one.shape))
    assert found.low < 0.6
    assert found.high > 0.4


def test_the_interval_shrinks_with_more_images_and_the_seed_decides():
    one, other = RNG.normal(size=(400, 2)), RNG.normal(0.3, size=(400, 2))
    wide, narrow = linear_probe(one[:50], other[:50]), linear_probe(one, other)
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)
    assert linear_probe(one, other) == narrow


def test_sets_of_another_shape_are_refused():
    with pytest.raises(InputError, match="equal shape"):
        linear_probe(X, X[:-1])
    with pytest.raises(InputError, match="as many images as folds"):
        linear_probe(X[:3], X[:3])
