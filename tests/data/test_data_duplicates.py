"""Near-duplicates: correlations by hand, links that are transitive, noise that does not tell."""

import numpy as np
import pytest

from jaxdefense.data.duplicates import near_duplicates, similarity
from jaxdefense.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 16, 16, 1), dtype=np.uint8)


def test_correlations_are_those_of_numpy():
    flat = X.reshape(6, -1)
    np.testing.assert_allclose(similarity(X, X), np.corrcoef(flat), atol=1e-4)


def test_size_contrast_and_colour_do_not_tell_an_image_from_its_copy():
    large = X.repeat(3, 1).repeat(3, 2)
    dark = (X // 2 + 40).repeat(3, axis=-1)
    for copy in (large, dark):
        np.testing.assert_allclose(np.diag(similarity(X, copy)), 1, atol=1e-3)


def test_an_image_of_one_grey_level_is_like_no_other():
    assert similarity(np.full_like(X[:1], 77), X).tolist() == [[0] * 6]


def test_links_are_transitive_and_unlike_images_stay_alone():
    one, other = (X[i].astype(float) for i in (0, 1))
    between = [(1 - t) * one + t * other for t in (0, 0.4, 0.8)]
    chain = np.stack([*between, X[2], X[3]]).round().astype(np.uint8)
    first, second, third = (similarity(chain[:3], chain[:3])[i] for i in range(3))
    threshold = min(first[1], second[2]) - 0.01
    assert first[2] < threshold  # linked through the second only
    groups = near_duplicates(chain, threshold)
    assert groups.tolist() == [0, 0, 0, 1, 2]
    assert third[2] == pytest.approx(1, abs=1e-5)


def test_exact_copies_are_duplicates_at_the_highest_threshold():
    groups = near_duplicates(np.concatenate([X, X]), 1.0)
    assert groups.tolist() == [*range(6), *range(6)]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="uint8"):
        similarity(X / 255, X)
    with pytest.raises(InputError, match="between -1 and 1"):
        near_duplicates(X, 1.5)
