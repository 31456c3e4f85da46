"""What is trained for `mandal2023_convolutional_autoencoder`: all of one data set and seed."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import harness
from experiments.harness import Study, Training, digest
from experiments.mandal2023_functions import deployed, dropping, made, minus_logit, stepping
from jaxdefense import Frozen, Purified, attacks, defenses, linf, models
from jaxdefense.attacks import Attack
from jaxdefense.training import compute_dtype, purification, variational, wasserstein
from jaxdefense.typing import Classifier, Purifier

FGSM_AE, PGD_AE = "FGSM-AE", "PGD-AE"
CODED_AE = f"{FGSM_AE} as coded"
AUTOENCODERS = {"fgsm": FGSM_AE, "pgd": PGD_AE}
RADII = {FGSM_AE: 0.6, CODED_AE: 0.6, PGD_AE: 0.15}
"""The attack that each autoencoder has seen in training, and its radius."""
DEFENSE_GAN, PUVAE = "Defense-GAN", "PuVAE"
SECOND, UNTRAINED, BLUR, RESAMPLED = "second seed", "untrained AE", "blur", "2x resampling"
FIXED = (UNTRAINED, BLUR, RESAMPLED)
CONTROLS = (SECOND, *FIXED)
"""What has no trained autoencoder."""
RELU, QUIET, MIXED, SKIPS = "ReLU", "no noise", "half clean", "with skips"
LARGE = "VGG-16 (13 convolutions)"

History = Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The two generative defences that the paper compares with, on MNIST.

    Attributes:
        gan: training of the generator and its critic; a batch is shared out to the updates.
        gan_features: channels of both before their narrowest images; 64 by its authors.
        updates: of the critic for each of the generator.
        restarts, steps: of the search for the nearest image (R and L); 10 and 200 by its authors.
        gan_seeds: how many seeds it is trained for.
        vae: training of PuVAE.
        vae_features, kernel, hidden: channels, size of the convolutions, dense layers; 32, 7, 1024
            in the public code.
        n_clean: test images that both answer without an attack.
        n_eval: static images that both are shown of each seed.
        n_adaptive: images on which they are attacked with all that is known.
        attack_steps, draws: of those attacks; draws for PuVAE only.
        latent_steps: of the attack in the generator's latent space.
    """

    gan: Training
    gan_features: int
    updates: int
    restarts: int
    steps: int
    gan_seeds: int
    vae: Training
    vae_features: int
    kernel: int
    hidden: int
    n_clean: int
    n_eval: int
    n_adaptive: int
    attack_steps: int
    draws: int
    latent_steps: int


@dataclasses.dataclass(frozen=True)
class Parts:
    """One data set and seed, trained.

    Attributes:
        study: data, folder, seed.
        model: name of the classifier.
        net: the classifier; it has met no autoencoder and no attack.
        autoencoders: by name, as trained; `deployed` adds their noise.
        controls: what has no trained autoencoder, by name.
        baselines: the other papers' purifiers.
        generator: of Defense-GAN, where it was trained.
        variants: autoencoders trained otherwise, by what is different.
        large: the network that VGG-16 usually means, where it was trained.
        histories: of the autoencoders' trainings.
    """

    study: Study
    model: str
    net: Frozen
    autoencoders: Mapping[str, Frozen]
    controls: Mapping[str, Classifier]
    baselines: Mapping[str, Any]
    generator: Frozen | None
    variants: Mapping[str, Frozen]
    large: Frozen | None
    histories: Mapping[str, History]

    def behind(self, name: str, classifier: Classifier | None = None) -> Purified:
        """An autoencoder in use, in front of the classifier or of another one."""
        purifier = deployed({**self.autoencoders, **self.variants}[name])
        return Purified(purifier, self.net if classifier is None else classifier)


def train(config: Any, study: Study, dataset: str) -> Parts:
    """All networks of one data set and seed, from their checkpoints where there are any.

    Args:
        config: of the script.
        study: data, folder, seed.
        dataset: the paper's name for the data.
    """
    workshop = Workshop(config, study)
    further = study.seed == config.seeds[0] and dataset in config.thorough
    trained = {name: workshop.autoencoder(name) for name in RADII}
    baselines, generator = workshop.baselines() if dataset == "MNIST" else ({}, None)
    variants = workshop.variants() if further else {}
    histories = {name: history for name, (_, history) in {**trained, **variants}.items()}
    return Parts(
        study=study,
        model=f"VGG-8, width {config.width}",
        net=workshop.net,
        autoencoders={name: found for name, (found, _) in trained.items()},
        controls=workshop.controls(untrained=further),
        baselines=baselines,
        generator=generator,
        variants={name: found for name, (found, _) in variants.items()},
        large=workshop.large if further else None,
        histories=histories,
    )


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Trains each network when it is first asked for."""

    config: Any
    study: Study

    def classifier(self, part: str, front: Purifier | None = None, stream: str = "cla") -> Frozen:
        """A trained classifier, behind a purifier where there is one."""
        config = self.config
        model = models.build(
            "vgg8", self.study.data.num_classes, width=config.width, hidden=config.hidden,
            dtype=compute_dtype(),
        )  # fmt: skip
        return harness.train_classifier(
            self.study, part, model, config.classifier, front, stream=stream
        )[0]

    @functools.cached_property
    def net(self) -> Frozen:
        """The classifier of the paper."""
        return self.classifier("classifier")

    @functools.cached_property
    def large(self) -> Frozen:
        """VGG-16 with all its convolutions."""
        classes, width = self.study.data.num_classes, self.config.width
        model = models.build("vgg16", classes, width=width, dtype=compute_dtype())
        training = self.config.classifier
        return harness.train_classifier(self.study, "vgg16", model, training)[0]

    def met(self, name: str) -> Attack:
        """The attack whose examples an autoencoder learns to undo."""
        loss = {"loss": minus_logit} if name == CODED_AE else {}
        fgsm = attacks.last_iterate(attacks.fgsm(linf, **loss))
        return stepping(*self.config.pgd_met) if name == PGD_AE else fgsm

    def restorer(
        self, part: str, name: str, model: nn.Module, clean: float = 0.0
    ) -> tuple[Frozen, History]:
        """An autoencoder that restores what attacks on the bare classifier have changed."""
        attack, eps = self.met(name), RADII[name]
        training = self.config.pgd_ae if name == PGD_AE else self.config.fgsm_ae
        # The public code never switches dropout off.
        source = dropping(self.net) if name == CODED_AE else self.net
        objective = purification(model, attack, eps, source, clean)
        about = {
            "attack": attack.settings, "eps": eps, "clean": clean,
            "classifier": digest(self.net.variables), "dropout": name == CODED_AE,
        }  # fmt: skip
        trained = harness.train_model(self.study, part, model, training, objective, about)
        harness.tell_if_blind(self.study, part, trained[1][-1]["loss"], self.study.data.x_train)
        return trained

    def autoencoder(self, name: str) -> tuple[Frozen, History]:
        """The autoencoder of the paper, for one of the attacks of `RADII`."""
        model = models.build("latent_noise_autoencoder", dtype=compute_dtype())
        part = name.lower().replace(" ", "_")
        return self.restorer(part, name, model)

    def variants(self) -> dict[str, tuple[Frozen, History]]:
        """The one for FGSM, trained in other ways."""
        build = functools.partial(models.build, dtype=compute_dtype())
        name = "latent_noise_autoencoder"
        return {
            RELU: self.restorer("fgsm-ae_relu", FGSM_AE, build(name, activation=nn.relu)),
            QUIET: self.restorer("fgsm-ae_no_noise", FGSM_AE, build(name, sigma=0.0)),
            MIXED: self.restorer("fgsm-ae_half_clean", FGSM_AE, build(name), clean=0.5),
            SKIPS: self.restorer("fgsm-ae_skips", FGSM_AE, build("u_autoencoder", width=16)),
        }

    def controls(self, untrained: bool) -> dict[str, Classifier]:
        """Explanations of a gain that is no merit of an autoencoder that was trained."""
        study = self.study
        found: dict[str, Classifier] = {
            SECOND: self.classifier("second_classifier", stream="two"),
            BLUR: Purified(defenses.blur(1.0), self.net),
            RESAMPLED: Purified(defenses.resample(2), self.net),
        }
        if untrained:
            # Never trained, so in the precision that is attacked from the start.
            model = models.build("latent_noise_autoencoder", dtype=jnp.float32)
            front = defenses.untrained(model, study.key, study.data.image_shape)
            found[UNTRAINED] = Purified(front, self.classifier("behind_untrained", front))
        return found

    def baselines(self) -> tuple[dict[str, Purifier], Frozen | None]:
        """PuVAE, and Defense-GAN with its generator, as purifiers."""
        given = self.config.baselines
        found: dict[str, Purifier] = {PUVAE: made(PUVAE, self.vae)}
        if self.study.seed not in self.config.seeds[: given.gan_seeds]:
            return found, None
        generator = self.generator
        found[DEFENSE_GAN] = made(
            DEFENSE_GAN, generator, restarts=given.restarts, steps=given.steps
        )
        return found, generator

    @property
    def vae(self) -> Frozen:
        """PuVAE's autoencoder, which is told the class and helped by the classifier."""
        given, data = self.config.baselines, self.study.data
        model = models.ConditionalVAE(
            image_shape=data.image_shape, num_classes=data.num_classes,
            features=given.vae_features, kernel=given.kernel, hidden=given.hidden,
            brightness=float(data.x_train.mean() / 255),
        )  # fmt: skip
        x, y = jnp.zeros((1, *data.image_shape)), jnp.zeros(1, jnp.int32)
        start = Frozen(model, model.init(jax.random.fold_in(self.study.key, 1), x, y))
        # The public code's 0.01, 0.1 and 10, with the divergence as a mean over the code: as a sum
        # it leaves codes that say nothing, and images of a class that are all the same.
        divergence = 0.1 / model.latent
        weights = {"reconstruction": 0.01, "divergence": divergence, "classification": 10.0}
        about = {"classifier": digest(self.net.variables), **weights}
        objective = variational(model, self.net, **weights)
        return harness.train_model(
            self.study, "puvae", model, given.vae, objective, about, initial=start
        )[0]

    @property
    def generator(self) -> Frozen:
        """Defense-GAN's generator; its critic is of no more use."""
        given, shape = self.config.baselines, self.study.data.image_shape
        model = models.GAN(
            generator=models.Generator(image_shape=shape, features=given.gan_features),
            critic=models.Critic(features=given.gan_features),
        )
        objective, about = wasserstein(model, given.updates), {"updates": given.updates}
        trained, _ = harness.train_model(
            self.study, "gan", model, given.gan, objective, about, betas=(0.5, 0.9)
        )
        params = trained.variables["params"]["generator"]
        return Frozen(trained.module.generator, {"params": params})
