"""Broken attacks must fail the contract: a suite that passes them would prove nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.attacks import Attack
from jaxdefense.attacks.search import begin
from tests.attacks import contract

CHECKS = [contract.reaches_linear_optimum, *contract.OF_GRADIENTS, *contract.ALWAYS]
GOOD = {name: attacks.pgd(ball, 20) for name, ball in jd.geometry.BALLS.items()}


def first_broken(attack):
    """The name of the first check that fails, or None."""
    for check in CHECKS:
        try:
            check(attack)
        except AssertionError:
            return check.__name__
    return None


def with_search(attack, **changes):
    stage = attack.stages[0]
    return dataclasses.replace(
        attack, stages=(stage._replace(search=stage.search._replace(**changes)),)
    )


def sign_flipped(attack):
    loss = attack.stages[0].loss
    flipped = lambda logits, y: -loss(logits, y)
    return dataclasses.replace(attack, stages=(attack.stages[0]._replace(loss=flipped),))


def unprojected(attack):
    ball = attack.ball._replace(project=lambda x, point, eps: point)
    return dataclasses.replace(attacks.pgd(ball, 20), ball=attack.ball)


def out_of_the_box(attack):
    ball = attack.ball._replace(
        project=lambda x, p, eps: x + jnp.clip(p - x, -eps[:, None, None, None],
                                               eps[:, None, None, None])
    )  # fmt: skip
    return dataclasses.replace(attacks.pgd(ball, 20), ball=attack.ball)


def no_op(attack):
    return with_search(
        attack,
        init=lambda keys, probe, x, goal, eps: begin(x, attack.stages[0].search.init(
            keys, probe, x, goal, eps).inner),
        step=lambda keys, probe, state, x, goal, eps: state,
    )  # fmt: skip


def wrong_unit(factor):
    def sabotage(attack):
        search = attack.stages[0].search
        wrap = lambda f: lambda *arguments: f(*arguments[:-1], arguments[-1] * factor)
        return with_search(attack, init=wrap(search.init), step=wrap(search.step))

    return sabotage


def labels_shifted(attack):
    loss = attack.stages[0].loss
    shifted = lambda logits, y: loss(logits, (y + 1) % logits.shape[-1])
    return dataclasses.replace(attack, stages=(attack.stages[0]._replace(loss=shifted),))


def stale_gradient(attack):
    search = attack.stages[0].search

    def step(keys, probe, state, x, goal, eps):
        old = lambda keys, point, goal: probe.differentiate(keys, jnp.full_like(x, 0.5), goal)
        return search.step(keys, probe._replace(differentiate=old), state, x, goal, eps)

    return with_search(attack, step=step)


def coupled_to_the_batch(attack):
    search = attack.stages[0].search

    def step(keys, probe, state, x, goal, eps):
        def together(keys, point, goal):
            reading, gradient = probe.differentiate(keys, point, goal)
            return reading, gradient + 0.5 * gradient.mean(0, keepdims=True)

        return search.step(keys, probe._replace(differentiate=together), state, x, goal, eps)

    return with_search(attack, step=step)


def ignores_zero_radius(attack):
    """Cut the guard, which is outside the search, by attacking with a hidden smallest radius."""

    class Leaky(Attack):
        def __call__(self, keys, classifier, x, y, eps):
            return super().__call__(keys, classifier, x, y, jnp.maximum(eps, 1e-3))

    return Leaky(attack.name, attack.stages, attack.ball)


SABOTAGES = {
    "sign flipped": sign_flipped,
    "unprojected": unprojected,
    "no-op": no_op,
    "eps x 255": wrong_unit(255.0),
    "eps / 255": wrong_unit(1 / 255),
    "eps / 2": wrong_unit(0.5),
    "labels shifted": labels_shifted,
    "batch-coupled": coupled_to_the_batch,
    "ignores eps = 0": ignores_zero_radius,
}


@pytest.mark.parametrize("norm", GOOD)
def test_the_unbroken_attack_passes(norm):
    assert first_broken(GOOD[norm]) is None


@pytest.mark.parametrize("norm", GOOD)
@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_sabotage_is_seen(norm, sabotage):
    assert first_broken(SABOTAGES[sabotage](GOOD[norm])) is not None


def test_leaving_the_box_is_seen():
    with pytest.raises(AssertionError):
        contract.inside_ball_and_box(out_of_the_box(GOOD["linf"]))


def test_a_stale_gradient_is_seen():
    """On a curved loss a gradient taken elsewhere leaves the attack far behind."""
    net, x, y = contract.batch()
    gain = lambda attack: jd.losses.margin(net(attack(jax.random.key(0), net, x, y, 0.05)), y)
    assert (gain(stale_gradient(GOOD["linf"])) < gain(GOOD["linf"]) - 0.01).mean() > 0.5
