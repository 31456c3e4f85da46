"""Tiny random sets written in the original file layouts."""

import csv
import gzip
import io
import pickle
import struct
import tarfile
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = "airplane automobile bird cat deer dog frog horse ship truck"


def write_idx(folder: Path, n=(20, 10), packed=True, dotted=False, seed=0):
    """Four idx files; returns {split: (images, labels)}."""
    folder.mkdir(parents=True, exist_ok=True)
    random, out = np.random.default_rng(seed), {}
    for prefix, count in zip(("train", "t10k"), n, strict=True):
        x = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        y = (np.arange(count) % 10).astype(np.uint8)
        out[prefix] = x, y
        write_idx_file(folder, f"{prefix}-images-idx3-ubyte", x, packed, dotted)
        write_idx_file(folder, f"{prefix}-labels-idx1-ubyte", y, packed, dotted)
    return out


def write_idx_file(folder, stem, array, packed, dotted=False):
    head = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    stem = stem.replace("-idx", ".idx") if dotted else stem
    data = head + array.tobytes()
    path = folder / (f"{stem}.gz" if packed else stem)
    path.write_bytes(gzip.compress(data) if packed else data)


def write_cifar(folder: Path, per_batch=4, form="binary", packed=True, seed=0):
    """CIFAR-10 in one of its two published forms; returns {batch: (rows, labels)}."""
    folder.mkdir(parents=True, exist_ok=True)
    random, out = np.random.default_rng(seed), {}
    inner = "cifar-10-batches-bin" if form == "binary" else "cifar-10-batches-py"
    files = {}
    for number in range(1, 7):
        name = f"data_batch_{number}" if number < 6 else "test_batch"
        x = random.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        y = ((np.arange(per_batch) + number) % 10).astype(np.uint8)
        out[name] = x, y
        if form == "binary":
            files[f"{name}.bin"] = np.concatenate([y[:, None], x], 1).tobytes()
        else:
            batch = {b"batch_label": b"x", b"labels": y.tolist(), b"data": x}
            files[name] = pickle.dumps(batch, protocol=2)
    if packed:
        archive = f"cifar-10-{'binary' if form == 'binary' else 'python'}.tar.gz"
        with tarfile.open(folder / archive, "w:gz") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"{inner}/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        (folder / inner).mkdir()
        for name, data in files.items():
            (folder / inner / name).write_bytes(data)
    return out


def write_tmnist(folder: Path, fonts=12, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with (folder / "TMNIST_Data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["names", "labels", *map(str, range(1, 785))])
        for font in range(fonts):
            name = f"Font{font}-Regular" + (",x" if font == 0 else "")  # a comma, so quoted
            for digit in range(10):
                rows.writerow([name, digit, *random.integers(0, 256, 784).tolist()])


def write_fingers(folder: Path, n=(12, 6), seed=0):
    random = np.random.default_rng(seed)
    for split, count in zip(("train", "test"), n, strict=True):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            stem = uuid.UUID(int=int(random.integers(1 << 62)))
            name = f"{stem}_{i % 6}{'LR'[i // 6 % 2]}.png"
            save(folder / split / name, random.integers(0, 256, (128, 128), dtype=np.uint8))


def write_gtsrb(folder: Path, classes=3, per_class=4, train="Train", seed=0):
    random, rows = np.random.default_rng(seed), []

    def image():
        height, width = random.integers(25, 60, 2)
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)

    for label in range(classes):
        for i in range(per_class):
            name = f"{label:05d}_{i // 2:05d}_{i % 2:05d}.png"
            save(folder / train / str(label) / name, image())
    for i in range(classes * 2):
        path = f"Test/{i:05d}.png"
        save(folder / path, image())
        rows.append([40, 40, 5, 5, 35, 35, i % classes, path])
    with (folder / "Test.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId", "Path"]
        )
        table.writerows(rows)


def write_ct(folder: Path, n=12, seed=0):
    """Slices of several sizes and modes: grey, RGB and RGBA, as in the original."""
    random = np.random.default_rng(seed)
    for name, prefix in (("COVID", "Covid"), ("non-COVID", "Non-Covid")):
        for i in range(n):
            size = (int(random.integers(60, 90)), int(random.integers(60, 90)))
            shape = size + ((), (3,), (4,))[i % 3]
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            save(folder / name / f"{prefix} ({i + 1}).png", pixels)


def write_class_folders(root: Path, classes=("cat", "dog"), n=4, shape=(10, 10, 3), seed=0):
    random = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        for i in range(n):
            pixels = random.integers(0, 128, shape, dtype=np.uint8) + np.uint8(100 * label)
            save(root / name / f"{i}.png", pixels)


def save(path: Path, pixels: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_tfrecord(path: Path, records):
    """TFRecord framing with zero checksums: what matters to a reader is the lengths."""
    with path.open("wb") as file:
        for record in records:
            file.write(struct.pack("<Q", len(record)) + b"\0\0\0\0" + record + b"\0\0\0\0")
