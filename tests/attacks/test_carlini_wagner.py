"""Penalty attacks (Carlini-Wagner, L-BFGS) against closed forms and the originals' own values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import losses
from jaxdefense.attacks import penalty
from jaxdefense.attacks.carlini_wagner import carlini_wagner
from jaxdefense.attacks.lbfgs import lbfgs
from jaxdefense.attacks.probe import make_probe
from jaxdefense.errors import InputError
from tests.conftest import Linear, reference

KEY = jax.random.key(5)
SMALL = {
    "cw-l2": carlini_wagner(jd.l2, 5, 100, 0.03),
    "cw-linf": carlini_wagner(jd.linf, 10, 50),
    "lbfgs": lbfgs(searches=10, steps=15),
}
TINY = {
    "cw-l2": carlini_wagner(jd.l2, 3, 4, 0.03),
    "cw-linf": carlini_wagner(jd.linf, 3, 4),
    "lbfgs": lbfgs(searches=3, steps=4),
}
EVERY = pytest.mark.parametrize("name", SMALL)


WEIGHTS = Linear.weights(classes=2)
CLASSIFIER = Linear.classifier(WEIGHTS)


def images():
    """Of a linear classifier of 2 classes, with black and white pixels among the others."""
    x = jnp.clip(1.6 * Linear.data(count=8)[0] - 0.3, 0, 1)
    return x, CLASSIFIER(x).argmax(-1).astype(jnp.int32)


def least(ball, x, y):
    """Distances to the half-space of the other class, within the box."""
    gradient = (WEIGHTS.T[1 - y] - WEIGHTS.T[y]).reshape(x.shape)
    return np.asarray(ball.norm(ball.reach(gradient, x, -losses.margin(CLASSIFIER(x), y))))


def distances(attack, classifier, x, y):
    x_adv = attack(KEY, classifier, x, y, jnp.inf)
    assert ((x_adv >= 0) & (x_adv <= 1)).all()
    wrong = np.asarray(classifier(x_adv).argmax(-1) != y)
    return np.where(wrong, attack.ball.norm(x_adv - x), np.inf)


def test_few_steps_of_the_usual_size_reach_a_black_pixel():
    """With the authors' step, which is for 1,000, half of the images are not fooled at all."""
    x, y = images()
    found = distances(carlini_wagner(jd.l2, 5, 50), CLASSIFIER, x, y)
    np.testing.assert_array_less(found, 1.15 * least(jd.l2, x, y))


@EVERY
def test_linear_distances_are_found(name):
    """With pixels at 0 and 1, and whatever the scale of the logits."""
    attack, (x, y) = SMALL[name], images()
    shortest, slack = least(attack.ball, x, y), 1.03 if name == "cw-linf" else 1.02
    for scale in (1.0, 1e4, 1e-12):
        classifier = Linear.classifier(scale * WEIGHTS)
        found = distances(attack, classifier, x, y)
        assert (found <= slack * shortest).all()
        assert (found >= 0.999 * shortest).all()


@EVERY
def test_black_and_white_pixels_move(name):
    x = jnp.round(Linear.data(count=8)[0])
    y = CLASSIFIER(x).argmax(-1).astype(jnp.int32)
    found = distances(SMALL[name], CLASSIFIER, x, y)
    assert (found <= 1.02 * least(SMALL[name].ball, x, y)).all()


# Attack, network, its median at most: Carlini-Wagner's own times 1.02, in l-inf FMN's.
MEDIANS = [
    ("cw-l2", "standard", "carlini_wagner_l2", 1.02),
    ("cw-l2", "adversarial", "carlini_wagner_l2", 1.02),
    ("cw-linf", "standard", "fmn_linf", 1.02),
    ("lbfgs", "adversarial", "carlini_wagner_l2", 1.05),
]


@pytest.mark.parametrize(("name", "network", "theirs", "factor"), MEDIANS)
def test_medians_next_to_the_originals(name, network, theirs, factor):
    classifier, x, y, values = reference(network)
    result = jd.sweep(SMALL[name], classifier, x, y, [0.5], KEY, progress=False)
    assert np.isfinite(result.distance).all()
    assert result.violations == 0
    assert np.median(result.distance) <= factor * values[theirs]["median"]


@EVERY
def test_cost_is_what_is_evaluated(name):
    attack, calls = TINY[name], {"forward": 0, "backward": 0}

    def tick(what):
        jax.debug.callback(lambda: calls.__setitem__(what, calls[what] + 1))

    @jax.custom_vjp
    def counted(x):
        tick("forward")
        return x

    def backward(_, g):
        tick("backward")
        return (g,)

    counted.defvjp(lambda x: (counted(x), None), backward)
    x, y = images()
    attack(KEY, lambda x: CLASSIFIER(counted(x)), x, y, jnp.inf)
    jax.effects_barrier()
    assert calls["backward"] == attack.cost.gradients == 12
    assert calls["forward"] == attack.cost.gradients + attack.cost.forwards == 12 + 9


@EVERY
def test_nothing_becomes_nan(name):
    """Where the classifier is constant, or answers nothing, the image comes back as it is."""
    x, y = images()
    for factor in (0.0, jnp.nan):
        classifier = Linear.classifier(factor * WEIGHTS)
        for eps in (jnp.inf, 0.1 * jnp.arange(8)):
            np.testing.assert_array_equal(SMALL[name](KEY, classifier, x, 0 * y, eps), x)


@EVERY
def test_misclassified_images_are_left_alone(name):
    x, y = images()
    wrong = y.at[::2].add(1) % 2
    x_adv = SMALL[name](KEY, CLASSIFIER, x, wrong, jnp.inf)
    np.testing.assert_array_equal(x_adv[::2], x[::2])
    assert (SMALL[name].ball.norm(x_adv - x)[1::2] > 0).all()


@EVERY
def test_rows_are_independent(name):
    """Of each other's order and of padding, in counters and searches too."""
    attack, (x, y), keys = SMALL[name], images(), jd.example_keys(KEY, 8)
    eps = attack.ball.norm(x) * jnp.array([0.0, 0.01, 0.1, 1.0, jnp.inf, jnp.inf, jnp.inf, jnp.inf])
    whole = np.asarray(attack(keys, CLASSIFIER, x, y, eps))
    order = np.array([4, 0, 5, 7, 2, 1, 6, 3])
    permuted = np.asarray(attack(keys[order], CLASSIFIER, x[order], y[order], eps[order]))
    np.testing.assert_allclose(permuted, whole[order], atol=2e-5)
    padded = attack(keys, CLASSIFIER, x.at[2:6].set(jnp.nan), y, eps)
    np.testing.assert_allclose(padded[:2], whole[:2], atol=2e-5)
    np.testing.assert_allclose(padded[6:], whole[6:], atol=2e-5)
    # Whole or cut to size by row: the state has the batch first everywhere.
    probe, goal = make_probe(losses.margin, CLASSIFIER), jd.attacks.Goal(y, y)
    init = attack.stages[0].search.init
    state = jax.eval_shape(lambda x: init(keys, probe, x, goal, eps), x)
    assert all(leaf.shape[0] == 8 for leaf in jax.tree.leaves(state))


def test_weights_are_narrowed_as_by_hand():
    """Fails at 1 and 10, succeeds at 100, then halves on a logarithmic scale; or the reverse."""
    outcomes = np.array([[0, 0, 1, 0, 1], [1, 1, 0, 1, 0]], bool)
    expected = [[1, 10, 100, 10**1.5, 10**1.75, 10**1.625], [1, 0.1, 0.01, 10**-1.5, 10**-1.75]]
    expected[1].append(10**-1.625)
    weight, seen = penalty.unweighted(2), []
    for won in outcomes.T:
        seen.append(weight.c)
        weight = weight._replace(won=jnp.asarray(won), made=weight.made + 7)
        same = penalty.narrow(weight, jnp.zeros(2, bool))
        assert all(bool((a == b).all()) for a, b in zip(same, weight, strict=True))
        weight = penalty.narrow(weight, jnp.ones(2, bool))
        assert not weight.won.any()
        assert not weight.made.any()
    np.testing.assert_allclose(np.stack([*seen, weight.c], 1), expected, rtol=1e-4)


def test_free_variable_and_image_are_inverse_and_reach_the_box():
    x = jnp.linspace(0, 1, 11).reshape(1, 11, 1, 1)
    w = penalty.unbounded(x)
    np.testing.assert_allclose(penalty.image(w), x, atol=1e-6)
    assert (penalty.slope(w) > 5e-3).all()
    np.testing.assert_allclose(
        penalty.slope(w), jax.grad(lambda w: (0.5 + 0.5 / 0.99 * jnp.tanh(w)).sum())(w), rtol=1e-4
    )
    np.testing.assert_allclose(penalty.image(penalty.descend(w, 100.0)), 0.0, atol=1e-6)


@pytest.mark.parametrize("ball", [jd.l2, jd.linf])
def test_confidence_is_reached(ball):
    """The margin is at least kappa, and not much more."""
    x, y = images()
    attack = carlini_wagner(ball, 5, 60, 0.03, confidence=3.0)
    ahead = losses.margin(CLASSIFIER(attack(KEY, CLASSIFIER, x, y, jnp.inf)), y)
    assert (ahead >= 3.0).all()
    assert (ahead <= 4.5).all()


def test_a_given_class_is_reached():
    classifier, (x, y) = Linear.classifier(Linear.weights()), Linear.data(count=8)
    goal = (y + 1) % 3
    attack = carlini_wagner(jd.l2, 5, 60, 0.03, loss=losses.targeted(losses.margin))
    x_adv = attack(KEY, classifier, x, goal, jnp.inf)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1), goal)


def test_bad_settings_are_refused():
    for build, said in (
        (lambda: carlini_wagner(jd.l1), "l2 and linf"),
        (lambda: carlini_wagner(searches=0), "searches >= 1"),
        (lambda: carlini_wagner(step_size=0.0), "step_size > 0"),
        (lambda: carlini_wagner(initial_c=-1.0), "initial_c > 0"),
        (lambda: carlini_wagner(confidence=-1.0), "confidence >= 0"),
        (lambda: lbfgs(jd.linf), "l2 only"),
        (lambda: lbfgs(memory=0), "memory >= 1"),
        (lambda: lbfgs(initial_c=0.0), "initial_c > 0"),
    ):
        with pytest.raises(InputError, match=said):
            build()
    assert carlini_wagner().cost == jd.attacks.Cost(9000, 9)
    assert TINY["cw-l2"].settings != carlini_wagner(jd.l2, 3, 4, 0.02).settings
