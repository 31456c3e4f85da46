"""Broken attacks must fail the contract: a suite that passes them would prove nothing.

Every sabotage is done to a search of any kind from outside: to what it is told (probe, radius,
labels), to the ball it projects on, or to its steps. The checks are those the registry is tested
with, and strength on a network with known values.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.attacks import Attack
from jaxdefense.attacks.probe import Goal
from jaxdefense.attacks.search import begin
from tests.attacks import contract

# Every kind of search there is; small, for they are run often.
FAMILIES = {
    "pgd": lambda ball: attacks.pgd(ball, 20),
    "apgd": lambda ball: attacks.apgd(ball, 20),
    "fab": lambda ball: attacks.fab(ball, 20),
    "deepfool": lambda ball: attacks.deepfool(ball, 10, candidates=3),
    "ddn": lambda ball: attacks.ddn(ball, 30),
    "fmn": lambda ball: attacks.fmn(ball, 40),
    "carlini-wagner": lambda ball: attacks.carlini_wagner(ball, 4, 40, 0.05),
    "square": lambda ball: attacks.square(ball, 120),
    "spsa": lambda ball: attacks.spsa(ball, 20, samples=32),
    "hopskipjump": lambda ball: attacks.hopskipjump(ball, 10),
}  # fmt: skip
NORMS = {
    "pgd": ("linf", "l2", "l1"), "apgd": ("linf", "l1"), "fab": ("linf",),
    "deepfool": ("l2",), "ddn": ("l2",), "fmn": ("l1",), "carlini-wagner": ("l2",),
    "square": ("linf",), "spsa": ("linf",), "hopskipjump": ("l2",),
}  # fmt: skip
# What the unbroken attack leaves on two networks with known values is a little less than this.
LIMITS = {
    ("pgd", "linf"): 0.49, ("pgd", "l2"): 0.2, ("pgd", "l1"): 0.39,
    ("apgd", "linf"): 0.48, ("apgd", "l1"): 0.34,
    ("fab", "linf"): 0.5, ("deepfool", "l2"): 0.205, ("ddn", "l2"): 0.2, ("fmn", "l1"): 0.33,
    ("carlini-wagner", "l2"): 0.25, ("square", "linf"): 0.8,
    ("spsa", "linf"): 0.65, ("hopskipjump", "l2"): 0.3,
}  # fmt: skip
PAIRS = [
    pytest.param(name, norm, id=f"{name}-{norm}", marks=pytest.mark.xdist_group(f"bad{name}{norm}"))
    for name, norms in NORMS.items()
    for norm in norms
]


# --------------------------------------------------------------------------------- sabotages


def with_search(attack, change):
    stage = attack.stages[0]
    search = change(stage.search)
    return dataclasses.replace(attack, stages=(stage._replace(search=search),))


def hearing(attack, change):
    """The attack with a changed probe: ``change(probe, x) -> probe``, x the clean images."""

    def deaf(search):
        return search._replace(
            init=lambda keys, probe, x, *rest: search.init(keys, change(probe, x), x, *rest),
            step=lambda keys, probe, state, x, *rest: search.step(
                keys, change(probe, x), state, x, *rest
            ),
            finish=lambda keys, probe, state, x, *rest: search.finish(
                keys, change(probe, x), state, x, *rest
            ),
        )

    return with_search(attack, deaf)


def changed(probe, reading=lambda r: r, gradient=lambda g: g):
    """A probe whose readings and gradients are changed, however they are asked for."""

    def differentiate(keys, x, goal):
        found, slope = probe.differentiate(keys, x, goal)
        return reading(found), gradient(slope)

    def differences(keys, x, goal, count):
        found, rises, slopes = probe.differences(keys, x, goal, count)
        return reading(found), rises, gradient(slopes)

    return probe._replace(
        read=lambda *a: reading(probe.read(*a)),
        differentiate=differentiate,
        differences=differences,
    )


def sign_flipped(attack, build):
    # What is fooled counts as not fooled to attacks that know nothing else.
    flip = lambda r: r._replace(loss=-r.loss, ahead=-r.ahead, fooled=~r.fooled)
    return hearing(attack, lambda probe, x: changed(probe, flip, jnp.negative))


def unprojected(attack, build):
    def further(search):
        def finish(keys, probe, state, x, *rest):
            found = search.finish(keys, probe, state, x, *rest)
            return found._replace(best=x + 1.5 * (found.best - x))

        return search._replace(finish=finish)

    return with_search(attack, further)


def no_op(attack, build):
    def idle(search):
        start = lambda *a: begin(a[2], search.init(*a).inner)
        still = lambda keys, probe, state, *rest: state
        return search._replace(init=start, step=still, finish=still)

    return with_search(attack, idle)


def wrong_unit(attack, build):
    def scaled(search):
        scale = lambda f: lambda *arguments: f(*arguments[:-1], arguments[-1] * 255)
        return search._replace(
            init=scale(search.init), step=scale(search.step), finish=scale(search.finish)
        )

    return with_search(attack, scaled)


def labels_shifted(attack, build):
    def shift(probe, x):
        # Four classes or ten: shifted labels stay labels.
        def other(keys, goal):
            classes = probe.logits(keys, x[:1]).shape[-1]
            return Goal(*((slot + 1) % classes for slot in goal))

        return probe._replace(
            read=lambda k, z, goal: probe.read(k, z, other(k[:1], goal)),
            differentiate=lambda k, z, goal: probe.differentiate(k, z, other(k[:1], goal)),
            differences=lambda k, z, goal, n: probe.differences(k, z, other(k[:1], goal), n),
        )

    return hearing(attack, shift)


def stale(attack, build):
    """Gradients are taken at the clean image for ever; without gradients, losses are."""

    def old(probe, x):
        if attack.cost.gradients:
            at = lambda f: lambda keys, z, *rest: (
                probe.read(keys, z, rest[0]), *f(keys, x, *rest)[1:]
            )  # fmt: skip
            return probe._replace(
                differentiate=at(probe.differentiate), differences=at(probe.differences)
            )
        return probe._replace(read=lambda keys, z, goal: probe.read(keys, x, goal))

    return hearing(attack, old)


def batch_coupled(attack, build):
    def mixed(probe, x):
        mean = lambda a: a + 0.5 * jnp.nanmean(a, 0, keepdims=True)
        swap = lambda r: r._replace(loss=mean(r.loss), fooled=r.fooled | jnp.roll(r.fooled, 1))
        return changed(probe, swap, mean)

    return hearing(attack, mixed)


# Sabotage -> the check of the registry's that sees it, or strength on networks of known values.
SABOTAGES = {
    sign_flipped: "strength",
    unprojected: contract.inside_ball_and_box,
    no_op: "strength",
    wrong_unit: contract.inside_ball_and_box,
    labels_shifted: "strength",
    stale: "strength",
    batch_coupled: contract.rows_are_independent,
}


def fails(attack, name, norm, check):
    """Whether the check raises on the attack."""
    try:
        if check == "strength":
            assert contract.reference_accuracy(attack) <= LIMITS[name, norm]
        else:
            check(attack)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_the_unbroken_attack_passes(name, norm):
    attack = FAMILIES[name](jd.geometry.BALLS[norm])
    assert not any(fails(attack, name, norm, check) for check in set(SABOTAGES.values()))


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda f: f.__name__)
def test_sabotage_is_seen(name, norm, sabotage):
    build, ball = FAMILIES[name], jd.geometry.BALLS[norm]
    assert fails(sabotage(build(ball), build), name, norm, SABOTAGES[sabotage])


# -------------------------------------------------------- faults of other kinds, on one attack


def test_leaving_the_box_is_seen():
    good = attacks.pgd(jd.linf, 20)
    wide = lambda x, p, eps: (
        x + jnp.clip(p - x, -eps[:, None, None, None], eps[:, None, None, None])
    )
    bad = dataclasses.replace(attacks.pgd(jd.linf._replace(project=wide), 20), ball=jd.linf)
    contract.inside_ball_and_box(good)
    with pytest.raises(AssertionError):
        contract.inside_ball_and_box(bad)


def test_ignoring_radius_zero_is_seen():
    """Cut the guard, which is outside the search, by attacking with a hidden smallest radius."""

    class Leaky(Attack):
        def __call__(self, keys, classifier, x, y, eps):
            return super().__call__(keys, classifier, x, y, jnp.maximum(eps, 1e-3))

    with pytest.raises(AssertionError):
        contract.unchanged_at_zero(Leaky("leaky", attacks.pgd(jd.linf, 5).stages, jd.linf))


@pytest.mark.parametrize("factor", [1 / 255, 0.5])
def test_using_too_little_of_the_radius_is_seen(factor):
    search = attacks.pgd(jd.linf, 20).stages[0].search
    scale = lambda f: lambda *arguments: f(*arguments[:-1], arguments[-1] * factor)
    small = with_search(
        attacks.pgd(jd.linf, 20),
        lambda s: s._replace(init=scale(search.init), step=scale(search.step)),
    )
    with pytest.raises(AssertionError):
        contract.reaches_linear_optimum(small)


def test_a_random_seed_shared_by_the_batch_is_seen():
    search = attacks.pgd(jd.linf, 2).stages[0].search

    def init(keys, probe, x, goal, eps):
        data = jax.random.key_data(keys)
        shared = jnp.broadcast_to(data.sum(0, keepdims=True), data.shape)
        return search.init(jax.random.wrap_key_data(shared), probe, x, goal, eps)

    bad = with_search(attacks.pgd(jd.linf, 2), lambda s: s._replace(init=init))
    with pytest.raises(AssertionError):
        contract.rows_are_independent(bad)
