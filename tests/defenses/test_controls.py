"""What every control must do, and how they are built by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import defenses, models
from jaxdefense.classifiers import split
from jaxdefense.defenses import CONTROLS
from jaxdefense.errors import InputError, UnknownNameError

SHAPE = (9, 12, 3)
X = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)
TRAIN = np.random.default_rng(1).integers(0, 256, (40, *SHAPE), np.uint8)
AUTOENCODER = models.build("autoencoder", width=2)


def settings(other=False):
    """Settings of every control; `other` ones make another purifier."""
    return {
        "identity": {},
        "blur": {"sigma": 2.0 if other else 1.0},
        "resample": {"factor": 3 if other else 2},
        "pca": {"x_train": TRAIN[20:] if other else TRAIN[:20], "components": 4},
        "untrained": {
            "model": AUTOENCODER,
            "key": jax.random.key(int(other)),
            "image_shape": SHAPE,
        },
        "jpeg": {"quality": 10 if other else 50},
        "bit_depth": {"bits": 2 if other else 3},
    }


def make(name, other=False):
    return defenses.build(name, **settings(other)[name])


def test_every_control_has_settings_here():
    assert set(settings()) == set(CONTROLS) == set(defenses.names())


@pytest.mark.parametrize("name", CONTROLS)
def test_images_stay_images_and_rows_are_independent(name):
    purifier = make(name)
    purify = jax.jit(lambda x: purifier(x))
    purified = np.asarray(purify(X))
    assert purified.shape == X.shape
    assert purified.dtype == np.float32
    assert purified.min() >= 0
    assert purified.max() <= 1
    for extreme in (np.zeros_like(X), np.ones_like(X), np.round(X)):
        found = np.asarray(purify(extreme))
        assert found.min() >= 0
        assert found.max() <= 1
    np.testing.assert_allclose(make(name)(X[3:4]), purified[3:4], atol=1e-5)
    turned = np.asarray(purify(X[::-1].copy()))
    np.testing.assert_allclose(turned[::-1], purified, atol=1e-5)


@pytest.mark.parametrize("name", CONTROLS)
def test_gradients_are_sound_or_said_not_to_be(name):
    purifier = make(name)
    # Dark enough that clipping at the borders of the box plays no part.
    x, towards = 0.4 + 0.2 * X, np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    slope = float(jax.grad(lambda t: (purifier(x + t * towards) * towards).sum())(0.0))
    if not CONTROLS[name].differentiable:
        assert slope == 0
        through = jax.grad(lambda x: (jd.bpda(purifier)(x) * towards).sum())(jnp.asarray(x))
        np.testing.assert_allclose(through, towards, rtol=1e-6)
        assert "bpda" in CONTROLS[name].make.__doc__
        return
    step = 5e-4  # small, for the kinks of an autoencoder
    up, down = (np.asarray(purifier(x + t * towards), np.float64) for t in (step, -step))
    expected = ((up - down) * towards).sum() / (2 * step)
    assert slope == pytest.approx(expected, rel=0.05)
    assert abs(slope) > 0.05


@pytest.mark.parametrize("name", CONTROLS)
def test_equal_settings_share_a_program(name):
    one, same, other = make(name), make(name), make(name, other=True)
    static = split(one)[1]
    assert static == split(same)[1]
    assert hash(static) == hash(split(same)[1])
    assert " at 0x" not in repr(static.treedef)  # results on disk rest on it
    has_arrays = bool(split(one)[0])
    assert has_arrays == (name in ("pca", "untrained"))
    if name != "identity":
        # What is in arrays reuses the program, what is a setting makes another.
        assert (static == split(other)[1]) == has_arrays
        assert not np.allclose(one(X), other(X), atol=1e-4)


def test_controls_stand_in_front_of_a_classifier_under_attack():
    classifier = jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, np.eye(324, 4))
    y = np.asarray(classifier(X).argmax(-1))
    deployed = jd.Purified(make("blur"), classifier)
    found = jd.attacks.fgsm()(jax.random.key(0), deployed, X, y, 0.05)
    margin = lambda x: jd.losses.margin(deployed(x), y)
    assert (margin(found) > margin(X)).all()


def test_pca_is_the_projection_onto_leading_eigenvectors():
    flat = TRAIN.reshape(40, -1) / 255
    centred = flat - flat.mean(0)
    vectors = np.linalg.svd(centred, full_matrices=False)[2][:6]
    expected = np.clip(centred @ vectors.T @ vectors + flat.mean(0), 0, 1).reshape(TRAIN.shape)
    purifier = defenses.pca(TRAIN, 6)
    np.testing.assert_allclose(purifier(TRAIN / 255), expected, atol=1e-5)
    # As floats and as stored bytes alike.
    as_floats = defenses.pca((TRAIN / 255).astype(np.float32), 6)
    np.testing.assert_allclose(as_floats(X), purifier(X), atol=1e-4)


def test_pca_with_all_components_returns_its_training_images():
    purifier = defenses.pca(TRAIN[:8], 8)
    np.testing.assert_allclose(purifier(TRAIN[:8] / 255), TRAIN[:8] / 255, atol=1e-4)
    assert np.abs(purifier(X) - X).mean() > 0.01


@pytest.mark.parametrize("components", [0, 41, 2.5])
def test_pca_refuses_components_that_there_are_not(components):
    with pytest.raises(InputError, match=r"components is .* 1 to 40"):
        defenses.pca(TRAIN, components)


def test_pca_refuses_what_is_no_image():
    with pytest.raises(InputError, match=r"\[n, h, w, c\]"):
        defenses.pca(TRAIN.reshape(40, -1), 2)
    with pytest.raises(InputError, match=r"\[9, 9, 3\].*\[9, 12, 3\]"):
        defenses.pca(TRAIN, 2)(X[:, :, :9])


def test_untrained_is_the_models_initial_state():
    purifier = make("untrained")
    variables = models.initialize(AUTOENCODER, jax.random.key(0), SHAPE)
    np.testing.assert_array_equal(purifier(X), AUTOENCODER.apply(variables, X))


def test_untrained_refuses_a_classifier():
    with pytest.raises(InputError, match=r"LeNet5.*same size"):
        defenses.untrained(models.build("lenet5"), jax.random.key(0), (28, 28, 1))


def test_unknown_names_and_settings_are_input_errors():
    with pytest.raises(UnknownNameError, match="did you mean 'resample'"):
        defenses.build("resampel")
    with pytest.raises(InputError, match=r"blur.*radius"):
        defenses.build("blur", radius=2)
    with pytest.raises(InputError, match=r"pca.*no settings"):
        defenses.build("pca")
