"""Any folder of images with one folder per class.

Either ``root/train/<class>/*`` and ``root/test/<class>/*``, or ``root/<class>/*`` split by a hash
of class and file name (one image in five is for testing).
"""

from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import (
    Reader,
    Splits,
    hash_fraction,
    hashed_to_test,
    image_size,
    is_grey,
    read_images,
)
from jaxdefense.errors import DataError

ENDINGS = frozenset(
    [".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"]
)


def find(folder: Path) -> tuple[Path, ...]:
    """All image files of the layout, or nothing."""
    if not folder.is_dir():
        return ()
    roots = _split_roots(folder) or [folder]
    return tuple(path for root in roots for paths in _classes(root).values() for path in paths)


def read(folder: Path, size: int | None = None) -> Splits:
    """Both splits; grey when every file is grey, else RGB; ordered by hash so classes are mixed.

    Raises:
        DataError: no images, a class that only one split has, too few images to split, a file that
            is not an image, or images of several sizes and no ``size`` to bring them to.
    """
    roots = _split_roots(folder)
    classes = _classes(roots[0] if roots else folder)
    names = tuple(classes)
    if len(names) < 2:
        raise DataError(
            f"{folder}: {len(names)} class folder(s) with images; a classifier needs two or more. "
            "Expected train/<class>/* and test/<class>/*, or <class>/*"
        )
    if roots:
        other = tuple(_classes(roots[1]))
        if other != names:
            lone = sorted(set(names) ^ set(other))
            raise DataError(
                f"{folder}: train and test have different class folders: {', '.join(lone)}"
            )
        train, test = (_listed(root) for root in roots)
    else:
        every = _listed(folder)
        train = [item for item in every if not hashed_to_test(_key(item[0]))]
        test = [item for item in every if hashed_to_test(_key(item[0]))]
        if not train or not test:
            raise DataError(
                f"{folder}: {len(every)} images are too few to split by a hash of their names; "
                "make the folders train/<class> and test/<class>"
            )
    paths = [path for path, _ in train + test]
    mode = "L" if all(is_grey(path) for path in paths) else "RGB"
    if size is None:
        _one_size(paths)
    split = "given split" if roots else "split by hash of file name"
    return Splits(
        read_images([path for path, _ in train], mode, size),
        np.array([label for _, label in train], np.int32),
        read_images([path for path, _ in test], mode, size),
        np.array([label for _, label in test], np.int32),
        class_names=names,
        form=f"a folder per class ({split})",
    )


def _split_roots(folder: Path) -> list[Path] | None:
    roots = [folder / "train", folder / "test"]
    return roots if all(root.is_dir() and _classes(root) for root in roots) else None


def _classes(root: Path) -> dict[str, list[Path]]:
    found = {}
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            images = [path for path in sorted(child.iterdir()) if path.suffix.lower() in ENDINGS]
            if images:
                found[child.name] = images
    # Folders named 0 ... 42 are class numbers: 10 comes after 9.
    numeric = all(name.isdigit() for name in found)
    return dict(sorted(found.items(), key=lambda item: int(item[0]) if numeric else 0))


def _listed(root: Path) -> list[tuple[Path, int]]:
    items = [(path, label) for label, paths in enumerate(_classes(root).values()) for path in paths]
    return sorted(items, key=lambda item: hash_fraction(_key(item[0])))


def _one_size(paths: list[Path]) -> None:
    sizes = {image_size(path): path for path in paths}
    if len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise DataError(
            f"images differ in size: {a} is {first[0]}x{first[1]} and {b} is "
            f"{second[0]}x{second[1]} pixels; name one size to resize all of them to "
            "(size=, --size)"
        )


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


READER = Reader("train/<class>/* and test/<class>/*, or <class>/*", find, read)
