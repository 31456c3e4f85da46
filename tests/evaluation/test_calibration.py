"""Calibration, entropy and errors by class: by hand, and as scikit-learn has them."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jaxdefense.errors import InputError
from jaxdefense.evaluation import calibration, entropy, scores


def of_sure(sure, right):
    """Two-class answers of given confidences, right or not."""
    sure, right = np.array(sure), np.array(right, bool)
    return np.stack([sure, 1 - sure], -1), np.where(right, 0, 1)


def test_the_error_is_the_weighted_gap_of_the_bins():
    p, y = of_sure([0.95, 0.95, 0.95, 0.95, 0.65, 0.65], [1, 1, 1, 0, 0, 0])
    found = calibration(p, y, bins=10)
    assert found.size.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 4]
    assert found.accuracy[[6, 9]].tolist() == [0, 0.75]
    assert found.confidence[[6, 9]] == pytest.approx([0.65, 0.95])
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx((2 * 0.65 + 4 * 0.2) / 6)


def test_who_is_as_often_right_as_sure_has_no_error():
    p, y = of_sure([0.8] * 5 + [1.0] * 3, [1, 1, 1, 1, 0, 1, 1, 1])
    assert calibration(p, y).error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("sure", "place"), [(0.5, 0), (0.5000001, 1), (1.0, 1)])
def test_bins_hold_their_upper_end(sure, place):
    size = calibration(*of_sure([sure], [1]), bins=2).size
    assert size.tolist() == [1 - place, place]


def test_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 400), rng.integers(0, 3, 400)
    found = calibration(p, y, bins=10)
    right, sure = calibration_curve(p.argmax(-1) == y, p.max(-1), n_bins=10)
    full = found.size > 0
    np.testing.assert_allclose(found.accuracy[full], right)
    np.testing.assert_allclose(found.confidence[full], sure)


def test_entropy_in_closed_form():
    p = np.array([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(entropy(p), np.log([4, 1, 2]), atol=1e-12)


def test_scores_of_two_classes_are_of_class_one():
    # Class 1: 3 images, of which 2 are found; 1 of class 0 is taken for it.
    said, y = np.array([1, 1, 0, 1, 0, 0, 0]), np.array([1, 1, 1, 0, 0, 0, 0])
    logits = np.where(np.arange(2)[None] == said[:, None], np.log(3.0), 0.0)
    found = scores(logits, y)
    assert found.confusion.tolist() == [[3, 1], [1, 2]]
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3,) * 3)
    assert found.top1_error == pytest.approx(2 / 7)
    assert found.ece == pytest.approx(0.75 - 5 / 7)
    assert found.entropy == pytest.approx(entropy(np.array([[0.75, 0.25]]))[0])


def test_scores_of_more_classes_are_means_even_of_classes_that_are_not_there():
    found = scores(np.eye(3)[[0, 1, 1]] * 9, np.array([0, 1, 0]))
    assert found.confusion.shape == (3, 3)
    assert found.precision == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.recall == pytest.approx((0.5 + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("p", "y"),
    [(np.zeros((0, 2)), np.zeros(0, int)), (np.ones((2, 2)), np.zeros(3, int)),
     (np.full((1, 2), np.nan), np.zeros(1, int))],
)  # fmt: skip
def test_what_are_no_answers_is_refused(p, y):
    for function in (calibration, scores):
        with pytest.raises(InputError, match="finite numbers"):
            function(p, y)
    with pytest.raises(InputError, match="at least one"):
        calibration(np.ones((1, 1)), np.zeros(1, int), bins=0)
