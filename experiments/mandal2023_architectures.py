"""Figure 5 of Mandal 2023 as tables of layers, parameters, and what the script leaves out."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from experiments.mandal2023_parts import FGSM_AE, LARGE, Parts
from jaxdefense.models import count_parameters
from jaxdefense.reporting import Table


def sizes(first: Mapping[str, Parts]) -> Table:
    """Parameters of all networks."""
    parts = next(iter(first.values()))
    held = {f"{parts.model}, the paper's VGG-16": parts.net}
    held |= {} if parts.large is None else {LARGE: parts.large}
    held |= {"autoencoder": parts.autoencoders[FGSM_AE]}
    held |= {f"autoencoder, {name}": variant for name, variant in parts.variants.items()}
    held |= {name: purifier.function for name, purifier in parts.baselines.items()}
    rows = tuple((name, f"{count_parameters(one.variables):,}") for name, one in held.items())
    caption = (
        "Parameters that are trained, of this run's widths. The paper's autoencoder has 88,667; "
        "its classifier has 8 convolutions and 3 dense layers, not 16 layers."
    )
    return Table(caption, ("network", "parameters"), rows, 1)


def layers(first: Mapping[str, Parts]) -> list[str]:
    """The framework (figure 5): autoencoder, then classifier, layer by layer."""
    parts = next(iter(first.values()))
    x = jnp.zeros((1, *parts.study.data.image_shape))
    plain = {"width": 140, "force_terminal": False, "no_color": True}
    told = []
    for name, net in (("autoencoder", parts.autoencoders[FGSM_AE]), (parts.model, parts.net)):
        shown = net.module.tabulate(jax.random.key(0), x, console_kwargs=plain)
        told.append(f"Figure 5 of the paper, the {name}:\n\n```\n{shown.strip()}\n```")
    return [*told, LEFT_OUT]


LEFT_OUT = """Left out, and why:

- Figure 1 is Szegedy et al.'s, of ImageNet.
- Batch statistics in batch norm at test time, as the public code has them: one image's answer would
  depend on the others of its batch.
- Validation batches that the public code also trains on; its SGD with a rate of 1e-3, and its
  choice of the epoch by the accuracy on test images: Adam here, the classifier's epoch of lowest
  loss on images held out, and the last epoch of the autoencoders.
- The weight of PuVAE's divergence: the public code's 0.1 is taken as that of its mean over the
  code, and untrained images start at the brightness of the data. With the sum it learned nothing of
  the image but its class.
- Images outside [0, 1], which the public code's PGD may leave behind: they are no images.
- The classifier of Fashion-MNIST as a continuation of MNIST's training, as in the notebook: one
  line in the paper ("transfer learning") without a number of its own.
- L-BFGS, JSMA, one-pixel, GeoDA and defensive distillation, named in passing: other norms or no
  autoencoder; no number is printed.
- The l2 ball in which Athalye et al. broke Defense-GAN: its attackers here stay in the l-inf balls
  of the paper's tables.
- AutoAttack `rand` on the autoencoders for FGSM, in preset `small`: its time. A part of the
  standard version differentiates all autoencoders without their noise.
- On Fashion-MNIST, in preset `small`: VGG-16 as published, autoencoders without noise, with ReLU,
  skips or half clean images, the untrained one, BIM, least-likely targets, DDN, CW.
- A Bayesian autoencoder: the paper's further work."""
