"""Parity with foolbox: the same attacks on the same weights and images, side by side.

A LeNet-5 is trained on MNIST, rebuilt in PyTorch from the same weights, and attacked in l-inf by
foolbox (torch backend, float32, same device) and by jaxdefense, with FGSM and PGD of the same
steps.

    install the extra 'benchmarks'
    python -m experiments.benchmarks.foolbox_parity --data-dir DIR

Exits with status 1 where ours leaves over a point more robust accuracy, that is, attacks weaker.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import harness
from jaxdefense import attacks, data, linf, models, sweep
from jaxdefense.cli import launch
from jaxdefense.errors import JaxdefenseError, UnknownNameError
from jaxdefense.reporting import Table, ensure_folder, versions
from jaxdefense.reporting.records import jsonable, write_atomically

EPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
STEPS, STEP_SIZE = 40, 0.0625  # the step as a fraction of eps
MARGIN = 0.01
TRAINING = harness.Training(epochs=3)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data_dir: str | None = None
    """where MNIST lies; JAXDEFENSE_DATA by default"""
    model: str = "lenet5"
    """the classifier; it must have a PyTorch twin here"""
    n_eval: int = 256
    """attack so many test images"""
    seed: int = 0
    output: str = "runs/parity"


def main(config: Config) -> None:
    """Train a classifier, rebuild it in PyTorch, attack it with foolbox and with jaxdefense."""
    try:
        import foolbox  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise JaxdefenseError(
            "this benchmark compares with foolbox on PyTorch, and one of them is missing "
            f"({error}): install the extra 'benchmarks'"
        ) from None
    from experiments.benchmarks import twins

    if config.model not in twins.NAMES:
        raise UnknownNameError("model with a PyTorch twin", config.model, twins.NAMES)
    # The first call is reported as one that compiles, so nothing may come from disk.
    jax.config.update("jax_enable_compilation_cache", False)
    folder, seed = ensure_folder(config.output), config.seed
    mnist, x_val, y_val = data.load("mnist", data_dir=config.data_dir).split_validation(seed=seed)
    study = harness.Study("parity", mnist, x_val, y_val, folder, seed, config.n_eval)
    model = models.build(config.model, mnist.num_classes)
    net, _ = harness.train_classifier(study, config.model, model, TRAINING)
    x, y = study.examples
    twin, images = twins.twin(net), twins.nchw(x)
    gap, wrong = twins.check(twin, net, x), np.asarray(net(x)).argmax(-1) != y
    print(f"logits agree to {gap:.1e} of the largest on {len(y)} test images", flush=True)

    theirs, threads = _foolbox(twin, images, twins.targets(y), seed)
    ours = {"FGSM": attacks.fgsm(linf), "PGD": attacks.pgd(linf, STEPS, STEP_SIZE)}
    curves: dict[str, dict[str, Any]] = {}
    seconds: dict[str, tuple[float, float]] = {}
    for name, attack in ours.items():
        run = lambda attack=attack: sweep(attack, net, x, y, EPS, study.key, method="grid")
        fooled, seconds[f"foolbox {name}"] = _twice(theirs[name])
        curve, seconds[f"ours {name}"] = _twice(run)
        # Images wrong without attack count as broken on both sides; foolbox alone counts those
        # that its attack happens to put right as robust.
        curves[name] = {
            "foolbox": 1 - (fooled | wrong[:, None]).mean(0),
            "ours": curve.robust_accuracy,
            "ours, raw": curve.raw_accuracy,
            "foolbox, as returned": 1 - fooled.mean(0),
            "interval of ours": curve.interval,
            "warnings": curve.warnings,
        }
    packages = versions() | {p: importlib.metadata.version(p) for p in ("torch", "foolbox")}
    device = f"{jax.devices()[0].device_kind}; foolbox: cpu, threads {threads} of {os.cpu_count()}"
    meta = {
        "command": " ".join(["python -m experiments.benchmarks.foolbox_parity", *sys.argv[1:]]),
        "config": config, "training": TRAINING, "steps": STEPS, "step_size": STEP_SIZE,
        "n": len(y), "clean_accuracy": 1 - wrong.mean(), "logits_differ_by": gap,
        "device": device, "versions": packages, "data": mnist.provenance,
    }  # fmt: skip
    report = {"meta": meta, "eps": EPS, "robust_accuracy": curves, "seconds": seconds}
    write_atomically(folder / "parity.json", json.dumps(jsonable(report, "parity"), indent=1))
    write_atomically(folder / "parity.md", _text(config, meta, curves, seconds, "pipe"))
    print(f"\n{_text(config, meta, curves, seconds, 'simple')}")
    print(f"results {folder / 'parity.json'}\ntable   {folder / 'parity.md'}")
    # Raw is foolbox's own reading, and never below the nested curve.
    worst, name, eps = max(
        (mine - other, name, eps)
        for name, curve in curves.items()
        for mine, other, eps in zip(curve["ours, raw"], curve["foolbox"], EPS, strict=True)
    )
    verdict = f"{100 * worst:+.1f} points against foolbox at worst ({name}, eps = {eps:g})"
    if worst > MARGIN + 1e-9:
        raise JaxdefenseError(f"ours is the weaker attack: {verdict}, allowed {100 * MARGIN:+g}")
    print(f"ours leaves {verdict}, allowed {100 * MARGIN:+g}")


def _foolbox(twin: Any, images: Any, labels: Any, seed: int) -> tuple[dict[str, Callable], int]:
    """Attacks that return success ``[n, e]``, and the number of threads that serves them best."""
    import foolbox as fb
    import torch

    from experiments.benchmarks import twins

    model = fb.PyTorchModel(twin, bounds=(0, 1), device=twins.place())
    fgsm = fb.attacks.LinfFastGradientAttack()
    pgd = fb.attacks.LinfPGD(rel_stepsize=STEP_SIZE, steps=STEPS, random_start=True)

    def run(attack: Any, threads: int) -> np.ndarray:
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        return attack(model, images, labels, epsilons=list(EPS))[2].numpy(force=True).T

    # Small layers on shared cores can be several times slower on all threads than on one.
    trial = lambda n: min(_twice(functools.partial(run, fgsm, n))[1])
    threads = min({1, torch.get_num_threads()}, key=trial)
    calls = {"FGSM": fgsm, "PGD": pgd}
    return {name: functools.partial(run, a, threads) for name, a in calls.items()}, threads


def _twice(run: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    start = time.perf_counter()
    run()
    middle = time.perf_counter()
    result = run()
    return result, (middle - start, time.perf_counter() - middle)


def _text(config: Config, meta: dict, curves: dict, seconds: dict, fmt: str) -> str:
    shown = [(name, column) for name in curves for column in ("foolbox", "ours", "ours, raw")]
    caption = (
        f"Robust accuracy %, {config.model} on MNIST, l-inf, n = {meta['n']}, seed {config.seed}, "
        f"clean {100 * meta['clean_accuracy']:.1f}; PGD: {STEPS} steps of {STEP_SIZE:g} eps. "
        "Raw: each radius on its own, as in foolbox; ours: a point found counts at every radius "
        "that holds it. Images wrong without attack count as broken."
    )
    cell = lambda name, column, i: f"{100 * curves[name][column][i]:.1f}"
    rows = tuple((f"{e:g}", *(cell(*which, i) for which in shown)) for i, e in enumerate(EPS))
    accuracies = Table(caption, ("eps", *map(" ".join, shown)), rows, 0)
    rows = tuple((name, *(f"{t:.2f}" for t in pair)) for name, pair in seconds.items())
    spent = "Wall seconds for all radii together; the first call of ours compiles."
    times = Table(spent, ("attack", "first call", "second call"), rows, 1)
    where = ", ".join([meta["device"], *map(" ".join, meta["versions"].items())])
    return f"{accuracies.text(fmt)}\n{times.text(fmt)}\n{where}\n"


if __name__ == "__main__":
    launch(main, {"small": Config()}, default="small")
