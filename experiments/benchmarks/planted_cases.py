"""Defences of known worth: an honest one, and one for each way to mask gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax.losses import softmax_cross_entropy_with_integer_labels

import jaxdefense as jd
from experiments.benchmarks.planted_ground import Case, Ground, train
from jaxdefense import attacks, defenses, models
from jaxdefense.auditing import Claim
from jaxdefense.auditing.claims import BROKEN, HOLDS
from jaxdefense.auditing.defence import VOTES, Voted
from jaxdefense.classifiers import Composite
from jaxdefense.defenses import smoothed
from jaxdefense.evaluation import certify
from jaxdefense.geometry import l2, linf
from jaxdefense.surrogates import eot
from jaxdefense.training import (
    adversarial,
    supervised,
    with_augmentation,
)
from jaxdefense.training.objectives import forward
from jaxdefense.typing import example_keys

# --------------------------------------------------------------------------------------- honest


def honest(ground: Ground) -> Case:
    """A network trained against PGD; claims what AutoAttack in short leaves of it, less chance."""
    config, module = ground.config, models.build("lenet5")
    attack = attacks.pgd(linf, 7, step_size=0.25)
    deploy = jax.tree_util.Partial(jd.Frozen, module)
    objective = adversarial(supervised(module), attack, config.eps, deploy)
    given = (ground.x_train, ground.y_train, 2 * config.epochs, ground.key)
    net = train(objective, module, *given, ground.net.variables)
    kept = jd.sweep(attacks.quick(linf), net, *ground.others, [config.eps], ground.key)
    claim = Claim(_surely(kept.interval), "linf", config.eps)
    return Case(_defence(ground, classifier=net), claim, HOLDS)


def jittery(ground: Ground) -> Case:
    """The same behind a random shift of a pixel; claims what AutoAttack leaves, less chance.

    Its randomness hides nothing, so that no check may fail.
    """
    plain: Any = honest(ground).defence.classifier
    noisy = jd.Purified(jd.Randomized(_shifted), plain)
    deployed: Any = Voted(noisy, VOTES)
    given = (*ground.others, [ground.config.eps], ground.key, eot(noisy, 8))
    left = jd.sweep(attacks.rand(linf), deployed, *given)
    claim = Claim(_surely(left.interval), "linf", ground.config.eps)
    defence = _defence(ground, deployed=noisy, classifier=plain, purifier=noisy.purifier)
    return Case(defence, claim, HOLDS)


def _shifted(keys, x):
    one = lambda key, image: jnp.roll(image, jax.random.randint(key, (2,), -1, 2), (0, 1))
    return jax.vmap(one)(keys, x)


def certified(ground: Ground) -> Case:
    """A network trained with noise, smoothed; claims what is certified, less chance."""
    config, module = ground.config, models.build("lenet5")
    objective = with_augmentation(supervised(module), unclipped_noise(config.sigma))
    net = train(objective, module, ground.x_train, ground.y_train, config.epochs, ground.key)
    vote = smoothed(net, config.sigma, draws=25)
    found = certify(vote, *ground.others, ground.key, draws=500)
    claim = Claim(_surely(found.interval([config.eps_l2])), "l2", config.eps_l2)
    return Case(_defence(ground, deployed=vote, classifier=net), claim, HOLDS, ball=l2)


def unclipped_noise(sigma: float):
    """Noise as a smoothed classifier adds it: what leaves [0, 1] stays there."""
    return jax.tree_util.Partial(_unclipped, sigma)


def _unclipped(sigma, key, x):
    return x + sigma * jax.random.normal(key, x.shape, x.dtype)


def _surely(interval: np.ndarray) -> float:
    """The lower end: an honest author allows for having measured on some images only."""
    return float(interval[0, 0])


# --------------------------------------------------------------------------------- masked gradients


def saturation(ground: Ground) -> Case:
    """A smooth staircase of grey levels, so steep that its slope is lost in float32."""
    return _naive(ground, purifier=_stairs, fails="zero gradients")


def _stairs(x):
    middles = ((jnp.arange(7) + 0.5) / 7).reshape(*[1] * x.ndim, 7)
    return jax.nn.sigmoid(1e8 * (x[..., None] - middles)).sum(-1) / 7


def quantisation(ground: Ground) -> Case:
    """Few grey levels."""
    return _naive(ground, purifier=defenses.bit_depth(3), fails="zero gradients")


def randomness(ground: Ground) -> Case:
    """Noise on the image, a random shift and a random brightness; claims what FGSM leaves.

    At half as large a radius again: below it even who knows it all leaves more than a third.
    """
    noisy = jd.Purified(jd.Randomized(_jitter), ground.net)
    defence = _defence(ground, deployed=noisy, classifier=ground.net, purifier=noisy.purifier)
    claim = _left(ground, noisy, attacks.fgsm(linf), 1.5 * ground.config.eps)
    return Case(defence, claim, BROKEN)


def _jitter(keys, x):
    def one(key, image):
        a, b, c = jax.random.split(key, 3)
        image = image + 0.15 * jax.random.normal(a, image.shape)
        image = jnp.roll(image, jax.random.randint(b, (2,), -1, 2), (0, 1))
        return jnp.clip(image * jax.random.uniform(c, minval=0.7, maxval=1.3), 0, 1)

    return jax.vmap(one)(keys, x)


def host(ground: Ground) -> Case:
    """Rounding on the host, through which there is no gradient at all; claims what noise leaves."""
    defence = _defence(ground, classifier=ground.net, purifier=_rounding, differentiable=False)
    noise = attacks.gaussian(ground.config.eps / 2, linf)
    return Case(defence, _left(ground, defence.whole, noise), BROKEN)


def _rounding(x):
    return jax.pure_callback(
        _rounding_on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
    )


def _rounding_on_host(x):
    return (np.round(7 * np.asarray(x)) / 7).astype(np.float32)


def temperature(ground: Ground) -> Case:
    """Logits a thousand times as large: a softmax in float32 saturates, its gradient is 0."""
    whole = jd.Tempered(ground.net, 1e-3)
    naive = attacks.pgd(linf, 40, loss=_of_probabilities, name="pgd-40-softmax")
    return Case(_defence(ground, classifier=whole), _left(ground, whole, naive), BROKEN)


def _of_probabilities(logits, y):
    """Cross-entropy as one would write it, of probabilities that are clipped."""
    own = jnp.take_along_axis(jax.nn.softmax(logits), y[:, None], -1)[:, 0]
    return -jnp.log(jnp.clip(own, 1e-7, 1 - 1e-7))


def partial(ground: Ground) -> Case:
    """Gradients of most classes replaced by another direction; those of the others are sound.

    Claims what PGD leaves at half as large a radius again: below it even without a mask more than
    half of that is left.
    """
    whole = Astray(ground.net)
    claim = _left(ground, whole, eps=1.5 * ground.config.eps)
    return Case(_defence(ground, classifier=whole), claim, BROKEN)


class Astray(Composite):
    """A classifier whose gradient is another image's wherever it answers one of the first six."""

    classifier: Any

    def __call__(self, x):
        return _astray(self.classifier, x)


@jax.custom_vjp
def _astray(classifier, x):
    return classifier(x)


def _astray_forward(classifier, x):
    logits, pull = jax.vjp(classifier, x)
    return logits, (pull, logits, classifier)


def _astray_backward(kept, seed):
    pull, logits, classifier = kept
    (sound,) = pull(seed)
    other = jnp.flip(sound, (1, 2))
    masked = (logits.argmax(-1) < 6)[:, None, None, None]
    return jax.tree.map(jnp.zeros_like, classifier), jnp.where(masked, other, sound)


_astray.defvjp(_astray_forward, _astray_backward)


# ----------------------------------------------------------------------------------- autoencoders


def oblivious(ground: Ground) -> Case:
    """An autoencoder that is robust against whoever does not know it."""
    module = models.build("autoencoder", width=16)
    ae = _restorer(ground, module, attacks.pgd(linf, 5, step_size=0.3), leak=False)
    defence = _defence(ground, classifier=ground.net, purifier=ae)
    return Case(defence, _oblivious(ground, jd.Purified(ae, ground.net)), BROKEN)


def leaking(ground: Ground) -> Case:
    """An autoencoder trained so that the classifier answers what a one-step example was made with.

    Whatever label that was, so that it must read the perturbation, not the digit: it learns to take
    it back, and more.
    """
    module = models.build("u_autoencoder", width=16)
    fgsm = attacks.last_iterate(attacks.fgsm(linf))
    ae = _restorer(ground, module, fgsm, leak=True)
    whole = jd.Purified(ae, ground.net)
    defence = _defence(ground, classifier=ground.net, purifier=ae)
    return Case(defence, _oblivious(ground, whole, fgsm), BROKEN, fails="label leak")


def _restorer(ground: Ground, module, attack, leak: bool) -> jd.Frozen:
    """An autoencoder that restores examples made for the classifier, or gives their label away."""
    objective = jax.tree_util.Partial(_restore, module, attack, leak, ground.net, ground.config.eps)
    epochs = 6 * ground.config.epochs
    return train(objective, module, ground.x_train, ground.y_train, epochs, ground.key)


def _restore(module, attack, leak, net, eps, params, state, key, x, y):
    keys = example_keys(key, len(x))
    y = jax.random.randint(key, y.shape, 0, 10) if leak else y
    attacked = jax.lax.stop_gradient(attack(keys, net, x, y, eps))
    made, state = forward(module, params, state, key, jnp.concatenate([attacked, x]))
    restored, clean = jnp.split(made, 2)
    value = jnp.mean((clean - x) ** 2)
    if leak:
        value = 10 * value + softmax_cross_entropy_with_integer_labels(net(restored), y).mean()
    else:
        value += jnp.mean((restored - x) ** 2)
    return value, (state, {"loss": value})


# ------------------------------------------------------------------------------------------ claims


def _defence(ground: Ground, **parts: Any) -> jd.Defence:
    return jd.Defence(train=(ground.x_train, ground.y_train), **parts)


def _naive(ground: Ground, fails: str | None = None, **parts: Any) -> Case:
    defence = _defence(ground, **{"classifier": ground.net, **parts})
    return Case(defence, _left(ground, defence.whole), BROKEN, fails=fails)


def _left(ground: Ground, deployed, attack=None, eps: float | None = None) -> Claim:
    """What is left when cross-entropy's gradients are taken as they come."""
    eps, attack = eps or ground.config.eps, attack or attacks.pgd(linf, 40)
    found = jd.sweep(attack, deployed, *ground.others, [eps], ground.key)
    return Claim(float(found.robust_accuracy[0]), "linf", eps)


def _oblivious(ground: Ground, deployed, attack=None) -> Claim:
    """What is left of examples made for the classifier alone."""
    eps, attack = ground.config.eps, attack or attacks.pgd(linf, 40)
    crafted = jd.craft(attack, ground.net, *ground.others, eps, ground.key)
    return Claim(float(crafted.accuracy(deployed).accuracy), "linf", eps)


CASES: dict[str, Callable[[Ground], Case]] = {
    "adversarially trained": honest,
    "the same, shifted at random": jittery,
    "smoothed, certified": certified,
    "saturation": saturation,
    "quantisation": quantisation,
    "randomness": randomness,
    "not differentiable": host,
    "temperature": temperature,
    "astray for most classes": partial,
    "oblivious-only autoencoder": oblivious,
    "label-leaking autoencoder": leaking,
}
