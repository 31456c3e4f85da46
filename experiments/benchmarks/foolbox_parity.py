"""Parity with foolbox: the same attacks on the same weights and images, side by side.

A LeNet-5 is trained on MNIST, rebuilt in PyTorch from the same weights, and attacked in l-inf by
foolbox (torch backend, float32, CPU) and by jaxdefense, with FGSM and PGD of the same steps.

    pip install 'jaxdefense[benchmarks]'
    python -m experiments.benchmarks.foolbox_parity --data-dir DIR

Exits with status 1 where jaxdefense leaves more than a point more robust accuracy than foolbox,
that is, where its attack is weaker. About two minutes on two CPU cores.
"""

import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import harness
from experiments.harness import Training
from jaxdefense import Frozen, attacks, data, linf, models, sweep
from jaxdefense.cli import launch
from jaxdefense.errors import JaxdefenseError, UnknownNameError
from jaxdefense.evaluation import Robustness
from jaxdefense.reporting import Table, ensure_folder, versions
from jaxdefense.reporting.records import jsonable, write_atomically


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data_dir: str | None = None
    """where MNIST lies; JAXDEFENSE_DATA by default"""
    model: str = "lenet5"
    """the classifier; it must have a PyTorch twin here"""
    training: Training = Training(epochs=3)
    n_eval: int = 256
    """attack so many test images"""
    eps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
    """l-inf radii, pixels in [0, 1]"""
    steps: int = 40
    """of PGD"""
    step_size: float = 0.0625
    """of PGD, as a fraction of eps"""
    margin: float = 0.01
    """how much more robust accuracy ours may leave before the comparison fails"""
    seed: int = 0
    output: str = "runs/parity"


def main(config: Config) -> None:
    """Train a classifier, rebuild it in PyTorch, attack it with foolbox and with jaxdefense."""
    _require_peers()
    if config.model not in TWINS:
        raise UnknownNameError("model with a PyTorch twin", config.model, TWINS)
    # The first call is reported as one that compiles, so nothing may come from disk.
    jax.config.update("jax_enable_compilation_cache", False)
    folder = ensure_folder(config.output)
    dataset, x_val, y_val = data.load("mnist", data_dir=config.data_dir).split_validation(
        0.1, seed=config.seed
    )
    study = harness.Study(
        "parity", dataset, x_val, y_val, folder, config.seed, config.n_eval, "float32"
    )
    model = models.build(config.model, dataset.num_classes)
    net, _ = harness.train_classifier(study, config.model, model, config.training)
    x, y = study.examples
    twin = TWINS[config.model](net.variables["params"])
    clean, gap = _agreement(net, twin, x, y)
    print(f"logits agree to {gap:.1e} on {len(y)} test images")

    lineup = {
        "FGSM": attacks.fgsm(linf),
        "PGD": attacks.pgd(linf, config.steps, config.step_size),
    }
    curves, seconds = {}, {}
    for name, attack in lineup.items():
        theirs = _foolbox(name, config, twin, x, y)
        ours = lambda attack=attack: sweep(attack, net, x, y, config.eps, study.key)
        fooled, seconds["foolbox", name] = _twice(theirs)
        curve, seconds["jaxdefense", name] = _twice(ours)
        curves[name] = _side_by_side(fooled, curve, clean)
    _write(config, study, curves, seconds, gap, float(clean.mean()))

    worst, name, eps = max(
        (ours - theirs, name, eps)
        for name, curve in curves.items()
        for ours, theirs, eps in zip(curve["raw"], curve["foolbox"], config.eps, strict=True)
    )
    if worst > config.margin + 1e-9:
        raise JaxdefenseError(
            f"jaxdefense is weaker than foolbox: {name} at eps = {eps:g} leaves "
            f"{100 * worst:.1f} points more robust accuracy (allowed {100 * config.margin:g})"
        )
    print(f"ours leaves at most {100 * worst:+.1f} points (allowed {100 * config.margin:+g})")


def _require_peers() -> None:
    try:
        import foolbox  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise JaxdefenseError(
            f"this benchmark compares with foolbox on PyTorch, and one of them is missing "
            f"({error}): pip install 'jaxdefense[benchmarks]'"
        ) from None


def _lenet5(params: Any) -> Any:
    """`models.LeNet5` in PyTorch with the same weights; images and activations are NCHW."""
    import torch
    from torch import nn

    def filled(layer: Any, kernel: np.ndarray, bias: Any) -> Any:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(kernel)))
            layer.bias.copy_(torch.from_numpy(np.array(bias)))
        return layer

    def conv(name: str, padding: int) -> Any:
        kernel = np.asarray(params[name]["kernel"]).transpose(3, 2, 0, 1)  # HWIO to OIHW
        out, into, *window = kernel.shape
        layer = nn.Conv2d(into, out, tuple(window), padding=padding)
        return filled(layer, kernel, params[name]["bias"])

    def dense(name: str, channels: int | None = None) -> Any:
        kernel = np.asarray(params[name]["kernel"])
        into, out = kernel.shape
        if channels is not None:  # rows run over (h, w, c) in Flax and over (c, h, w) in PyTorch
            kernel = kernel.reshape(-1, channels, out).transpose(1, 0, 2).reshape(into, out)
        return filled(nn.Linear(into, out), kernel.T, params[name]["bias"])

    return nn.Sequential(
        conv("Conv_0", 2), nn.ReLU(), nn.MaxPool2d(2),
        conv("Conv_1", 0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        dense("Dense_0", params["Conv_1"]["kernel"].shape[-1]), nn.ReLU(),
        dense("Dense_1"), nn.ReLU(), dense("Dense_2"),
    ).eval()  # fmt: skip


TWINS: dict[str, Callable[[Any], Any]] = {"lenet5": _lenet5}


def _nchw(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _agreement(net: Frozen, twin: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Which images are right without attack, and how far the two networks' logits differ."""
    import torch

    with torch.no_grad():
        theirs = twin(_nchw(x)).numpy()
    ours = np.asarray(net(x))
    gap = float(np.abs(ours - theirs).max())
    if not gap <= 1e-4:
        raise JaxdefenseError(
            f"the PyTorch twin is not the same network: logits differ by {gap:.1e}, allowed 1e-4 "
            "(on a GPU, set JAX_DEFAULT_MATMUL_PRECISION=highest)"
        )
    return ours.argmax(-1) == y, gap


def _foolbox(name: str, config: Config, twin: Any, x: np.ndarray, y: np.ndarray) -> Callable:
    """The attack as a function without arguments that returns success ``[n, e]``."""
    import foolbox
    import torch

    attack = {
        "FGSM": foolbox.attacks.LinfFastGradientAttack(),
        "PGD": foolbox.attacks.LinfPGD(
            rel_stepsize=config.step_size, steps=config.steps, random_start=True
        ),
    }[name]
    model = foolbox.PyTorchModel(twin, bounds=(0, 1), device="cpu")
    images, labels = _nchw(x), torch.from_numpy(y.astype(np.int64))

    def run() -> np.ndarray:
        torch.manual_seed(config.seed)
        return attack(model, images, labels, epsilons=list(config.eps))[2].numpy().T

    return run


def _twice(run: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    times = []
    for _ in range(2):
        start = time.perf_counter()
        result = run()
        times.append(round(time.perf_counter() - start, 2))
    return result, (times[0], times[1])


def _side_by_side(fooled: np.ndarray, curve: Robustness, clean: np.ndarray) -> dict[str, Any]:
    # Images that are wrong without attack count as broken on both sides; foolbox alone counts
    # those that its attack happens to put right as robust.
    broken = fooled | ~clean[:, None]
    return {
        "foolbox": 1 - broken.mean(0),
        "foolbox_as_returned": 1 - fooled.mean(0),
        "ours": curve.robust_accuracy,
        "raw": curve.raw_accuracy,
        "interval": curve.interval,
        "warnings": curve.warnings,
    }


def _write(
    config: Config, study: harness.Study, curves: dict, seconds: dict, gap: float, clean: float
) -> None:
    device = jax.devices()[0]
    meta = {
        "command": " ".join(["python -m experiments.benchmarks.foolbox_parity", *sys.argv[1:]]),
        "n": len(study.examples[1]),
        "seed": config.seed,
        "clean_accuracy": clean,
        "largest_logit_difference": gap,
        "device": f"{device.device_kind} ({device.platform}), foolbox on cpu",
        "cpu_cores": os.cpu_count(),
        "versions": versions() | {p: importlib.metadata.version(p) for p in ("torch", "foolbox")},
        "data": study.data.provenance,
        "config": config,
        "seconds": {f"{who} {name}": times for (who, name), times in seconds.items()},
    }
    caption = (
        f"Robust accuracy %, {config.model} on MNIST, l-inf, n = {meta['n']}, seed {config.seed}, "
        f"clean {100 * clean:.1f}; PGD: {config.steps} steps of {config.step_size:g} eps. Raw: "
        "each radius on its own, as in foolbox; ours: a point found counts at every radius that "
        "holds it. Images wrong without attack count as broken."
    )
    names = ("foolbox", "ours", "raw")
    header = ("eps", *(f"{name} {n}" for name in curves for n in ("foolbox", "ours", "ours raw")))
    rows = tuple(
        (f"{e:g}", *(f"{100 * curve[n][i]:.1f}" for curve in curves.values() for n in names))
        for i, e in enumerate(config.eps)
    )
    times = Table(
        "Wall seconds of all radii; the first call of ours compiles.",
        ("library", "attack", "first call", "second call"),
        tuple((*who, *(f"{t:.2f}" for t in pair)) for who, pair in seconds.items()),
        2,
    )
    table = Table(caption, header, rows, 0)
    notes = f"{meta['device']}, {meta['cpu_cores']} cores; " + ", ".join(
        f"{package} {version}" for package, version in meta["versions"].items()
    )
    text = lambda fmt: "\n".join([table.text(fmt), times.text(fmt), notes])
    content = json.dumps(jsonable({"meta": meta, "eps": config.eps, "curves": curves}, "parity"))
    write_atomically(study.folder / "parity.json", content + "\n")
    write_atomically(study.folder / "parity.md", text("pipe") + "\n")
    print(f"\n{text('simple')}\n\nresults {study.folder / 'parity.json'}")
    print(f"table   {study.folder / 'parity.md'}")


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
