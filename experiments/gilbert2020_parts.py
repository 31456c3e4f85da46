"""What is trained for `gilbert2020_denoising`: networks, autoencoders, fine-tuning, of one seed."""

import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import harness
from experiments.gilbert2020_functions import (
    CIFAR,
    EFFICIENT,
    EPS,
    IMAGENET,
    RESNET,
    SEPRE,
    as_bytes,
    as_probabilities,
    attacked,
    build,
    in_front,
    label,
    printed_attacks,
    scored,
)
from experiments.harness import Study, digest
from experiments.measuring import outputs
from experiments.readings import stored
from jaxdefense import Frozen, defenses, models
from jaxdefense.attacks import Attack
from jaxdefense.data import as_images
from jaxdefense.evaluation import craft
from jaxdefense.evaluation.identity import identity
from jaxdefense.training import compute_dtype, paired, restoration, supervised
from jaxdefense.typing import Classifier, Purifier

INITIAL, LAST = "initial", "run3"
ROUNDS = {"run0": (1, 1.0, True), "run1": (2, 1.0, True), "run2": (1, 1.0, False),
          LAST: (3, 0.1, False)}  # fmt: skip
"""Of the fine-tuning, as logged: epochs, share of the learning rate, whether the attacked images
are among those trained on as they are, and not behind the autoencoder only."""
PHASES = (INITIAL, *ROUNDS)
BARE, AE = "none", "AE"
CODED = ", as coded"
SECOND, UNTRAINED = "another ResNet-20", "untrained AE"
NO_CLEAN, ONLY_CLEAN = "without clean inputs", "clean inputs only"
FILTERS: dict[str, Purifier] = {
    "blur": defenses.blur(1.0), "JPEG": defenses.jpeg(), "4 bits": defenses.bit_depth(4),
    "2x resampling": defenses.resample(2),
}  # fmt: skip
SMOOTH = ("blur", "2x resampling")
"""Those with gradients, which can be attacked through the whole."""


def tag(front: str, phase: str) -> str:
    """A defence in tables: what stands in front of the network, and how far that is tuned."""
    return front if phase == INITIAL else f"{front}, {phase}"


@dataclasses.dataclass(frozen=True)
class Line:
    """One network all the way through the paper, with the faults of the public code or without.

    Attributes:
        model: name of the network in tables; `CODED` is added where that is so.
        coded: with the faults: attacks on the network without its normalisation, ImageNet's
            statistics where it is scored, and both losses from probabilities.
        nets: phase of the fine-tuning -> the network.
        purifier: the denoising autoencoder.
        history: of its training.
        pairs: of given and wanted images in it.
    """

    model: str
    coded: bool
    nets: Mapping[str, Frozen]
    purifier: Frozen
    history: Sequence[Mapping[str, float]]
    pairs: int

    @property
    def source(self) -> Classifier:
        """What the static examples are crafted on: the network before any fine-tuning."""
        return attacked(self.nets[INITIAL], self.coded)

    def deployed(self, phase: str = INITIAL, purifier: Purifier | None = None) -> Classifier:
        """The network of a phase, behind a purifier where there is one."""
        return scored(self.nets[phase], self.coded, purifier)

    def stages(self, *phases: str) -> dict[str, Classifier]:
        """The network of some phases, bare and behind the autoencoder, by the defence's name."""
        fronts = {BARE: None, AE: self.purifier}
        return {tag(f, p): self.deployed(p, fronts[f]) for p in phases for f in fronts}

    def filtered(self) -> dict[str, Classifier]:
        """The network of every phase, behind what has learned nothing."""
        return {
            tag(name, phase): self.deployed(phase, front)
            for phase in PHASES for name, front in FILTERS.items()
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Parts:
    """One seed, trained.

    Attributes:
        study: data, folder, seed.
        lines: both networks of the tables, by name and whether as coded.
        siblings: further networks that were never attacked, by name.
        variants: other autoencoders for the first network without faults, by what is different.
        controls: what has no trained autoencoder and another network, by name.
    """

    study: Study
    lines: Mapping[tuple[str, bool], Line]
    siblings: Mapping[str, Frozen]
    variants: Mapping[str, Frozen]
    controls: Mapping[str, Classifier]


def train(config: Any, study: Study) -> Parts:
    """All networks of one seed, from their checkpoints where there are any."""
    workshop = Workshop(config, study)
    first = study.seed == config.seeds[0]
    lines = {
        (name, coded): workshop.line(name, coded)
        for name in (RESNET, SEPRE) for coded in (True, False)
    }  # fmt: skip
    return Parts(
        study=study,
        lines=lines,
        siblings={name: workshop.network(name) for name in config.siblings * first},
        variants=workshop.variants() if first else {},
        controls=workshop.controls() if config.thorough else {},
    )


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Trains what is asked for."""

    config: Any
    study: Study

    def network(self, name: str, part: str = "", front: Any = None, stream: str = "") -> Frozen:
        """A classifier of normalised images, behind what else stands in front of it."""
        model = build(self.config, name, self.study.data.num_classes)
        front = in_front(CIFAR) if front is None else front
        training = self.config.efficient if name == EFFICIENT else self.config.classifier
        return harness.train_classifier(
            self.study, part or name, model, training, front, stream=stream or name[:4]
        )[0]

    @functools.cached_property
    def few(self) -> tuple[np.ndarray, np.ndarray]:
        """The training images that are attacked, and their labels."""
        data = self.study.data.subset(n_train=self.config.n_static, seed=self.study.seed)
        return data.x_train, data.y_train

    def crafted(self, net: Frozen, coded: bool) -> list[np.ndarray]:
        """Training images and what FGSM and PGD make of them once, uint8 each."""
        (x, y), found = self.few, []
        images, source, key = as_images(x), attacked(net, coded), self.study.key
        for attack in printed_attacks(coded):
            name = identity(attack, source, images, y, [EPS], key, None, "training images")
            path = self.study.folder / "images" / f"{attack.name}-{name[:16]}.npy"
            made = functools.partial(_attacked, attack, source, images, y, key)
            found.append(stored(path, made))
        return [x, *found]

    def line(self, name: str, coded: bool) -> Line:
        """One network, its autoencoder and its fine-tuning."""
        net = self.network(name)
        images = self.crafted(net, coded)
        part = f"{name}_coded" if coded else name
        purifier, history = self.autoencoder(f"{part}_autoencoder", images)
        nets = {INITIAL: net}
        restored = [self.restored(purifier, x) for x in images]
        for phase, (_, _, all_six) in ROUNDS.items():
            net = self.tuned(part, phase, net, coded, [*images[: 3 if all_six else 1], *restored])
            nets[phase] = net
        model = label(self.config, name) + CODED * coded
        return Line(model, coded, nets, purifier, history, sum(map(len, images)))

    def autoencoder(
        self, part: str, given: Sequence[np.ndarray], channels: int = 8
    ) -> tuple[Frozen, list[dict[str, float]]]:
        """An autoencoder that makes the clean images of some sets of their likenesses."""
        model = models.build("denoising_autoencoder", widths=(16, channels), dtype=compute_dtype())
        key = jax.random.fold_in(self.study.key, 2)
        start = Frozen(model, models.initialize(model, key, self.study.data.image_shape))
        pairs = np.concatenate([paired(x, self.few[0]) for x in given])
        study = self.on(pairs, len(given), "pairs of given and wanted images")
        trained = harness.train_model(
            study, part, model, self.config.autoencoder, restoration(model), {}, initial=start
        )
        harness.tell_if_blind(self.study, part, trained[1][-1]["loss"], self.few[0])
        return trained

    def restored(self, purifier: Frozen, x: np.ndarray) -> np.ndarray:
        """What an autoencoder makes of training images, uint8."""
        name = f"restored-{digest(purifier.variables)}-{zlib.crc32(x):08x}.npy"
        make = lambda: as_bytes(outputs(purifier, as_images(x), self.study.key))
        return stored(self.study.folder / "images" / name, make)

    def tuned(
        self, part: str, phase: str, net: Frozen, coded: bool, images: Sequence[np.ndarray]
    ) -> Frozen:
        """A network after one more round on a mixture of images."""
        (epochs, share, _), given = ROUNDS[phase], self.config.finetune
        name = re.sub("_coded$", "", part)
        model = build(self.config, name, self.study.data.num_classes)
        training = dataclasses.replace(given, epochs=epochs * given.epochs, lr=share * given.lr)
        objective = supervised(
            model, as_probabilities if coded else None, in_front(IMAGENET if coded else CIFAR)
        )
        study = self.on(np.concatenate(images), len(images), f"mixture of {len(images)} sets")
        # Adam as it is in the public code; the last epoch counts, since nothing is held out there
        # but the test images.
        return harness.train_model(
            study, f"{part}_{phase}", model, training, objective, {"coded": coded}, initial=net,
            betas=(0.9, 0.999),
        )[0]  # fmt: skip

    def on(self, images: np.ndarray, sets: int, what: str) -> Study:
        """The study with other training images: so many sets with the labels of `few`."""
        data, labels = self.study.data, np.tile(self.few[1], sets)
        changed = dataclasses.replace(
            data, x_train=images, y_train=labels, x_test=images[:1], y_test=labels[:1],
            groups_train=None, groups_test=None, provenance=f"{data.provenance}, {what}",
        )  # fmt: skip
        return dataclasses.replace(self.study, data=changed)

    def variants(self) -> dict[str, Frozen]:
        """Autoencoders of other code lengths, without clean images and without attacked ones."""
        images = self.crafted(self.network(RESNET), coded=False)
        found = {
            f"code of {code_length(self.study, channels)}": self.autoencoder(
                f"autoencoder_{channels}_channels", images, channels
            )[0]
            for channels in self.config.channels
        }
        if self.config.thorough:
            found[NO_CLEAN] = self.autoencoder("autoencoder_without_clean", images[1:])[0]
            found[ONLY_CLEAN] = self.autoencoder("autoencoder_only_clean", images[:1] * 3)[0]
        return found

    def controls(self) -> dict[str, Classifier]:
        """Another network of the same kind, and one behind an autoencoder that is not trained."""
        # Never trained, so in the precision that is attacked from the start.
        model = models.build("denoising_autoencoder", dtype=jnp.float32)
        front = defenses.untrained(model, self.study.key, self.study.data.image_shape)
        behind = self.network(RESNET, "behind_untrained", in_front(CIFAR, front))
        return {
            SECOND: scored(self.network(RESNET, "second_network", stream="two"), False),
            UNTRAINED: scored(behind, False, front),
        }


def code_length(study: Study, channels: int = 8) -> int:
    """Numbers in the code of an autoencoder that ends in so many channels, as published in 8."""
    height, width, _ = study.data.image_shape
    return math.ceil(height / 4) * math.ceil(width / 4) * channels


def _attacked(attack: Attack, source: Classifier, x: np.ndarray, y: np.ndarray, key: Any) -> Any:
    made = craft(attack, source, x, y, EPS, key)
    return as_bytes(np.where(made.valid[:, None, None, None], made.x_adv, x))
