"""What scripts of papers share before anything is measured: data with stand-ins, progress."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.harness import Study
from jaxdefense import data
from jaxdefense.errors import MissingDataError
from jaxdefense.reporting import write_atomically


def prepare(config: Any, name: str, stand_in: str, seed: int, folder: Path, **shape: Any) -> Study:
    """One data set with one seed, with a validation split off the training images.

    Args:
        config: with data_dir, download, preset, n_train, n_eval. Preset ``smoke`` takes the
            stand-in always.
        name: of the data set.
        stand_in: the set that we draw ourselves, where `name` is not found.
        seed: of the subsets and of everything that is trained.
        folder: of the run.
        shape: size and channels, as in `jaxdefense.data.load`.
    """
    where = {"data_dir": config.data_dir}
    try:
        if config.preset == "smoke":
            raise MissingDataError
        found = data.load(name, download=config.download, **where, **shape)
    except MissingDataError as error:
        if str(error):
            tqdm.write(f"{name} is not to be found: {stand_in} stands in, and every table says so")
        # Recorded or drawn, it is not the paper's data.
        found = dataclasses.replace(data.load(stand_in, **where, **shape), synthetic=True)
    if config.n_train is not None and config.n_train < len(found.x_train):
        found = found.subset(n_train=config.n_train, seed=seed)
    found, x_val, y_val = found.split_validation(0.1, seed=seed)
    place = folder / name / f"seed-{seed}"
    return Study(folder.name, found, x_val, y_val, place, seed, config.n_eval)


CLOCK = "seconds.json"


@contextlib.contextmanager
def progress(total: int, folder: Path) -> Iterator[Callable[[str], None]]:
    """A bar over the parts of a run with the time left; call what it gives when one is done.

    Args:
        total: parts.
        folder: of the run; the time is noted there, so that a run that was killed and started again
            knows what it took in all (see `spent`), but for the part in flight.
    """
    start, before = time.monotonic(), spent(folder)
    with tqdm(total=total, unit="part", dynamic_ncols=True) as bar:

        def done(what: str) -> None:
            write_atomically(folder / CLOCK, json.dumps(before + time.monotonic() - start))
            bar.update()
            bar.set_postfix_str(what)

        yield done


def spent(folder: Path) -> float:
    """Seconds of all starts of a run."""
    with contextlib.suppress(OSError, ValueError):
        return float(json.loads((folder / CLOCK).read_text()))
    return 0.0
