"""Augmentations: pure, keyed, the same shape out as in, and what they claim to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense.data.augment import random_crop, random_flip, random_shift
from jaxdefense.errors import InputError

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (64, 6, 7, 2))
ALL = (lambda k, x: random_shift(k, x, 2), lambda k, x: random_crop(k, x, 2), random_flip)


@pytest.mark.parametrize("augment", ALL)
def test_pure_keyed_and_shaped(augment):
    out = augment(KEY, X)
    assert out.shape == X.shape
    assert out.dtype == X.dtype
    np.testing.assert_array_equal(out, augment(KEY, X))
    np.testing.assert_array_equal(out, jax.jit(augment)(KEY, X))
    assert not np.array_equal(out, augment(jax.random.key(2), X))
    assert not np.array_equal(out, X)


@pytest.mark.parametrize(("augment", "mode"), [(random_shift, "edge"), (random_crop, "constant")])
def test_every_image_is_a_window_of_its_padded_self(augment, mode):
    out = np.asarray(augment(KEY, X, 2))
    wide = np.pad(X, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    seen = set()
    for i in range(len(X)):
        corners = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if np.array_equal(wide[i, r : r + 6, c : c + 7], out[i])
        ]
        assert len(corners) == 1
        seen.add(corners[0])
    assert {r for r, _ in seen} == {c for _, c in seen} == set(range(5))
    np.testing.assert_array_equal(augment(KEY, X, 0), X)


def test_flip_mirrors_about_half():
    out = np.asarray(random_flip(KEY, X))
    flipped = np.array([np.array_equal(out[i], X[i, :, ::-1]) for i in range(len(X))])
    same = np.array([np.array_equal(out[i], X[i]) for i in range(len(X))])
    assert (flipped ^ same).all()
    assert 0.3 < flipped.mean() < 0.7


def test_bad_input():
    with pytest.raises(InputError, match="as_images"):
        random_flip(KEY, jnp.zeros((2, 4, 4, 1), jnp.uint8))
    with pytest.raises(InputError, match=r"\[b, h, w, c\]"):
        random_shift(KEY, jnp.zeros((4, 4, 1)), 1)
    with pytest.raises(InputError, match="pixels must be"):
        random_shift(KEY, X, -1)
    with pytest.raises(InputError, match="padding must be"):
        random_crop(KEY, X, 1.5)
