"""The commands ``jaxdefense sweep``, ``autoattack``, ``list`` and ``prepare``."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import jax
import tyro

from jaxdefense.cli.subject import Subject
from jaxdefense.errors import InputError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class _Share:
    """Several processes that share the work, on one host or many."""

    processes: int | None = None
    """how many; start each with its own --share.process"""
    process: int | None = None
    """which this is, from 0"""
    coordinator: str | None = None
    """HOST:PORT of process 0"""
    launcher: bool = False
    """let SLURM or another launcher say all that"""
    patience: float = 20.0
    """seconds without a sign of life until a process counts as dead"""


@contextlib.contextmanager
def _shared(share: _Share, folder: str | None) -> Iterator[Callable[[], bool]]:
    """As one of several processes, where there are; whether this is the first of them."""
    from jaxdefense.evaluation import processes

    alone = share.processes is None and not share.launcher
    if alone and (share.process is not None or share.coordinator is not None):
        raise InputError("--share.process and --share.coordinator need --share.processes N, too")
    if alone:
        yield lambda: True
        return
    if folder is None:
        raise InputError(
            "several processes share a sweep through a folder that all can write: name it "
            "with --resume"
        )
    processes.join(folder, share.coordinator, share.processes, share.process, share.patience)
    yield lambda: jax.process_index() == 0
    processes.leave()


@dataclasses.dataclass(frozen=True)
class Sweep(Subject):
    """Robust accuracy of your own classifier over a grid of radii.

    MODEL is ``module:name``: a callable ``x -> logits`` for images [b, h, w, c] in [0, 1], or a
    function without arguments that returns one. Example:

        jaxdefense sweep my_model:net --data mnist --attack pgd --radii 0 0.1 0.2 0.3
    """

    attack: str = "pgd"
    """see: jaxdefense list"""
    radii: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
    """in pixel units of [0, 1]"""
    method: str = "nested"
    """nested (fast) or grid (every radius from scratch)"""
    draws: int = 20
    """of a random classifier: over how many draws gradients are averaged"""
    resume: str | None = None
    """folder for finished blocks of examples: a killed run goes on from them"""
    share: _Share = dataclasses.field(default_factory=lambda: _Share())

    def run(self) -> None:
        """Prints the curve."""
        from jaxdefense import attacks
        from jaxdefense.classifiers import is_random
        from jaxdefense.evaluation import sweep
        from jaxdefense.surrogates import eot

        with _shared(self.share, self.resume) as first:
            attack = attacks.make(self.attack, self.norm)
            classifier, x, y, key, source = self.load()
            averaged = None
            if is_random(classifier) and attack.cost.gradients:
                averaged = eot(classifier, self.draws)
            result = sweep(
                attack, classifier, x, y, self.radii, key, averaged, method=self.method,
                resume=self.resume, progress=True,
            )  # fmt: skip
            if first():
                print(f"{source}; {result}")
                print(result.evaluations.time, file=sys.stderr)  # each run takes its own


@dataclasses.dataclass(frozen=True)
class Autoattack(Subject):
    """AutoAttack on your own classifier, with its reliability checks.

    MODEL as in ``jaxdefense sweep``. Example:

        jaxdefense autoattack my_model:net --data mnist --eps 0.3

    Exit status 1 where a check fails, because robust accuracy may then be too high.
    """

    eps: tuple[float, ...] = (0.1,)
    """in pixel units of [0, 1]"""
    version: str = "standard"
    """quick, standard, plus, or rand for random defences"""
    resume: str | None = None
    """folder for finished blocks of examples: a killed run goes on from them"""
    share: _Share = dataclasses.field(default_factory=lambda: _Share())

    def run(self) -> None:
        """Prints curve, accuracy after each attack, and the checks."""
        from jaxdefense.evaluation import autoattack
        from jaxdefense.geometry import BALLS

        if self.norm not in BALLS:
            raise UnknownNameError("norm of AutoAttack", self.norm, BALLS)
        with _shared(self.share, self.resume) as first:
            classifier, x, y, key, source = self.load()
            result = autoattack(
                classifier, x, y, self.eps, key, ball=BALLS[self.norm], version=self.version,
                resume=self.resume, progress=True,
            )  # fmt: skip
            if first():
                print(f"{source}; {result}")
                print(result.curve.evaluations.time, file=sys.stderr)
        if not result.reliable:
            raise SystemExit(1)


@dataclasses.dataclass(frozen=True)
class List:
    """Known attacks, controls, models and data sets."""

    def run(self) -> None:
        """Prints them."""
        from tabulate import tabulate

        from jaxdefense import attacks, data, defenses, models

        rows = [
            (name, " ".join(entry.norms), entry.source) for name, entry in attacks.REGISTRY.items()
        ]
        print(tabulate(rows, headers=["attack", "norms", "source"]))
        controls = [(name, control.explains) for name, control in defenses.CONTROLS.items()]
        print("\n" + tabulate(controls, headers=["control", "explains a gain by"]))
        print(f"\nmodels: {', '.join(models.names())}\ndata sets: {', '.join(data.names())}")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Read a data set once into the array cache, or into a TFDS folder."""

    data: Annotated[str, tyro.conf.Positional]
    data_dir: str | None = None
    """where the original files lie; JAXDEFENSE_DATA by default"""
    download: bool = False
    """fetch the data set if it is not there"""
    tfds_dir: str | None = None
    """write a TFDS data set (array_record) below this folder instead"""

    def run(self) -> None:
        """Prints what was read."""
        from jaxdefense import data

        if self.tfds_dir is not None:
            from jaxdefense.data.tfds_builders import prepare_tfds

            source = self.data_dir or os.environ.get("JAXDEFENSE_DATA")
            if source is None:
                raise InputError(
                    "preparing a TFDS folder needs the original files: name their folder with "
                    "--data-dir"
                )
            print(prepare_tfds(self.data, Path(source), Path(self.tfds_dir)))
        else:
            print(data.load(self.data, data_dir=self.data_dir, download=self.download))
