"""Checks on functions whose gradients are known."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense import Purified, Randomized, Tempered, attacks, linf, sweep
from jaxdefense.auditing import comparing, masking
from jaxdefense.auditing.plan import MORE, Cell
from jaxdefense.evaluation import Certificate
from jaxdefense.surrogates import eot

KEY = jax.random.key(0)
EPS = 0.1


@pytest.fixture(scope="module")
def case(linear):
    x, _ = linear.data(count=24)
    classifier = linear.classifier(linear.weights())
    return classifier, np.asarray(x), np.asarray(classifier(x).argmax(-1))


def rounded(x):
    return jnp.round(8 * x) / 8


def test_differences_of_a_linear_function_are_its_gradients(case):
    classifier, x, y = case
    found = masking.differences(classifier, classifier, x, y, KEY)
    assert found.outcome == "pass"
    assert found.value > 0.99


def test_differences_tell_gradients_that_lead_elsewhere(case):
    classifier, x, y = case
    deployed = Purified(rounded, classifier)
    assert masking.differences(deployed, deployed, x, y, KEY).outcome == "fail"
    other = lambda x: -classifier(x)
    assert masking.differences(other, classifier, x, y, KEY).outcome == "fail"
    # A way around a staircase tells what the function does over an attack's distance.
    assert masking.differences(classifier, deployed, x, y, KEY, 0.1).outcome == "pass"
    assert masking.differences(other, deployed, x, y, KEY, 0.1).outcome == "fail"


@jax.custom_vjp
def partly(scale, x):
    """A linear function whose gradient is turned round for every fourth image of a batch of 24."""
    return scale * x


partly.defvjp(
    lambda scale, x: (scale * x, scale),
    lambda scale, seed: (0.0 * scale, scale * jnp.where(astray(len(seed)), -seed, seed)),
)


def astray(count):
    return (jnp.arange(count) % 4 == 0)[:, None, None, None]


def test_gradients_that_lead_astray_on_some_images_are_told(case):
    """Their mean agreement is far above the limit."""
    classifier, x, y = case
    masked = lambda x: classifier(partly(1.0, x))
    assert masking.differences(masked, masked, x, y, KEY).outcome == "pass"
    args = (x, y, EPS, linf, KEY)
    found = masking.gradients(masked, *args, (masked, masked))
    assert (found.outcome, found.value) == ("fail", 0.25)
    assert masking.gradients(classifier, *args, (classifier, classifier)).outcome == "pass"


def test_differences_of_a_random_defence_are_along_one_draw(case):
    """Two draws of it have little to do with each other, and that masks nothing."""
    classifier, x, y = case
    flip = lambda key, image: image * jax.random.rademacher(key, image.shape, image.dtype)
    noisy = Randomized(lambda keys, x: classifier(jax.vmap(flip)(keys, x)))
    assert masking.differences(noisy, noisy, x, y, KEY).value > 0.99
    means = eot(noisy, 40)  # more draws than images of one program
    assert masking.differences(means, means, x[:3], y[:3], KEY).value > 0.99


def test_differences_say_nothing_of_a_function_that_does_not_change(case):
    classifier, x, y = case
    constant = lambda x: 0.0 * classifier(x)
    found = masking.differences(classifier, constant, x, y, KEY)
    assert found.outcome == masking.NOT_APPLICABLE


def test_an_unbounded_attack_reaches_zero_where_gradients_are_of_use(case):
    classifier, x, y = case
    found = masking.unbounded([classifier], classifier, x, y, 20, linf, KEY)
    assert (found.outcome, found.value) == ("pass", 0.0)
    blind = Purified(rounded, classifier)
    assert masking.unbounded([blind], blind, x, y, 20, linf, KEY).outcome == "fail"
    assert masking.unbounded([blind, classifier], blind, x, y, 20, linf, KEY).outcome == "pass"


def test_images_without_gradients_are_counted(case):
    classifier, x, y = case
    args = (x, y, EPS, linf, KEY, None)
    assert masking.gradients(classifier, *args).outcome == "pass"
    found = masking.gradients(Purified(rounded, classifier), *args)
    assert (found.outcome, found.value) == ("fail", 1.0)
    # The margin sees what the softmax of large logits hides.
    assert masking.gradients(Tempered(classifier, 1e-4), *args).outcome == "pass"
    # A NaN is no gradient: sqrt at 0 has none, whatever it is multiplied with.
    torn = lambda x: classifier(x + 0 * jnp.sqrt(jnp.maximum(x - 2, 0)))
    assert masking.gradients(torn, *args).value == 1.0


def test_what_cannot_be_differentiated_is_told_with_the_reason(case):
    classifier, x, y = case
    host = lambda x: jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    share, why = masking.flatness(Purified(host, classifier), x, y, EPS, linf, KEY)
    assert share == 1.0
    assert "callback" in why
    assert masking.flatness(classifier, x, y, EPS, linf, KEY) == (0.0, "")


def test_a_grey_image_lies_in_every_ball_from_one_half_on(case):
    classifier, x, y = case
    curve = sweep(attacks.gaussian(0.01, linf), classifier, x, y, [0.1, 0.5], KEY)
    assert comparing.grey_image(curve, y).outcome == "fail"
    lower = dataclasses.replace(curve, robust_accuracy=np.array([0.9, 0.0]))
    assert comparing.grey_image(lower, y).outcome == "pass"
    small = dataclasses.replace(curve, radii=np.array([0.1, 0.2], np.float32))
    assert comparing.grey_image(small, y).outcome == masking.NOT_APPLICABLE


def test_one_step_must_not_beat_many(case):
    classifier, x, y = case
    one, many = (
        sweep(attack, classifier, x, y, [0.02, 0.05], KEY)
        for attack in (attacks.fgsm(linf), attacks.pgd(linf, 20))
    )
    assert comparing.iterative(one, many, 1).outcome == "pass"
    broken = dataclasses.replace(one, smallest_radius=np.zeros(24))
    nothing = dataclasses.replace(many, smallest_radius=np.full(24, np.inf))
    for check in (comparing.iterative, comparing.informed):
        assert check(broken, nothing, 1).outcome == "fail"
        assert check(nothing, broken, 1).outcome == "pass"


def cell(name, kind, share, tried=None):
    """A cell with what it was first to break, at no radius and at one."""
    made = Cell(name, kind, "", attacks.fgsm(linf), most=tried)
    return made, np.array([0, share]), np.full(2, 100 if tried is None else tried)


def test_what_other_attackers_find_beyond_gradients_is_counted():
    quiet = [cell(MORE, "white-box", 0.01), cell("Square", "query", 0.01)]
    assert [c.outcome for c in comparing.further(quiet, None, 1, 100)] == ["pass", "pass"]
    loud = [
        cell(MORE, "white-box", 0.1),
        cell("Square", "query", 0.02),
        cell("transfer: x", "transfer", 0.03),
    ]
    found = comparing.further(loud, None, 1, 100)
    assert [c.outcome for c in found] == ["fail", "fail"]
    assert found[1].value == pytest.approx(0.05)
    assert "transfer: x" in found[1].says
    # At a radius where they find nothing, they speak against no claim.
    assert [c.outcome for c in comparing.further(loud, None, 0, 100)] == ["pass", "pass"]


def test_an_attacker_that_tries_few_images_is_judged_by_these():
    square = cell("Square", "query", 0.0)
    few = [square, cell("decision-based", "query", 0.01, tried=10)]
    assert [c.outcome for c in comparing.further(few, None, 1, 500)] == ["fail"]
    assert "decision-based" in comparing.further(few, None, 1, 500)[0].says
    assert comparing.further(few, None, 1, 100)[0].outcome == "pass"  # one image of ten
    nobody = [square, cell("decision-based", "query", 0.0, tried=0)]
    assert comparing.further(nobody, None, 1, 100)[0].outcome == "pass"


def test_what_is_certified_may_not_be_broken():
    curve = types.SimpleNamespace(smallest_radius=np.array([0.2] * 10 + [np.inf] * 90))
    proof = lambda radius: Certificate(np.full(100, radius), np.zeros(100), 0.001, 100, 0.25)
    check = lambda radius, draws: comparing.contradiction(proof(radius), curve, draws).outcome
    assert check(0.1, 100) == "pass"
    assert check(0.2, 10**6) == "pass", "a certificate ends at its radius"
    assert check(0.21, 10**6) == "fail"
    # Near the radius a vote of few draws goes wrong by chance; far within it does not.
    assert check(0.25, 100) == "pass"
    assert check(0.4, 100) == "fail"
    # Nine votes prove nothing against a radius of this size.
    assert check(0.3, 9) == masking.NOT_APPLICABLE


def test_what_autoattacks_square_finds_was_found_without_gradients(case):
    classifier, x, y = case
    curve = sweep(attacks.gaussian(0.01, linf), classifier, x, y, [0.1], KEY)
    by = np.full((24, 1), "square")
    suite = dataclasses.replace(curve, broken_by=by)
    (found,) = comparing.further([], suite, 0, 24)
    assert (found.name, found.outcome) == ("no gradients needed", "fail")
    assert "Square" in found.says
    suite = dataclasses.replace(curve, broken_by=np.full((24, 1), "apgd-ce"))
    assert comparing.further([], suite, 0, 24)[0].outcome == "pass"


def test_more_draws_must_find_next_to_nothing_more(case):
    classifier, x, y = case

    def noisy(keys, x):
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
        return classifier(x + 0.02 * noise)

    random = Randomized(noisy)
    from jaxdefense import eot

    pgd = attacks.pgd(linf, 5)
    ladder = {n: sweep(pgd, random, x, y, [0.05], KEY, eot(random, n)) for n in (2, 8)}
    found = comparing.draws(ladder, 0)
    assert found.outcome == "pass"
    assert "2: " in found.says
    blind = dataclasses.replace(ladder[2], smallest_radius=np.full(24, np.inf))
    seeing = dataclasses.replace(ladder[8], smallest_radius=np.zeros(24))
    assert comparing.draws({2: blind, 8: seeing}, 0).outcome == "fail"


def test_a_defence_that_reads_the_label_from_the_perturbation_is_told(case):
    """Its answer is the class from which a one-step perturbation leads away, if there is one."""
    classifier, x, y = case
    clean = jnp.asarray(x)

    def leaking(z):
        moved = (z - clean[: len(z)]).reshape(len(z), -1)
        rises = moved @ classifier.args[0]  # what it does to each logit
        return jnp.where(jnp.abs(moved).max(-1, keepdims=True) > 0.01, -rises, classifier(z))

    args = (x, y, EPS, linf, KEY)
    assert masking.label_leak(classifier, classifier, *args).outcome == "pass"
    assert masking.label_leak(classifier, leaking, *args).outcome == "fail"
    two = (x, y % 2, EPS, linf, KEY)
    assert masking.label_leak(classifier, classifier, *two).outcome == masking.NOT_APPLICABLE


def test_amplitude_is_told_beside_that_of_the_classifier_alone(case):
    classifier, x, y = case
    half = Purified(lambda x: 0.25 + x / 2, classifier)
    found = masking.amplitude(half, classifier, x, y, KEY)
    assert found.outcome == "note"
    assert found.value < found.limit
