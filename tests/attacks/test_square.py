"""Square Attack: its schedule and squares by hand, its bounds, and the original's own values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks.square import _corner, _recolour, halved, pyramids, square, square_sides
from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS
from tests.attacks import contract
from tests.conftest import EPS, Linear, reference

KEY = jax.random.key(5)
NORMS = pytest.mark.parametrize("norm", BALLS)


def evaluations(attack, eps):
    """Gradients and forward passes per example that a full run really makes."""
    calls = {"forward": 0, "backward": 0}
    count = lambda what: jax.debug.callback(lambda: calls.__setitem__(what, calls[what] + 1))

    @jax.custom_vjp
    def counted(x):
        count("forward")
        return x

    def backward(_, gradient):
        count("backward")
        return (gradient,)

    counted.defvjp(lambda x: (counted(x), None), backward)
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data(count=2)
    attack(KEY, lambda x: classifier(counted(x)), x, y, eps)
    jax.effects_barrier()
    return attacks.Cost(calls["backward"], calls["forward"] - calls["backward"])


def quantised(weights):
    """A linear classifier of 8 grey levels: its gradient is zero everywhere."""
    return jax.tree_util.Partial(_quantised, weights)


def _quantised(weights, x):
    return Linear.classifier(weights)(jnp.round(8 * x) / 8)


# ----------------------------------------------------------------------------- by hand


def test_the_share_halves_after_the_papers_iterations():
    after = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    for halvings, last in enumerate(after):
        assert halved(jnp.array([last, last + 1])).tolist() == [halvings, halvings + 1]
    # Rescaled to 100 queries, one update counts as 100.
    assert halved(jnp.array([0, 1, 2, 3, 5, 6]), 100.0).tolist() == [0, 2, 2, 3, 3, 4]


def test_sides_of_the_squares():
    # sqrt(0.8 * 64) = 7.16, sqrt(0.4 * 64) = 5.06, 3.58, 2.53, 1.79, 1.26, 0.89, ...
    assert square_sides(0.8, 8, 8).tolist() == [7, 5, 4, 3, 2, 1, 1, 1, 1, 1]
    assert square_sides(0.8, 8, 8, least=3).tolist() == [7, 5, 5, 3, 3, 3, 3, 3, 3, 3]
    assert square_sides(1.0, 4, 16).tolist()[:3] == [4, 4, 4]
    assert square_sides(0.8, 2, 2, least=3).tolist()[0] == 2


def by_hand(side):
    """Equation 2 as nested rectangles."""

    def rectangles(height, width):
        total = np.zeros((height, width))
        for ring in range(max(height // 2, width // 2) + 1):
            rows = slice(max(height // 2 - ring, 0), height // 2 + ring + 1)
            columns = slice(max(width // 2 - ring, 0), width // 2 + ring + 1)
            total[rows, columns] += 1 / (ring + 1) ** 2
        return total / max(np.linalg.norm(total), 1e-9)

    upper, lower = rectangles(side // 2, side), rectangles(side - side // 2, side)
    whole = np.concatenate([upper, -lower])
    return whole / np.linalg.norm(whole)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
def test_pyramids_are_the_papers(side):
    rows, columns = jnp.indices((9, 10))
    found = np.asarray(pyramids(rows - 1, columns - 2, jnp.int32(side)))
    expected = np.zeros((9, 10))
    expected[1 : 1 + side, 2 : 2 + side] = by_hand(side)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_squares_reach_every_position_and_no_query_is_wasted():
    keys = jax.random.split(KEY, 300)
    corner = lambda key: -jnp.stack(_corner(key, (4, 5), jnp.int32(2)))[:, 0, 0]
    corners = np.unique(jax.jit(jax.vmap(corner))(keys), axis=0)
    assert corners.tolist() == [[row, column] for row in range(3) for column in range(4)]
    x = jax.random.uniform(KEY, (5, 5, 1)).at[0].set(0.0)
    current = jnp.clip(x + 0.1 * jnp.sign(x - 0.5), 0, 1)
    change = lambda key: _recolour(key, x, jnp.float32(0.1), current, jnp.int32(2))
    assert (jax.jit(jax.vmap(change))(keys) != current[None]).any((1, 2, 3)).all()


# ---------------------------------------------------------------------------------- laws


@NORMS
def test_contract(norm):
    attack = square(BALLS[norm], 40)
    contract.inside_ball_and_box(attack)
    contract.rows_are_independent(attack)
    net, x, y = contract.batch()
    np.testing.assert_array_equal(attack(KEY, net, x, y, jnp.zeros(6)), x)
    unbounded = attack(KEY, net, x, y, jnp.full(6, jnp.inf))
    assert ((unbounded >= 0) & (unbounded <= 1)).all()


@NORMS
def test_queries_are_exact(norm):
    attack = square(BALLS[norm], 17)
    assert attack.cost == attacks.Cost(gradients=0, forwards=17)
    assert evaluations(attack, EPS[norm]) == attack.cost


def test_every_example_draws_its_own_squares():
    net, x, y = contract.batch()
    same = lambda array: jnp.repeat(array[:1], 6, axis=0)
    keys = jax.random.split(KEY, 6).at[1].set(jax.random.split(KEY, 6)[0])
    x_adv = np.asarray(square(queries=40)(keys, net, same(x), same(y), 0.05))
    np.testing.assert_array_equal(x_adv[0], x_adv[1])
    assert all((x_adv[0] != x_adv[i]).any() for i in range(2, 6))


def test_more_queries_never_help_the_defender():
    net, x, y = contract.batch()
    margins = [losses.margin(net(square(queries=q)(KEY, net, x, y, 0.02)), y) for q in (1, 40, 300)]
    assert (margins[1] >= margins[0] - 1e-5).all()
    assert (margins[2] >= margins[1] - 1e-5).all()
    assert (margins[2] > margins[0] + 1e-4).all()


def test_bad_settings_are_refused():
    for arguments, said in (
        ({"queries": 0}, "at least 1 query"),
        ({"p_init": 0.0}, "share of the image"),
        ({"ball": jd.linf._replace(name="l7")}, "got l7"),
    ):
        with pytest.raises(InputError, match=said):
            square(**arguments)


# ------------------------------------------------------------------------------ strength


def test_reaches_the_linear_optimum():
    contract.reaches_linear_optimum(square(queries=1000), share=0.9)


def test_a_targeted_loss_reaches_its_target():
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    target = (y + 1) % 3
    attack = square(queries=1000, loss=losses.targeted(losses.cross_entropy))
    x_adv = attack(KEY, classifier, x, target, 0.3)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1), target)


def test_breaks_what_masks_its_gradient():
    classifier = quantised(Linear.weights())
    x, _ = Linear.data(count=40)
    y = classifier(x).argmax(-1).astype(jnp.int32)
    left = lambda attack: (classifier(attack(KEY, classifier, x, y, 0.13)).argmax(-1) == y).mean()
    assert left(attacks.pgd(steps=20)) > 0.7
    assert left(square(queries=400)) < 0.2


# Fewer queries than the original's 5,000 where these suffice; 5,000 leave fewer still.
QUERIES = [
    ("standard", "Linf", 0.15, 1000), ("adversarial", "L2", 1.0, 400), ("standard", "L1", 4.0, 400)
]  # fmt: skip


@pytest.mark.parametrize(("name", "norm", "eps", "queries"), QUERIES)
def test_leaves_no_more_than_the_original(name, norm, eps, queries):
    classifier, x, y, values = reference(name)
    attack = square(BALLS[norm.lower()], queries)
    curve = jd.sweep(attack, classifier, x, y, [eps], jax.random.key(0), method="grid")
    theirs = values[f"autoattack {norm} {eps}"]
    assert 100 * (curve.raw_accuracy[0] - theirs["square"]) <= 1
    assert 100 * (curve.raw_accuracy[0] - theirs["all"]) >= -2.5
