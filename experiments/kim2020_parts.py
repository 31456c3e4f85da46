"""What is trained for `kim2020_revisiting_autoencoders`: all networks of one data set and seed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import harness
from experiments.harness import Study
from experiments.kim2020_settings import Setting
from jaxdefense import Frozen, Purified, attacks, defenses, linf, models
from jaxdefense.models import chain_variables, part_variables
from jaxdefense.training import compute_dtype, gce, tempered
from jaxdefense.typing import Classifier, Loss, Purifier

AE, CONTROL = "AE-C", "2x resampling"
TEMPERATURE = 2.5
SMOOTHED: dict[str, Loss] = {f"T={TEMPERATURE}": tempered(TEMPERATURE), "GCE": gce()}
HARDENED = "adversarial training"
READINGS = ("AE-C, joint training", "AE-C, classifier frozen")
PCA = "PCA"
CONTROLS = ("untrained AE", "AE by cross-entropy", PCA, "blur")
SAME, DIFFERENT = "same architecture", "different architecture"


@dataclasses.dataclass(frozen=True)
class Parts:
    """The trained networks of one data set and seed.

    Attributes:
        study: data, folder, seed.
        model: name of the classifier.
        deployed: what is attacked, by the name of its defence; "none" is the bare classifier.
        nets: classifiers that share an encoder with a decoder, by their training.
        sources: what a black-box attacker trained instead, by what it is.
    """

    study: Study
    model: str
    deployed: Mapping[str, Classifier]
    nets: Mapping[str, Classifier]
    sources: Mapping[str, Classifier]


def train(setting: Setting, lambdas, gammas, study: Study, first: bool) -> Parts:
    """All networks of one data set and seed, from their checkpoints where there are any.

    Args:
        setting: of the data set.
        lambdas, gammas: weights of the reconstruction, and its updates before each of the
            classification; the paper's for every seed, others for the first only.
        study: data, folder, seed.
        first: whether this is the first seed.
    """
    workshop = Workshop(setting, study)
    groups = (*setting.every, *(setting.once if first else ()))
    deployed: dict[str, Classifier] = {
        "none": workshop.net,
        AE: Purified(workshop.purifier, workshop.behind),
        CONTROL: workshop.control,
    }
    for name in groups:
        if name in GROUPS:
            deployed |= GROUPS[name](workshop)
    nets = dict(workshop.nets(lambdas, gammas, first)) if "nets" in groups else {}
    sources = dict(workshop.sources()) if "substitutes" in groups else {}
    width = "" if setting.width is None else f", width {setting.width}"
    return Parts(study, f"{setting.model}{width}", deployed, nets, sources)


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Trains each network when it is first asked for."""

    setting: Setting
    study: Study

    def model(self, name: str, width: int | None) -> nn.Module:
        """An untrained classifier."""
        classes, dtype = self.study.data.num_classes, compute_dtype()
        if name == "lenet_like":
            shape: dict[str, Any] = {"convolutions": (1, 1), "widths": (16, 32), "hidden": (128,)}
            return models.VGG(**shape, num_classes=classes, dtype=dtype)
        settings = {} if width is None else {"width": width}
        return models.build(name, classes, dtype=dtype, **settings)

    @functools.cached_property
    def few(self) -> Study:
        """The study with the training images that `kim2020_settings.Setting.n_other` is about."""
        data, count = self.study.data, self.setting.n_other
        if count is None or count >= len(data.x_train):
            return self.study
        subset = data.subset(n_train=count, seed=self.study.seed)
        return dataclasses.replace(self.study, data=subset)

    @property
    def architecture(self) -> nn.Module:
        """The classifier's."""
        return self.model(self.setting.model, self.setting.width)

    @property
    def autoencoder(self) -> nn.Module:
        """The autoencoder's."""
        return models.build("pooling_autoencoder", **self.autoencoding)

    @property
    def autoencoding(self) -> dict[str, Any]:
        """Settings of whatever encodes and decodes."""
        setting = self.setting
        return {
            "widths": setting.autoencoder_widths, "brightness": setting.brightness,
            "dtype": compute_dtype(),
        }  # fmt: skip

    def classifier(self, part: str, purifier: Purifier | None = None, **given: Any) -> Frozen:
        """A trained classifier, behind a purifier where there is one."""
        training = given.pop("training", self.setting.classifier)
        model = given.pop("model", self.architecture)
        study = given.pop("study", self.few)
        return harness.train_classifier(study, part, model, training, purifier, **given)[0]

    def purified(self, part: str, purifier: Purifier, **given: Any) -> Purified:
        """The purifier with a classifier that is trained behind it."""
        return Purified(purifier, self.classifier(part, purifier, **given))

    @functools.cached_property
    def net(self) -> Frozen:
        """C."""
        return self.classifier("classifier", study=self.study)

    @functools.cached_property
    def purifier(self) -> Frozen:
        """The autoencoder, trained to reconstruct."""
        model, training = self.autoencoder, self.setting.autoencoder
        return harness.train_autoencoder(self.few, "autoencoder", model, training)[0]

    @functools.cached_property
    def behind(self) -> Frozen:
        """C trained behind the autoencoder, which does not move."""
        part = "classifier_behind_autoencoder"
        return self.classifier(part, self.purifier, study=self.study)

    @functools.cached_property
    def control(self) -> Purified:
        """A bottleneck that has learned nothing, and a classifier trained behind it."""
        front = defenses.resample(2)
        return self.purified("classifier_behind_resampling", front, study=self.study)

    def readings(self) -> dict[str, Classifier]:
        """The other readings of how the autoencoder and the classifier were trained."""
        start = chain_variables(self.purifier.variables, self.behind.variables)
        joint, frozen = READINGS
        return {
            joint: self.chain("joint", 1.0, start),
            frozen: Purified(self.purifier, self.net),
        }

    def controls(self) -> dict[str, Classifier]:
        """Explanations of a gain that is no merit of learning to reconstruct."""
        data = self.study.data
        key = jax.random.fold_in(self.study.key, 1)
        untrained, by_loss, pca, blur = CONTROLS
        front: dict[str, Purifier] = {
            # Never trained, so in the precision that is attacked from the start.
            untrained: defenses.untrained(
                self.autoencoder.clone(dtype=jnp.float32), key, data.image_shape
            ),
            pca: defenses.pca(data.x_train[:10_000], self.setting.components),
            blur: defenses.blur(1.0),
        }
        trained: dict[str, Classifier] = {
            name: self.purified(
                f"classifier_behind_{name.replace(' ', '_').lower()}", purifier, study=self.study
            )
            for name, purifier in front.items()
        }
        # On all that the classifier behind the autoencoder is trained on.
        by_cross_entropy = self.chain("autoencoder_by_cross_entropy", 0.0, study=self.study)
        return trained | {by_loss: by_cross_entropy}

    def chain(
        self, part: str, weight: float, start: Any = None, study: Study | None = None
    ) -> Purified:
        """Autoencoder and classifier trained together."""
        model = models.Chain(purifier=self.autoencoder, classifier=self.architecture)
        trained, _ = harness.train_jointly(
            study or self.few, part, model, self.setting.classifier, weight,
            initial=None if start is None else Frozen(model, start),
        )  # fmt: skip
        purifier, classifier = part_variables(trained.variables)
        return Purified(
            Frozen(trained.module.purifier, purifier), Frozen(trained.module.classifier, classifier)
        )

    def smoothed(self) -> dict[str, Classifier]:
        """Trained at a temperature or by guided complement entropy, bare and behind the AE."""
        found: dict[str, Classifier] = {}
        for name, loss in SMOOTHED.items():
            part = name.partition("=")[0].lower()
            given: dict[str, Any] = {"loss": loss, "study": self.study}
            found[name] = self.classifier(f"classifier_{part}", **given)
            behind = f"classifier_behind_autoencoder_{part}"
            found[f"{AE}, {name}"] = self.purified(behind, self.purifier, **given)
        return found

    def hardened(self) -> dict[str, Classifier]:
        """Adversarially trained, bare and behind the autoencoder."""
        bare = self.harden("classifier", self.net)
        behind = self.harden("classifier_behind_autoencoder", self.behind, self.purifier)
        return {HARDENED: bare, f"{AE}, {HARDENED}": Purified(self.purifier, behind)}

    def harden(self, part: str, net: Frozen, purifier: Purifier | None = None) -> Frozen:
        """A trained classifier, trained further at one radius after another."""
        setting = self.setting
        attack = attacks.pgd(linf, setting.hardening_steps, setting.hardening_step)
        for eps in setting.hardening_eps:
            net = self.classifier(
                f"{part}_hardened_{eps:g}", purifier, initial=net,
                against=(attack, eps / 255), training=setting.hardening,
            )  # fmt: skip
        return net

    def sources(self) -> Iterator[tuple[str, Classifier]]:
        """What a black-box attacker trains, with an autoencoder of its own and without."""
        setting = self.setting
        second, _ = harness.train_autoencoder(
            self.few, "second_autoencoder", self.autoencoder, setting.autoencoder
        )
        kinds = {
            SAME: ("same", self.architecture),
            DIFFERENT: ("other", self.model(setting.substitute, setting.substitute_width)),
        }
        for kind, (part, model) in kinds.items():
            given: dict[str, Any] = {"model": model, "stream": "sub"}
            # The same architecture means C trained anew, as long as C was.
            given |= {"study": self.study} if kind == SAME else {"training": setting.other}
            yield kind, self.classifier(f"substitute_{part}", **given)
            behind = f"substitute_{part}_behind_autoencoder"
            yield f"{kind}, with AE", self.purified(behind, second, **given)

    def nets(self, lambdas, gammas, first: bool) -> Iterator[tuple[str, Classifier]]:
        """Classifiers of the autoencoder's code, by how reconstruction entered their training."""
        data = self.study.data
        model = models.build("encoder_classifier", data.num_classes, **self.autoencoding)
        net = lambda part, **given: harness.train_jointly(
            self.few, part, model, dataclasses.replace(self.setting.other, shift=0), **given
        )[0]
        for weight in lambdas:
            if first or weight in PRINTED_LAMBDAS:
                yield f"joint lambda={weight:g}", net(f"joint_lambda_{weight:g}", weight=weight)
        for count in gammas:
            if first or count in PRINTED_GAMMAS:
                name = f"alternating gamma={count}"
                yield name, net(f"alternating_gamma_{count}", reconstructions=count)


PRINTED_LAMBDAS, PRINTED_GAMMAS = (0, 1, 4), (1, 2)
GROUPS: dict[str, Callable[[Workshop], dict[str, Classifier]]] = {
    "readings": Workshop.readings,
    "controls": Workshop.controls,
    "smoothed": Workshop.smoothed,
    "hardened": Workshop.hardened,
}
"""Further groups: "nets" (shared encoder) and "substitutes" (of black-box attackers)."""
