"""Intervals against scipy, curves of hand-made findings, and what is printed."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from jaxdefense.evaluation import Evaluations, Robustness, interval
from jaxdefense.evaluation.robustness import fallen_at, summarize, suspicions

INF = np.inf


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_interval_is_the_exact_one_of_scipy(n, confidence):
    ours = interval(np.arange(n + 1), n, confidence)
    assert ours.shape == (n + 1, 2)
    for k, (low, high) in enumerate(ours):
        exact = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="exact")
        np.testing.assert_allclose([low, high], [exact.low, exact.high], atol=1e-12)


def test_interval_holds_the_proportion_and_takes_any_shape():
    counts = np.array([[0, 3], [7, 10]])
    bounds = interval(counts, 10)
    assert bounds.shape == (2, 2, 2)
    assert (bounds[..., 0] <= counts / 10).all()
    assert (bounds[..., 1] >= counts / 10).all()
    assert bounds[0, 0, 0] == 0
    assert bounds[1, 1, 1] == 1


# Rows: broken everywhere, only at the smallest radius, only at the largest, never, wrong clean.
RADII = np.array([0.0, 0.1, 0.2, 0.3])
BROKEN = np.array(
    [[0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=bool
)
NORMS = np.array([[0, 0.1, 0.2, 0.3], [0, 0.1, 0.2, 0.3], [0, 0.1, 0.2, 0.3]] + 2 * [[0.0] * 4])
CORRECT = np.array([True, True, True, True, False])


def test_what_breaks_at_one_radius_is_broken_at_every_larger_one():
    robust, raw, smallest, distance = summarize(BROKEN, NORMS, CORRECT, RADII, RADII)
    np.testing.assert_allclose(robust, [0.8, 0.4, 0.4, 0.2])
    np.testing.assert_allclose(raw, [0.8, 0.4, 0.6, 0.4])
    np.testing.assert_allclose(smallest, [0.1, 0.1, 0.3, INF, 0])
    np.testing.assert_allclose(distance, [0.1, 0.1, 0.3, INF, 0])


def test_a_small_perturbation_counts_at_every_radius_that_holds_it():
    norms = NORMS.copy()
    norms[2, 3] = 0.15  # found at 0.3 only, but lies in the ball of 0.2 as well
    robust, raw, smallest, distance = summarize(BROKEN, norms, CORRECT, RADII, RADII)
    np.testing.assert_allclose(robust, [0.8, 0.4, 0.2, 0.2])
    np.testing.assert_allclose(raw, [0.8, 0.4, 0.6, 0.4])
    assert smallest[2] == 0.2
    assert distance[2] == 0.15


def test_rounding_outside_the_ball_does_not_move_an_example_to_the_next_radius():
    norms = NORMS.copy()
    norms[1, 1] = 0.1 + 1e-9
    assert summarize(BROKEN, norms, CORRECT, RADII, RADII)[2][1] == 0.1
    norms[2, 3] = 0.1 + 1e-9  # found at 0.3; an 8-bit step is as far from 0.1 as float32 says
    assert summarize(BROKEN, norms, CORRECT, RADII, RADII + 1e-8)[2][2] == 0.1


def test_what_was_never_broken_withstands_an_infinite_radius():
    radii, norms = np.array([0.1, INF]), np.array([[0, 0.4], [0, 0], [0, 0]])
    broken = np.array([[False, True], [False, False], [False, False]])
    correct = np.array([True, True, False])
    robust, raw, smallest, distance = summarize(broken, norms, correct, radii, radii)
    np.testing.assert_allclose(robust, [2 / 3, 1 / 3])
    np.testing.assert_allclose(raw, robust)
    np.testing.assert_allclose(smallest, [INF, INF, 0])
    np.testing.assert_allclose(distance, [0.4, INF, 0])
    fallen = fallen_at(smallest, distance, radii)
    np.testing.assert_array_equal(fallen, [[False, True], [False, False], [True, True]])


def test_noise_levels_speak_for_themselves():
    robust, raw, smallest, _ = summarize(BROKEN, NORMS, CORRECT, RADII)
    np.testing.assert_allclose(robust, raw)
    np.testing.assert_allclose(raw, [0.8, 0.4, 0.6, 0.4])
    np.testing.assert_allclose(smallest, [0.1, 0.1, 0.3, INF, 0])


def test_the_order_of_radii_only_orders_the_curve():
    order = np.array([2, 0, 3, 1, 1])
    whole = summarize(BROKEN, NORMS, CORRECT, RADII, RADII)
    mixed = summarize(BROKEN[:, order], NORMS[:, order], CORRECT, RADII[order], RADII[order])
    for index, (one, other) in enumerate(zip(whole, mixed, strict=True)):
        np.testing.assert_allclose(one[order] if index < 2 else one, other)


def suspects(raw, robust=None, radii=RADII, norm="linf", violations=0, y=(0, 1, 2, 3, 0)):
    robust = raw if robust is None else robust
    return suspicions(
        np.array(raw), np.array(robust), radii, np.array(y), norm, violations, attempts=20
    )


def test_a_clean_curve_is_not_suspicious():
    assert suspects([1.0, 0.8, 0.4, 0.0]) == ()
    assert suspects([1.0, 0.4, 0.6, 0.4]) == ()  # one example of five: chance


def test_rising_accuracy_is_suspicious_in_any_order_but_not_for_noise():
    raw = [1.0, 0.0, 0.6, 0.4]
    (said,) = suspects(raw)
    assert "rises with eps (at 0.2, 0.3)" in said
    (said,) = suspects(raw[::-1], radii=RADII[::-1])
    assert "rises with eps (at 0.2, 0.3)" in said
    assert suspects(raw, norm="sigma") == ()


def test_more_than_the_largest_class_at_a_half_is_impossible():
    radii = np.array([0.1, 0.4, 0.5, 1.0])
    (said,) = suspects([1.0, 1.0, 0.6, 0.4], radii=radii)
    assert "grey image" in said
    assert "at most 40.0 %" in said
    assert "60.0 %" in said
    assert suspects([1.0, 1.0, 0.4, 0.4], radii=radii) == ()
    assert suspects([1.0, 1.0, 0.6, 0.4], radii=radii, norm="l2") == ()


def test_violations_are_told():
    (said,) = suspects([1.0, 0.8, 0.4, 0.0], violations=3)
    assert "3 of 20" in said
    assert "fault" in said


def test_printing_shows_curve_knowledge_cost_and_warnings():
    result = Robustness(
        radii=np.array([0.0, 0.25]),
        robust_accuracy=np.array([0.9, 0.5]),
        interval=interval(np.array([9, 5]), 10),
        smallest_radius=np.zeros(10),
        distance=np.zeros(10),
        broken_by=np.full((10, 2), ""),
        raw_accuracy=np.array([0.9, 0.5]),
        clean_accuracy=0.9,
        evaluations=Evaluations(45, 20),
        n=10,
        attack="pgd-5",
        norm="linf",
        knowledge="white-box",
        seed=(0, 0),
        violations=0,
        warnings=("too good to be true",),
    )
    head, names, _, first, second, last = str(result).splitlines()
    for part in ("pgd-5", "white-box", "n = 10", "clean accuracy 90.0 %", "4.5 gradients"):
        assert part in head
    assert "eps (linf)" in names
    assert first.split()[:2] == ["0", "90.0"]
    assert second.split() == ["0.25", "50.0", "[18.7,", "81.3]"]
    assert last == "warning: too good to be true"
    assert "warning" not in str(dataclasses.replace(result, warnings=()))
