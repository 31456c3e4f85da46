"""How predictions come out."""

import dataclasses
import operator

import pytest

from experiments.pooling import Cell
from experiments.telling import agreed, at_most, compare, percent, prediction


def cell(value, low, high):
    return Cell(value, low, high, value, value, 100, 1, "pgd, white-box", synthetic=False)


@pytest.mark.parametrize(
    ("held", "came_out"),
    [
        ([True, True], True),
        ([True, False], False),
        ([True, None], None),
        ([None, False], False),  # one part that fails is enough
        ([], None),
    ],
)
def test_a_prediction_fails_with_any_part_and_holds_with_all(held, came_out):
    found = prediction("text", held, ["a", "b"])
    assert found.held is came_out
    assert found.evidence == "a; b."


@pytest.mark.parametrize(
    ("given", "told"),
    [((0.04, 0.0, 0.1), True), ((0.08, 0.04, 0.13), None), ((0.2, 0.1, 0.3), False)],
)
def test_a_limit_within_the_interval_is_not_told_from_what_is_above_it(given, told):
    assert at_most(cell(*given), 0.05) is told


def test_seeds_that_disagree_tell_nothing():
    assert agreed([True, True]) is True
    assert agreed([False]) is False
    assert agreed([True, False]) is None
    assert agreed([]) is None


def test_accuracies_are_told_in_percent():
    assert percent(cell(0.5, 0, 1), cell(0.123, 0, 1)) == "50.0 and 12.3 %"


@pytest.mark.parametrize(
    ("ones", "others", "told"),
    [
        ([0.1, 0.2], [0.3, 0.4], True),
        ([0.3, 0.4], [0.1, 0.2], False),
        ([0.1, 0.4], [0.3, 0.3], None),  # the mean is smaller, one seed is not
    ],
)
def test_pairs_are_compared_seed_by_seed(ones, others, told):
    made = (
        dataclasses.replace(cell(sum(v) / 2, 0.0, 1.0), by_seed=dict(enumerate(v)))
        for v in (ones, others)
    )
    assert compare(operator.lt, *made) is told


def test_a_seed_that_one_side_lacks_is_not_compared():
    one = dataclasses.replace(cell(0.2, 0.0, 1.0), by_seed={0: 0.1, 1: 0.3})
    other = dataclasses.replace(cell(0.25, 0.0, 1.0), by_seed={0: 0.25})
    assert compare(operator.lt, one, other) is True
