"""Rewritten convolutions: the same numbers, and nothing but the layout CPU kernels take."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxdefense.convolutions import canonicalize
from tests.conftest import conv_net

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (2, 7, 6, 4))
CANONICAL = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolutions(function, *args):
    """Dimension numbers of every convolution in the program, inner calls included."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive is lax.conv_general_dilated_p:
                yield equation.params["dimension_numbers"]
            for inner in equation.params.values():
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*args).jaxpr))


def check(function, *args):
    """Equal values, and canonical convolutions where there were others."""
    for one, other in zip(
        jax.tree.leaves(function(*args)),
        jax.tree.leaves(canonicalize(function)(*args)),
        strict=True,
    ):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=2e-5)
    before = convolutions(function, *args)
    after = convolutions(canonicalize(function), *args)
    assert len(after) == len(before) > 1
    assert set(after) == {CANONICAL}
    assert set(before) != {CANONICAL}  # else this shows nothing


def energy(layer):
    """A scalar whose gradient depends on every output."""
    return jax.value_and_grad(lambda *args: (jnp.tanh(layer(*args)) ** 2).sum(), argnums=(0, 1))


SETTINGS = {
    "plain": {},
    "strided": {"window_strides": (2, 3)},
    "valid": {"padding": "VALID"},
    "uneven padding": {"padding": ((2, 0), (1, 3))},
    "dilated": {"rhs_dilation": (2, 1)},
    "transposed": {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1))},
    "grouped": {"feature_group_count": 2},
    "depthwise": {"feature_group_count": 4},
    "strided, dilated and grouped": {
        "window_strides": (2, 1), "rhs_dilation": (1, 2), "feature_group_count": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_of_convolutions(settings, layout):
    options = {"window_strides": (1, 1), "padding": "SAME"} | SETTINGS[settings]
    groups = options.get("feature_group_count", 1)
    kernel = jax.random.normal(KEY, (3, 3, 4 // groups, 8))
    x = IMAGES
    names = (layout, "HWIO" if layout == "NHWC" else "OIHW", layout)
    if layout == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    convolve = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, dimension_numbers=names, **options
    )
    check(energy(convolve), x, kernel)


@pytest.mark.parametrize(("rank", "shape"), [(1, (2, 9, 3)), (3, (2, 5, 4, 3, 2))])
def test_other_ranks(rank, shape):
    x = jax.random.normal(KEY, shape)
    kernel = jax.random.normal(KEY, (*[2] * rank, shape[-1], 5))
    spec = "DHW"[-rank:]
    numbers = (f"N{spec}C", f"{spec}IO", f"N{spec}C")
    function = energy(
        lambda x, kernel: lax.conv_general_dilated(
            x, kernel, (1,) * rank, "SAME", dimension_numbers=numbers
        )
    )
    for one, other in zip(
        jax.tree.leaves(function(x, kernel)),
        jax.tree.leaves(canonicalize(function)(x, kernel)),
        strict=True,
    ):
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=2e-5)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), strides=2)(x))
        x = nn.ConvTranspose(5, (2, 2), strides=(2, 2))(nn.avg_pool(x, (2, 2)))
        return nn.Dense(3)(nn.GroupNorm(5)(x).mean((1, 2)))


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.second = nnx.Conv(6, 6, (3, 3), feature_group_count=3, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.norm(self.first(x)))).mean((1, 2))


def linen():
    variables = LinenNet().init(KEY, IMAGES)
    return lambda x: LinenNet().apply(variables, x)


def equinox():
    keys = jax.random.split(KEY)
    first = eqx.nn.Conv2d(4, 6, 3, padding=1, key=keys[0])
    second = eqx.nn.Conv2d(6, 3, 3, stride=2, key=keys[1])
    net = lambda x: second(jax.nn.gelu(first(x.transpose(2, 0, 1)))).mean((1, 2))
    return jax.vmap(net)


MODELS = {"linen": linen, "nnx": NnxNet, "equinox": equinox}


@pytest.mark.parametrize("library", MODELS)
def test_gradients_of_models(library):
    model = MODELS[library]()
    loss = lambda x: (jax.nn.log_softmax(model(x))[:, 0].sum(), model(x))
    step = jax.value_and_grad(loss, has_aux=True)
    check(step, IMAGES)
    jitted = jax.jit(canonicalize(jax.jit(step)))(IMAGES)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), jitted, step(IMAGES)
    )


def linen_training():
    variables = LinenNet().init(KEY, IMAGES)
    return variables, lambda variables, x: LinenNet().apply(variables, x)


def nnx_training():
    graph, state = nnx.split(NnxNet())
    return state, lambda state, x: nnx.merge(graph, state, copy=True)(x)


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d

    def __init__(self):
        self.conv = eqx.nn.Conv2d(4, 3, 3, stride=2, key=KEY)

    def __call__(self, x):
        return self.conv(x.transpose(2, 0, 1)).mean((1, 2))


def equinox_training():
    arrays, rest = eqx.partition(EquinoxNet(), eqx.is_array)
    return arrays, lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x)


@pytest.mark.parametrize("library", [linen_training, nnx_training, equinox_training])
def test_a_training_loop_learns_the_same(library):
    weights, call = library()
    gradient = jax.grad(lambda weights, x: jax.nn.log_softmax(call(weights, x))[:, 0].mean())

    def train(gradient, weights, batches):
        move = lambda weight, slope: weight - 0.1 * slope
        step = lambda weights, x: (jax.tree.map(move, weights, gradient(weights, x)), None)
        return lax.scan(step, weights, batches)[0]

    batches = jax.random.uniform(KEY, (3, *IMAGES.shape))
    plain, fast = (
        jax.jit(lambda *args, g=g: train(g, *args))(weights, batches)
        for g in (gradient, canonicalize(gradient))
    )
    moved = jax.tree.map(lambda one, other: float(abs(one - other).max()), plain, weights)
    assert max(jax.tree.leaves(moved)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), fast, plain)
    forms = convolutions(gradient, weights, IMAGES)
    assert set(convolutions(canonicalize(gradient), weights, IMAGES)) == {CANONICAL}
    assert set(forms) != {CANONICAL}


def test_a_checked_out_layout_is_left_alone():
    net = conv_net()
    forward = lambda x: net(x)
    x = jnp.ones((1, 6, 6, 3))
    assert convolutions(forward, x) == convolutions(canonicalize(forward), x) == [CANONICAL] * 2


def test_loops_and_branches_keep_their_values():
    def function(x, n):
        x = lax.fori_loop(0, n, lambda i, v: v * 1.5 + i, x)
        x, sums = lax.scan(lambda c, _: (jnp.sin(c), c.sum()), x, None, length=3)
        return lax.cond(n > 2, lambda v: v + 1, lambda v: v - 1, x), sums, n

    for n in (1, 4):
        for one, other in zip(
            function(IMAGES, n), canonicalize(function)(IMAGES, jnp.int32(n)), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=1e-5)


def test_structure_literals_and_constants_come_back():
    table = np.arange(3.0, dtype=np.float32)
    function = lambda tree: {"a": (tree["x"] + table, 2.0), "b": [tree["y"]], "c": jnp.zeros(2)}
    tree = {"x": jnp.ones(3), "y": jnp.int32(4)}
    plain, rewritten = function(tree), canonicalize(function)(tree)
    assert jax.tree.structure(plain) == jax.tree.structure(rewritten)
    jax.tree.map(np.testing.assert_array_equal, rewritten, plain)


def test_what_is_no_array_reaches_the_function_as_it_is():
    """Settings by name, flags that decide what is traced, functions among a module's leaves."""

    def step(module, x, *, train, scale=1.0):
        rate = 0.1 if train else 0.2
        return jax.value_and_grad(lambda w: (module["act"](w * x) * scale * rate).sum())(
            module["w"]
        )

    given = ({"act": jnp.tanh, "w": jnp.float32(0.3)}, IMAGES)
    assert canonicalize(step).__name__ == "step"
    for train in (True, False):
        plain, found = (f(*given, train=train, scale=2.0) for f in (step, canonicalize(step)))
        np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_it_can_be_mapped():
    net = conv_net()
    x = jax.random.uniform(KEY, (3, 2, 6, 6, 3))
    gradient = jax.grad(lambda x: net(x)[:, 0].sum())
    mapped = jax.vmap(canonicalize(gradient))(x)
    np.testing.assert_allclose(mapped, jax.vmap(gradient)(x), rtol=2e-4, atol=1e-5)


# ------------------------------------------------------------------- thin convolutions and pools


THIN = [
    (3, (1, 6), "SAME", "NHWC"),
    (3, (3, 8), "VALID", "NCHW"),
    (5, (1, 6), "SAME", "NCHW"),
    (5, (2, 1), "VALID", "NHWC"),
    (5, (3, 8), ((2, 1), (0, 3)), "NHWC"),
    (7, (1, 4), "SAME", "NHWC"),
    (7, (2, 1), ((2, 1), (0, 1)), "NCHW"),
]


@pytest.mark.parametrize(("window", "channels", "padding", "layout"), THIN)
def test_thin_convolutions_are_folded_to_the_same_numbers(window, channels, padding, layout):
    x = jax.random.normal(KEY, (2, 12, 10, channels[0]))
    kernel = jax.random.normal(KEY, (window, window, *channels))
    names = (layout, "HWIO", layout)
    if layout == "NCHW":
        x = x.transpose(0, 3, 1, 2)
    layer = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=names
    )
    for function in (layer, energy(layer)):
        wanted, found = function(x, kernel), canonicalize(function)(x, kernel)
        for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(other, one, rtol=5e-4, atol=2e-4 * np.abs(one).max())


def test_thin_convolutions_in_half_precision_stay_in_it():
    """LeNet's first layer as a bfloat16 surrogate: a table of float32 made it an error."""
    x = jax.random.normal(KEY, (2, 12, 10, 1), jnp.bfloat16)
    kernel = jax.random.normal(KEY, (5, 5, 1, 6), jnp.bfloat16)
    layer = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    for function in (layer, energy(layer)):
        exact = function(x.astype(jnp.float32), kernel.astype(jnp.float32))
        found = canonicalize(function)(x, kernel)
        for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
            assert other.dtype == jnp.bfloat16
            close = 2**-6 * np.abs(one).max()
            np.testing.assert_allclose(other.astype(jnp.float32), one, atol=close)


def test_folding_takes_place_where_it_pays_and_only_there():
    def shapes(function, *args):
        jaxpr = jax.make_jaxpr(canonicalize(function))(*args).jaxpr
        return [
            e.invars[1].aval.shape for e in jaxpr.eqns if e.primitive is lax.conv_general_dilated_p
        ]

    def layer(strides=(1, 1)):
        return lambda x, kernel: lax.conv_general_dilated(
            x, kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    grey, odd, wide = (jnp.zeros(s) for s in ((1, 8, 8, 1), (1, 7, 8, 1), (1, 8, 8, 16)))
    assert shapes(layer(), grey, jnp.zeros((5, 5, 1, 6))) == [(3, 3, 4, 24)]
    assert shapes(layer(), odd, jnp.zeros((5, 5, 1, 6))) == [(5, 5, 1, 6)]
    assert shapes(layer(), wide, jnp.zeros((3, 3, 16, 16))) == [(3, 3, 16, 16)]
    assert shapes(layer((2, 2)), grey, jnp.zeros((5, 5, 1, 6))) == [(5, 5, 1, 6)]


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 9, 3)])
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_pools_and_their_gradients(shape, window):
    # Few values, so that many windows have several largest ones.
    x = jnp.round(2 * jax.random.normal(KEY, shape)) / 2
    weights = jax.random.normal(KEY, nn.max_pool(x, window, window).shape)
    function = jax.value_and_grad(lambda x: (weights * nn.max_pool(x, window, window)).sum())
    primitives = {str(e.primitive) for e in jax.make_jaxpr(canonicalize(function))(x).jaxpr.eqns}
    assert not primitives & {"reduce_window_max", "select_and_scatter_add"}
    wanted, found = function(x), canonicalize(function)(x)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize("settings", [{"strides": (1, 1)}, {"padding": "SAME"}])
def test_pools_that_overlap_or_reach_beyond_stay_as_they_are(settings):
    options = {"strides": (2, 2)} | settings
    function = jax.grad(lambda x: nn.max_pool(x, (2, 2), **options).sum())
    x = jax.random.normal(KEY, (1, 7, 7, 2))
    np.testing.assert_array_equal(canonicalize(function)(x), function(x))


def test_what_the_user_has_set_around_an_operation_is_kept():
    def drawn(key):
        with jax.threefry_partitionable(False):
            return jax.random.uniform(key, (4, 3))

    key = jax.random.key(0)
    assert not np.array_equal(drawn(key), jax.random.uniform(key, (4, 3)))
    np.testing.assert_array_equal(jax.jit(canonicalize(drawn))(key), drawn(key))
