"""`load`: a data set by name or path, from the first place that has it.

Order: the array cache (while its source is unchanged); in the data folder the user's raw files, a
prepared TFDS folder, a prepared ``.npz``; TFDS's own folder; a download if asked for; else one
error that names the files and places. Nothing here touches the network unless ``download`` is true.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from jaxdefense.data import cache, tfds_folders
from jaxdefense.data.assemble import assemble, read_named, titled
from jaxdefense.data.cache import Source
from jaxdefense.data.catalog import ENTRIES, Entry, names
from jaxdefense.data.dataset import Dataset, whole
from jaxdefense.data.digits import load_digits
from jaxdefense.data.download import download as fetch_files
from jaxdefense.data.fonts import font_files
from jaxdefense.data.readers import folders, idx, npz
from jaxdefense.data.synthetic import STAND_INS, render_stand_in
from jaxdefense.data.typeface import MASTERS, render_typeface
from jaxdefense.errors import DataError, InputError, MissingDataError, UnknownNameError

PathLike = str | os.PathLike
_TITLES = {"typeface": "typeface digits", "digits": "digits"}


def load(
    name: PathLike,
    *,
    data_dir: PathLike | None = None,
    download: bool = False,
    size: int | None = None,
    channels: int | None = None,
    fonts: PathLike | None = None,
    seed: int = 0,
    per_face: int = 25,
) -> Dataset:
    """Load a data set as uint8 arrays.

    Args:
        name: one of `names`; or a path to an ``.npz`` with ``x_train y_train x_test y_test``; or to
            a folder with one folder per class; or the stem of such a file in the data folder.
        data_dir: where the user's files lie; default the environment variable
            ``JAXDEFENSE_DATA``. A prepared ``typeface*.npz``, ``digits*.npz`` and so on replaces
            the embedded set only when ``data_dir`` is given here.
        download: whether files that are not there may be fetched.
        size: side in pixels to decode, draw or resize to; default the set's own.
        channels: 1 or 3; default the set's own.
        fonts: for ``typeface``: a folder of fonts whose faces are added.
        seed: of the jitter of ``typeface``, the split of ``digits`` and all that is random in the
            synthetic sets; nothing else uses it.
        per_face: for ``typeface``: jittered images of each face and digit.

    Raises:
        UnknownNameError: no set, path or file of that name.
        InputError: an argument is out of range.
        DataError: the files are missing or damaged; the message names them.

    Example:
        >>> data = load("digits", size=16, channels=3)
        >>> data.image_shape
        (16, 16, 3)
    """
    if size is not None:
        whole("size", size, 1)
    if channels is not None and channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), not {channels!r}")
    whole("seed", seed, 0)
    name = os.fspath(name)
    if fonts is not None and name != "typeface":
        raise InputError(f"fonts adds faces to the data set 'typeface'; {name!r} has no faces")
    try:
        source = _source(name, data_dir, download, size, fonts, seed, per_face)
        dataset = cache.fetch(source)
    except OSError as error:  # no permission, a disk that fails, a file gone while reading
        raise DataError(f"cannot read the data set {name!r}: {error}") from error
    return dataset if channels is None else dataset.to_channels(channels)


def _source(
    name: str,
    data_dir: PathLike | None,
    download: bool,
    size: int | None,
    fonts: PathLike | None,
    seed: int,
    per_face: int,
) -> Source:
    if name in ENTRIES:
        return _entry_source(ENTRIES[name], _data_folder(data_dir), size, download)
    if name in names():
        # Only a folder named in the call: an environment variable must not swap the embedded set.
        folder = _data_folder(data_dir) if data_dir is not None else None
        return _embedded_source(name, folder, size, fonts, seed, per_face)
    given = Path(name).expanduser().exists()
    return _path_source(name, None if given else _data_folder(data_dir), size)


def _data_folder(data_dir: PathLike | None) -> Path | None:
    given = data_dir if data_dir is not None else os.environ.get("JAXDEFENSE_DATA")
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir is not None else "JAXDEFENSE_DATA"
        raise DataError(f"{origin} is {folder}, which is not a folder; name one that holds data")
    return folder


def _embedded_source(
    name: str,
    folder: Path | None,
    size: int | None,
    fonts: PathLike | None,
    seed: int,
    per_face: int,
) -> Source:
    prepared = _prepared(name, folder, size)
    if prepared and fonts is None:
        title = STAND_INS[name].title if name in STAND_INS else _TITLES[name]
        return _npz_source(name, title, prepared, size, synthetic=name != "digits")
    if name == "digits":
        # Read in 10 ms: nothing to keep.
        digits = load_digits(seed)
        return Source(
            name, "", (), lambda: digits if size is None else digits.resize(size), keep=False
        )
    if name in STAND_INS:
        settings = f"size={size or STAND_INS[name].size} seed={seed}"
        return Source(
            name, settings, STAND_INS[name].files, partial(render_stand_in, name, size, seed=seed)
        )
    extra = Path(fonts).expanduser() if fonts is not None else None
    draw = partial(render_typeface, size or 28, per_face=per_face, seed=seed, fonts=extra)
    settings = f"size={size or 28} per_face={per_face} seed={seed} fonts={extra}"
    return Source(name, settings, (MASTERS, *(font_files(extra) if extra else ())), draw)


def _entry_source(entry: Entry, folder: Path | None, size: int | None, download: bool) -> Source:
    source = _local_source(entry, folder, size)
    if source is None and download:
        target = (folder or cache.folder() / "downloads") / entry.name
        fetch_files(entry, target)
        source = _raw_source(entry, [target], size)
    if source is None:
        raise MissingDataError(_missing(entry, folder))
    return source


def _local_source(entry: Entry, folder: Path | None, size: int | None) -> Source | None:
    source = _raw_source(entry, _places(entry, folder), size)
    if source:
        return source
    source = _tfds_source(entry, tfds_folders.below(folder), size)
    if source:
        return source
    prepared = _prepared(entry.name, folder, size)
    if prepared:
        return _npz_source(entry.name, entry.title, prepared, size, entry)
    # TFDS's own folder was not named by anyone, so it comes last.
    return _tfds_source(entry, [tfds_folders.default_root()], size)


def _tfds_source(entry: Entry, roots: list[Path], size: int | None) -> Source | None:
    folder = tfds_folders.find(entry.name, roots)
    if folder is None:
        return None
    read = partial(read_named, entry, partial(tfds_folders.read, folder), folder, size)
    return Source(entry.name, f"tfds size={size}", tfds_folders.files(folder), read)


def _raw_source(entry: Entry, places: list[Path], size: int | None) -> Source | None:
    for place in places:
        files = entry.reader.find(place)
        if files and not _is_another(entry, place):
            arrays = partial(entry.reader.read, place, size)
            read = partial(read_named, entry, arrays, place, size)
            return Source(entry.name, f"raw size={size}", files, read)
    return None


def _npz_source(
    name: str,
    title: str,
    path: Path,
    size: int | None,
    entry: Entry | None = None,
    synthetic: bool = False,
) -> Source:
    def read() -> Dataset:
        if entry is not None:
            return read_named(entry, partial(npz.read, path), path, size)
        splits = npz.read(path)
        line = f"{titled(title, splits)}, read from {splits.form} ({path.name})"
        return assemble(name, splits, line, path, size, synthetic)

    settings = f"npz {path.name} size={size}"
    return Source(name, settings, (path,), read, keep=size is not None or not npz.is_stored(path))


def _path_source(name: str, folder: Path | None, size: int | None) -> Source:
    path = Path(name).expanduser()
    if not path.exists() and folder is not None and (folder / name).exists():
        path = folder / name
    elif not path.exists() and folder is not None and (folder / f"{name}.npz").is_file():
        path = folder / f"{name}.npz"
    if path.is_dir():
        label, files = path.resolve().name, folders.find(path)
        if not files:
            raise DataError(
                f"{path}: no images found; expected {folders.READER.looks}, with the endings "
                f"{' '.join(sorted(folders.ENDINGS))}"
            )

        def read() -> Dataset:
            splits = folders.read(path, size)
            return assemble(label, splits, f"{label}, read from {splits.form}", path)

        return Source(label, f"folder size={size}", files, read)
    if path.is_file():
        if path.suffix != ".npz":
            raise DataError(
                f"{path}: not an .npz and not a folder; store x_train, y_train, x_test and y_test "
                "with numpy.savez, or name a folder with one folder per class"
            )
        return _npz_source(path.stem, path.stem, path, size)
    if os.sep in name or name.endswith(".npz"):
        raise DataError(f"{name}: no such file or folder")
    raise UnknownNameError("data set", name, names())


def _places(entry: Entry, folder: Path | None) -> list[Path]:
    below = [folder, *(folder / sub for sub in entry.folders)] if folder else []
    return [*below, cache.folder() / "downloads" / entry.name]


def _is_another(entry: Entry, place: Path) -> bool:
    """Whether these are the files of the other set that uses the same file names."""
    return entry.reader is idx.READER and idx.identify(place) not in (None, entry.name)


def _prepared(name: str, folder: Path | None, size: int | None) -> Path | None:
    if folder is None:
        return None
    exact = folder / f"{name}.npz"
    if exact.is_file():
        return exact
    found = sorted((*folder.glob(f"{name}_*.npz"), *folder.glob(f"{name}-*.npz")))
    fitting = [path for path in found if size is not None and path.stem.endswith(f"_{size}")]
    return next(iter(fitting or found), None)


def _missing(entry: Entry, folder: Path | None) -> str:
    places = _places(entry, folder)
    others = [str(place) for place in places if entry.reader.find(place)]
    roots = ", ".join(map(str, [*tfds_folders.below(folder), tfds_folders.default_root()]))
    lines = [
        f"no data for {entry.name!r}. Looked for",
        f"  {entry.reader.looks}",
        f"    in {', '.join(map(str, places))}",
        f"  a prepared TFDS folder {entry.name}/<version>/{tfds_folders.INFO}",
        f"    in {roots}",
    ]
    if folder:
        lines += [f"  {entry.name}.npz or {entry.name}_*.npz", f"    in {folder}"]
    else:
        lines.append("No data folder was named (data_dir=, --data-dir or JAXDEFENSE_DATA).")
    if others:
        lines.append(f"The idx files in {', '.join(others)} are those of another set.")
    can = ", or let them be fetched with download=True (--download)" if entry.downloads else ""
    lines.append(
        f"What to do: {entry.obtain}; name the folder with data_dir= (--data-dir) or the "
        f"environment variable JAXDEFENSE_DATA{can}."
    )
    drawn = [name for name, one in STAND_INS.items() if one.original == entry.title]
    lines += [f"A drawn stand-in needs no files: {name!r}." for name in drawn]
    return "\n".join(lines)
