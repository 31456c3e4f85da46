"""What is trained for Jung et al. 2022: three models, other readings of them, and controls."""

import dataclasses
import functools
from typing import Any

from experiments import harness
from experiments.harness import Study
from jaxdefense import Frozen, Purified, defenses, models
from jaxdefense.training import compute_dtype
from jaxdefense.typing import Classifier

PURIFIERS = {"AE": "autoencoder", "U-AE": "u_autoencoder"}
NAMES = {"resnet18": "ResNet-18", "resnet8": "ResNet-8"}
# Of the leading components of a training set's images.
COMPONENTS = 64
PCA = f"PCA {COMPONENTS}"
SECOND, UNTRAINED = "second seed", "untrained AE"
CONTROLS = (SECOND, "blur", "half size", "JPEG 50", "3 bits", PCA, UNTRAINED)
"""What has no trained autoencoder."""
SMOOTH = ("blur", "half size", PCA, UNTRAINED)
"""Of these, purifiers with gradients, which can be attacked through the whole."""
FAINT = {"TMNIST": 0.02, "Fingers": 0.01, "TrafficSign": 0.005}
"""L-inf radii, pixels in [0, 1], at which the autoencoders of preset small gained most over the
bare classifier."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """One data set and seed, trained.

    Attributes:
        study: data, folder, seed.
        model: the classifier's name in tables.
        deployed: ``"none"``, ``"AE"`` and ``"U-AE"``: the bare classifier, and one trained behind
            each autoencoder.
        purifiers: the autoencoders.
        untrained: a classifier behind an autoencoder that was never trained, where there is one.
    """

    study: Study
    model: str
    deployed: dict[str, Classifier]
    purifiers: dict[str, Frozen]
    untrained: Purified | None

    def controls(self, other: "Parts | None", *, purifiers: bool) -> dict[str, Classifier]:
        """What has no trained autoencoder, to be shown the examples crafted on the bare classifier.

        Args:
            other: the same data with another seed.
            purifiers: also purifiers that have learned nothing of adversarial examples.
        """
        second = {} if other is None else {SECOND: other.deployed["none"]}
        if not purifiers:
            return second
        net, x = self.deployed["none"], self.study.data.x_train
        components = min(COMPONENTS, len(x))
        shown: dict[str, Classifier] = {
            **second,
            "blur": Purified(defenses.blur(1.0), net),
            "half size": Purified(defenses.resample(2), net),
            "JPEG 50": Purified(defenses.jpeg(50), net),
            "3 bits": Purified(defenses.bit_depth(3), net),
            f"PCA {components}": Purified(defenses.pca(x, components), net),
        }
        if self.untrained is not None:
            shown[UNTRAINED] = self.untrained
        return shown


def train(config: Any, study: Study) -> Parts:
    """The bare classifier, and behind each autoencoder, trained on clean images, one of its own.

    Args:
        config: of the script.
        study: data, folder, seed.
    """
    build = functools.partial(_classifier, config, study)
    net, _ = harness.train_classifier(study, "classifier", build(), config.classifier)
    deployed: dict[str, Classifier] = {"none": net}
    purifiers = {}
    for name, part in PURIFIERS.items():
        purifiers[name] = _purifier(config, study, part, part)
        deployed[name] = _behind(config, study, part, purifiers[name])
    untrained = None
    if config.controls:
        model = models.build("autoencoder", width=config.autoencoder_width)
        random = defenses.untrained(model, study.key, study.data.image_shape)
        untrained = _behind(config, study, "untrained", random)
    name = NAMES[config.model]
    if build().width != models.build(config.model).width:
        name = f"{name} (width {config.width})"
    return Parts(study, name, deployed, purifiers, untrained)


def variants(config: Any, parts: Parts) -> dict[str, Classifier]:
    """Other readings of the paper: skips, joint training, a classifier trained without."""
    study, net = parts.study, parts.deployed["none"]
    found: dict[str, Classifier] = {}
    for skips in ("add_input", "concat"):
        part = f"u_autoencoder_{skips}"
        purifier = _purifier(config, study, "u_autoencoder", part, skips=skips)
        found[f"U-AE ({skips.replace('_', ' ')})"] = _behind(config, study, part, purifier)
    for name, purifier in parts.purifiers.items():
        found[f"{name}, classifier trained without"] = Purified(purifier, net)
    found["U-AE, trained jointly"] = _jointly(config, study)
    return found


def _classifier(config: Any, study: Study):
    return models.build(
        config.model, study.data.num_classes, width=config.width, dtype=compute_dtype("auto")
    )


def _purifier(config: Any, study: Study, kind: str, part: str, **settings: Any) -> Frozen:
    model = models.build(kind, width=config.autoencoder_width, **settings)
    return harness.train_autoencoder(study, part, model, config.autoencoder)[0]


def _behind(config: Any, study: Study, part: str, purifier: Frozen) -> Purified:
    model = _classifier(config, study)
    part = f"classifier_behind_{part}"
    net, _ = harness.train_classifier(study, part, model, config.classifier, purifier)
    return Purified(purifier, net)


def _jointly(config: Any, study: Study) -> Purified:
    """Both parts from scratch, on cross-entropy plus reconstruction error."""
    chain = models.Chain(
        purifier=models.build("u_autoencoder", width=config.autoencoder_width),
        classifier=_classifier(config, study),
    )
    trained, _ = harness.train_jointly(study, "joint", chain, config.classifier, weight=1.0)
    first, second = models.part_variables(trained.variables)
    module = trained.module
    return Purified(Frozen(module.purifier, first), Frozen(module.classifier, second))
