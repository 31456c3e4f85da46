"""Projections against their definition, samples against their distribution, steps against duals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdefense.geometry import BALLS, inside64, l1, l2, linf, norm64
from jaxdefense.typing import example_keys

SHAPE = (3, 2, 3, 1)
BALL = pytest.mark.parametrize("ball", BALLS.values(), ids=list(BALLS))
PROJECT = {name: jax.jit(ball.project) for name, ball in BALLS.items()}

# Subnormal numbers are flushed to zero by the compiled programs.
unit = st.floats(0, 1, width=32, allow_subnormal=False)
wide = st.floats(-3, 4, width=32, allow_subnormal=False)
images = hnp.arrays(np.float32, SHAPE, elements=unit)
points = hnp.arrays(np.float32, SHAPE, elements=wide)
radii = hnp.arrays(np.float32, SHAPE[:1], elements=st.floats(0, 4, width=32, allow_subnormal=False))
cases = settings(max_examples=60, deadline=None)


@BALL
@cases
@given(x=images, point=points, eps=radii)
def test_projection_is_feasible_and_idempotent(ball, x, point, eps):
    once = np.asarray(PROJECT[ball.name](x, point, eps))
    assert inside64(ball, x, once, eps).all()
    twice = np.asarray(PROJECT[ball.name](x, once, eps))
    np.testing.assert_allclose(twice, once, atol=2e-6)


@BALL
@cases
@given(x=images, inner=images, scale=st.floats(0, 1, width=32))
def test_projection_leaves_points_inside_alone(ball, x, inner, scale):
    point = np.clip(x + np.float32(scale) * (inner - x), 0, 1)
    eps = np.asarray(ball.norm(point - x)) * np.float32(1.001) + np.float32(1e-6)
    np.testing.assert_allclose(PROJECT[ball.name](x, point, eps), point, rtol=0, atol=1e-37)


@BALL
@cases
@given(x=images, point=points, eps=radii, other=images)
def test_projection_is_the_nearest_point(ball, x, point, eps, other):
    """No other point of ball and box is nearer: the variational inequality of a projection."""
    nearest = np.asarray(PROJECT[ball.name](x, point, eps), np.float64)
    feasible = np.asarray(PROJECT[ball.name](x, other, eps), np.float64)
    inner = ((point - nearest) * (feasible - nearest)).reshape(len(x), -1).sum(-1)
    assert (inner <= 2e-5 * (1 + np.abs(point).max())).all()


@BALL
@cases
@given(x=images, a=points, b=points, eps=radii)
def test_projection_does_not_expand(ball, x, a, b, eps):
    project = PROJECT[ball.name]
    before, after = norm64(l2, a, b), norm64(l2, project(x, a, eps), project(x, b, eps))
    assert (after <= before + 2e-5).all()


@BALL
def test_projection_against_a_solver(ball):
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, point = rng.random(5), rng.normal(0.5, 1.5, 5)
        order = {"linf": np.inf, "l2": 2, "l1": 1}[ball.name]
        eps = 0.6
        # l1 and l-inf norms as smooth constraints on positive and negative parts.
        if ball.name == "l1":
            start = np.zeros(10)
            unpack = lambda v: v[:5] - v[5:]
            bounds = [(0, 1 - p) for p in x] + [(0, p) for p in x]
            limit = {"type": "ineq", "fun": lambda v, eps=eps: eps - v.sum()}
        else:
            start, unpack = np.zeros(5), lambda v: v
            reach = eps if ball.name == "linf" else np.inf
            bounds = [(max(-p, -reach), min(1 - p, reach)) for p in x]
            limit = {"type": "ineq", "fun": lambda v, eps=eps: eps**2 - (v**2).sum()}
        distance = lambda v, u=unpack, x=x, p=point: ((u(v) + x - p) ** 2).sum()
        constraints = [] if ball.name == "linf" else [limit]
        solved = scipy.optimize.minimize(
            distance, start, bounds=bounds, constraints=constraints, method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )  # fmt: skip
        shape = (1, 5, 1, 1)
        ours = ball.project(
            jnp.asarray(x.reshape(shape), jnp.float32),
            jnp.asarray(point.reshape(shape), jnp.float32),
            jnp.asarray([eps], jnp.float32),
        )
        np.testing.assert_allclose(np.ravel(ours), x + unpack(solved.x), atol=2e-4)
        assert np.linalg.norm(np.ravel(ours) - x, order) <= eps * (1 + 1e-5)


@BALL
def test_far_points_still_reach_the_sphere(ball):
    """A huge step must not shrink to nothing through rounding."""
    x = jnp.full((1, 8, 8, 3), 0.5)
    gradient = jax.random.normal(jax.random.key(0), x.shape)
    projected = ball.project(x, x + 1e4 * gradient, jnp.array([0.3]))
    np.testing.assert_allclose(ball.norm(projected - x), [0.3], rtol=1e-2)


@BALL
@pytest.mark.parametrize("far", [1.0, 4.0, 100.0])
def test_far_points_are_not_left_outside_by_rounding(ball, far):
    x, eps = np.zeros((9, 2, 3, 1), np.float32), np.linspace(0.05, 0.4, 9, dtype=np.float32)
    assert inside64(ball, x, np.asarray(ball.project(x, x + np.float32(far), eps)), eps).all()


@BALL
def test_zero_radius_is_bit_exact(ball):
    x = jax.random.uniform(jax.random.key(0), (4, 3, 3, 2))
    moved = x + jax.random.normal(jax.random.key(1), x.shape)
    np.testing.assert_array_equal(ball.project(x, moved, jnp.zeros(4)), x)


@BALL
def test_samples_fill_the_ball(ball):
    """Uniform in the ball: the norm's distribution is ``(r / eps) ** dimension``."""
    count, size = 4000, 4
    x = jnp.zeros((count, 2, 2, 1))
    eps = jnp.where(jnp.arange(count) % 2 == 0, 0.5, 2.0)
    drawn = ball.sample(example_keys(jax.random.key(0), count), x, eps)
    share = np.asarray(ball.norm(drawn) / eps) ** size
    assert share.max() <= 1 + 1e-5
    assert scipy.stats.kstest(share, "uniform").pvalue > 1e-3
    assert abs(float(jnp.sign(drawn).mean())) < 0.05


@BALL
def test_samples_depend_on_their_own_key_only(ball):
    keys, x = example_keys(jax.random.key(0), 5), jnp.zeros((5, 2, 2, 1))
    eps = jnp.ones(5)
    whole = ball.sample(keys, x, eps)
    np.testing.assert_array_equal(whole[2:4], ball.sample(keys[2:4], x[2:4], eps[2:4]))


@BALL
def test_steepest_is_the_best_linear_step(ball):
    """In the open no other step of that norm raises a linear function more (dual norm)."""
    gradient = jax.random.normal(jax.random.key(0), (7, 3, 3, 2))
    x = jnp.full(gradient.shape, 0.5)
    step = ball.steepest(gradient, x, jnp.full(7, 0.3))
    np.testing.assert_allclose(ball.norm(step), 0.3, rtol=1e-5)
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[ball.name]
    flat = np.asarray(gradient).reshape(7, -1)
    gain = (flat * np.asarray(step).reshape(7, -1)).sum(-1)
    np.testing.assert_allclose(gain, 0.3 * np.linalg.norm(flat, dual, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("ball", [l2, l1], ids=["l2", "l1"])
def test_steepest_spends_nothing_at_the_box(ball):
    x = jnp.array([1.0, 0.0, 0.5, 0.9]).reshape(1, 2, 2, 1)
    gradient = jnp.array([9.0, -8.0, 1.0, 2.0]).reshape(1, 2, 2, 1)
    step = np.ravel(ball.steepest(gradient, x, jnp.array([0.3])))
    assert step[0] == step[1] == 0
    assert (step[2:] > 0).all()
    if ball is l1:  # 0.1 fills the steeper pixel, the rest goes to the next
        np.testing.assert_allclose(step[2:], [0.2, 0.1], atol=1e-6)


@BALL
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e20])
def test_steepest_does_not_depend_on_the_gradients_scale(ball, scale):
    """A tiny gradient that underflows when squared would make any network look robust."""
    gradient = jax.random.normal(jax.random.key(0), (2, 3, 3, 1))
    x = jnp.full(gradient.shape, 0.5)
    step = ball.steepest(gradient * scale, x, jnp.ones(2))
    expected = ball.steepest(gradient, x, jnp.ones(2))
    np.testing.assert_allclose(step, expected, rtol=1e-4)


@BALL
def test_zero_gradient_gives_no_step_and_no_nan(ball):
    x = jnp.full((2, 3, 3, 1), 0.5)
    np.testing.assert_array_equal(ball.steepest(jnp.zeros_like(x), x, jnp.ones(2)), 0.0)


def test_inside64_sees_every_violation():
    x = np.full((1, 2, 2, 1), 0.5, np.float32)
    eps = np.array([0.1])
    assert inside64(linf, x, x + np.float32(0.1), eps).all()
    for bad in (x + np.float32(0.1001), x + np.nan, x + np.inf):
        assert not inside64(linf, x, bad, eps).any()
    edge = np.ones_like(x)
    assert not inside64(linf, edge, edge + np.float32(1e-6), eps).any()
    assert not inside64(l1, x, x + np.float32(0.026), eps).any()
    assert not inside64(l2, x, x + np.float32(0.051), eps).any()


@BALL
def test_reach_is_the_shortest_way_up(ball):
    """It gains the amount, and `steepest` with its length gains no more: the two are inverse."""
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.random((8, 3, 3, 2)).round(1), jnp.float32)  # some pixels at the box
    gradient = jnp.asarray(rng.normal(size=x.shape) * 10.0 ** rng.integers(-6, 6), jnp.float32)
    flat = lambda a: np.asarray(a, np.float64).reshape(len(x), -1)
    room = np.where(flat(gradient) > 0, 1 - flat(x), flat(x))
    most = (room * np.abs(flat(gradient))).sum(-1)
    for share in (0.0, 0.01, 0.3, 0.9):
        amount = share * most
        delta = ball.reach(gradient, x, jnp.asarray(amount, jnp.float32))
        assert ((np.asarray(x + delta) >= -1e-6) & (np.asarray(x + delta) <= 1 + 1e-6)).all()
        np.testing.assert_allclose((flat(delta) * flat(gradient)).sum(-1), amount, rtol=1e-4)
        length = ball.norm(delta)
        best = ball.project(x, x + 1e6 * gradient / jnp.abs(gradient).max(), 0.98 * length)
        shorter = ball.steepest(gradient, x, 0.98 * length) if ball.name != "l2" else best - x
        gained = (np.clip(flat(x) + flat(shorter), 0, 1) - flat(x)) * flat(gradient)
        assert (gained.sum(-1) <= amount * 1.0001).all()
        # Nothing shorter gains as much.
        if share:
            assert (gained.sum(-1) < amount).all()
    beyond = ball.reach(gradient, x, jnp.asarray(2 * most, jnp.float32))
    np.testing.assert_allclose((flat(beyond) * flat(gradient)).sum(-1), most, rtol=1e-4)


@BALL
def test_reach_of_nothing_is_nothing(ball):
    x = jnp.full((2, 2, 2, 1), 0.5)
    assert (ball.reach(jnp.zeros_like(x), x, jnp.ones(2)) == 0).all()
