"""TFDS builders over this package's readers; they need no TensorFlow.

Importing this module registers `Tmnist`, `Fingers`, `Gtsrb` and `SarsCov2Ct` with TFDS. `Mnist`,
`FashionMnist` and `Cifar10` are TFDS's own sets under their own names, prepared from files the user
already has: TFDS's builders stop at extraction without TensorFlow. What `prepare_tfds` writes is
found by plain ``tfds.data_source("mnist", data_dir=...)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import cifar, mnist

from jaxdefense.data.catalog import ENTRIES, Entry
from jaxdefense.data.readers import Splits
from jaxdefense.errors import DataError, UnknownNameError


class _OverReader:
    """Examples from the reader of the set's original layout, in its order."""

    name: ClassVar[str]

    @property
    def _entry(self) -> Entry:
        return ENTRIES[self.name]

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        folder = Path(dl_manager.manual_dir)
        _demand(self.name, folder)
        splits = self._entry.reader.read(folder, None)
        return {split: self._generate_examples(splits, split) for split in ("train", "test")}

    def _generate_examples(self, splits: Splits, split: str) -> Iterator[tuple[int, dict]]:
        images, labels = getattr(splits, f"x_{split}"), getattr(splits, f"y_{split}")
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            # TFDS encodes arrays with TensorFlow, and Pillow images without.
            pixels = Image.fromarray(np.squeeze(image, -1) if image.shape[-1] == 1 else image)
            more = self._more(splits, split, index)
            yield index, {"image": pixels, "label": int(label), **more}

    def _more(self, splits: Splits, split: str, index: int) -> dict[str, Any]:
        return {}


class _Kaggle(  # type: ignore[call-arg]
    _OverReader, tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    VERSION = tfds.core.Version("1.0.0")
    SHAPE: ClassVar[tuple[int, int, int]]

    def _info(self) -> tfds.core.DatasetInfo:
        entry = self._entry
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{type(self).__doc__} {entry.split}. {entry.caveat}".strip(),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=self.SHAPE),
                    "label": tfds.features.ClassLabel(names=list(entry.class_names)),
                    "group": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the reader's order: the same arrays whichever way one came
        )

    def _more(self, splits: Splits, split: str, index: int) -> dict[str, Any]:
        groups = getattr(splits, f"groups_{split}")
        return {"group": "" if groups is None else str(groups[index])}


class Tmnist(_Kaggle):
    """TMNIST digits from 2,990 fonts."""

    name = "tmnist"
    SHAPE = (28, 28, 1)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download https://www.kaggle.com/datasets/nimishmagre/tmnist-typeface-mnist, unzip it and "
        "place TMNIST_Data.csv in manual_dir."
    )


class Fingers(_Kaggle):
    """Hands showing 0 to 5 fingers."""

    name = "fingers"
    SHAPE = (128, 128, 1)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download https://www.kaggle.com/datasets/koryakinp/fingers and unzip it so that "
        "manual_dir/train and manual_dir/test hold the PNG files."
    )


class Gtsrb(_Kaggle):
    """German traffic signs, 43 classes, resized to 32 x 32."""

    name = "gtsrb"
    SHAPE = (32, 32, 3)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download https://www.kaggle.com/datasets/meowmeowmeowmeowmeow/gtsrb-german-traffic-sign "
        "and unzip it so that manual_dir holds Train, Test and Test.csv."
    )


class SarsCov2Ct(_Kaggle):
    """SARS-CoV-2 CT slices, resized to 224 x 224."""

    name = "sars_cov2_ct"
    SHAPE = (224, 224, 3)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset and unzip "
        "it so that manual_dir holds the folders COVID and non-COVID."
    )


class Mnist(_OverReader, mnist.MNIST, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's ``mnist`` from the four idx files."""

    name = "mnist"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Place train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
        "t10k-labels-idx1-ubyte, each with or without .gz, in manual_dir."
    )


class FashionMnist(_OverReader, mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's ``fashion_mnist``; a folder of its own, as its files are named like MNIST's."""

    name = "fashion_mnist"
    MANUAL_DOWNLOAD_INSTRUCTIONS = Mnist.MANUAL_DOWNLOAD_INSTRUCTIONS


class Cifar10(_OverReader, cifar.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's ``cifar10`` from the published archive or its unpacked folder."""

    name = "cifar10"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Place cifar-10-binary.tar.gz or cifar-10-python.tar.gz, or the folder either unpacks to, "
        "in manual_dir."
    )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        self.info.features["label"].names = list(self._entry.class_names)
        return super()._split_generators(dl_manager)

    def _more(self, splits: Splits, split: str, index: int) -> dict[str, Any]:
        return {"id": f"{split}_{index:05d}"}


BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {
    builder.name: builder
    for builder in (Mnist, FashionMnist, Cifar10, Tmnist, Fingers, Gtsrb, SarsCov2Ct)
}


def prepare_tfds(name: str, manual_dir: str | Path, tfds_dir: str | Path) -> Path:
    """Write a set as TFDS array_record from files the user has; no network, no TensorFlow.

    Args:
        name: ``mnist``, ``fashion_mnist``, ``cifar10``, ``tmnist``, ``fingers``, ``gtsrb`` or
            ``sars_cov2_ct``.
        manual_dir: the folder that holds the original files.
        tfds_dir: TFDS's ``data_dir``; the set goes to ``<tfds_dir>/<name>/<version>``.

    Returns:
        The folder written.

    Raises:
        UnknownNameError: no such set.
        DataError: the files are missing or damaged.

    Example:
        ``prepare_tfds("mnist", "~/mnist", "~/tensorflow_datasets")``, and then
        ``tfds.data_source("mnist")`` as usual.
    """
    if name not in BUILDERS:
        raise UnknownNameError("TFDS data set", name, BUILDERS)
    manual, target = Path(manual_dir).expanduser(), Path(tfds_dir).expanduser()
    builder_class = BUILDERS[name]
    _demand(name, manual)
    builder = builder_class(data_dir=target, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return Path(builder.data_dir)


def _demand(name: str, folder: Path) -> None:
    if not ENTRIES[name].reader.find(folder):
        raise DataError(
            f"{folder} does not hold {ENTRIES[name].reader.looks}. "
            f"{BUILDERS[name].MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
