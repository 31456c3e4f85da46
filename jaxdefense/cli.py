"""The command line: `launch` for experiment scripts, and the console script ``jaxdefense``."""

import dataclasses
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import tyro

from jaxdefense.errors import InputError, JaxdefenseError, UnknownNameError

Config = TypeVar("Config")


def launch(
    main: Callable[[Config], None],
    presets: Mapping[str, Config],
    default: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs an experiment script: preset, options, one-line errors, compilation cache.

    Args:
        main: takes the configuration.
        presets: name to configuration (frozen dataclasses of one type).
        default: the preset used without ``--preset``.
        arguments: of the command line; ``sys.argv`` by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with _one_line_errors():
        preset, rest = _take(arguments, "--preset", default)
        if preset not in presets:
            raise UnknownNameError("preset", preset, presets)
        description = (
            f"{main.__doc__ or ''}\n\n--preset {{{','.join(presets)}}} (default {default})"
        )
        base = presets[preset]
        config = tyro.cli(type(base), default=base, args=rest, description=description)
        use_compilation_cache()
        main(config)


def _take(arguments: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """The value of one option, and the arguments without it."""
    value, rest, remaining = default, [], iter(arguments)
    for argument in remaining:
        if argument == name:
            value = next(remaining, "")
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, rest


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second run starts at once.

    In ``JAX_COMPILATION_CACHE_DIR`` or ``$JAXDEFENSE_CACHE/xla`` (``~/.cache/jaxdefense/xla``).
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        base = os.environ.get("JAXDEFENSE_CACHE") or Path.home() / ".cache" / "jaxdefense"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


class _one_line_errors:
    """An error the user can act on ends the program as one message, without a traceback."""

    def __enter__(self) -> None:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, JaxdefenseError):
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        if isinstance(error, KeyboardInterrupt):
            print("interrupted: run the same command again to go on", file=sys.stderr)
            raise SystemExit(130) from None


# ------------------------------------------------------------------------------ jaxdefense ...


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What is evaluated, and on what; shared by the commands that evaluate."""

    model: Annotated[str, tyro.conf.Positional]
    data: str = "typeface"
    """a data set's name, an .npz, or a folder of class folders; its test split is attacked"""
    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default"""
    download: bool = False
    """fetch the data set if it is not there"""
    size: int | None = None
    """resize images to this many pixels"""
    channels: int | None = None
    """1 for grey, 3 for colour"""
    norm: str = "linf"
    n: int = 256
    """how many test images"""
    seed: int = 0

    def load(self) -> tuple[Any, ...]:
        """Classifier, images, labels, key, and a line that says where the images come from."""
        from jaxdefense import data

        classifier = _resolve(self.model)
        chosen = data.load(
            self.data, data_dir=self.data_dir, download=self.download,
            size=self.size, channels=self.channels,
        )  # fmt: skip
        chosen = chosen.subset(n_test=min(self.n, len(chosen.x_test)), seed=self.seed)
        x, key = data.as_images(chosen.x_test), jax.random.key(self.seed)
        return classifier, x, chosen.y_test, key, f"{chosen.provenance}\nseed {self.seed}"


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


@dataclasses.dataclass(frozen=True)
class Sweep(_Subject):
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
    resume: str | None = None
    """folder for finished blocks of examples: a killed run goes on from them"""
    share: _Share = dataclasses.field(default_factory=lambda: _Share())

    def run(self) -> None:
        """Prints the curve."""
        from jaxdefense import attacks
        from jaxdefense.evaluation import processes, sweep

        shared = self.share.processes is not None or self.share.launcher
        if shared:
            if self.resume is None:
                raise InputError(
                    "several processes share a sweep through a folder that all can write: name it "
                    "with --resume"
                )
            processes.join(
                self.resume, self.share.coordinator, self.share.processes, self.share.process,
                self.share.patience,
            )  # fmt: skip
        attack = attacks.make(self.attack, self.norm)
        classifier, x, y, key, source = self.load()
        result = sweep(
            attack, classifier, x, y, self.radii, key, method=self.method, resume=self.resume,
            progress=True,
        )  # fmt: skip
        if not shared or jax.process_index() == 0:
            print(f"{source}; {result}")
        if shared and self.resume is not None:
            processes.leave(self.resume)


@dataclasses.dataclass(frozen=True)
class Autoattack(_Subject):
    """AutoAttack on your own classifier, with its reliability checks.

    MODEL as in ``jaxdefense sweep``. Example:

        jaxdefense autoattack my_model:net --data mnist --eps 0.3

    Exit status 1 where a check fails, because robust accuracy may then be too high.
    """

    eps: tuple[float, ...] = (0.1,)
    """in pixel units of [0, 1]"""
    version: str = "standard"
    """quick, standard, plus, or rand for random defences"""

    def run(self) -> None:
        """Prints curve, accuracy after each attack, and the checks."""
        from jaxdefense.evaluation import autoattack
        from jaxdefense.geometry import BALLS

        if self.norm not in BALLS:
            raise UnknownNameError("norm of AutoAttack", self.norm, BALLS)
        classifier, x, y, key, source = self.load()
        result = autoattack(
            classifier, x, y, self.eps, key, ball=BALLS[self.norm], version=self.version,
            progress=True,
        )  # fmt: skip
        print(f"{source}; {result}")
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


def _resolve(name: str) -> Callable[..., Any]:
    """``module:name`` to a callable; a function without arguments is called once."""
    module, _, attribute = name.partition(":")
    if not (module and attribute) or module.startswith("."):
        raise InputError(f"model {name!r} must be written module:name, for example my_model:net")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"model {name!r} cannot be imported: {error}") from None
    try:
        is_factory = not inspect.signature(found).parameters
    except (TypeError, ValueError):  # no signature to be had: the classifier itself
        is_factory = False
    if is_factory:
        found = found()
    if not callable(found):
        raise InputError(
            f"model {name!r} is a {type(found).__name__}, but must be a callable x -> logits, or "
            "a function without arguments that returns one"
        )
    return found


Command = (
    Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Autoattack, tyro.conf.subcommand("autoattack")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    with _one_line_errors():
        command = tyro.cli(
            Command,
            config=(tyro.conf.OmitSubcommandPrefixes,),
            args=arguments,
            prog="jaxdefense",
            description="Does this defence really make a classifier robust?",
        )
        use_compilation_cache()
        command.run()
