"""From what a reader returns to a checked `Dataset` with its line of provenance."""

from collections.abc import Callable
from pathlib import Path

from jaxdefense.data.catalog import Entry
from jaxdefense.data.dataset import Dataset
from jaxdefense.data.readers import Splits
from jaxdefense.errors import DataError, InputError


def read_named(entry: Entry, read: Callable[[], Splits], where: Path, size: int | None) -> Dataset:
    """A named set; where its counts are not the original's, the provenance says so."""
    splits = read()._replace(class_names=entry.class_names)
    n_train, n_test = len(splits.y_train), len(splits.y_test)
    train, test = entry.counts
    parts = [titled(entry.title, splits)]
    if (n_train, n_test) == (train, test) or (test is None and n_train + n_test == train):
        parts.append(entry.split)
    else:
        original = f"{train:,} + {test:,}" if test is not None else f"{train:,} in all"
        parts.append(f"{n_train:,} train + {n_test:,} test images (the original has {original})")
    height, width = splits.x_train.shape[1:3]
    if entry.side is None:
        parts.append(f"at {height}x{width}")
    elif (height, width) != (entry.side, entry.side):
        parts.append(f"at {height}x{width} instead of {entry.side}x{entry.side}")
    parts.append(f"read from {splits.form} ({where.name})")
    line = ", ".join(parts) + (f"; {entry.caveat}" if entry.caveat else "")
    return assemble(entry.name, splits, line, where, size)


def assemble(
    name: str,
    splits: Splits,
    provenance: str,
    where: Path,
    size: int | None = None,
    synthetic: bool = False,
) -> Dataset:
    """A `Dataset`, or a DataError that names the file or folder the arrays came from."""
    top = max((int(y.max()) for y in (splits.y_train, splits.y_test) if len(y)), default=0)
    try:
        dataset = Dataset(
            name,
            splits.x_train,
            splits.y_train,
            splits.x_test,
            splits.y_test,
            splits.class_names or tuple(map(str, range(top + 1))),
            provenance,
            synthetic,
            splits.groups_train,
            splits.groups_test,
        )
    except InputError as error:
        raise DataError(f"{where}: {error}") from error
    return dataset if size is None else dataset.resize(size)


def titled(title: str, splits: Splits) -> str:
    """The title with what was done to the images, for example ``CIFAR-10 (JPEG quality 75)``."""
    return f"{title} ({splits.altered})" if splits.altered else title
