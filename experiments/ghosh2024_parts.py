"""What is trained for `ghosh2024_ct_denoising`: all of one seed, on every split."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments import harness
from experiments.harness import Study, digest
from jaxdefense import Frozen, Purified, attacks, defenses, linf, models
from jaxdefense.attacks import Attack
from jaxdefense.data.duplicates import near_duplicates
from jaxdefense.training import compute_dtype, denoising, in_turn, purification
from jaxdefense.typing import Classifier, Images

AE, RETRAINED = "AE", "retrained AE"
PURIFIERS = (AE, RETRAINED)
"""The first has met clean and noisy images only, the second also adversarial ones."""
SECOND, UNTRAINED, OWN = "second seed", "untrained AE", "untrained AE, CNN behind it"
BLUR, RESAMPLED = "blur", "2x resampling"
HALF, GROUPED = "50/50 split", "near-duplicates on one side"
BORDERS = "borders only"
APART = f"{BORDERS}, {GROUPED}"
SPLITS = (HALF, GROUPED, BORDERS, APART)
BETAS = (0.9, 0.999)
"""Of Adam at a constant rate, as the paper prints it."""

History = Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Parts:
    """One seed, trained.

    Attributes:
        study: data, folder, seed.
        model: name of the classifier.
        net: the classifier; it has met no autoencoder and no attack, and is kept by all defences.
        autoencoders: by name.
        controls: what has no trained autoencoder, by name.
        splits: the same classifier on data split or shown otherwise, each with its study.
        histories: of the trainings.
    """

    study: Study
    model: str
    net: Frozen
    autoencoders: Mapping[str, Frozen]
    controls: Mapping[str, Classifier]
    splits: Mapping[str, tuple[Study, Frozen]]
    histories: Mapping[str, History]

    @property
    def defended(self) -> dict[str, Classifier]:
        """The classifier alone, and behind each autoencoder."""
        behind = {name: Purified(ae, self.net) for name, ae in self.autoencoders.items()}
        return {"none": self.net, **behind}


class Code(flax.struct.PyTreeNode):
    """Images to the code of an autoencoder, flat ``[b, m]``."""

    module: Any = flax.struct.field(pytree_node=False)
    variables: Any

    def __call__(self, x: Images) -> jax.Array:
        return models.bottleneck(self.module, self.variables, x).reshape(len(x), -1)


def code(autoencoder: Frozen) -> Code:
    """What an autoencoder hands from its encoder to its decoder."""
    return Code(autoencoder.module, autoencoder.variables)


def part_of(net: Frozen, method: str) -> Frozen:
    """The classifier's ``maps``, ``head`` or ``features``."""
    return net.replace(settings=(("method", method),))


def train(config: Any, study: Study) -> Parts:
    """All networks of one seed, from their checkpoints where there are any."""
    workshop = Workshop(config, study)
    autoencoders, histories = workshop.autoencoders()
    splits = {name: workshop.elsewhere(name) for name in SPLITS}
    return Parts(
        study=study,
        model=f"CNN {'-'.join(map(str, config.widths))}",
        net=workshop.net,
        autoencoders=autoencoders,
        controls=workshop.controls(),
        splits=splits,
        histories={"CNN": workshop.trained[1], **histories},
    )


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Trains each network when it is first asked for."""

    config: Any
    study: Study

    def classifier(self, part: str, study: Study | None = None, **settings: Any) -> Any:
        """A classifier and its history; settings as in `harness.train_classifier`."""
        return classifier(self.config, study or self.study, part, **settings)

    @functools.cached_property
    def trained(self) -> tuple[Frozen, History]:
        """The classifier of the paper, with its history."""
        return self.classifier("classifier")

    @property
    def net(self) -> Frozen:
        """The classifier of the paper."""
        return self.trained[0]

    def autoencoders(self) -> tuple[dict[str, Frozen], dict[str, History]]:
        """Not retrained: clean and noisy images to clean ones. Retrained: also adversarial ones."""
        config = self.config
        model = models.build("autoencoder", widths=config.autoencoder, dtype=compute_dtype())
        low_high = np.array(config.sigmas, np.float32)
        restore = denoising(model, Partial(copies, low_high))
        train = functools.partial(harness.train_model, self.study)
        about: dict[str, Any] = {"sigmas": list(config.sigmas)}
        plain, history = train("ae", model, config.denoiser, restore, about, betas=BETAS)
        steps, eps = config.met
        met: tuple[Attack, ...] = (attacks.fgsm(linf), attacks.pgd(linf, steps))
        also = [purification(model, each, eps, self.net) for each in met]
        # One state of the optimizer: the three losses are one, met in turn.
        objective = in_turn(restore, *also, states=(0,) * (1 + len(also)))
        about |= {
            "attacks": [each.settings for each in met], "eps": eps,
            "classifier": digest(self.net.variables),
        }  # fmt: skip
        again, later = train(
            "ae_retrained", model, config.retrained, objective, about, plain, betas=BETAS
        )
        for part, (*_, last) in (("ae", history), ("ae_retrained", later)):
            harness.tell_if_blind(self.study, part, last["loss"], self.study.data.x_train)
        return {AE: plain, RETRAINED: again}, {AE: history, RETRAINED: later}

    def controls(self) -> dict[str, Classifier]:
        """Explanations of a gain that is no merit of an autoencoder that was trained."""
        study, net = self.study, self.net
        # Never trained, so in the precision that is attacked from the start.
        model = models.build("autoencoder", widths=self.config.autoencoder, dtype=jnp.float32)
        front = defenses.untrained(model, study.key, study.data.image_shape)
        found: dict[str, Classifier] = {
            SECOND: self.classifier("second_classifier", stream="two")[0],
            UNTRAINED: Purified(front, net),
            BLUR: Purified(defenses.blur(1.0), net),
            RESAMPLED: Purified(defenses.resample(2), net),
        }
        if study.seed == self.config.seeds[0] and self.config.own_classifier:
            found[OWN] = Purified(front, self.classifier("behind_untrained", purifier=front)[0])
        return found

    def elsewhere(self, name: str) -> tuple[Study, Frozen]:
        """The same classifier on other data, see `split`."""
        study = split(self.config, self.study, name)
        return study, self.classifier("classifier", study)[0]


def classifier(config: Any, study: Study, part: str, **settings: Any) -> tuple[Frozen, History]:
    """The paper's classifier trained on a study's data, with its history."""
    model = models.build(
        "pooled_cnn", study.data.num_classes, widths=config.widths, hidden=config.hidden,
        dtype=compute_dtype(),
    )  # fmt: skip
    given = {"training": config.classifier, "betas": BETAS, **settings}
    return harness.train_classifier(study, part, model, **given)


def copies(low_high: jax.Array, key: jax.Array, x: Images) -> Images:
    """Half of a batch as it is, half with Gaussian noise of a strength drawn for each image."""
    of_noise, of_strength = jax.random.split(key)
    low, high = low_high
    sigma = jax.random.uniform(of_strength, (len(x), 1, 1, 1), minval=low, maxval=high)
    # Batches are shuffled, so the first images are any images.
    clean = jnp.arange(len(x))[:, None, None, None] < len(x) // 2
    noisy = x + sigma * jax.random.normal(of_noise, x.shape)
    return jnp.clip(jnp.where(clean, x, noisy), 0.0, 1.0)


# ------------------------------------------------------------------------------------------ splits


def everything(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels: training, validation and test, in that order."""
    data = study.data
    x = np.concatenate([data.x_train, study.x_val, data.x_test])
    return x, np.concatenate([data.y_train, study.y_val, data.y_test])


def split(config: Any, study: Study, name: str) -> Study:
    """The same images in another split, or cut down to what should not tell.

    Args:
        config: of the script.
        study: in the split of 80 to 20.
        name: `HALF`: stratified halves; `GROUPED`: a fifth for testing, near-duplicates kept
            together; `BORDERS`: the first split, everything but a frame of an eighth black;
            `APART`: the same with near-duplicates together.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    if name in (BORDERS, APART):
        study = split(config, study, GROUPED) if name == APART else study
        data, x_val = study.data, framed(study.x_val)
        data = dataclasses.replace(
            data, x_train=framed(data.x_train), x_test=framed(data.x_test),
            provenance=f"{data.provenance}, all but the borders made black",
        )  # fmt: skip
        return dataclasses.replace(study, data=data, x_val=x_val, folder=study.folder / "borders")
    x, y = everything(study)
    if name == HALF:
        rows = np.arange(len(y))
        train, test = train_test_split(rows, train_size=0.5, stratify=y, random_state=study.seed)
        return _resplit(study, train, test, "split in stratified halves", "halves")
    groups = near_duplicates(x, config.threshold)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=study.seed).split(x, y, groups)
    # A group may be larger than a fifth, and then its fold is.
    train, test = min(folds, key=lambda fold: abs(len(fold[1]) - len(y) / 5))
    what = f"split again with near-duplicates (correlation {config.threshold:g}) on one side"
    return _resplit(study, train, test, what, "grouped")


def framed(x: np.ndarray) -> np.ndarray:
    """Images of which only a frame of an eighth of each side is left."""
    height, width = x.shape[1] // 8, x.shape[2] // 8
    kept = x.copy()
    kept[:, height : x.shape[1] - height, width : x.shape[2] - width] = 0
    return kept


def _resplit(study: Study, train: np.ndarray, test: np.ndarray, what: str, folder: str) -> Study:
    x, y = everything(study)
    data = dataclasses.replace(
        study.data, x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test],
        groups_train=None, groups_test=None, provenance=f"{study.data.provenance}, {what}",
    )  # fmt: skip
    data, x_val, y_val = data.split_validation(0.1, seed=study.seed)
    return dataclasses.replace(
        study, data=data, x_val=x_val, y_val=y_val, folder=study.folder / folder
    )


def counts(study: Study) -> dict[str, int]:
    """Images for training and testing, and how many of the first are held out for validation."""
    held, test = len(study.y_val), len(study.data.y_test)
    train = len(study.data.y_train) + held
    return {"for training": train, "of these for validation": held, "for testing": test}
