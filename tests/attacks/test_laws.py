"""Laws of combining attacks: restarts, strongest, at_radius, stages with targets of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks import Attack, Cost, Search, Stage
from jaxdefense.attacks.search import begin, keep
from jaxdefense.errors import InputError
from jaxdefense.geometry import expand
from tests.attacks import contract
from tests.conftest import EPS, Linear

KEY = jax.random.key(3)
PGD = attacks.pgd(jd.linf, 3)


def outputs(attack, eps=0.02):
    net, x, y = contract.batch()
    return np.asarray(attack(KEY, net, x, y, eps))


def worst(attack, eps=0.02):
    net, x, y = contract.batch()
    return np.asarray(losses.margin(net(attack(KEY, net, x, y, eps)), y))


def test_one_restart_and_one_attack_are_the_attack():
    assert attacks.restarts(PGD, 1) == PGD
    assert attacks.strongest(PGD) == PGD
    np.testing.assert_array_equal(outputs(attacks.restarts(PGD, 1)), outputs(PGD))


def test_restarts_are_the_strongest_of_repeats():
    assert attacks.restarts(PGD, 3) == attacks.strongest(PGD, PGD, PGD)
    np.testing.assert_array_equal(
        outputs(attacks.restarts(PGD, 3)), outputs(attacks.strongest(PGD, PGD, PGD))
    )


def test_restarts_differ_and_never_help_the_defender():
    few, many = worst(PGD), worst(attacks.restarts(PGD, 4))
    assert (many >= few - 1e-5).all()
    assert (many > few + 1e-5).any()  # the starts are not all the same


def test_more_attacks_never_help_the_defender():
    parts = [attacks.fgsm(), attacks.pgd(jd.linf, 3, loss=losses.margin), PGD]
    joined = worst(attacks.strongest(*parts))
    # Later stages use keys of their own, so only the first is the same attack again.
    assert (joined >= worst(parts[0]) - 1e-5).all()
    assert joined.mean() >= max(worst(part).mean() for part in parts) - 0.05


def test_more_steps_never_help_the_defender():
    """With the best iterate kept and the same start, a longer run contains the shorter one."""
    build = lambda steps: attacks.pgd(jd.linf, steps, 0.2)
    gains = [worst(build(steps)) for steps in (1, 3, 9)]
    assert (gains[1] >= gains[0] - 1e-5).all()
    assert (gains[2] >= gains[1] - 1e-5).all()
    assert (gains[2] > gains[0] + 1e-4).any()


def test_the_last_iterate_is_handed_on_where_an_earlier_one_is_better():
    """Away from a random wrong class is mostly no way to fool: the best is then the clean image."""
    net, x, y = contract.batch()
    wrong = attacks.with_labels(attacks.fgsm(), attacks.random_wrong)
    best, last = (np.asarray(a(KEY, net, x, y, 0.02)) for a in (wrong, attacks.last_iterate(wrong)))
    same = (best == x).all((1, 2, 3))
    assert same.any()
    np.testing.assert_allclose(np.abs(last - x).max((1, 2, 3)), 0.02, atol=1e-6)
    np.testing.assert_array_equal(best[~same], last[~same])  # elsewhere the step is the best


def test_the_last_iterate_is_another_attack_on_disk_and_needs_one_that_ends_there():
    assert attacks.last_iterate(PGD).settings != PGD.settings
    assert attacks.last_iterate(PGD).cost == PGD.cost
    with pytest.raises(InputError, match="does not end"):
        attacks.last_iterate(attacks.deepfool())


def test_attacks_in_different_balls_are_not_joined():
    with pytest.raises(InputError, match="one ball"):
        attacks.strongest(attacks.fgsm(jd.linf), attacks.fgsm(jd.l2))
    with pytest.raises(InputError, match="at least one"):
        attacks.strongest()
    with pytest.raises(InputError, match="times >= 1"):
        attacks.restarts(PGD, 0)


def test_names_say_what_was_joined():
    assert attacks.restarts(PGD, 5).name == "pgd-3x5"
    assert attacks.strongest(attacks.fgsm(), PGD).name == "fgsm+pgd-3"


def nearest_boundary():
    """The exact l2 minimum-norm attack on a binary linear classifier, as a search of one step."""

    def init(keys, probe, x, goal, eps):
        return begin(x)

    def step(keys, probe, state, x, goal, eps):
        reading, gradient = probe.differentiate(keys, x, goal)
        norm = (gradient**2).sum((1, 2, 3))
        move = expand(1.001 * -reading.loss / norm) * gradient
        return keep(state._replace(x=x + move), x, reading)

    stage = Stage(Search(init, step), 1, losses.margin)
    return Attack("nearest", (stage,), None)


def test_at_radius_succeeds_exactly_beyond_the_minimum_norm():
    weights = Linear.weights(classes=2)
    classifier = Linear.classifier(weights)
    x, y = Linear.data(low=0.3, high=0.7, count=6, classes=2)
    attack = attacks.at_radius(nearest_boundary(), jd.l2)
    assert attack.cost == Cost(gradients=1, forwards=2)
    distance = -losses.margin(classifier(x), y) / jnp.linalg.norm(weights[:, 1] - weights[:, 0])
    for factor, success in ((0.98, False), (1.02, True)):
        x_adv = attack(KEY, classifier, x, y, factor * distance)
        np.testing.assert_array_equal(classifier(x_adv).argmax(-1) != y, success)
        assert (jd.l2.norm(x_adv - x) <= factor * distance * 1.0001).all()
    np.testing.assert_array_equal(attack(KEY, classifier, x, y, 0.0), x)


def test_a_stage_may_choose_its_target_and_any_wrong_class_counts():
    least_likely = lambda keys, logits, y, attempt: logits.argmin(-1)
    stage = PGD.stages[0]._replace(
        loss=losses.targeted(losses.cross_entropy), target=least_likely, steps=10
    )
    attack = Attack("least-likely", (stage,), jd.linf)
    assert attack.cost == Cost(gradients=10, forwards=2)
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    x_adv = attack(KEY, classifier, x, y, 0.3)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1), classifier(x).argmin(-1))
    contract.rows_are_independent(attack)


def test_nan_gradients_and_logits_do_not_spread():
    """The image stays finite and in bounds, whatever the classifier answers."""
    _, x, y = contract.batch()
    broken = lambda x: jnp.full((len(x), 4), jnp.nan) * x.mean((1, 2, 3))[:, None]
    x_adv = PGD(KEY, broken, x, y, 0.1)
    assert jnp.isfinite(x_adv).all()
    assert (jnp.abs(x_adv - x) <= 0.1 + 1e-6).all()


def test_parameters_and_radii_never_retrace():
    traces = []

    def counted(w, x):
        traces.append(1)
        return Linear.classifier(w)(x)

    x, y = Linear.data()
    for seed in range(3):
        classifier = jax.tree_util.Partial(counted, Linear.weights(seed))
        for eps in (0.01, 0.2, jnp.linspace(0, 0.3, len(x))):
            attacks.pgd(jd.linf, 3, 0.3)(jax.random.key(seed), classifier, x, y, eps)
        if seed == 0:
            first = len(traces)
    assert len(traces) == first


def test_a_random_classifier_gets_its_keys():
    noise = lambda key, x: x + 0.2 * jax.random.normal(key, x.shape)
    net, _, _ = contract.batch()
    noisy = jd.Randomized(lambda keys, x: net(jax.vmap(noise)(keys, x)))
    _, x, y = contract.batch()
    keys = jd.example_keys(KEY, len(x))
    whole = PGD(keys, noisy, x, y, EPS["linf"])
    first = PGD(keys[:4], noisy, x[:4], y[:4], EPS["linf"])
    np.testing.assert_allclose(whole[:4], first, atol=2e-5)


def test_bad_input_is_refused():
    net, x, y = contract.batch()
    for images, labels, eps, said in (
        (x[0], y, 0.1, r"images are \[b, h, w, c\]"),
        (x, y[:2], 0.1, "one per image"),
        ((255 * x).astype(jnp.uint8), y, 0.1, "divides by 255"),
        (255 * x, y, 0.1, "divide by 255"),
        (2 * x - 1, y, 0.1, "Normalized"),
        (x, y, 8.0, "0-255 units"),
        (x, y, -0.1, "at least 0"),
        (x, y, jnp.nan, "NaN"),
    ):
        with pytest.raises(InputError, match=said):
            PGD(KEY, net, images, labels, eps)


def test_an_answer_of_nan_is_found_by_a_search():
    """As it is by the score: a defence must not gain from answering nothing."""
    net, x, y = contract.batch()
    fragile = lambda z: jnp.where((z != x).any((1, 2, 3))[:, None], jnp.nan, net(z))
    x_adv = attacks.fgsm()(KEY, fragile, x, y, 0.01)
    assert jnp.isnan(fragile(x_adv)).all()


def test_an_attack_may_be_jitted_with_images_and_labels_closed_over():
    net, x, y = contract.batch()
    plain = PGD(KEY, net, x, y, 0.02)
    inside = jax.jit(lambda key: PGD(key, net, x, y, [0.02]))(KEY)
    np.testing.assert_allclose(inside, plain, atol=1e-6)
    mapped = jax.vmap(lambda eps: PGD(KEY, net, x, y, eps))(jnp.array([0.02, 0.02]))
    np.testing.assert_allclose(mapped[1], plain, atol=1e-6)


def test_settings_of_an_attack_are_what_checkpoints_were_saved_with():
    """Networks that were trained against attacks are found again by this text."""
    assert attacks.pgd(steps=7).settings.startswith("pgd-7; linf step_size=")
