"""Attacked images and answers on disk, for what looks at more than how many are right."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments import measuring
from experiments.harness import Study
from jaxdefense.attacks import Attack, gaussian
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import write_atomically
from jaxdefense.typing import Classifier, Purifier


def instead(study: Study, x: np.ndarray, y: np.ndarray, what: str) -> Study:
    """The same study with other images in place of its test images.

    Args:
        study: data, folder, seed.
        x, y: uint8 images and their labels.
        what: they are, for the provenance.
    """
    data = dataclasses.replace(
        study.data, x_test=x, y_test=y, groups_test=None,
        provenance=f"{study.data.provenance}, {what} in place of test images",
    )  # fmt: skip
    return dataclasses.replace(study, data=data)


def attacked(study: Study, attack: Attack, source: Classifier, eps: float) -> np.ndarray:
    """The study's examples as an attack leaves them, ``[n, h, w, c]``, from disk if made before.

    Where the attack returned what is no image within the radius, the clean image stands.
    """
    x, y = study.examples
    name = identity(attack, source, x, y, [eps], study.key, None, "images")

    def make() -> np.ndarray:
        made = measuring.craft(attack, source, x, y, eps, study.key)
        return np.where(made.valid[:, None, None, None], made.x_adv, made.x)

    return stored(study.folder / "sweeps" / f"images-{attack.name}-{name[:16]}.npy", make)


def outputs(study: Study, function: Classifier | Purifier, x: np.ndarray) -> np.ndarray:
    """Logits, features or images that a function makes of images, from disk if made before."""
    labels = np.zeros(len(x), np.int32)
    name = identity(gaussian(), function, x, labels, [0.0], study.key, None, "outputs")
    path = study.folder / "sweeps" / f"outputs-{name[:16]}.npy"
    return stored(path, lambda: measuring.outputs(function, x, study.key))


def stored(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from a file, or made and written to it."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        made, content = make(), io.BytesIO()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(content, made, allow_pickle=False)
    write_atomically(path, content.getvalue())
    return made
