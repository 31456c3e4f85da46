"""Tables, figure and verdict of `sweep_cost`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.errors import JaxdefenseError
from jaxdefense.reporting import Table
from jaxdefense.reporting.costs import costs
from jaxdefense.reporting.figures import save

NAMES = {
    "standard": "LeNet-5, MNIST",
    "adversarial": "LeNet-5 adversarially trained, MNIST",
    "resnet20": "ResNet-20, CIFAR-10 (JPEG)",
    "purified": "autoencoder + ResNet-20, CIFAR-10 (JPEG)",
    "resnet18": "ResNet-18, CIFAR-10 (JPEG)",
}
Row = dict[str, Any]


def ours(row: Row, count: int) -> dict[str, Any]:
    """Our sweep of so many radii."""
    found: dict[str, Any] = row["ours"][row["counts"].index(count)]
    return found


def theirs(row: Row, count: int) -> float:
    """Seconds of the fastest peer for so many radii; it runs once for each, so they add up."""
    if count == 1:
        return float(row["single"][_first(row)]["seconds"])
    return float(row["curves"][row["fastest"]]["seconds"]) * count / len(row["radii"])


def _first(row: Row) -> str:
    """Which peer is the fastest at one radius."""
    return min(row["single"], key=lambda library: row["single"][library]["seconds"])


def runs(row: Row, count: int) -> float:
    """Our gradients as a multiple of one attack at one radius on all images."""
    return float(ours(row, count)["gradients"]) / row["steps"]


def above(accuracy: dict[str, Any]) -> float:
    """How much more ours leaves than the strongest peer, at the worst of the radii.

    Args:
        accuracy: of each library and of "ours", robust accuracy ``[runs, radii]``.
    """
    means = {who: np.mean(runs, axis=0) for who, runs in accuracy.items()}
    mine = means.pop("ours")
    return float((mine - np.min(list(means.values()), axis=0)).max())


def line(row: Row) -> str:
    """One network in one line."""
    count = len(row["radii"])
    mine, peer = ours(row, count)["seconds"], theirs(row, count)
    return (
        f"{row['network']}: {count} radii {mine:.2f} s, {row['fastest']} {peer:.2f} s "
        f"({peer / mine:.1f} times); {runs(row, count):.2f} full runs' gradients"
    )


def text(report: dict[str, Any], fmt: str) -> str:
    """All tables, with what they were made by."""
    meta, found = report["meta"], report["networks"]
    tables = [_curve(meta, found)]
    tables += [make(found) for make in (_many, _single, _autoattack, _compile)]
    body = "\n\n".join(table.text(fmt) for table in tables)
    data = "\n".join(f"- {NAMES[row['network']]}: {row['data']}" for row in found)
    where = ", ".join([meta["device"], *(f"{k} {v}" for k, v in meta["versions"].items())])
    return f"{body}\n\nData:\n\n{data}\n\n`{meta['command']}`\n\n{where}\n"


def _curve(meta: dict[str, Any], found: Sequence[Row]) -> Table:
    count = len(found[0]["radii"])
    caption = (
        f"A PGD-{found[0]['steps']} curve of {count} radii in l-inf, same weights, "
        f"{meta['cores']} cores: seconds, of ours without compiling; * ran at one radius only, "
        "times their number. Times faster than the fastest on PyTorch. Gradients: of ours, as a "
        "multiple of one run at one radius on all images. Points: above the strongest peer that "
        "ran at all radii, by the means of so many runs; several where one leaves a doubt."
    )
    body = []
    for row in found:
        mine = ours(row, count)
        cells = [
            f"{row['curves'][p]['seconds']:.2f}" if p in row["curves"]
            else f"{count * one['seconds']:.0f}*"
            for p, one in row["single"].items()
        ]  # fmt: skip
        jax = f"{count * row['foolbox_on_jax']['seconds']:.2f}*"
        body.append(
            (NAMES[row["network"]], str(row["n"]), f"{mine['seconds']:.2f}", *cells, jax,
             f"{theirs(row, count) / mine['seconds']:.1f}", f"{runs(row, count):.2f}",
             f"{100 * above(row['accuracy']):+.1f}", str(len(row["accuracy"]["ours"])))
        )  # fmt: skip
    header = ("network", "n", "ours", *found[0]["single"], "foolbox on JAX", "times faster",
              "gradients", "points above, at worst", "runs")  # fmt: skip
    return Table(caption, header, tuple(body), 1)


def _many(found: Sequence[Row]) -> Table:
    counts = sorted(found[0]["counts"])
    caption = (
        "Many radii: seconds of ours; gradients as a multiple of one run at one radius; how many "
        "times faster than the fastest peer's loop, whose cost is in proportion."
    )
    body = []
    for row in found:
        cells = [
            f"{ours(row, c)['seconds']:.2f}; {runs(row, c):.2f}; "
            f"{theirs(row, c) / ours(row, c)['seconds']:.1f}"
            if c in row["counts"]
            else "-"
            for c in counts
        ]
        growth = ours(row, counts[-1])["seconds"] / ours(row, 4)["seconds"] if 4 in counts else None
        body.append((NAMES[row["network"]], *cells, "-" if growth is None else f"{growth:.2f}"))
    header = ("network", *(f"{c} radii" for c in counts), f"{counts[-1]} over 4")
    return Table(caption, header, tuple(body), 1)


def _single(found: Sequence[Row]) -> Table:
    caption = (
        "One radius: seconds. Then a sweep in which nothing breaks over a jitted loop by hand that "
        "takes as many gradients for the same clean and robust accuracy, by as many threads; one "
        "gradient of one image in microseconds, by hand and in PyTorch; and what that is of the "
        "operations of the plain convolutions."
    )
    body = []
    for row in found:
        about = row["overhead"]
        each = 1e6 / (about["rows"] * about["steps"])
        mine = about["by_hand"] * each
        body.append(
            (NAMES[row["network"]], f"{ours(row, 1)['seconds']:.2f}",
             f"{theirs(row, 1):.2f} ({_first(row)})",
             f"{about['sweep'] / about['by_hand']:.2f}", f"{mine:.0f}",
             f"{about['pytorch'] * each:.0f}", f"{about['flops'] / mine / 1e3:.1f}")
        )  # fmt: skip
    header = ("network", "ours", "fastest peer", "sweep over by hand", "gradient, ours",
              "gradient, PyTorch", "GFLOP/s, ours")  # fmt: skip
    return Table(caption, header, tuple(body), 1)


def _autoattack(found: Sequence[Row]) -> Table:
    caption = (
        "AutoAttack (standard, l-inf) at one radius: seconds and robust accuracy %, ours (without "
        "compiling) and torchattacks'; gradients and forward passes an image."
    )
    body = []
    for row in found:
        if (about := row["autoattack"]) is None:
            continue
        cells = []
        for who in ("ours", "torchattacks"):
            one = about[who]
            cells += [f"{one['seconds']:.1f}", f"{100 * one['accuracy'][0]:.1f}",
                      f"{one['gradients']:.0f} + {one['forwards']:.0f}"]  # fmt: skip
        times = about["torchattacks"]["seconds"] / about["ours"]["seconds"]
        body.append((NAMES[row["network"]], str(about["n"]), f"{about['eps']:g}", *cells,
                     f"{times:.1f}"))  # fmt: skip
    header = ("network", "n", "eps", "ours, s", "%", "evaluations", "torchattacks, s", "%",
              "evaluations", "times faster")  # fmt: skip
    return Table(caption, header, tuple(body), 2)


def _compile(found: Sequence[Row]) -> Table:
    count = len(found[0]["radii"])
    caption = (
        f"Compiling: the first sweep of a network ({count} radii; seconds in all, and of tracing "
        "and compiling summed over threads), and programs compiled by it, by sweeps of other "
        "numbers of radii after it, and for other weights of the same architecture."
    )
    body = []
    for row in found:
        first = ours(row, count)
        others = sum(r["programs"] for c, r in zip(row["counts"], row["ours"], strict=True)
                     if c != count)  # fmt: skip
        body.append((NAMES[row["network"]], f"{first['first']:.1f}", f"{first['compiling']:.1f}",
                     str(first["programs"]), str(others), str(row["recompiled"])))  # fmt: skip
    header = ("network", "first call, s", "compiling, s", "programs", "other radii",
              "other weights")  # fmt: skip
    return Table(caption, header, tuple(body), 1)


def figure(found: Sequence[Row], path: Path) -> None:
    """Seconds against the number of radii and of images, ours and the fastest peer's."""
    radii = {}
    for row in found:
        counts = sorted(row["counts"])
        radii[f"{NAMES[row['network']].replace(', ', chr(10))}, n = {row['n']}"] = (
            counts,
            {
                f"{row['fastest']}, in proportion": [theirs(row, count) for count in counts],
                "ours": [ours(row, count)["seconds"] for count in counts],
            },
        )
    label = f"seconds, PGD-{found[0]['steps']}"
    save(costs(radii, "radii of the curve", label), path.with_name(f"{path.name}-radii"))
    many = len(found[0]["radii"])
    images = {}
    for row in found:
        about = row["images"]
        if not about["rows"]:
            continue
        images[NAMES[row["network"]].replace(", ", "\n")] = (
            about["rows"],
            {
                f"{row['fastest']}, {many} times 1 radius": [many * s for s in about["single"]],
                "ours": about["ours"],
            },
        )
    label = f"seconds, PGD-{found[0]['steps']}, {many} radii"
    if images:  # long networks are measured with all of theirs only
        save(costs(images, "images", label), path.with_name(f"{path.name}-images"))


def judge(found: Sequence[Row]) -> None:
    """Raises where ours is weaker than the strongest peer by over a point."""
    for row in found:
        if (worst := above(row["accuracy"])) > 0.01 + 1e-9:
            raise JaxdefenseError(
                f"{row['network']}: ours leaves {100 * worst:.1f} points more than the strongest "
                "peer at one radius"
            )
