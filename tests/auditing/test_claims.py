"""Claims, and what is said of them."""

import numpy as np
import pytest

from jaxdefense.auditing import Claim
from jaxdefense.auditing.claims import BROKEN, HOLDS, UNRELIABLE, WEAKENED, judge
from jaxdefense.errors import InputError
from jaxdefense.evaluation.robustness import interval

CLAIM = Claim(0.8, "linf", 0.1)


def after(**right):
    """Cell -> accuracy of 100 images, with its interval."""
    return {name: (count / 100, interval(count, 100)) for name, count in right.items()}


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("0.92@linf:0.3", (0.92, "linf", 0.3)),
        ("0.5@linf:8/255", (0.5, "linf", 8 / 255)),
        (" 1@l2:1e-1 ", (1.0, "l2", 0.1)),
    ],
)
def test_claims_are_read(text, claim):
    assert Claim.parse(text) == claim


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("92@linf:0.3", "divide by 100"),
        ("0.9@linf:0", "positive radius"),
        ("0.9@l7:0.1", "norm 'l7'"),
        ("0.9 at 0.3", "must be written"),
        ("0.9@linf:1/0", "must be written"),
        ("0.9@linf:0.1.2", "must be written"),
    ],
)
def test_claims_that_cannot_be_judged_say_why(text, message):
    with pytest.raises(InputError, match=message):
        Claim.parse(text)


def test_a_claim_is_broken_by_the_first_cell_that_leaves_less_than_half():
    found = judge(CLAIM, after(oblivious=90, white=50, bpda=10, last=9), [], None)
    assert (found.outcome, found.decided_by, found.exit_status) == (BROKEN, "bpda", 1)
    assert found.robust_accuracy == 0.09


def test_a_claim_is_weakened_by_the_first_cell_that_refutes_it():
    found = judge(CLAIM, after(oblivious=90, white=60, last=58), [], None)
    assert (found.outcome, found.decided_by, found.exit_status) == (WEAKENED, "white", 1)


def test_what_chance_explains_refutes_nothing():
    # 76 of 100 has an interval up to 84 %.
    found = judge(CLAIM, after(white=76), [], None)
    assert (found.outcome, found.exit_status) == (HOLDS, 0)
    # Named is who left least, not who came last.
    several = judge(CLAIM, after(oblivious=95, white=79, autoattack=78, square=78), [], None)
    assert (several.outcome, several.decided_by) == (HOLDS, "autoattack")
    assert "less than claimed" in found.says
    assert "less than claimed" not in judge(CLAIM, after(white=81), [], None).says


def test_what_falls_far_short_of_a_claim_does_not_show_it():
    # 74 of 100 has an interval up to 82 %.
    found = judge(CLAIM, after(white=74), [], None)
    assert (found.outcome, found.decided_kind, found.exit_status) == (
        UNRELIABLE, "few images", 2,
    )  # fmt: skip


def test_doubts_void_a_claim_that_nothing_refutes_but_not_what_was_found():
    assert judge(CLAIM, after(white=85), ["unbounded"], None).outcome == UNRELIABLE
    assert judge(CLAIM, after(white=85), ["unbounded"], None).exit_status == 2
    assert judge(CLAIM, after(white=5), ["unbounded"], None).outcome == BROKEN


def test_a_certificate_needs_no_attack():
    found = judge(CLAIM, after(white=85), ["unbounded"], 0.8)
    assert (found.outcome, found.decided_by) == (HOLDS, "certificate")
    assert judge(CLAIM, after(white=85), [], 0.5).decided_by == "white"
    # Not one that attacks contradict.
    found = judge(CLAIM, after(white=85), ["certificate"], 0.8)
    assert (found.outcome, found.decided_kind) == (UNRELIABLE, "check")


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (1, 4), (5, 10)])
def test_few_images_show_nothing(right, n):
    few = {"white": (right / n, interval(right, n))}
    found = judge(CLAIM, few, [], None)
    assert (found.outcome, found.decided_by) == (UNRELIABLE, "few images")
    assert judge(Claim(0.0, "linf", 0.1), few, [], None).outcome == HOLDS
    many = {"white": (1.0, interval(50, 50))}
    assert judge(CLAIM, many, [], None).outcome == HOLDS


def test_intervals_are_those_of_the_images():
    found = judge(CLAIM, after(white=76), [], None)
    np.testing.assert_allclose(found.interval, interval(76, 100))
