"""Work that a loop repeats for nothing is done once before it, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdefense.hoisting import GROWTH, hoisted


def loop(body, weights, x, tidy):
    def run(weights, x):
        step = lambda point: body(weights, point)
        step = hoisted(step, x) if tidy else step
        return jax.lax.fori_loop(0, 5, lambda _, point: step(point), x)

    return jax.jit(run)(weights, x)


def inside(body, weights, x):
    """Names of the operations within the loop."""

    def run(weights, x):
        step = hoisted(lambda point: body(weights, point), x)
        return jax.lax.while_loop(lambda point: point.sum() < 100, step, x)

    (found,) = [e for e in jax.make_jaxpr(run)(weights, x).eqns if e.primitive.name == "while"]
    return [equation.primitive.name for equation in found.params["body_jaxpr"].eqns]


def mixed(weights, point):
    scaled = jnp.sin(weights) @ weights.T
    return {"point": jnp.tanh(point["point"] @ scaled), "made": point["made"] + 1}


@given(st.integers(0, 2**16), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_the_same_numbers(seed, width):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(width, width)).astype(np.float32)
    x = {"point": rng.normal(size=(3, width)).astype(np.float32), "made": np.int32(0)}
    plain, moved = (loop(mixed, weights, x, tidy) for tidy in (False, True))
    np.testing.assert_allclose(moved["point"], plain["point"], rtol=1e-5, atol=1e-6)
    assert moved["made"] == plain["made"] == 5


def test_what_depends_on_constants_alone_leaves_the_loop():
    body = lambda weights, point: point @ jnp.sin(weights)
    assert inside(body, np.eye(3, dtype=np.float32), np.ones((2, 3), np.float32)) == ["dot_general"]


def test_what_was_said_around_an_operation_is_kept():
    """A fixed pattern of noise, drawn as an older JAX drew it, stays that pattern."""

    def body(key, point):
        with jax.threefry_partitionable(False):
            pattern = jax.random.uniform(jax.random.wrap_key_data(key), (4, 3))
        return pattern + 0 * point

    key, point = jax.random.key_data(jax.random.key(0)), np.zeros((4, 3), np.float32)
    assert not np.array_equal(body(key, point), jax.random.uniform(jax.random.key(0), (4, 3)))
    np.testing.assert_array_equal(loop(body, key, point, tidy=True), body(key, point))


def test_what_grows_is_left_inside():
    body = lambda weights, point: point + jnp.broadcast_to(jnp.sin(weights), (10 * GROWTH, 3))
    point = np.ones((10 * GROWTH, 3), np.float32)
    names = inside(body, np.ones(3, np.float32), point)
    assert "broadcast_in_dim" in names
    assert "sin" not in names


def test_gradients_of_convolutions_transform_weights_outside():
    def body(weights, point):
        convolve = lambda x: jax.lax.conv_general_dilated(
            x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.grad(lambda x: (convolve(x) ** 2).sum())(point)

    names = inside(body, np.ones((3, 3, 2, 2), np.float32), np.ones((1, 4, 4, 2), np.float32))
    assert "conv_general_dilated" in names
    assert "rev" not in names


def test_nothing_to_hoist():
    assert float(hoisted(lambda x: x + 1, jnp.zeros(()))(jnp.ones(()))) == 2
