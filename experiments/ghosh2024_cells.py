"""What `ghosh2024_ct_denoising` measures, of one seed."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import measuring, readings
from experiments.ghosh2024_parts import BORDERS, SPLITS, Parts, code, counts, everything, part_of
from experiments.harness import Study
from jaxdefense import Purified, attacks, linf
from jaxdefense.attacks import Attack
from jaxdefense.data.duplicates import similarity
from jaxdefense.evaluation import interval, linear_probe, scores
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import Record

WHITE_BOX = "white-box"
CLEAN = "none"
TRAINING, VALIDATION = ", training images", ", validation images"
NEAREST, LEAKED = "nearest training image", "share with a near-duplicate in training"
RESTORED = "squared error"
PLACES = ("input", "bottleneck", "output", "penultimate")
FLAT = "in the plane"


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The attackers; made by `lineup`.

    Attributes:
        fgsm, pgd: the paper's two kinds.
        suite: AutoAttack or a part of it, empty in preset smoke.
        further: PGD with restarts, and what sees no gradients; empty in preset smoke.
        noise: no attack.
    """

    fgsm: Attack
    pgd: Attack
    suite: tuple[Attack, ...]
    further: tuple[Attack, ...]
    noise: Attack

    @property
    def printed(self) -> dict[str, Attack]:
        """The paper's two kinds by their names in tables."""
        return {"FGSM": self.fgsm, "PGD": self.pgd}


def lineup(config: Any) -> Lineup:
    """The attackers of a run."""
    suite = () if config.suite is None else (attacks.SUITES[config.suite](linf),)
    steps, times = config.restarts
    restarted = attacks.restarts(attacks.pgd(linf, steps), times)
    further = (restarted, attacks.square(linf, config.queries)) if config.queries else ()
    pgd = attacks.pgd(linf, config.steps)
    return Lineup(attacks.fgsm(linf), pgd, suite, further, attacks.gaussian())


def _silent(line: str) -> None:
    """The script's bar says how far it is."""


curve = functools.partial(measuring.curve, progress=_silent)
shown = functools.partial(measuring.static, progress=_silent, alone=1)


def measured(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Everything but active learning, of one seed.

    Args:
        team: the attackers.
        config: of the script.
        parts: what was trained.
    """
    yield from _clean(config, parts)
    yield from _attacked(team, config, parts)
    yield from _described(team, config, parts)
    yield from _separated(team, config, parts)


# ------------------------------------------------------------------------------------------- clean


def _clean(config: Any, parts: Parts) -> Iterator[Record]:
    """Without an attack: every function, every split, and what the splits let through."""
    study, net, model = parts.study, parts.net, parts.model
    for name, deployed in {**parts.defended, **parts.controls}.items():
        yield measuring.clean(study, model, name, deployed)
    held = (study.data.x_train, study.data.y_train), (study.x_val, study.y_val)
    for (x, y), ending in zip(held, (TRAINING, VALIDATION), strict=True):
        other = readings.instead(study, x, y, ending[2:])
        yield measuring.clean(other, model + ending, "none", net)
    for name in (CLEAN, *SPLITS):
        own, trained = parts.splits.get(name, (study, net))
        called = model if name == CLEAN else f"{model}, {name}"
        if name != CLEAN:
            yield measuring.clean(own, called, "none", trained)
        for what, count in counts(own).items():
            yield _number(own, called, f"images {what}", count, count)
        if name != BORDERS:
            yield from _leaks(config, own, called)
    labels = everything(study)[1]
    for label, name in enumerate(study.data.class_names):
        found = int((labels == label).sum())
        yield _number(study, model, f"images of class {label}", found, found, note=name)
    yield _number(study, model, "images in all", len(labels), len(labels))


def _leaks(config: Any, study: Study, model: str) -> Iterator[Record]:
    """What a split gives away without any learning: the label of the most similar image."""
    data = study.data
    alike = similarity(data.x_test, data.x_train)
    right = int((data.y_train[alike.argmax(1)] == data.y_test).sum())
    twins = int((alike.max(1) >= config.threshold).sum())
    for metric, count in (("accuracy", right), (LEAKED, twins)):
        low, high = interval(count, len(alike))
        yield _number(
            study, f"{NEAREST}, {model}", metric, count / len(alike), len(alike), low, high
        )


def _number(
    study: Study, model: str, metric: str, value: float, n: int, low: float = np.nan,
    high: float = np.nan, **about: Any,
) -> Record:  # fmt: skip
    same = {"defence": "none", "attack": "none", "knowledge": "none", "eps": 0.0}
    return measuring.cell(
        study, model=model, metric=metric, value=value, n=n, low=low, high=high, norm="linf",
        gradients=0, forwards=0, **{**same, **about},
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- attacked


def _attacked(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Accuracy against radius: on the classifier's examples, and through the whole."""
    study, net, model, radii = parts.study, parts.net, parts.model, config.radii
    others = {**parts.defended, **parts.controls}
    del others["none"]
    for each in team.printed.values():
        yield from shown(study, model, each, net, {"none": net}, radii, knowledge=WHITE_BOX)
        yield from shown(study, model, each, net, others, radii)
    for name, deployed in parts.defended.items():
        for each in team.printed.values() if name != "none" else ():
            # Counted as for the classifier alone: attacked images and each radius by themselves.
            own = {name: deployed}
            yield from shown(study, model, each, deployed, own, radii, knowledge=WHITE_BOX)
        for each in (*team.suite, *team.further):
            yield from curve(study, model, name, each, deployed, radii)
        yield from curve(study, model, name, team.noise, deployed, (0.0, *config.sigmas))


# --------------------------------------------------------------------------------------- described


@dataclasses.dataclass(frozen=True)
class Sight:
    """Images as one of the functions is shown them.

    Attributes:
        attack: its name in tables, or `CLEAN`.
        knowledge: what the attacker differentiated.
        x: ``[n, h, w, c]``.
    """

    attack: str
    knowledge: str
    x: np.ndarray


def sights(team: Lineup, config: Any, parts: Parts, defence: str) -> list[Sight]:
    """What a defence is shown at the radius that is looked at closely."""
    study, eps = parts.study, config.eps
    found = [Sight(CLEAN, "none", study.examples[0])]
    known = WHITE_BOX if defence == "none" else measuring.OBLIVIOUS
    for name, each in team.printed.items():
        found.append(Sight(name, known, readings.attacked(study, each, parts.net, eps)))
    if defence != "none":
        x = readings.attacked(study, team.pgd, parts.defended[defence], eps)
        found.append(Sight("PGD", WHITE_BOX, x))
    return found


def _described(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Errors by class, calibration, uncertainty, reconstruction and grey levels."""
    study = parts.study
    x, y = study.examples
    for defence, deployed in parts.defended.items():
        for sight in sights(team, config, parts, defence):
            logits = readings.outputs(study, deployed, sight.x)
            told = scores(logits, y)._asdict()
            confusion = told.pop("confusion")
            told |= {f"class {i} taken for {j}": n for (i, j), n in np.ndenumerate(confusion)}
            seen = sight.x
            if defence in parts.autoencoders:
                seen = readings.outputs(study, parts.autoencoders[defence], sight.x)
                told |= {RESTORED: ((seen - x) ** 2).mean()}
            told |= {"mean grey level": seen.mean(), "spread of grey levels": seen.std()}
            for metric, value in told.items():
                yield _number(
                    study, parts.model, metric, float(value), len(y), defence=defence,
                    attack=sight.attack, knowledge=sight.knowledge, eps=_at(config, sight),
                )  # fmt: skip


def _at(config: Any, sight: Sight) -> float:
    return 0.0 if sight.attack == CLEAN else config.eps


# --------------------------------------------------------------------------------------- separated


def features(parts: Parts, defence: str) -> Mapping[str, Any]:
    """Functions from images to what is looked at, by place; the input itself is None."""
    net = part_of(parts.net, "features")
    if defence == "none":
        return {"input": None, "penultimate": net}
    autoencoder = parts.autoencoders[defence]
    found = (None, code(autoencoder), autoencoder, Purified(autoencoder, net))
    return dict(zip(PLACES, found, strict=True))


def seen_at(parts: Parts, function: Any, x: np.ndarray) -> np.ndarray:
    """Features ``[n, m]`` of images, from disk if they were computed before."""
    found = x if function is None else readings.outputs(parts.study, function, x)
    return found.reshape(len(found), -1)


def _separated(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Whether clean and attacked features can be told apart, in full and in the plane."""
    for defence in parts.defended:
        for place, function in features(parts, defence).items():
            _, *others = sights(team, config, parts, defence)
            for sight in others:
                # t-SNE takes its time: only of what the paper shows, PGD on the classifier alone.
                embed = place in ("bottleneck", "penultimate") and sight is others[1]
                found = _probed(config, parts, function, sight, embed)
                for metric, (auc, low, high) in found.items():
                    yield _number(
                        parts.study, place, metric, auc, len(sight.x), low, high, defence=defence,
                        attack=sight.attack, knowledge=sight.knowledge, eps=config.eps,
                    )  # fmt: skip


def _probed(
    config: Any, parts: Parts, function: Any, sight: Sight, embed: bool
) -> dict[str, tuple[float, float, float]]:
    """Areas under the curve with intervals: of all features, and of those in the plane."""
    seed = parts.study.seed

    def measure() -> list:
        one, other = (seen_at(parts, function, x) for x in (parts.study.examples[0], sight.x))
        found = {"AUC": linear_probe(one, other, seed=seed)}
        for how, (one, other) in planes(config, parts, function, sight, embed).items():
            found[f"AUC {FLAT}, {how}"] = linear_probe(one, other, seed=seed)
        return [found]

    (found,) = measuring.kept(_place("probe", config, parts, function, sight, embed), measure)
    return found


def planes(
    config: Any, parts: Parts, function: Any, sight: Sight, embed: bool
) -> dict[str, np.ndarray]:
    """Features of clean and attacked images in the plane: by PCA, and by t-SNE where asked for.

    Returns:
        How -> points ``[2, n, 2]``, those of the clean images first.
    """
    # scikit-learn takes a second to import, and few need it.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    seed = parts.study.seed

    def measure() -> list:
        both = np.concatenate(
            [seen_at(parts, function, x) for x in (parts.study.examples[0], sight.x)]
        )
        found = {"PCA": PCA(2, random_state=seed)}
        for perplexity in config.perplexities if embed else ():
            plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
            found[f"t-SNE of perplexity {perplexity:g}"] = plane
        return [{how: plane.fit_transform(both).tolist() for how, plane in found.items()}]

    (found,) = measuring.kept(_place("plane", config, parts, function, sight, embed), measure)
    return {how: np.reshape(points, (2, -1, 2)) for how, points in found.items()}


def _place(what: str, config: Any, parts: Parts, function: Any, sight: Sight, embed: bool) -> Path:
    """Where a reading of features is kept."""
    study, settings = parts.study, config.perplexities if embed else ()
    name = identity(
        attacks.gaussian(), parts.net if function is None else function, sight.x,
        study.examples[1], [config.eps], study.key, None, f"{what} {function is None} {settings}",
    )  # fmt: skip
    return study.folder / "sweeps" / f"{what}-{name[:16]}.json"
