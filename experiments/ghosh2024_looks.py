"""What `ghosh2024_ct_denoising` looks at closely: errors, calibration, features, of one seed."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import measuring, readings
from experiments.cells import WHITE_BOX
from experiments.ghosh2024_cells import CLEAN, Lineup, number
from experiments.ghosh2024_parts import Parts, code, part_of
from jaxdefense import Purified, attacks
from jaxdefense.evaluation import linear_probe, scores
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import Record

RESTORED = "squared error"
PLACES = ("input", "bottleneck", "output", "penultimate")
FLAT = "in the plane"


def looked(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """All of it; arguments as in `ghosh2024_cells.measured`."""
    yield from described(team, config, parts)
    yield from separated(team, config, parts)


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


def described(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
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
                yield number(
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


def separated(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Whether clean and attacked features can be told apart, in full and in the plane.

    A probe of few images cannot tell apart what many dimensions hold, so it has more than others.
    """
    study = dataclasses.replace(parts.study, n_eval=config.n_probed)
    parts = dataclasses.replace(parts, study=study)
    for defence in parts.defended:
        for place, function in features(parts, defence).items():
            _, *others = sights(team, config, parts, defence)
            for sight in others:
                # t-SNE takes its time: only of what the paper shows, PGD on the classifier alone.
                embed = place in ("bottleneck", "penultimate") and sight is others[1]
                found = _probed(config, parts, function, sight, embed)
                for metric, (auc, low, high) in found.items():
                    yield number(
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
