"""Filters against closed forms and against other people's implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.ndimage import gaussian_filter

from jaxdefense import defenses
from jaxdefense.defenses.filters import inside
from jaxdefense.errors import InputError


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_identity_is_bit_for_bit():
    x = images(2, 5, 7, 3)
    np.testing.assert_array_equal(defenses.identity()(x), x)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_scipys_gaussian_away_from_the_border(sigma):
    x = images(2, 41, 38, 3)
    ours = np.asarray(defenses.blur(sigma)(x))
    theirs = gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0), truncate=9)
    middle = np.s_[:, 14:-14, 14:-14]
    np.testing.assert_allclose(ours[middle], theirs[middle], atol=2e-6)


def test_blur_at_the_border_is_the_mean_of_what_is_there():
    x = images(1, 2, 1, 1)
    side = np.exp(-1 / 2)
    expected = (x[0, 0] + side * x[0, 1]) / (1 + side)
    np.testing.assert_allclose(defenses.blur(1.0)(x)[0, 0], expected, rtol=1e-6)


def test_a_narrow_blur_changes_nothing_and_a_wide_one_leaves_the_mean():
    x = images(2, 6, 9, 1)
    np.testing.assert_allclose(defenses.blur(0.05)(x), x, atol=1e-6)
    means = np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(defenses.blur(1e4)(x), means, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_resample_is_pooling_and_bilinear_resizing(factor):
    x = images(2, 8, 12, 3)
    small = nn.avg_pool(x, (factor, factor), (factor, factor))
    expected = jax.image.resize(small, x.shape, "linear")
    np.testing.assert_allclose(defenses.resample(factor)(x), expected, atol=1e-6)


def test_resample_by_one_changes_nothing_and_by_the_whole_side_leaves_the_mean():
    x = images(2, 5, 5, 2)
    np.testing.assert_allclose(defenses.resample(1)(x), x, atol=1e-6)
    means = np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(defenses.resample(5)(x), means, atol=1e-6)


def test_resample_keeps_a_slope_between_the_outermost_centres_of_an_odd_image():
    # Squares of rows 0-1, 2-3, 4-5 and 6 alone: centres 0.5, 2.5, 4.5, 6.
    slope = np.linspace(0, 1, 7, dtype=np.float32).reshape(1, 7, 1, 1)
    found = np.asarray(defenses.resample(2)(slope)).ravel()
    np.testing.assert_allclose(found[1:], slope.ravel()[1:], atol=1e-6)
    np.testing.assert_allclose(found[0], 0.5 / 6, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_bit_depth_has_its_levels_and_no_gradient(bits):
    x = np.linspace(0, 1, 2000, dtype=np.float32).reshape(1, 40, 50, 1)
    rounded = np.asarray(defenses.bit_depth(bits)(x))
    assert len(np.unique(rounded)) == 2**bits
    assert np.abs(rounded - x).max() <= 0.5 / (2**bits - 1) + 1e-6
    np.testing.assert_array_equal(defenses.bit_depth(bits)(rounded), rounded)
    assert not jax.grad(lambda x: defenses.bit_depth(bits)(x).sum())(x).any()


@pytest.mark.parametrize("name", ["blur", "resample"])
def test_black_and_white_pixels_pass_their_whole_gradient(name):
    purifier = {"blur": defenses.blur(1.0), "resample": defenses.resample(2)}[name]
    total = jax.grad(lambda x: purifier(x).sum())
    grey = total(jnp.full((1, 7, 7, 1), 0.5))
    for value in (0.0, 1.0):
        np.testing.assert_allclose(total(jnp.full((1, 7, 7, 1), value)), grey, rtol=1e-5)
    assert float(grey.sum()) == pytest.approx(49, rel=1e-5)  # every output is a mean


def test_inside_cuts_and_passes_gradients():
    x = jnp.array([-1e-7, 0.5, 1 + 1e-6])
    np.testing.assert_array_equal(inside(x), jnp.clip(x, 0, 1))
    np.testing.assert_array_equal(jax.grad(lambda x: inside(x).sum())(x), jnp.ones(3))


@pytest.mark.parametrize(
    ("name", "setting", "values"),
    [
        ("blur", "sigma", [0, -1.0, float("nan"), float("inf")]),
        ("resample", "factor", [0, 1.5, "2"]),
        ("bit_depth", "bits", [0, 9, 2.0]),
        ("jpeg", "quality", [0, 101, 75.0]),
    ],
)
def test_settings_out_of_range_are_refused(name, setting, values):
    for value in values:
        with pytest.raises(InputError, match=setting):
            defenses.build(name, **{setting: value})
