"""What the commands evaluate: a model by its name, and data."""

import dataclasses
import importlib
import inspect
import os
import sys
from typing import Annotated, Any

import jax
import tyro

from jaxdefense.errors import InputError


@dataclasses.dataclass(frozen=True)
class Subject:
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
        return self.load_all()[:-1]

    def load_all(self, *kinds: type) -> tuple[Any, ...]:
        """The same, and the data set; the model may also be an object of one of these kinds."""
        from jaxdefense import data

        classifier = resolve(self.model, *kinds)
        chosen = data.load(
            self.data, data_dir=self.data_dir, download=self.download,
            size=self.size, channels=self.channels,
        )  # fmt: skip
        chosen = chosen.subset(n_test=min(self.n, len(chosen.x_test)), seed=self.seed)
        x, key = data.as_images(chosen.x_test), jax.random.key(self.seed)
        source = f"{chosen.provenance}\nseed {self.seed}"
        return classifier, x, chosen.y_test, key, source, chosen


def resolve(name: str, *kinds: type) -> Any:
    """``module:name`` to a callable or one of `kinds`.

    A function that needs no arguments is called: what it returns is meant.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute) or module.startswith("."):
        raise InputError(f"model {name!r} must be written module:name, for example my_model:net")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"model {name!r} cannot be imported: {error}") from None
    try:
        needed = inspect.signature(found).parameters.values()
        is_factory = not isinstance(found, kinds) and all(
            given.default is not given.empty or given.kind is given.VAR_KEYWORD for given in needed
        )
    except (TypeError, ValueError):  # no signature to be had: the classifier itself
        is_factory = False
    if is_factory:
        found = found()
    if not callable(found) and not isinstance(found, kinds):
        also = "".join(f", a {kind.__name__}" for kind in kinds)
        raise InputError(
            f"model {name!r} is a {type(found).__name__}, but must be a callable x -> logits{also}"
            ", or a function without arguments that returns one"
        )
    return found
