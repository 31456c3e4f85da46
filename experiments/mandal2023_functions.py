"""Functions that `mandal2023_convolutional_autoencoder` deploys, and what goes on inside of them.

All of them are pytrees of modules and weights, so that what is measured of one is not taken for
another's when it is read from disk.
"""

import functools
import itertools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdefense import Frozen, Randomized, attacks, defenses, linf
from jaxdefense.attacks import Attack, Search, Stage
from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import State, begin, keep
from jaxdefense.classifiers import fold
from jaxdefense.losses import cross_entropy
from jaxdefense.models import LatentNoiseAutoencoder
from jaxdefense.typing import Images, Keys, Labels, Logits, PerExample, Purifier, Radii

PURIFIERS = {
    "latent noise": defenses.latent_noise,
    "PuVAE": defenses.puvae,
    "Defense-GAN": lambda model, variables, **settings: defenses.defense_gan(
        Frozen(model, variables), model.latent, **settings
    ),
}


class Made(flax.struct.PyTreeNode):
    """A random purifier, made anew by the function of `PURIFIERS` at each call."""

    kind: str = flax.struct.field(pytree_node=False)
    module: Any = flax.struct.field(pytree_node=False)
    variables: Any
    settings: tuple[tuple[str, Any], ...] = flax.struct.field(pytree_node=False, default=())

    def __call__(self, keys: Keys, x: Images) -> Images:
        make: Any = PURIFIERS[self.kind]
        return make(self.module, self.variables, **dict(self.settings))(keys, x)


def made(kind: str, model: Frozen, **settings: Any) -> Any:
    """A random purifier by its key in `PURIFIERS`."""
    return Randomized(Made(kind, model.module, model.variables, tuple(settings.items())))


def deployed(autoencoder: Frozen) -> Purifier:
    """An autoencoder as the paper deploys it: with its noise, if it has any."""
    module = autoencoder.module
    noisy = isinstance(module, LatentNoiseAutoencoder) and module.sigma > 0
    return made("latent noise", autoencoder) if noisy else autoencoder


def at_sigma(autoencoder: Frozen, sigma: float) -> Purifier:
    """The same weights with another noise than in training."""
    return deployed(autoencoder.replace(module=autoencoder.module.clone(sigma=sigma)))


def without_noise(purifier: Any) -> Any:
    """PuVAE with the means of its codes in place of draws."""
    return Randomized(purifier.function.replace(settings=(("noise", 0.0),)))


class Nearness(flax.struct.PyTreeNode):
    """PuVAE's choice of a class as a classifier: minus the squared error of each reconstruction.

    The gradient through the class that it chose cannot see that another is about to be chosen;
    this one pushes the image from the reconstruction of its class towards others'.
    """

    module: Any = flax.struct.field(pytree_node=False)
    variables: Any

    def __call__(self, x: Images) -> Logits:
        count, classes = len(x), self.module.num_classes
        labels, images = jnp.repeat(jnp.arange(classes), count), jnp.tile(x, (classes, 1, 1, 1))
        code, _ = self.module.apply(self.variables, images, labels, method="encode")
        made = self.module.apply(self.variables, code, labels, method="decode")
        return -((made - images) ** 2).sum((1, 2, 3)).reshape(classes, count).T


class FixedNoise(flax.struct.PyTreeNode):
    """An autoencoder that adds the same numbers to every code."""

    module: Any = flax.struct.field(pytree_node=False)
    variables: Any
    noise: jax.Array

    def __call__(self, x: Images) -> Images:
        noise = jnp.broadcast_to(self.noise, (len(x), *self.noise.shape))
        return self.module.apply(self.variables, x, noise=noise)


def fixed_noise(autoencoder: Frozen, key: jax.Array) -> FixedNoise:
    """The same weights with one draw of the noise for all images."""
    noise = jax.random.normal(key, (autoencoder.module.code,))
    return FixedNoise(autoencoder.module, autoencoder.variables, noise)


class Dropping(flax.struct.PyTreeNode):
    """A classifier whose dropout is never switched off."""

    module: Any = flax.struct.field(pytree_node=False)
    variables: Any

    def __call__(self, keys: Keys, x: Images) -> Logits:
        layer = itertools.count()

        def drop(call, args, kwargs, context):
            if not isinstance(context.module, nn.Dropout) or context.method_name != "__call__":
                return call(*args, **kwargs)
            y, share, here = args[0], 1.0 - context.module.rate, fold(keys, next(layer))
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, share, y.shape[1:]))(here)
            return jnp.where(kept, y / share, 0.0)

        with nn.intercept_methods(drop):
            return self.module.apply(self.variables, x)


def dropping(net: Frozen) -> Any:
    """The classifier as the public code attacks and scores it, in training mode.

    Dropout is drawn from each example's own key. The code's batch norm uses the statistics of the
    batch as well, which would make one image's answer depend on its neighbours: not reproduced.
    """
    return Randomized(Dropping(net.module, net.variables))


# ----------------------------------------------------------------------------------------- attacks


def minus_logit(logits: Logits, y: Labels) -> PerExample:
    """The public code's loss for FGSM: a likelihood loss that was given logits."""
    return -jnp.take_along_axis(logits, y[:, None], axis=-1)[:, 0]


def renamed(attack: Attack, name: str) -> Attack:
    """The same attack under another name, where what it differentiates differs."""
    return Attack(name, attack.stages, attack.ball, attack.minimal)


@functools.cache  # equal settings are the same attack, so that it is compiled once
def stepping(steps: int, size: float) -> Attack:
    """The public code's PGD: from the image itself, steps of so many pixels whatever the radius.

    There, images may leave [0, 1]; here they are kept inside, since outside they are no images.
    """

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return begin(x)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        reading, gradient = probe.differentiate(keys, state.x, goal)
        state = keep(state, state.x, reading)
        return state._replace(x=linf.project(x, state.x + size * jnp.sign(gradient), eps))

    search = Search(init, step, settings=f"{linf} absolute {size=}, from the image")
    return Attack(f"pgd-{steps}-step-{size:g}", (Stage(search, steps, cross_entropy),), linf)


def within(generator: Frozen, steps: int, digest: str, nearest: Any = None) -> Attack:
    """The attack in a generator's latent space, told from others by the digest of its weights.

    Args:
        generator: of Defense-GAN.
        steps: gradient evaluations.
        digest: of the generator's weights.
        nearest: `defenses.invert`, to start at the code that the defence itself finds for the clean
            image; by default at a draw of the prior.
    """

    def prior(keys: Keys, x: Images) -> jax.Array:
        size = generator.module.latent
        return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys) / np.sqrt(size)

    attack = attacks.latent(generator, nearest or prior, linf, steps)
    (stage,) = attack.stages
    start = f"the nearest code, {nearest.args[:4]}" if nearest else "its prior"
    search = stage.search._replace(settings=f"latent {linf} of generator {digest}, from {start}")
    name = f"{attack.name}-nearest" if nearest else attack.name
    return Attack(name, (stage._replace(search=search),), linf)


# ------------------------------------------------------------------------------------------ inside


def _dense(autoencoder: Frozen, x: Images) -> dict[str, np.ndarray]:
    """What its dense layers hand on before their activation, without noise."""
    module = autoencoder.module
    _, state = module.apply(
        autoencoder.variables, x, mutable=["intermediates"],
        capture_intermediates=lambda layer, _: isinstance(layer, nn.Dense),
    )  # fmt: skip
    return {
        name: np.asarray(found["__call__"][0]) for name, found in state["intermediates"].items()
    }


def code_spread(autoencoder: Frozen, x: Images) -> float:
    """Standard deviation over images of the numbers of the code, before noise; their mean."""
    return float(_dense(autoencoder, x)["Dense_1"].std(0).mean())


def silent_share(autoencoder: Frozen, x: Images) -> float:
    """Share of the hidden units of the dense layers that no image makes positive."""
    layers = _dense(autoencoder, x)
    hidden = np.concatenate([y for name, y in layers.items() if name != "Dense_1"], axis=-1)
    return float((hidden.max(0) <= 0).mean())
