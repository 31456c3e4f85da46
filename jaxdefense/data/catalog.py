"""The named data sets: their files, classes, official counts and where a person gets them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxdefense.data.readers import Reader, cifar10, fingers, gtsrb, idx, sars_cov2_ct, tmnist
from jaxdefense.data.synthetic import STAND_INS

EMBEDDED = ("typeface", "digits", *STAND_INS)


@dataclass(frozen=True)
class Download:
    """One file on the network: its addresses in the order to try, and its SHA-256."""

    file: str
    urls: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One named data set.

    Attributes:
        name: registry name, also the name of its TFDS folder and of its prepared ``.npz``.
        title: what to call it in a figure.
        reader: reader of the original layout.
        class_names: one name per class.
        counts: training and test images of the original; totals only where there is no
            official split (then the second number is None).
        side: height and width of the original images in pixels, None where they vary.
        split: which split the reader makes.
        caveat: what a reader of the results must know, "" when nothing.
        folders: where its files usually lie below a data folder.
        obtain: what a person does to get the files.
        downloads: files that may be fetched when asked.
    """

    name: str
    title: str
    reader: Reader
    class_names: tuple[str, ...]
    counts: tuple[int, int | None]
    side: int | None
    split: str
    obtain: str
    folders: tuple[str, ...] = ()
    caveat: str = ""
    downloads: tuple[Download, ...] = ()


def _idx_downloads(bases: tuple[str, ...], sums: dict[str, str]) -> tuple[Download, ...]:
    return tuple(
        Download(f"{stem}.gz", tuple(f"{base}{stem}.gz" for base in bases), sums[key])
        for key, stem in idx.STEMS.items()
    )


_MNIST = _idx_downloads(
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    {
        "x_train": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "y_train": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "x_test": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "y_test": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
_FASHION = _idx_downloads(
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "x_train": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "y_train": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "x_test": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "y_test": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)
_CIFAR = Download(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_DIGITS = tuple(map(str, range(10)))
_SIGNS = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no passing",
    "no passing over 3.5 t",
    "right of way at next crossing",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no vehicles over 3.5 t",
    "no entry",
    "general caution",
    "bend left",
    "bend right",
    "double bend",
    "bumpy road",
    "slippery road",
    "road narrows on the right",
    "road work",
    "traffic signals",
    "pedestrians",
    "children crossing",
    "bicycles crossing",
    "ice or snow",
    "wild animals crossing",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "straight or right",
    "straight or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing over 3.5 t",
)
_TEN_THINGS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def _kaggle(slug: str, layout: str) -> str:
    return f"download {slug} from Kaggle and unzip it so that one of these places holds {layout}"


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "mnist",
            "MNIST",
            idx.READER,
            _DIGITS,
            (60_000, 10_000),
            28,
            "official split",
            "put the four idx files into one of these places",
            ("mnist", "MNIST", "MNIST/raw"),
            downloads=_MNIST,
        ),
        Entry(
            "fashion_mnist",
            "Fashion-MNIST",
            idx.READER,
            _CLOTHES,
            (60_000, 10_000),
            28,
            "official split",
            "put the four idx files into one of these places",
            ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
            downloads=_FASHION,
        ),
        Entry(
            "cifar10",
            "CIFAR-10",
            cifar10.READER,
            _TEN_THINGS,
            (50_000, 10_000),
            32,
            "official split",
            "put cifar-10-binary.tar.gz or cifar-10-python.tar.gz into one of these places",
            ("cifar10", "cifar-10", "CIFAR10"),
            downloads=(_CIFAR,),
        ),
        Entry(
            "tmnist",
            "TMNIST",
            tmnist.READER,
            _DIGITS,
            (29_900, None),
            28,
            "split by font",
            _kaggle("nimishmagre/tmnist-typeface-mnist", "TMNIST_Data.csv"),
            ("tmnist", "TMNIST", "tmnist-typeface-mnist"),
        ),
        Entry(
            "fingers",
            "Fingers",
            fingers.READER,
            tuple(map(str, range(6))),
            (18_000, 3_600),
            128,
            "official split",
            _kaggle("koryakinp/fingers", "the folders train and test"),
            ("fingers", "Fingers"),
            "left hands are mirrored right hands: near-duplicates on both sides",
        ),
        Entry(
            "gtsrb",
            "GTSRB",
            gtsrb.READER,
            _SIGNS,
            (39_209, 12_630),
            None,
            "official split",
            _kaggle(
                "meowmeowmeowmeowmeow/gtsrb-german-traffic-sign",
                "the folders Train and Test and the file Test.csv",
            ),
            ("gtsrb", "GTSRB", "gtsrb-german-traffic-sign"),
        ),
        Entry(
            "sars_cov2_ct",
            "SARS-CoV-2 CT",
            sars_cov2_ct.READER,
            sars_cov2_ct.CLASSES,
            (2_482, None),
            None,
            "split by hash of file name",
            _kaggle("plameneduardo/sarscov2-ctscan-dataset", "the folders COVID and non-COVID"),
            ("sars_cov2_ct", "sars-cov-2-ct", "sarscov2-ctscan-dataset"),
            "no patient ids: slices of one patient on both sides",
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names `load` knows; it also takes paths, and stems of files in the data folder.

    Example:
        >>> "mnist" in names()
        True
    """
    return (*EMBEDDED, *ENTRIES)
