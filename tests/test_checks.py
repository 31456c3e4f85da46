"""Every input a sweep refuses: the message says what is wrong, why, and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.errors import InputError, UnknownNameError
from tests.conftest import Linear

KEY = jax.random.key(0)
CLASSIFIER = Linear.classifier(Linear.weights())
X, Y = map(np.asarray, Linear.data())


def sweep(x=X, y=Y, radii=(0.1,), classifier=CLASSIFIER, attack=None, **options):
    return jd.sweep(attack or jd.attacks.fgsm(), classifier, x, y, radii, KEY, **options)


def refused(*words, **inputs):
    """The message holds every one of the patterns, and no traceback of another error."""
    with pytest.raises(InputError) as caught:
        sweep(**inputs)
    assert caught.value.__cause__ is None
    for word in words:
        assert caught.match(word)


def test_good_input_passes():
    sweep()
    sweep(x=X.astype(np.float64), y=Y.astype(np.uint8), radii=np.array([0, 0.1], np.float64))
    sweep(x=jnp.asarray(X), y=list(Y), radii=[0.1])


def put(value, index=(3, 0, 0, 0)):
    x = X.copy()
    x[index] = value
    return x


IMAGES = {
    "above": (put(1.5), [r"pixels from .* to 1\.5", r"outside \[0, 1\]", "clip"]),
    "bytes": (X * 255, ["0-255 pixels", "divide by 255"]),
    "integers": ((X * 255).astype(np.uint8), ["uint8", "as_images", "255"]),
    "normalised": ((X - 0.5) / 0.25, ["look normalised", "Normalized"]),
    "nan": (put(np.nan), ["not finite in 1 of 6", "index 3", "remove"]),
    "inf": (put(np.inf), ["not finite", "index 3"]),
    "flat": (X.reshape(6, -1), [r"\(6, 48\)", r"\[n, h, w, c\]", "add the missing axes"]),
    "none at all": (X[:0], ["no images", "at least one"]),
    "words": ([["a"], ["b", "c"]], ["cannot be read as an array of images"]),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(case):
    x, words = IMAGES[case]
    refused(*words, x=x)


LABELS = {
    "too large": (np.where(np.arange(6) == 2, 7, Y), ["label 7", r"3 classes \(0 to 2\)", "wrong"]),
    "negative": (np.where(np.arange(6) == 2, -1, Y), ["negative", "-1", "count from 0"]),
    "too few": (Y[:4], ["6 images but 4 labels", "one label per image"]),
    "float": (Y.astype(np.float32), ["float32", r"integers \[n\]"]),
    "a column": (np.asarray(Y)[:, None], [r"\(6, 1\)", r"y\[:, 0\]"]),
    "one-hot": (np.eye(3, dtype=int)[Y], [r"\(6, 3\)", r"argmax\(-1\)", "one-hot"]),
    "boolean": (Y > 0, ["bool", "integers"]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(case):
    y, words = LABELS[case]
    refused(*words, y=y)


RADII = {
    "negative": ([0.1, -0.2], ["negative eps -0.2", "at least 0"]),
    "nan": ([0.1, np.nan], ["NaN", ">= 0"]),
    "255": ([0, 8], ["up to 8", "0-255 units", r"divide by 255 \(8/255 = 0\.03137\)"]),
    "none at all": ([], ["non-empty"]),
    "number": (0.1, [r"shape \(\)", "list of numbers"]),
    "table": ([[0.1]], [r"shape \(1, 1\)", "list of numbers"]),
}


@pytest.mark.parametrize("case", RADII)
def test_radii(case):
    radii, words = RADII[case]
    refused(*words, radii=radii)


def test_the_widest_sensible_radius_depends_on_the_norm():
    refused("all of .* in l2", "0-255", radii=[255.0], attack=jd.attacks.fgsm(jd.l2))
    refused("all of .* in l1", "0-255", radii=[255.0], attack=jd.attacks.fgsm(jd.l1))
    refused("all of .* in sigma", "0-255", radii=[16.0], attack=jd.attacks.gaussian())
    sweep(radii=[6.0], attack=jd.attacks.fgsm(jd.l2))
    sweep(radii=[40.0], attack=jd.attacks.fgsm(jd.l1))


CLASSIFIERS = {
    "probabilities": (
        lambda x: jax.nn.softmax(CLASSIFIER(x)),
        ["probabilities", "logits are expected", "gradient", "softmax out"],
    ),
    "one logit": (lambda x: CLASSIFIER(x)[:, :1], ["1 logit", "at least 2", r"stack\(\[-s, s\]"]),
    "no logits": (lambda x: CLASSIFIER(x)[:, 0], [r"shape \(6,\)", r"logits are \[6, k\]"]),
    "one row": (lambda x: CLASSIFIER(x)[:1], [r"\(1, 3\)", "for 6 images"]),
    "nan": (
        lambda x: jnp.where(x.sum((1, 2, 3))[:, None] > 0, jnp.nan, CLASSIFIER(x)),
        ["NaN or inf on 6 of 6", "index 0", "cannot be evaluated"],
    ),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_classifiers(case):
    classifier, words = CLASSIFIERS[case]
    refused(*words, classifier=classifier)


SURROGATES = {
    "probabilities": (CLASSIFIERS["probabilities"][0], ["surrogate returned probabilities"]),
    "images": (lambda x: x, [r"surrogate returned shape \(6, 4, 4, 3\)"]),
    "too few classes": (lambda x: CLASSIFIER(x)[:, :2], ["surrogate has 2 classes"]),
}


@pytest.mark.parametrize("case", SURROGATES)
def test_surrogates(case):
    surrogate, words = SURROGATES[case]
    refused(*words, surrogate=surrogate)


def test_undeclared_randomness():
    rng = np.random.default_rng(0)

    def noisy(x):
        shape = jax.ShapeDtypeStruct((x.shape[0], 3), jnp.float32)
        draw = lambda _: rng.normal(size=shape.shape).astype(np.float32)
        return CLASSIFIER(x) + jax.pure_callback(draw, shape, x)

    refused("two answers", "random", "Randomized", "keys", classifier=noisy)


def test_unknown_method():
    with pytest.raises(UnknownNameError, match="did you mean 'grid'"):
        sweep(method="gird")


def test_images_between_8_bit_values_are_refused_by_8_bit_attacks_only():
    x = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4, 1) / 255
    classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1)
    y, key = np.zeros(2, int), jax.random.key(0)
    attack = jd.attacks.eight_bit(jd.attacks.fgsm())
    jd.sweep(attack, classifier, x, y, [0.1], key)
    x[1, 2, 2, 0] += 0.3 / 255
    jd.sweep(jd.attacks.fgsm(), classifier, x, y, [0.1], key)
    for refused in (attack, jd.attacks.strongest(jd.attacks.fgsm(), attack)):
        with pytest.raises(InputError, match=r"1 of 2 images.*index 1.*round"):
            jd.sweep(refused, classifier, x, y, [0.1], key)


# ----------------------------------------------------------------- what is handed over by mistake

FGSM = jd.attacks.fgsm()
NET = lambda x: x.reshape(len(x), -1)[:, :3]
SMALL = jnp.full((2, 2, 2, 1), 0.5)
LABEL = jnp.zeros(2, int)


def _searched(x):
    """Looks for its answer in a loop that has no reverse-mode derivative."""
    return NET(jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x))


MISTAKES = {
    "a seed as key": (lambda: jd.sweep(FGSM, NET, SMALL, LABEL, [0.1], 0), "jax.random.key"),
    "many keys": (
        lambda: jd.sweep(FGSM, NET, SMALL, LABEL, [0.1], jax.random.split(KEY)), "2 keys"
    ),
    "a maker": (lambda: jd.sweep(jd.attacks.pgd, NET, SMALL, LABEL, [0.1], KEY), "pgd()"),
    "no batch": (
        lambda: jd.sweep(FGSM, NET, SMALL, LABEL, [0.1], KEY, batch_size=0), "batch_size is 0"
    ),
    "words": (lambda: jd.sweep(FGSM, NET, SMALL, LABEL, ["a"], KEY), "list of numbers"),
    "0-255 and inf": (lambda: jd.sweep(FGSM, NET, SMALL, LABEL, [8, np.inf], KEY), "0-255"),
    "a seed, called": (lambda: FGSM(0, NET, SMALL, LABEL, 0.1), "jax.random.key"),
    "three keys": (lambda: FGSM(jax.random.split(KEY, 3), NET, SMALL, LABEL, 0.1), "2 images but"),
    "three radii": (lambda: FGSM(KEY, NET, SMALL, LABEL, np.full(3, 0.1)), "3 radii"),
    "no images": (lambda: FGSM(KEY, NET, SMALL[:0], LABEL[:0], 0.1), "at least one"),
    "a fourth class": (lambda: FGSM(KEY, NET, SMALL, LABEL + 3, 0.1), "3 classes"),
    "float labels": (lambda: FGSM(KEY, NET, SMALL, LABEL * 1.0, 0.1), "astype"),
    "a seed, crafted": (
        lambda: jd.evaluation.craft(FGSM, NET, SMALL, LABEL, 0.1, 0), "jax.random.key"
    ),
    "a name as ball": (lambda: jd.attacks.pgd("l2"), "jaxdefense.l2"),
    "a name, apgd": (lambda: jd.attacks.apgd("l2"), "jaxdefense.l2"),
    "pgd in l0": (lambda: jd.attacks.pgd(jd.l0), "linf and l2 and l1, got l0"),
    "bim in l0": (lambda: jd.attacks.bim(jd.l0), "got l0"),
    "fmn in l0": (lambda: jd.attacks.fmn(jd.l0), "got l0"),
    "fab in l0": (lambda: jd.attacks.fab(jd.l0), "got l0"),
    "a name, AutoAttack": (
        lambda: jd.autoattack(NET, SMALL, LABEL, 0.1, KEY, ball="l2"), "jaxdefense.l2"
    ),
    "a name, adam_pgd": (lambda: jd.attacks.adam_pgd("linf"), "jaxdefense.linf"),
    "a name, gaussian": (lambda: jd.attacks.gaussian(0.1, "l2"), "jaxdefense.l2"),
    "a name, grey": (lambda: jd.attacks.grey("l2"), "jaxdefense.l2"),
    "a name, at_radius": (lambda: jd.attacks.at_radius(FGSM, "l2"), "jaxdefense.l2"),
    "a name, latent": (lambda: jd.attacks.latent(NET, NET, "l2"), "jaxdefense.l2"),
    "a maker, crafted": (
        lambda: jd.evaluation.craft(jd.attacks.pgd, NET, SMALL, LABEL, 0.1, KEY), "pgd()"
    ),
    "8 bits, crafted": (
        lambda: jd.evaluation.craft(
            jd.attacks.eight_bit(FGSM), NET, SMALL + 0.3 / 255, LABEL, 0.1, KEY
        ),
        "8-bit values",
    ),
    "a dictionary": (
        lambda: jd.sweep(FGSM, lambda x: {"logits": NET(x)}, SMALL, LABEL, [0.1], KEY),
        "returned a dict",
    ),
    "logits and features": (
        lambda: jd.sweep(FGSM, lambda x: (NET(x), x), SMALL, LABEL, [0.1], KEY),
        "returned a tuple",
    ),
    "a dictionary, called": (
        lambda: FGSM(KEY, lambda x: {"logits": NET(x)}, SMALL, LABEL, 0.1), "returned a dict"
    ),
    "no gradient": (lambda: jd.sweep(FGSM, _searched, SMALL, LABEL, [0.1], KEY), "bpda"),
    "no gradient, AutoAttack": (
        lambda: jd.autoattack(_searched, SMALL, LABEL, 0.1, KEY), "cannot be differentiated"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_that_says_what_to_do(case):
    call, words = MISTAKES[case]
    with pytest.raises(InputError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_images_are_attacked_in_single(dtype):
    x = jnp.full((2, 2, 2, 1), 0.9, dtype)
    x_adv = FGSM(KEY, lambda x: NET(x) + 0.0, x, LABEL, 1 / 255)
    assert x_adv.dtype == jnp.float32
    assert float(jnp.abs(x_adv - x.astype(jnp.float32)).max()) <= 1 / 255 + 1e-6
